package phishing

import (
	netmail "net/mail"
	"regexp"
	"strings"
	"time"
	"unicode"
)

// findSpam looks for all signs of spam.
func findSpam(m *mail) {
	m.traceSigns()
	m.subjectSigns()
	m.bulkSigns()
	m.nameSigns()
}

// traceSigns are about fields that every honest program writes.
func (m *mail) traceSigns() {
	if m.header["message-id"] == "" {
		m.sign("NO_MESSAGE_ID", "")
	}
	if m.header["date"] == "" {
		m.sign("NO_DATE", "")
	} else if at, err := parseDate(m.header["date"]); err == nil && at.After(m.e.cfg.Now().Add(24*time.Hour)) {
		m.sign("DATE_FUTURE", m.header["date"])
	}
	m.dateSign()
	if len(m.c.To) >= 20 && !m.list && !m.answer() {
		m.sign("MANY_RECIPIENTS", "")
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

// parseDate reads a date of a header. As most are written it takes one try of the
// many that RFC 5322 allows.
func parseDate(s string) (time.Time, error) {
	if t, err := time.Parse("Mon, 2 Jan 2006 15:04:05 -0700", s); err == nil {
		return t, nil
	}
	return netmail.ParseDate(s)
}

// dateSign holds the date against that of the server next to us.
func (m *mail) dateSign() {
	date, err := parseDate(m.header["date"])
	if err != nil {
		return
	}
	received := m.header["received"]
	taken, err := parseDate(strings.TrimSpace(received[strings.LastIndexByte(received, ';')+1:]))
	if err != nil {
		return
	}
	if d := taken.Sub(date); d > 48*time.Hour || d < -24*time.Hour {
		m.sign("DATE_OFF", m.header["date"])
	}
}

var (
	marked = regexp.MustCompile(`^\W{0,3}(?i:adv|werbung|anzeige)\b\W{0,3}:`)
	// A word of small consonants alone is no word.
	padded = regexp.MustCompile(`\S\s{4,}\S|\S \.$|\s[bcdfghjklmnpqrstvwxyz]{5,9}$`)
	answer = regexp.MustCompile(`^(?i:re|aw)\s*:`)
)

func (m *mail) subjectSigns() {
	if marked.MatchString(m.c.Subject) {
		m.sign("SUBJECT_MARKED", "")
	}
	if padded.MatchString(m.c.Subject) && !m.list && !m.answer() {
		m.sign("SUBJECT_PADDED", "")
	}
	if answer.MatchString(m.c.Subject) && !m.list && !m.answer() {
		m.sign("FALSE_ANSWER", "")
	}
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
	if html, text := m.kinds(); html && !text {
		m.sign("HTML_ALONE", "")
	}
	if m.list {
		return
	}
	if !m.leave && (hasWord(m.own, "unsubscribe") || strings.Contains(m.own, "abbestellen") || strings.Contains(m.own, "abmelden")) {
		m.sign("BULK_NO_LEAVE", "")
	}
	for _, name := range [...]string{"WORDS_OFFER", "WORDS_BODY", "WORDS_MONEY", "WORDS_MAILING"} {
		if w, ok := m.saysItself(name); ok {
			m.sign(name, w)
		}
	}
}
