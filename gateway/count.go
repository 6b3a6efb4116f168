package gateway

import (
	"errors"

	"github.com/emersion/go-smtp"
	"github.com/google/uuid"

	"mailward/policy"
)

// Counter hears what becomes of mails, for the rules of alerts. Its calls take
// no time worth speaking of.
type Counter interface {
	Count(metric string, workspace uuid.UUID, domain string, n float64)
	Latency(metric string, workspace uuid.UUID, domain string, ms float64)
}

// deaf is the Counter where there is none.
type deaf struct{}

func (deaf) Count(string, uuid.UUID, string, float64)   {}
func (deaf) Latency(string, uuid.UUID, string, float64) {}

// domains of ours that a mail is for or from, each once.
func (m *mail) domains() (list []string) {
	seen := map[string]bool{}
	for _, r := range m.recipients {
		if name := r.Ours; !seen[name] {
			seen[name] = true
			list = append(list, name)
		}
	}
	return list
}

// count tells of a decision, once for each domain of ours.
func (s *Server) count(m *mail, d policy.Decision) {
	of := map[policy.Class]string{policy.Phishing: "phishing_rate_5min", policy.Malware: "malware_hits_5min", policy.DLP: "dlp_hits_per_hour"}[d.Class]
	held := map[string]bool{}
	for _, r := range d.For(policy.Quarantine, policy.Hold) {
		if r.Locked {
			continue // a lock must not feed the alert that began it
		}
		for _, to := range m.recipients {
			if to.Address == r.Address {
				held[to.Ours] = true
			}
		}
	}
	w := m.recipients[0].Domain.Workspace
	for _, domain := range m.domains() {
		s.deps.Counter.Count("mails_5min", w, domain, 1)
		s.deps.Counter.Latency("scan_latency_p95_ms", w, domain, float64(m.scanMS))
		if of != "" {
			s.deps.Counter.Count(of, w, domain, 1)
		}
		if held[domain] {
			s.deps.Counter.Count("quarantine_rate_5min", w, domain, 1)
		}
	}
}

// countReply tells of a mail that was put off, and of one that could not be
// handled, whoever's fault it was.
func (s *Server) countReply(m *mail, err error) {
	var e *smtp.SMTPError
	if len(m.recipients) == 0 || !errors.As(err, &e) || e.Code/100 != 4 {
		return
	}
	for _, domain := range m.domains() {
		s.deps.Counter.Count("tempfail_rate_5min", m.recipients[0].Domain.Workspace, domain, 1)
	}
}

// countFailed tells of a mail that we could not handle.
func (s *Server) countFailed(m *mail) {
	for _, domain := range m.domains() {
		s.deps.Counter.Count("mails_not_handled_5min", m.recipients[0].Domain.Workspace, domain, 1)
	}
}
