package digest

import (
	"bytes"
	"fmt"
	"html/template"
	"mime"
	"mime/quotedprintable"
	"strings"
	"time"

	"github.com/google/uuid"
)

// words are the texts of a digest in one language.
type words struct {
	Subject, Hello, From, Received, Have, Ask, NoSubject, More, Foot string
	Class                                                            map[string]string
}

var inLanguage = map[string]words{
	"en": {Subject: "Held mail for you: %d", Hello: "These mails were held and not delivered to you. Nothing happens to them unless you want one.", From: "From", Received: "Received",
		Have: "Have it delivered", Ask: "Ask for it", NoSubject: "(no subject)",
		More:  "These are the newest; %d fit into one mail, and there are more.",
		Foot:  "Each link is for you alone, counts once and for %d days, and asks before it does anything. Nobody at %s will ask for your password by such a mail.",
		Class: map[string]string{"spam": "spam", "phishing": "phishing", "suspicious": "suspicious", "broken": "malformed", "encrypted": "encrypted"}},
	"de": {Subject: "Zurückgehaltene Mails für Sie: %d", Hello: "Diese Mails wurden zurückgehalten und Ihnen nicht zugestellt. Es geschieht nichts mit ihnen, wenn Sie keine davon wollen.", From: "Von", Received: "Eingegangen",
		Have: "Zustellen lassen", Ask: "Freigabe erbitten", NoSubject: "(kein Betreff)",
		More:  "Das sind die neuesten; in eine Mail passen %d, und es gibt mehr.",
		Foot:  "Jeder Link gilt nur für Sie, einmal und %d Tage lang, und fragt, bevor er etwas tut. Niemand bei %s fragt mit so einer Mail nach Ihrem Passwort.",
		Class: map[string]string{"spam": "Spam", "phishing": "Phishing", "suspicious": "verdächtig", "broken": "fehlerhaft", "encrypted": "verschlüsselt"}},
}

var page = template.Must(template.New("digest").Parse(`<!DOCTYPE html><html lang="{{.Lang}}"><head><meta charset="utf-8"><title>{{.Subject}}</title></head>
<body style="font-family:sans-serif;color:#1a1d21;max-width:640px">
<p>{{.W.Hello}}</p>
<table role="presentation" style="border-collapse:collapse;width:100%">
{{range .Lines}}<tr><td style="border-top:1px solid #d5d9de;padding:12px 0">
<b>{{.Subject}}</b><br>{{$.W.From}} {{.From}}<br><small>{{$.W.Received}} {{.When}} · {{.Kind}}</small><br>
<a href="{{.Link}}">{{if .Ask}}{{$.W.Ask}}{{else}}{{$.W.Have}}{{end}}</a></td></tr>
{{end}}</table>
{{with .More}}<p>{{.}}</p>
{{end}}<p><small>{{.Foot}}</small></p></body></html>
`))

// shown is a line as people read it: nothing of a stranger's text can look like
// more than text.
type shown struct {
	Subject, From, When, Kind, Link string
	Ask                             bool
}

func (s *Store) show(set Timetable, lines []line) []shown {
	w, zone := inLanguage[set.Language], time.UTC
	if z, err := time.LoadLocation(set.TimeZone); err == nil {
		zone = z
	}
	var out []shown
	for _, l := range lines {
		o := shown{Subject: harmless(l.Subject, 120), From: harmless(l.From, 120), When: l.At.In(zone).Format("2006-01-02 15:04 MST"), Kind: w.Class[l.Class], Link: l.Link, Ask: l.Ask}
		if o.Subject == "" {
			o.Subject = w.NoSubject
		}
		// A mail program would make a link of it.
		o.Subject, o.From = defang(o.Subject), defang(o.From)
		out = append(out, o)
	}
	return out
}

func defang(s string) string {
	return strings.NewReplacer("://", "[:]//", "www.", "www[.]").Replace(s)
}

// harmless takes out what is no plain text: controls, and marks that turn the
// direction of writing.
func harmless(s string, most int) string {
	s = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || r >= 0x80 && r < 0xa0 || r >= 0x200b && r <= 0x200f || r >= 0x202a && r <= 0x202e || r >= 0x2066 && r <= 0x2069 || r == 0xfeff {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(s, "?"))
	if r := []rune(s); len(r) > most {
		s = string(r[:most]) + "…"
	}
	return strings.Join(strings.Fields(s), " ")
}

func (s *Store) bodies(set Timetable, lines []line, more bool) (text, html string, err error) {
	w, list := inLanguage[set.Language], s.show(set, lines)
	foot := fmt.Sprintf(w.Foot, int(s.cfg.LinkFor.Hours()/24), s.cfg.Hostname)
	note := ""
	if more {
		note = fmt.Sprintf(w.More, linesMost)
	}
	var t strings.Builder
	t.WriteString(w.Hello + "\n")
	for _, l := range list {
		verb := w.Have
		if l.Ask {
			verb = w.Ask
		}
		fmt.Fprintf(&t, "\n%s\n%s: %s\n%s: %s (%s)\n%s: %s\n", l.Subject, w.From, l.From, w.Received, l.When, l.Kind, verb, l.Link)
	}
	if note != "" {
		t.WriteString("\n" + note + "\n")
	}
	t.WriteString("\n-- \n" + foot + "\n")
	var h bytes.Buffer
	err = page.Execute(&h, map[string]any{"Lang": set.Language, "Subject": fmt.Sprintf(w.Subject, len(lines)), "W": w, "Lines": list, "More": note, "Foot": foot})
	if err != nil {
		return "", "", fmt.Errorf("write digest: %w", err)
	}
	return t.String(), h.String(), nil
}

// compose makes the mail: text and HTML, marked as automatic (RFC 3834 §5) and as
// one of a kind that can be filtered (RFC 2919).
func (s *Store) compose(set Timetable, to string, lines []line, more bool) ([]byte, error) {
	text, html, err := s.bodies(set, lines, more)
	if err != nil {
		return nil, err
	}
	id, err := uuid.NewV7()
	if err != nil {
		return nil, fmt.Errorf("make mail id: %w", err)
	}
	host, edge := s.cfg.Hostname, "digest-"+id.String()
	var b bytes.Buffer
	fmt.Fprintf(&b, "From: Mailward <postmaster@%s>\r\nTo: <%s>\r\nSubject: %s\r\nDate: %s\r\nMessage-ID: <%s@%s>\r\nAuto-Submitted: auto-generated\r\nList-Id: <quarantine.%s>\r\nPrecedence: bulk\r\nMIME-Version: 1.0\r\nContent-Type: multipart/alternative; boundary=\"%s\"\r\n\r\n",
		host, harmless(to, 320), mime.QEncoding.Encode("utf-8", fmt.Sprintf(inLanguage[set.Language].Subject, len(lines))), s.now().UTC().Format(time.RFC1123Z), id, host, host, edge)
	for _, part := range []struct{ kind, body string }{{"plain", text}, {"html", html}} {
		fmt.Fprintf(&b, "--%s\r\nContent-Type: text/%s; charset=utf-8\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n", edge, part.kind)
		w := quotedprintable.NewWriter(&b)
		if _, err := w.Write([]byte(strings.ReplaceAll(part.body, "\n", "\r\n"))); err != nil {
			return nil, fmt.Errorf("write digest: %w", err)
		}
		if err := w.Close(); err != nil {
			return nil, fmt.Errorf("write digest: %w", err)
		}
		b.WriteString("\r\n")
	}
	fmt.Fprintf(&b, "--%s--\r\n", edge)
	return b.Bytes(), nil
}
