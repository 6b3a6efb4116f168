package pdf

import (
	"cmp"
	"fmt"
	"strings"

	"mailward/policy"
)

// cover is page 1: what it is, why it was held, who asked and who agreed, and the
// hash, to be seen at a glance; then the same in plain words.
func (r *report) cover() {
	r.AddPage()
	r.font("", 9)
	r.ink(soft)
	r.CellFormat(width/2, 5, "Mailward", "", 0, "L", false, 0, "")
	r.CellFormat(width/2, 5, r.clean(r.Installation), "", 1, "R", false, 0, "")
	const size = 30.0
	r.qr(r.ReceiptID, pageWidth-margin-size, 27, size)
	r.SetXY(pageWidth-margin-size-12, 27+size+1)
	r.mono(6)
	r.ink(soft)
	r.CellFormat(size+12, 3, r.ReceiptID, "", 0, "R", false, 0, "")
	r.SetXY(margin, 29)
	r.font("B", 21)
	r.ink(strong)
	r.MultiCell(width-size-8, 9, r.t("title"), "", "L", false)
	r.font("", 11)
	r.ink(soft)
	r.MultiCell(width-size-8, 6, r.EvidenceID+"  ·  "+r.time(r.IssuedAt), "", "L", false)
	r.SetY(66)
	r.facts()
	r.heading(r.t("summary"))
	for _, s := range r.summary() {
		r.para(s)
	}
	if r.Signing.BuiltIn {
		r.note(r.t("stamp.builtin"))
	}
}

// facts is the box.
func (r *report) facts() {
	top := r.GetY()
	r.SetY(top + 3)
	if len(r.Mails) == 1 {
		r.oneMail(r.Mails[0])
	} else {
		r.manyMails()
	}
	r.fact(r.t("fact.reason"), r.line(r.Reason, 400), 10, "B")
	r.fact(r.t("fact.case"), r.line(r.Case.Reference+" – "+r.Case.Title, 250), 10, "")
	r.fact(r.t("fact.purpose"), r.line(r.Case.Purpose, 250), 10, "")
	r.fact(r.t("fact.requester"), r.line(r.RequestedBy, 200), 10, "")
	approver := r.line(r.ApprovedBy, 200)
	if approver == "" {
		approver = r.t("fact.approver.none")
	}
	r.fact(r.t("fact.approver"), approver, 10, "B")
	r.Ln(1)
	r.fact(r.t("hash.of", r.HashOf), "", 10, "")
	r.SetX(margin + 4)
	r.SetFont("mono", "B", 10)
	r.ink(strong)
	r.CellFormat(width-8, 5, r.Hash, "", 1, "L", false, 0, "")
	r.SetX(margin + 4)
	r.font("", 8.5)
	r.ink(soft)
	same := "fact.same"
	if len(r.Mails) > 1 {
		same = "fact.same.set"
	}
	r.CellFormat(width-8, 5, r.t(same), "", 1, "L", false, 0, "")
	if r.PageNo() == 1 { // a long set goes on, without its frame
		r.SetDrawColor(accent[0], accent[1], accent[2])
		r.SetLineWidth(0.5)
		r.Rect(margin, top, width, r.GetY()-top+2, "D")
	}
	r.Ln(3)
}

func (r *report) fact(label, value string, size float64, style string) {
	y := r.GetY()
	r.SetXY(margin+4, y)
	r.font("", 8.5)
	r.ink(soft)
	if value == "" {
		r.CellFormat(width-8, 5, label, "", 1, "L", false, 0, "")
		return
	}
	r.MultiCell(labels-6, 5, label, "", "L", false)
	after := r.GetY()
	r.SetXY(margin+labels, y)
	r.font(style, size)
	r.ink(strong)
	r.SetLeftMargin(margin + labels)
	r.MultiCell(width-labels-4, 5, value, "", "L", false)
	r.SetLeftMargin(margin)
	r.SetXY(margin, max(after, r.GetY())+1)
}

func (r *report) oneMail(m Mail) {
	r.fact(r.t("fact.item"), r.subject(m), 12, "B")
	r.fact(r.t("fact.from"), r.line(m.EnvelopeFrom, 150)+r.author(m), 10, "")
	r.fact(r.t("fact.to"), r.line(addresses(m), 250), 10, "")
	r.fact(r.t("fact.received"), r.time(m.ReceivedAt), 10, "")
	y := r.GetY()
	r.fact(r.t("fact.class"), " ", 10, "")
	r.SetXY(margin+labels, y-0.3)
	r.pill(m.Class)
	r.SetXY(margin, y+6.5)
	r.fact(r.t("fact.why"), r.line(why(m), 350), 10, "B")
}

func (r *report) manyMails() {
	r.fact(r.t("fact.item"), r.t("fact.items", len(r.Mails)), 12, "B")
	for i, m := range r.Mails {
		r.fact(fmt.Sprint(i+1), fmt.Sprintf("%s\n%s → %s, %s\n%s: %s\nSHA-256 %s", r.subject(m), r.line(m.EnvelopeFrom, 80), r.line(addresses(m), 80), r.time(m.ReceivedAt),
			r.word("class", string(m.Class)), r.line(why(m), 120), m.SHA256), 8.2, "")
	}
}

// pill is the class, in its colour.
func (r *report) pill(c policy.Class) {
	col := accent
	switch c {
	case policy.Malware, policy.Phishing, policy.Unscannable:
		col = danger
	}
	text := strings.ToUpper(r.word("class", string(c)))
	r.font("B", 9)
	w := r.GetStringWidth(text) + 6
	r.SetFillColor(col[0], col[1], col[2])
	r.SetTextColor(255, 255, 255)
	r.CellFormat(w, 5.6, text, "", 0, "C", true, 0, "")
}

func (r *report) subject(m Mail) string {
	if s := r.line(m.Subject, 200); s != "" {
		return s
	}
	return r.t("no.subject")
}

// author is who the mail says wrote it, where that is not who sent it.
func (r *report) author(m Mail) string {
	a := r.line(m.HeaderFrom, 150)
	if a == "" || strings.Contains(strings.ToLower(a), strings.ToLower(m.EnvelopeFrom)) && m.EnvelopeFrom != "" && !strings.Contains(a, " ") {
		return ""
	}
	return "\n" + r.t("fact.claims", a)
}

func addresses(m Mail) string {
	var list []string
	for _, c := range m.Recipients {
		list = append(list, c.Address)
	}
	return strings.Join(list, ", ")
}

// why is the first reason that weighs.
func why(m Mail) string {
	for _, f := range m.Findings {
		if f.Class == m.Class && f.Reason != "" {
			return f.Reason + " (" + f.Engine + ": " + f.Name + ")"
		}
	}
	return strings.Join(m.Reasons, "; ")
}

// summary says it in plain words.
func (r *report) summary() (out []string) {
	for _, m := range r.Mails {
		from := r.line(m.EnvelopeFrom, 150)
		if from == "" {
			from = r.t("null.sender")
		}
		out = append(out, r.t("sum.received", r.time(m.ReceivedAt), from, cmp.Or(r.clean(m.ClientIP), r.t("unknown")), len(m.Recipients), r.subject(m)),
			r.t("sum.class", r.word("class", string(m.Class)), r.line(strings.Join(m.Reasons, "; "), 500))+" "+r.fate(m))
		if len(r.Mails) > 1 && len(out) >= 6 { // the rest stands with each mail
			out = append(out, r.t("sum.more", len(r.Mails)-3))
			break
		}
	}
	decided := r.t("sum.decided.one", r.line(r.RequestedBy, 200), r.line(r.Reason, 400))
	if r.ApprovedBy != "" {
		decided = r.t("sum.decided.two", r.line(r.RequestedBy, 200), r.line(r.Reason, 400), r.line(r.ApprovedBy, 200))
	}
	return append(out, decided, r.t("sum.same"), r.Storage)
}

// fate says what became of the copies.
func (r *report) fate(m Mail) string {
	sent := 0
	for _, c := range m.Recipients {
		if c.State == "released" || c.State == "outcome_unknown" {
			sent++
		}
	}
	if sent == 0 {
		return r.t("sum.kept")
	}
	return r.t("sum.sent", sent, len(m.Recipients))
}
