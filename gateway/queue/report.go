package queue

import (
	"bytes"
	"fmt"
	"mime"
	"mime/quotedprintable"
	"net/mail"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/google/uuid"

	"mailward/gateway/hop"
	"mailward/internal/message"
)

// report is a notification as it is written: RFC 3464 in the frame of RFC 6522.
// All that came from others is made harmless here. A report is plain ASCII
// unless the sender's own address is not (RFC 6533).
type report struct {
	id, mailID uuid.UUID
	boundary   string // not to be guessed by who wrote the mail
	hostname   string
	sender     string
	envID      string // xtext
	arrived    time.Time
	now        time.Time
	utf8       bool
	fates      []fate // all with the same action
	header     []byte // of the mail; where full is not set
	full       bool   // the whole mail comes between the two halves of render
	eightBit   bool   // the mail has bytes above 127
}

// render writes the report. What is before and after the mail itself comes
// apart, so that the mail need not be in memory.
func (r report) render() (before, after []byte) {
	var b bytes.Buffer
	w := func(format string, a ...any) { fmt.Fprintf(&b, format+"\r\n", a...) }
	w("From: Mail Delivery System <postmaster@%s>", r.hostname)
	w("To: %s", r.to())
	w("Subject: %s", mime.QEncoding.Encode("utf-8", subjects[r.fates[0].action]))
	w("Date: %s", r.now.UTC().Format(time.RFC1123Z))
	w("Message-ID: <%s@%s>", r.id, r.hostname)
	if id := r.messageID(); id != "" {
		w("References: %s", id)
	}
	w("Auto-Submitted: auto-replied") // RFC 3834 §5
	w("MIME-Version: 1.0")
	kind := "delivery-status"
	if r.utf8 {
		kind = "global-delivery-status"
	}
	// RFC 2045 §6.4: what holds a part in 8bit says so as well.
	w("Content-Type: multipart/report; report-type=%s;\r\n\tboundary=\"%s\"%s", kind, r.boundary, r.encoding(r.utf8 || r.full && r.eightBit))
	w("\r\n--%s\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: quoted-printable\r\nContent-Description: Notification\r\n", r.boundary)
	text := quotedprintable.NewWriter(&b)
	text.Write([]byte(r.words()))
	text.Close()
	w("\r\n--%s\r\nContent-Type: message/%s%s\r\nContent-Description: Delivery report\r\n", r.boundary, kind, r.encoding(r.utf8))
	r.status(w)
	return r.enclose(b.Bytes())
}

// enclose adds the third part: the mail, or its header.
func (r report) enclose(report []byte) (before, after []byte) {
	b := bytes.NewBuffer(report)
	kind := map[bool]string{false: "text/rfc822-headers", true: "message/global-headers"}[r.utf8]
	desc := "Undelivered message headers"
	if r.full {
		kind, desc = map[bool]string{false: "message/rfc822", true: "message/global"}[r.utf8], "Undelivered message"
	}
	if r.full || len(r.header) > 0 {
		fmt.Fprintf(b, "--%s\r\nContent-Type: %s%s\r\nContent-Description: %s\r\n\r\n", r.boundary, kind, r.encoding(r.eightBit || r.utf8), desc)
	}
	end := fmt.Sprintf("\r\n--%s--\r\n", r.boundary)
	if r.full {
		return b.Bytes(), []byte(end)
	}
	b.WriteString(r.headerLines() + end)
	return b.Bytes(), nil
}

func (report) encoding(eightBit bool) string {
	if eightBit {
		return "\r\nContent-Transfer-Encoding: 8bit"
	}
	return ""
}

// status writes the fields that programs read (RFC 3464 §2.2 and §2.3).
func (r report) status(w func(string, ...any)) {
	w("Reporting-MTA: dns; %s", r.hostname)
	if id := r.clean(fromXtext(r.envID), 100); id != "" {
		w("Original-Envelope-Id: %s", id)
	}
	if !r.arrived.IsZero() {
		w("Arrival-Date: %s", r.arrived.UTC().Format(time.RFC1123Z))
	}
	w("X-Mailward-ID: %s\r\n", r.mailID)
	for _, f := range r.fates {
		if o := r.originalRecipient(f.rcpt.ORCPT); o != "" {
			w("Original-Recipient: %s", o)
		}
		w("Final-Recipient: %s", r.address(f.rcpt.Address))
		w("Action: %s", f.action)
		w("Status: %s", f.status())
		if f.reply.Code != 0 && f.action != actionRelayed {
			w("Diagnostic-Code: smtp; %s", f.said())
		}
		if f.action == actionDelayed && !f.until.IsZero() {
			w("Will-Retry-Until: %s", f.until.UTC().Format(time.RFC1123Z))
		}
		w("")
	}
}

// status is the code of RFC 3463.
func (f fate) status() string {
	class := map[action]string{actionFailed: "5", actionDelayed: "4", actionRelayed: "2"}[f.action]
	switch {
	case f.action == actionRelayed:
		return "2.0.0"
	case statusCode(f.reply.Enhanced) && (f.gaveUp || f.reply.Enhanced[:1] == class):
		return f.reply.Enhanced
	case f.gaveUp:
		return "4.4.7" // The time is over.
	case f.reply.Code == 0 && f.action == actionDelayed:
		return "4.4.1" // No answer from the host.
	}
	return class + ".0.0"
}

// statusCode says whether s is a status code and nothing else.
func statusCode(s string) bool {
	parts := strings.Split(s, ".")
	for _, p := range parts {
		if n, err := strconv.Atoi(p); err != nil || n < 0 || n > 999 || strconv.Itoa(n) != p {
			return false
		}
	}
	return len(parts) == 3 && (s[0] == '2' || s[0] == '4' || s[0] == '5') && s[1] == '.'
}

// said is what the mail server said, in one line.
func (f fate) said() string {
	return strings.Join(strings.Fields(fmt.Sprintf("%d %s %s", f.reply.Code, hop.Harmless(f.reply.Enhanced, 20), hop.Harmless(f.reply.Text, 300))), " ")
}

// to is the sender's address as a header field has it.
func (r report) to() string {
	a, err := mail.ParseAddress("<" + r.sender + ">")
	if err != nil || strings.ContainsFunc(r.sender, unsafe) {
		return "undisclosed-recipients:;"
	}
	return (&mail.Address{Address: a.Address}).String()
}

// encodedMost keeps the line of an encoded address within 998 octets (RFC 5322 §2.1.1).
const encodedMost = 900

// address is a Final-Recipient. In an ASCII report other addresses are encoded
// as RFC 6533 §3 has it.
func (r report) address(a string) string {
	switch {
	case message.IsASCII(a):
		return "rfc822; " + hop.Harmless(a, 320)
	case r.utf8:
		return "utf-8; " + r.clean(a, 320)
	}
	var b strings.Builder
	for _, c := range clip(a, 320) {
		if b.Len() > encodedMost {
			break
		}
		if c > 0x20 && c < 0x7f && c != '\\' && c != '+' && c != '=' {
			b.WriteRune(c)
			continue
		}
		fmt.Fprintf(&b, `\x{%X}`, c)
	}
	return "utf-8; " + b.String()
}

// originalRecipient is the ORCPT that the sender gave: type and xtext (RFC 3461 §4.2).
func (r report) originalRecipient(orcpt string) string {
	kind, value, ok := strings.Cut(orcpt, ";")
	if !ok || kind == "" || strings.ContainsFunc(kind, func(c rune) bool {
		return c != '-' && (c >= 0x80 || !unicode.IsLetter(c) && !unicode.IsDigit(c))
	}) {
		return ""
	}
	if !strings.EqualFold(kind, "utf-8") {
		value = fromXtext(value)
	}
	if !r.utf8 && !message.IsASCII(value) {
		return ""
	}
	if value = r.clean(value, 320); value == "" {
		return ""
	}
	return kind + "; " + value
}

// clean makes foreign text fit for one line of this report.
func (r report) clean(s string, limit int) string {
	if !r.utf8 {
		return hop.Harmless(s, limit)
	}
	s = strings.Map(func(c rune) rune {
		if unsafe(c) {
			return ' '
		}
		return c
	}, strings.ToValidUTF8(s, "?"))
	return clip(strings.Join(strings.Fields(s), " "), limit)
}

// unsafe characters end lines, or show a text as another one.
func unsafe(c rune) bool {
	return unicode.IsControl(c) || c == utf8.RuneError || unicode.In(c, unicode.Zl, unicode.Zp, unicode.Cf)
}

// clip cuts a text at a whole character.
func clip(s string, limit int) string {
	for len(s) > limit {
		_, n := utf8.DecodeLastRuneInString(s)
		s = s[:len(s)-n]
	}
	return s
}

// fromXtext decodes RFC 3461 §4. What is no xtext stays as it is.
func fromXtext(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '+' && i+2 < len(s) {
			if n, err := strconv.ParseUint(s[i+1:i+3], 16, 8); err == nil {
				b.WriteByte(byte(n))
				i += 2
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

// headerLines is as much of the mail's header as goes back.
func (r report) headerLines() string {
	if len(r.header) == 0 {
		return ""
	}
	lines := strings.Split(strings.TrimRight(string(r.header), "\r\n"), "\n")
	for i, l := range lines {
		fold := ""
		if strings.HasPrefix(l, " ") || strings.HasPrefix(l, "\t") {
			fold = " "
		}
		lines[i] = fold + r.clean(l, 990)
	}
	return strings.Join(lines, "\r\n") + "\r\n"
}

// messageID is that of the mail, where it is a plain one.
func (r report) messageID() string {
	for l := range strings.SplitSeq(string(r.header), "\n") {
		name, value, ok := strings.Cut(l, ":")
		if !ok || !strings.EqualFold(name, "Message-ID") {
			continue
		}
		v := strings.TrimSpace(value)
		if len(v) > 2 && len(v) < 250 && v[0] == '<' && v[len(v)-1] == '>' && strings.Count(v, "@") == 1 &&
			!strings.ContainsFunc(v[1:len(v)-1], func(c rune) bool { return c <= 0x20 || c >= 0x7f || strings.ContainsRune(`<>(),;:\"[]`, c) }) {
			return v
		}
		return ""
	}
	return ""
}
