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

// mailColumns is a [Row] as its table takes it.
type mailColumns struct {
	row                                                        Row
	ip                                                         *string
	sum                                                        []byte
	recipients, reasons, findings, engines, parts, auth, edits json.RawMessage
}

func (r Row) columns() (mailColumns, error) {
	var errs []error
	j := func(v any) json.RawMessage {
		b, err := json.Marshal(v)
		errs = append(errs, err)
		if string(b) == "null" {
			return json.RawMessage("[]")
		}
		return json.RawMessage(strings.ReplaceAll(string(b), `\u0000`, ""))
	}
	c := mailColumns{recipients: j(r.Recipients), reasons: j(r.Reasons), findings: j(r.Findings), engines: j(r.Engines), parts: j(r.Parts), edits: j(r.HeaderEdits), auth: r.Auth}
	var err error
	c.sum, err = hex.DecodeString(r.SHA256)
	errs = append(errs, err)
	if a, err := netip.ParseAddr(r.ClientIP); err == nil {
		s := a.Unmap().WithZone("").String()
		c.ip = &s
	}
	if c.auth == nil {
		c.auth = json.RawMessage("{}")
	}
	if r.RawHeader == nil {
		r.RawHeader = []byte{}
	}
	r.Direction = cmp.Or(r.Direction, policy.Inbound)
	r.Helo, r.TLS, r.EnvelopeFrom = clean(r.Helo), clean(r.TLS), clean(r.EnvelopeFrom)
	r.HeaderFrom, r.Subject, r.MessageID = clean(r.HeaderFrom), clean(r.Subject), clean(r.MessageID)
	c.row = r
	return c, errors.Join(errs...)
}

// column is one column of many rows: PostgreSQL plans one statement for all of
// them, and finds their partition and its indexes once.
func column[R, T any](rows []R, of func(R) T) []T {
	out := make([]T, len(rows))
	for i, r := range rows {
		out[i] = of(r)
	}
	return out
}

// mailArgs are the parameters of insert_mail.sql.
func mailArgs(m []*mailColumns) []any {
	text := func(of func(*mailColumns) string) []string { return column(m, of) }
	object := func(of func(*mailColumns) json.RawMessage) []json.RawMessage { return column(m, of) }
	return []any{
		column(m, func(c *mailColumns) uuid.UUID { return c.row.ID }),
		column(m, func(c *mailColumns) uuid.UUID { return c.row.Workspace }),
		column(m, func(c *mailColumns) time.Time { return c.row.ReceivedAt }),
		text(func(c *mailColumns) string { return c.row.Node }),
		column(m, func(c *mailColumns) *string { return c.ip }),
		text(func(c *mailColumns) string { return c.row.Helo }),
		text(func(c *mailColumns) string { return c.row.TLS }),
		text(func(c *mailColumns) string { return c.row.EnvelopeFrom }),
		object(func(c *mailColumns) json.RawMessage { return c.recipients }),
		text(func(c *mailColumns) string { return c.row.HeaderFrom }),
		text(func(c *mailColumns) string { return c.row.Subject }),
		text(func(c *mailColumns) string { return c.row.MessageID }),
		column(m, func(c *mailColumns) int64 { return c.row.Size }),
		column(m, func(c *mailColumns) []byte { return c.sum }),
		text(func(c *mailColumns) string { return string(c.row.Class) }),
		text(func(c *mailColumns) string { return string(c.row.Action) }),
		column(m, func(c *mailColumns) float64 { return c.row.Score }),
		object(func(c *mailColumns) json.RawMessage { return c.reasons }),
		object(func(c *mailColumns) json.RawMessage { return c.findings }),
		object(func(c *mailColumns) json.RawMessage { return c.engines }),
		object(func(c *mailColumns) json.RawMessage { return c.parts }),
		object(func(c *mailColumns) json.RawMessage { return c.auth }),
		object(func(c *mailColumns) json.RawMessage { return c.edits }),
		column(m, func(c *mailColumns) []byte { return c.row.RawHeader }),
		column(m, func(c *mailColumns) int64 { return c.row.ScanMS }),
		text(func(c *mailColumns) string { return string(c.row.Direction) }),
		text(func(c *mailColumns) string { return clean(strings.Join(c.row.LinkDomains, " ")) }),
	}
}

// outcomeArgs are the parameters of insert_outcome.sql.
func outcomeArgs(list []*Outcome) []any {
	text := func(of func(*Outcome) string) []string { return column(list, of) }
	return []any{
		column(list, func(o *Outcome) uuid.UUID { return o.ID }),
		column(list, func(o *Outcome) uuid.UUID { return o.MailID }),
		text(func(o *Outcome) string { return o.Recipient }),
		text(func(o *Outcome) string { return string(o.State) }),
		text(func(o *Outcome) string { return o.NextHop }),
		column(list, func(o *Outcome) int32 { return int32(o.Code) }),
		text(func(o *Outcome) string { return o.Text }),
		column(list, func(o *Outcome) time.Time { return o.At }),
	}
}
