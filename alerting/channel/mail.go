package channel

import (
	"bytes"
	"context"
	"fmt"
	"html"
	"mime"
	"mime/multipart"
	"mime/quotedprintable"
	"net/mail"
	"net/textproto"
	"strconv"
	"strings"

	"github.com/google/uuid"

	"mailward/alerting/rule"
)

// Recipients reads the addresses of an e-mail channel.
func Recipients(target string) (list []string, err error) {
	for _, one := range strings.FieldsFunc(target, func(r rune) bool { return r == ',' || r == ';' || r == '\n' || r == '\r' || r == ' ' }) {
		a, err := mail.ParseAddress(one)
		if err != nil || a.Address != one || strings.ContainsAny(one, "\r\n\"") {
			return nil, fmt.Errorf("%q is not a mail address", cut(one, 100))
		}
		list = append(list, a.Address)
	}
	if len(list) == 0 || len(list) > 50 {
		return nil, fmt.Errorf("must be 1 to 50 mail addresses, are %d", len(list))
	}
	return list, nil
}

// email sends text and HTML that say the same.
func (s *Sender) email(ctx context.Context, c Channel, id uuid.UUID, m Message) error {
	if s.cfg.Mailer == nil {
		return permanent("no mail can be sent from here")
	}
	to, err := Recipients(c.Target)
	if err != nil {
		return permanent("%s", err.Error())
	}
	raw, err := s.compose(c, to, id, m)
	if err != nil {
		return permanent("message cannot be written: %v", err)
	}
	return s.cfg.Mailer.Mail(ctx, s.cfg.From, to, raw)
}

func (s *Sender) compose(c Channel, to []string, id uuid.UUID, m Message) ([]byte, error) {
	w := words{c.Language}
	var b bytes.Buffer
	parts := multipart.NewWriter(&b)
	head := []string{
		"From: Mailward <" + s.cfg.From + ">",
		"To: " + strings.Join(to, ",\r\n "),
		"Subject: " + fold(mime.QEncoding.Encode("utf-8", w.heading(m))),
		"Date: " + s.now().UTC().Format("Mon, 02 Jan 2006 15:04:05 +0000"),
		"Message-ID: <" + id.String() + "@" + s.cfg.Hostname + ">",
		"Auto-Submitted: auto-generated", // RFC 3834 §5: no vacation answers
		"X-Auto-Response-Suppress: All",
		"Content-Language: " + c.Language,
		"MIME-Version: 1.0",
		"Content-Type: multipart/alternative; boundary=" + parts.Boundary(),
	}
	if critical(m) {
		head = append(head, "Importance: high")
	}
	b.WriteString(strings.Join(head, "\r\n") + "\r\n\r\n")
	for _, p := range []struct{ kind, body string }{{"text/plain", s.text(w, c, m)}, {"text/html", s.html(w, c, m)}} {
		part, err := parts.CreatePart(textproto.MIMEHeader{"Content-Type": {p.kind + "; charset=utf-8"}, "Content-Transfer-Encoding": {"quoted-printable"}})
		if err != nil {
			return nil, err
		}
		q := quotedprintable.NewWriter(part)
		if _, err := q.Write([]byte(strings.ReplaceAll(p.body, "\n", "\r\n"))); err != nil {
			return nil, err
		}
		if err := q.Close(); err != nil {
			return nil, err
		}
	}
	if err := parts.Close(); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}

// fold puts encoded words on lines of their own (RFC 2047 §2).
func fold(s string) string { return strings.ReplaceAll(s, "?= =?", "?=\r\n =?") }

func critical(m Message) bool {
	for _, a := range m.Alerts {
		if a.Severity == rule.Critical && a.Notice == rule.Alarmed {
			return true
		}
	}
	return false
}

// text is the message in plain words.
func (s *Sender) text(w words, c Channel, m Message) string {
	var b strings.Builder
	if m.Test {
		b.WriteString(w.t("test_text", harmless(c.Name, 100), harmless(m.Note, 100)) + "\n\n")
	}
	list, more := shown(m, maxAlerts)
	for _, a := range list {
		b.WriteString(w.title(a) + "\n")
		for _, f := range w.facts(a) {
			b.WriteString("  " + f.name + ": " + f.value + "\n")
		}
		if a.Late {
			b.WriteString("  " + w.t("late") + "\n")
		}
		for _, l := range s.links(w, a) {
			b.WriteString("  " + l.name + ": " + l.url + "\n")
		}
		b.WriteString("\n")
	}
	if more > 0 {
		b.WriteString(w.t("more", strconv.Itoa(more)) + "\n\n")
	}
	return b.String() + "-- \n" + w.t("foot", s.cfg.Hostname) + "\n"
}

// colours of severities, dark enough on white.
var colours = map[rule.Severity]string{rule.Info: "#1a4fd0", rule.Warn: "#8a4b00", rule.Critical: "#b42318"}

// html is the same. It has no picture and no script, and nothing of it is loaded
// from anywhere.
func (s *Sender) html(w words, c Channel, m Message) string {
	var b strings.Builder
	b.WriteString(`<!doctype html><html lang="` + w.lang + `"><head><meta charset="utf-8"><title>` + html.EscapeString(w.heading(m)) + `</title></head><body style="font:15px/1.5 sans-serif;color:#151a22;margin:24px">`)
	if m.Test {
		b.WriteString("<p>" + html.EscapeString(w.t("test_text", harmless(c.Name, 100), harmless(m.Note, 100))) + "</p>")
	}
	list, more := shown(m, maxAlerts)
	for _, a := range list {
		b.WriteString(`<h2 style="font-size:17px;margin:24px 0 8px;padding-left:10px;border-left:4px solid ` + colours[a.Severity] + `">` + html.EscapeString(w.title(a)) + `</h2><table role="presentation" cellpadding="0" cellspacing="0">`)
		for _, f := range w.facts(a) {
			b.WriteString(`<tr><td style="padding:2px 16px 2px 0;color:#465060">` + html.EscapeString(f.name) + `</td><td>` + html.EscapeString(f.value) + `</td></tr>`)
		}
		b.WriteString("</table>")
		if a.Late {
			b.WriteString("<p>" + html.EscapeString(w.t("late")) + "</p>")
		}
		b.WriteString("<p>")
		for _, l := range s.links(w, a) {
			b.WriteString(`<a style="margin-right:16px;color:#2f59e3" href="` + html.EscapeString(l.url) + `">` + html.EscapeString(l.name) + `</a>`)
		}
		b.WriteString("</p>")
	}
	if more > 0 {
		b.WriteString("<p>" + html.EscapeString(w.t("more", strconv.Itoa(more))) + "</p>")
	}
	b.WriteString(`<p style="color:#5e6979;font-size:13px">` + html.EscapeString(w.t("foot", s.cfg.Hostname)) + "</p></body></html>\n")
	return b.String()
}
