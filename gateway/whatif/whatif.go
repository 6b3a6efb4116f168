// Package whatif finds out what a policy would do before it is saved: it
// decides mail again, by the policies as they are and as they would be.
//
// It stands beside a mail's path and never on it. It reads what the ledger has
// kept of a mail and calls the same [policy.Decide] as the gateway; nothing is
// sent, held or stored. A stored mail's engines are not asked again: their
// findings are those of the day.
package whatif

import (
	"cmp"
	"context"
	"slices"
	"time"

	"github.com/google/uuid"

	"mailward/gateway/facts"
	"mailward/gateway/ledger"
	"mailward/policy"
)

// Bounds of one batch.
const (
	batchRows   = 500
	batchTime   = 3 * time.Second
	maxExamples = 100
)

// Trial is a change that is tried out.
type Trial struct {
	Before, After *policy.Store
	// Sandbox says whether a held mail would ever get an answer.
	Sandbox bool
	// BatchTime is how long [Trial.Batch] goes on. Default: 3 s.
	BatchTime time.Duration
}

// Copy is one recipient's copy, decided by both.
type Copy struct {
	Address string                   `json:"address"`
	Before  policy.RecipientDecision `json:"before"`
	After   policy.RecipientDecision `json:"after"`
}

// Changed says whether the copy would be treated in another way.
func (c Copy) Changed() bool {
	return c.Before.Action != c.After.Action || c.Before.Class != c.After.Class
}

// Decide decides one mail by both: in says what is known of it, and the
// addresses who gets it. Addresses that we take no mail for are left out and
// counted.
func (t Trial) Decide(in policy.Input, dir policy.Direction, addresses []string) (copies []Copy, unserved int) {
	in.SandboxConfigured = t.Sandbox
	before, n := recipients(t.Before, in.Mail.EnvelopeFrom, dir, addresses)
	after, _ := recipients(t.After, in.Mail.EnvelopeFrom, dir, addresses)
	if len(before) == 0 || len(before) != len(after) {
		return nil, len(addresses)
	}
	in.Entries = t.Before.Entries(before[0].Domain.Workspace)
	in.Recipients = before
	old := policy.Decide(in)
	in.Recipients = after
	fresh := policy.Decide(in)
	for i := range before {
		copies = append(copies, Copy{before[i].Address, old.Recipients[i], fresh.Recipients[i]})
	}
	return copies, n
}

func recipients(s *policy.Store, from string, dir policy.Direction, addresses []string) (list []policy.Recipient, unserved int) {
	for _, a := range addresses {
		r, ok := s.Lookup(a)
		if dir == policy.Outbound {
			r, ok = s.Outbound(from, a)
		}
		if !ok {
			unserved++
			continue
		}
		list = append(list, r)
	}
	return list, unserved
}

// Row decides a mail of the ledger by both.
func (t Trial) Row(r ledger.Row) ([]Copy, int) {
	addresses := make([]string, len(r.Recipients))
	for i, d := range r.Recipients {
		addresses[i] = d.Address
	}
	return t.Decide(facts.Stored(r), r.Direction, addresses)
}

// Cell counts copies that are treated in one way now and in one way then.
type Cell struct {
	Class  policy.Class  `json:"class"` // by the policies as they are
	Before policy.Action `json:"before"`
	After  policy.Action `json:"after"`
	Count  int           `json:"count"`
}

// Example is a copy that would be treated in another way.
type Example struct {
	MailID     uuid.UUID `json:"mail_id"`
	ReceivedAt time.Time `json:"received_at"`
	HeaderFrom string    `json:"header_from"`
	Subject    string    `json:"subject"`
	Copy
}

// Result is what was found so far.
type Result struct {
	Mails    int       `json:"mails"`
	Copies   int       `json:"copies"`
	Changed  int       `json:"changed"`
	Unserved int       `json:"unserved"` // copies for addresses that we take no mail for any more
	Cells    []Cell    `json:"cells" nullable:"false"`
	Examples []Example `json:"examples" nullable:"false" doc:"at most 100, newest first"`
	Oldest   time.Time `json:"oldest,omitzero" doc:"of the mails that were looked at"`
	Next     uuid.UUID `json:"next_cursor,omitzero" doc:"where to go on; left out at the end"`
}

// mails reads what was decided.
type mails interface {
	Decisions(ctx context.Context, workspaces []uuid.UUID, from time.Time, cursor uuid.UUID, limit int) ([]ledger.Row, error)
}

// Batch goes on with the mails since from, newest first, for a few seconds, and
// adds to what was found before. [Result.Next] says whether there is more.
func (t Trial) Batch(ctx context.Context, list mails, workspace uuid.UUID, from time.Time, res Result) (Result, error) {
	end := time.Now().Add(cmp.Or(t.BatchTime, batchTime))
	for {
		rows, err := list.Decisions(ctx, []uuid.UUID{workspace}, from, res.Next, batchRows)
		if err != nil {
			return res, err
		}
		for _, r := range rows {
			res.add(r, t)
		}
		if len(rows) < batchRows {
			res.Next = uuid.Nil
			return res, nil
		}
		if res.Next = rows[len(rows)-1].ID; time.Now().After(end) {
			return res, nil
		}
	}
}

func (res *Result) add(r ledger.Row, t Trial) {
	copies, unserved := t.Row(r)
	res.Mails++
	res.Unserved += unserved
	res.Oldest = r.ReceivedAt
	for _, c := range copies {
		res.Copies++
		res.count(Cell{Class: c.Before.Class, Before: c.Before.Action, After: c.After.Action, Count: 1})
		if !c.Changed() {
			continue
		}
		// A list needs the last word only.
		c.Before.Explain, c.After.Explain = nil, c.After.Explain[max(0, len(c.After.Explain)-1):]
		if res.Changed++; len(res.Examples) < maxExamples {
			res.Examples = append(res.Examples, Example{r.ID, r.ReceivedAt, r.HeaderFrom, r.Subject, c})
		}
	}
}

func (res *Result) count(c Cell) {
	i := slices.IndexFunc(res.Cells, func(have Cell) bool { return have.Class == c.Class && have.Before == c.Before && have.After == c.After })
	if i < 0 {
		res.Cells = append(res.Cells, c)
		return
	}
	res.Cells[i].Count += c.Count
}

// Finish puts the cells into the order in which people read them: what changes
// first, then the gravest class.
func (res *Result) Finish() {
	if res.Cells == nil {
		res.Cells = []Cell{}
	}
	if res.Examples == nil {
		res.Examples = []Example{}
	}
	slices.SortStableFunc(res.Cells, func(a, b Cell) int {
		if ca, cb := a.Before != a.After, b.Before != b.After; ca != cb {
			if ca {
				return -1
			}
			return 1
		}
		return cmp.Compare(slices.Index(policy.Classes(), a.Class), slices.Index(policy.Classes(), b.Class))
	})
}
