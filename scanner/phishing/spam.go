package phishing

import (
	netmail "net/mail"
	"strings"
	"time"
	"unicode"
)

// findSpam looks for all signs of spam.
func findSpam(m *mail) {
	m.traceSigns()
	m.subjectSigns()
	m.bulkSigns()
}

// traceSigns are about fields that every honest program writes.
func (m *mail) traceSigns() {
	if m.header["message-id"] == "" {
		m.sign("NO_MESSAGE_ID", "")
	}
	if m.header["date"] == "" {
		m.sign("NO_DATE", "")
	} else if at, err := netmail.ParseDate(m.header["date"]); err == nil && at.After(m.e.cfg.Now().Add(24*time.Hour)) {
		m.sign("DATE_FUTURE", m.header["date"])
	}
	if _, cc := m.header["cc"]; m.header["to"] == "" && !cc && !m.list {
		m.sign("NO_RECIPIENT", "")
	}
	if host := m.e.cfg.Hostname; host != "" {
		for _, h := range m.c.Headers {
			if h.Name == "received" && strings.Contains(strings.ToLower(h.Value), " by "+strings.ToLower(host)+" ") && strings.Contains(h.Value, "Mailward") {
				m.sign("FORGED_RECEIVED", "")
			}
		}
	}
}

func (m *mail) subjectSigns() {
	letters, upper, pictures := 0, 0, 0
	for _, r := range m.c.Subject {
		if unicode.IsLetter(r) {
			letters++
			if unicode.IsUpper(r) {
				upper++
			}
		}
	}
	for _, r := range m.c.Subject + m.from.Name {
		if r >= 0x1f300 && r <= 0x1faff || r >= 0x2600 && r <= 0x27bf {
			pictures++
		}
	}
	if letters >= 10 && upper*10 >= letters*9 {
		m.sign("SUBJECT_CAPITALS", "")
	}
	if strings.Count(m.c.Subject, "!") >= 2 || strings.Count(m.c.Subject, "$") >= 2 {
		m.sign("SUBJECT_SHOUTS", "")
	}
	if pictures > 0 {
		m.sign("SUBJECT_PICTURES", "")
	}
}

// bulkSigns are about the body.
func (m *mail) bulkSigns() {
	html, text := false, false
	for _, t := range m.c.Texts {
		if t.Name == "" {
			html, text = html || t.Kind == "html", text || t.Kind == "plain"
		}
	}
	if html && !text {
		m.sign("HTML_ALONE", "")
	}
	if m.list {
		return
	}
	if !m.leave && (hasWord(m.text, "unsubscribe") || strings.Contains(m.text, "abbestellen") || strings.Contains(m.text, "abmelden")) {
		m.sign("BULK_NO_LEAVE", "")
	}
	for _, name := range [...]string{"WORDS_OFFER", "WORDS_BODY", "WORDS_MONEY", "WORDS_MAILING"} {
		if w, ok := m.says(name); ok {
			m.sign(name, w)
		}
	}
}
