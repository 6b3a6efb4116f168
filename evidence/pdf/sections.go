package pdf

import (
	"fmt"
	"strings"
)

// How much of one mail is printed. The rest is in the files of the bundle, and
// the report says so.
const (
	maxText    = 60_000
	maxRows    = 300
	maxHeaders = 200
	maxLinks   = 200
)

// mail is everything about one mail.
func (r *report) mail(i int, m Mail) {
	r.AddPage()
	if len(r.Mails) > 1 {
		r.font("B", 16)
		r.ink(strong)
		r.MultiCell(width, 8, r.t("mail.n", i+1, len(r.Mails))+": "+r.subject(m), "", "L", false)
	}
	r.identity(m)
	r.envelope(m)
	r.checks(m)
	r.verdicts(m)
	r.parts(m)
	r.headers(m)
	r.text(m)
	r.links(m)
	r.timeline(m)
}

func (r *report) identity(m Mail) {
	r.heading(r.t("sec.original"))
	r.row(r.t("f.file"), m.File)
	r.row(r.t("f.bytes"), fmt.Sprint(m.Size))
	r.code("SHA-256", m.SHA256)
	r.code("SHA-512", m.SHA512)
	if m.IngestSeq != nil {
		r.row(r.t("f.ingest"), r.t("f.ingest.same", *m.IngestSeq))
	} else {
		r.row(r.t("f.ingest"), r.t("f.ingest.unsealed"))
	}
	r.code(r.t("f.mailid"), m.MailID)
	r.code(r.t("f.itemid"), m.ItemID)
}

func (r *report) envelope(m Mail) {
	r.heading(r.t("sec.envelope"))
	r.row(r.t("f.received"), r.time(m.ReceivedAt)+", "+r.clean(m.Node))
	r.row(r.t("f.direction"), r.word("direction", string(m.Direction)))
	r.code(r.t("f.client"), r.clean(m.ClientIP))
	r.code("HELO/EHLO", r.line(m.Helo, 255))
	r.row("TLS", r.line(m.TLS, 100))
	r.code("MAIL FROM", "<"+r.line(m.EnvelopeFrom, 320)+">")
	r.code(r.t("f.author"), r.line(m.HeaderFrom, 500))
	r.row(r.t("f.subject"), r.subject(m))
	r.code("Message-ID", r.line(m.MessageID, 500))
	r.Ln(1)
	var rows [][]string
	for i, c := range m.Recipients {
		if i == maxRows {
			break
		}
		rows = append(rows, []string{r.line(c.Address, 320), r.word("state", c.State), r.line(c.Reply, 300)})
	}
	r.table([]column{{"RCPT TO", 80, true}, {r.t("f.state"), 36, false}, {r.t("f.reply"), width - 116, false}}, rows)
	r.more(len(m.Recipients), maxRows)
}

func (r *report) more(have, limit int) {
	if have > limit {
		r.note(r.t("more", have-limit))
	}
}

func (r *report) checks(m Mail) {
	r.heading(r.t("sec.auth"))
	if len(m.Auth) == 0 {
		r.para(r.t("auth.none"))
		return
	}
	var rows [][]string
	for _, c := range m.Auth {
		rows = append(rows, []string{c.What, c.Result, r.line(c.Detail, 400)})
	}
	r.table([]column{{r.t("f.check"), 30, false}, {r.t("f.result"), 30, false}, {r.t("f.detail"), width - 60, false}}, rows)
}

func (r *report) verdicts(m Mail) {
	r.heading(r.t("sec.verdicts"))
	r.row(r.t("fact.class"), r.word("class", string(m.Class))+fmt.Sprintf(", %s %.1f", r.t("f.score"), m.Score))
	for _, s := range m.Reasons {
		r.row(r.t("f.reason"), r.line(s, 500))
	}
	r.Ln(1)
	var rows [][]string
	for i, f := range m.Findings {
		if i == maxRows {
			break
		}
		rows = append(rows, []string{f.Engine, r.line(f.Name, 150), r.word("class", string(f.Class)), r.line(strings.TrimSpace(f.Part+" "+f.PartName), 100), r.line(f.Reason, 300)})
	}
	if len(rows) > 0 {
		r.table([]column{{r.t("f.engine"), 20, false}, {r.t("f.finding"), 46, true}, {r.t("fact.class"), 24, false}, {r.t("f.part"), 26, true}, {r.t("f.detail"), width - 116, false}}, rows)
		r.more(len(m.Findings), maxRows)
	}
	rows = nil
	for _, e := range m.Engines {
		said := r.t("engine.answered")
		if !e.Answered {
			said = r.t("engine.silent") + " " + r.line(e.Error, 150)
		}
		database := r.line(e.Database, 100)
		if !e.DatabaseTime.IsZero() {
			database += " (" + r.time(e.DatabaseTime) + ")"
		}
		rows = append(rows, []string{e.Engine, r.line(e.Version, 100), database, said})
	}
	r.table([]column{{r.t("f.engine"), 20, false}, {r.t("f.version"), 50, false}, {r.t("f.database"), 64, false}, {r.t("f.answer"), width - 134, false}}, rows)
}

func (r *report) parts(m Mail) {
	r.heading(r.t("sec.parts"))
	var rows [][]string
	for i, p := range m.Parts {
		if i == maxRows {
			break
		}
		kind := r.line(p.ContentType, 100)
		if p.TrueType != "" && p.TrueType != p.ContentType {
			kind += "\n" + r.t("part.true", r.line(p.TrueType, 100))
		}
		rows = append(rows, []string{p.Path, r.line(p.Name, 150), kind, fmt.Sprint(p.Size), p.SHA256})
	}
	r.table([]column{{r.t("f.part"), 12, true}, {r.t("f.name"), 36, false}, {r.t("f.type"), 44, false}, {r.t("f.bytes"), 18, false}, {"SHA-256", width - 110, true}}, rows)
	r.more(len(m.Parts), maxRows)
}

func (r *report) headers(m Mail) {
	r.heading(r.t("sec.headers"))
	r.note(r.t("links.note"))
	for i, h := range m.Headers {
		if i == maxHeaders {
			break
		}
		r.code(r.line(h.Name, 60), r.line(DefangText(h.Value), 2000))
	}
	r.more(len(m.Headers), maxHeaders)
	if len(m.Headers) == 0 {
		r.para(r.t("headers.none"))
	}
}

func (r *report) text(m Mail) {
	r.heading(r.t("sec.text"))
	r.note(r.t(m.TextNote))
	runes := []rune(r.clean(DefangText(m.Text)))
	cut := len(runes) > maxText
	if cut {
		runes = runes[:maxText]
	}
	r.mono(8.4)
	r.ink(strong)
	r.MultiCell(width, 4.4, string(runes), "", "L", false)
	r.Ln(1)
	if cut {
		r.note(r.t("text.cut", maxText))
	}
}

func (r *report) links(m Mail) {
	r.heading(r.t("sec.links"))
	if len(m.Links) == 0 {
		r.para(r.t("links.none"))
		return
	}
	r.note(r.t("links.note"))
	var rows [][]string
	for i, l := range m.Links {
		if i == maxLinks {
			break
		}
		rows = append(rows, []string{r.line(Defang(l.Target), 1000), r.line(Defang(l.Text), 300)})
	}
	r.table([]column{{r.t("f.target"), 110, true}, {r.t("f.shown"), width - 110, false}}, rows)
	r.more(len(m.Links), maxLinks)
}

func (r *report) timeline(m Mail) {
	r.heading(r.t("sec.timeline"))
	r.steps(m.Timeline)
	r.heading(r.t("sec.people"))
	var seen []Step
	for _, s := range m.Timeline {
		if s.Looked {
			seen = append(seen, s)
		}
	}
	if len(seen) == 0 {
		r.para(r.t("people.none"))
		return
	}
	r.steps(seen)
}

func (r *report) steps(list []Step) {
	var rows [][]string
	for i, s := range list {
		if i == maxRows {
			break
		}
		seq := "–"
		if s.Seq != nil {
			seq = fmt.Sprint(*s.Seq)
		}
		rows = append(rows, []string{r.time(s.At), r.word("do", s.Action), r.line(s.Who, 100), r.line(s.Detail, 400), seq})
	}
	r.table([]column{{r.t("f.time"), 40, false}, {r.t("f.act"), 40, false}, {r.t("f.who"), 34, false}, {r.t("f.detail"), width - 128, false}, {r.t("f.seq"), 14, false}}, rows)
	r.more(len(list), maxRows)
}

// closing is what is about the export as a whole.
func (r *report) closing() {
	r.AddPage()
	r.heading(r.t("sec.custody"))
	r.note(r.t("custody.note"))
	r.steps(r.Custody)
	r.heading(r.t("sec.seal"))
	r.para(r.t("seal.text"))
	r.code(r.t("f.origin"), r.clean(r.Head.Origin))
	r.code(r.t("f.size"), fmt.Sprint(r.Head.Size))
	r.code(r.t("f.root"), r.Head.Root)
	r.code(r.t("f.key"), r.Signing.Fingerprint)
	r.row(r.t("f.tsa"), r.clean(r.Signing.TSA))
	if r.Signing.BuiltIn {
		r.note(r.t("stamp.builtin"))
	}
	r.heading(r.t("sec.verify"))
	r.para(r.t("verify.text"))
	r.code("", "sha256sum -c SHA256SUMS\nopenssl pkeyutl -verify -pubin -inkey pki/receipt.pem -rawin -in receipt.core.json -sigfile receipt.sig\npdfsig -nocert report.pdf\npdfdetach -saveall report.pdf\nmailward receipt verify .")
	r.heading(r.t("sec.embedded"))
	for _, a := range r.Attachments {
		r.row(a.Name, a.Description)
	}
	r.heading(r.t("sec.method"))
	r.para(r.t("method.text", r.clean(r.Software)))
}
