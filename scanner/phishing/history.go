package phishing

import (
	"fmt"
	"time"

	"mailward/policy"
)

// Bounds of what makes a sender's name.
const (
	// A name is bad from few mails on: who sends spam sends much of it.
	badMails = 3
	// A good one takes time: a stranger's first friendly mails cost nothing.
	goodMails = 10
	goodAfter = 14 * 24 * time.Hour
	newFor    = 24 * time.Hour
)

// strangerSigns are those of a sender, or of a link's domain, that nobody knows
// here. They weigh little: every customer has written for the first time once.
func (m *mail) strangerSigns() {
	h := m.q.History
	if !h.Ripe || m.q.Direction == policy.Outbound || under(m.domain, m.served) {
		return
	}
	if m.domain != "" && !h.Written && !m.list {
		if h.Sender.Mails == 0 {
			m.sign("SENDER_FIRST", m.from.Address)
		}
		if h.Domain.Since.IsZero() || m.e.cfg.Now().Sub(h.Domain.Since) < newFor {
			m.sign("SENDER_DOMAIN_NEW", m.domain)
		}
	}
	for _, d := range h.NewLinks {
		if !same(d, m.domain) && !under(d, m.served) {
			m.sign("LINK_DOMAIN_NEW", d)
		}
	}
}

// nameSigns are those of what a sender has sent before. A good name helps only
// who is shown to bear it, and only against spam: mailboxes are taken over.
func (m *mail) nameSigns() {
	p := m.q.History.Sender
	switch {
	case p.Mails >= badMails && p.Bad*2 > p.Mails:
		m.sign("SENDER_BAD", fmt.Sprintf("%d of %d", p.Bad, p.Mails))
	case m.q.History.Proven && p.Mails >= goodMails && p.Bad == 0 && m.e.cfg.Now().Sub(p.Since) >= goodAfter:
		m.sign("SENDER_GOOD", fmt.Sprintf("%d since %s", p.Mails, p.Since.UTC().Format(time.DateOnly)))
	}
}
