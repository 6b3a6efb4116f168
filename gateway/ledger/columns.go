package ledger

import (
	"cmp"
	"encoding/hex"
	"encoding/json"
	"errors"
	"net/netip"
	"strings"
	"time"

	"github.com/google/uuid"

	"mailward/policy"
)

// args are the parameters of insert_mail.sql.
func (r Row) args() ([]any, error) {
	var errs []error
	j := func(v any) []byte {
		b, err := json.Marshal(v)
		errs = append(errs, err)
		if string(b) == "null" {
			return []byte("[]")
		}
		return []byte(strings.ReplaceAll(string(b), `\u0000`, ""))
	}
	sum, err := hex.DecodeString(r.SHA256)
	errs = append(errs, err)
	var ip *string
	if a, err := netip.ParseAddr(r.ClientIP); err == nil {
		s := a.Unmap().WithZone("").String()
		ip = &s
	}
	auth, head := []byte(r.Auth), r.RawHeader
	if auth == nil {
		auth = []byte("{}")
	}
	if head == nil {
		head = []byte{}
	}
	args := []any{r.ID, r.Workspace, r.ReceivedAt, r.Node, ip, clean(r.Helo), clean(r.TLS), clean(r.EnvelopeFrom), j(r.Recipients), clean(r.HeaderFrom), clean(r.Subject),
		clean(r.MessageID), r.Size, sum, string(r.Class), string(r.Action), r.Score, j(r.Reasons), j(r.Findings), j(r.Engines), j(r.Parts), auth, j(r.HeaderEdits), head, r.ScanMS, string(cmp.Or(r.Direction, policy.Inbound)), append([]string{}, r.LinkDomains...)}
	return args, errors.Join(errs...)
}

// column is one column of many outcomes: PostgreSQL plans one statement for all of
// them, and finds their partition and its indexes once. Decisions go in one by one:
// their senders wait, so there are seldom two at a time.
func column[T any](list []Outcome, of func(Outcome) T) []T {
	out := make([]T, len(list))
	for i, o := range list {
		out[i] = of(o)
	}
	return out
}

// outcomeArgs are the parameters of insert_outcome.sql.
func outcomeArgs(list []Outcome) []any {
	return []any{
		column(list, func(o Outcome) uuid.UUID { return o.ID }),
		column(list, func(o Outcome) uuid.UUID { return o.MailID }),
		column(list, func(o Outcome) string { return o.Recipient }),
		column(list, func(o Outcome) string { return string(o.State) }),
		column(list, func(o Outcome) string { return o.NextHop }),
		column(list, func(o Outcome) int32 { return int32(o.Code) }),
		column(list, func(o Outcome) string { return o.Text }),
		column(list, func(o Outcome) time.Time { return o.At }),
	}
}
