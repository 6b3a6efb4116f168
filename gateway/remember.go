package gateway

import (
	"context"
	"slices"

	"mailward/gateway/facts"
	"mailward/gateway/history"
	"mailward/policy"
	"mailward/scanner"
)

// past is the mail as the history of senders knows it.
func (m *mail) past() history.Mail {
	h := history.Mail{Workspace: m.recipients[0].Domain.Workspace, Client: m.env.ClientIP, Links: m.links, Proven: facts.Auth(m.auth, false).Authenticated}
	if a := facts.Authors(m.report.HeaderFrom); len(a) == 1 {
		h.From = a[0]
	}
	return h
}

// history is what the workspace knows of the sender of a mail that comes in.
func (s *Server) history(ctx context.Context, m *mail) scanner.History {
	if s.deps.History == nil || m.direction() == policy.Outbound {
		return scanner.History{}
	}
	return s.deps.History.Look(ctx, m.past())
}

// remember counts the mail for its sender. One that has to come again is counted
// when it does. What is spam because of the sender's name must not make that
// name worse, or it could never mend.
func (s *Server) remember(m *mail, d policy.Decision) {
	if s.deps.History == nil || d.Action == policy.Defer {
		return
	}
	if m.direction() == policy.Outbound {
		to := make([]string, len(m.recipients))
		for i, r := range m.recipients {
			to[i] = r.Address
		}
		s.deps.History.Wrote(m.recipients[0].Domain.Workspace, to)
		return
	}
	bad := d.Class == policy.Malware || d.Class == policy.Phishing ||
		d.Class == policy.Spam && !slices.ContainsFunc(d.Findings, func(f policy.Finding) bool { return f.Name == "SENDER_BAD" })
	s.deps.History.Note(m.past(), bad)
}
