package gateway

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"mailward/gateway/hop"
	"mailward/internal/message"
	"mailward/policy"
)

// traceHeader is what we put on top of a mail, once: our Received line (RFC
// 5321 §4.4), what is known of the sender (RFC 8601), and our verdict. Nothing
// below it is touched.
func (s *Server) traceHeader(m *mail, d policy.Decision) []byte {
	var b strings.Builder
	with := m.env.With
	if with == "" {
		with = "ESMTP"
	}
	ip := "unknown"
	if m.env.ClientIP.IsValid() {
		ip = m.env.ClientIP.String()
		if m.env.ClientIP.Is6() {
			ip = "IPv6:" + ip
		}
	}
	fmt.Fprintf(&b, "Received: from %s ([%s])\r\n\tby %s (Mailward) with %s id %s;\r\n\t%s\r\n",
		heloName(m.env.Helo), ip, s.cfg.Hostname, with, m.env.ID, m.env.ReceivedAt.Format(time.RFC1123Z))
	fmt.Fprintf(&b, "X-Mailward-ID: %s\r\n", m.env.ID)
	if m.direction() == policy.Outbound {
		return []byte(b.String()) // what we think of it is not for the rest of the world
	}
	fmt.Fprintf(&b, "Authentication-Results: %s\r\n", fold(s.authResults(m)))
	fmt.Fprintf(&b, "X-Mailward-Verdict: %s\r\n", fold(fmt.Sprintf("%s; %.1f; %s", d.Class, d.Score, hop.Harmless(strings.Join(d.Reasons, ", "), 600))))
	if d.Class == policy.Spam && slices.ContainsFunc(d.Recipients, func(r policy.RecipientDecision) bool { return r.Action == policy.Tag || r.Else == policy.Tag }) {
		b.WriteString("X-Spam-Flag: YES\r\n")
	}
	return []byte(b.String())
}

// authResults is the value of our Authentication-Results, with our name.
func (s *Server) authResults(m *mail) string {
	auth := m.auth.Header
	if auth == "" {
		auth = "none"
	}
	return s.cfg.Hostname + "; " + hop.Harmless(auth, 4000)
}

// heloName makes what the client called itself fit for a header.
func heloName(h string) string {
	h = hop.Harmless(h, 255)
	h = strings.Map(func(r rune) rune {
		if strings.ContainsRune(`()<>,;:\"@ `, r) && r != ':' {
			return -1
		}
		return r
	}, h)
	if h == "" {
		return "unknown"
	}
	return h
}

// fold breaks a header value at spaces, well below 998 octets (RFC 5322 §2.1.1).
func fold(v string) string {
	const width = 76
	var b strings.Builder
	line := 0
	for i, w := range strings.Split(v, " ") {
		if i > 0 {
			if line+1+len(w) > width {
				b.WriteString("\r\n\t")
				line = 0
			} else {
				b.WriteByte(' ')
				line++
			}
		}
		b.WriteString(w)
		line += len(w)
	}
	return b.String()
}

// headerEdits finds the fields of the mail that only we may write.
func (s *Server) headerEdits(sp *message.Spool) ([]message.Range, []byte, error) {
	head, err := sp.Header(headerLimit)
	if err != nil {
		return nil, nil, err
	}
	return message.HeaderEdits(head, s.cfg.Hostname), head, nil
}

// headerLimit is the largest header that is taken: forged fields are looked for
// in all of it.
const headerLimit = 1 << 20
