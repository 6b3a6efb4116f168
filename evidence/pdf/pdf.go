// Package pdf writes the forensic report of an export: what an auditor or an
// authority reads, on paper or on a screen.
//
// It renders what it is given and decides nothing. Everything that comes out of a
// mail is text here, never a link, a picture or a font of somebody else's.
package pdf

import (
	"bytes"
	"fmt"
	"time"

	"codeberg.org/go-pdf/fpdf"

	"mailward/policy"
)

// Document is one report.
type Document struct {
	Lang         string // en or de
	EvidenceID   string
	ReceiptID    string
	Case         Case
	Reason       string
	RequestedBy  string
	ApprovedBy   string // "": one person has decided
	IssuedAt     time.Time
	Installation string
	Software     string
	HashOf       string // file whose hash is on each page
	Hash         string
	Head         Head
	Mails        []Mail
	Custody      []Step
	Signing      Signing
	Storage      string // a sentence
	Attachments  []Attachment
}

// Case is what the export is for.
type Case struct{ Reference, Title, Purpose string }

// Head is the newest checkpoint of the audit before the export.
type Head struct {
	Origin string
	Size   uint64
	Root   string
}

// Signing is how the report is signed.
type Signing struct {
	TSA         string
	BuiltIn     bool   // the stamp is by the built-in authority
	Fingerprint string // of the key that signs the receipt
}

// Attachment is a file inside the report.
type Attachment struct {
	Name, Description string
	Data              []byte
}

// Mail is one mail.
type Mail struct {
	File                string
	SHA256, SHA512      string
	Size                int64
	MailID, ItemID      string
	Class               policy.Class
	Score               float64
	Direction           policy.Direction
	ReceivedAt          time.Time
	Node, ClientIP      string
	Helo, TLS           string
	EnvelopeFrom        string
	HeaderFrom, Subject string
	MessageID           string
	Recipients          []Recipient
	Reasons             []string
	Findings            []policy.Finding
	Engines             []policy.EngineAnswer
	Parts               []policy.Part
	Auth                []Check
	Headers             []Field
	Text                string
	TextNote            string // key of a text: how Text was come by, or why there is none
	Links               []Link
	Timeline            []Step
	IngestSeq           *uint64 // number of the event that took it in
}

// Recipient is one copy.
type Recipient struct{ Address, State, Reply string }

// Check is one answer about the sender.
type Check struct{ What, Result, Detail string }

// Field is a header field.
type Field struct{ Name, Value string }

// Link is where a link leads, and what it shows.
type Link struct{ Target, Text string }

// Step is something that was done.
type Step struct {
	At     time.Time
	Action string // as the audit names it
	Who    string
	Detail string
	Seq    *uint64
	Looked bool // somebody saw or decided something
}

// report is a document being written.
type report struct {
	*fpdf.Fpdf
	Document
	words words
	glyph coverage
}

// Render writes the report, without a signature.
func Render(d Document) ([]byte, error) {
	w, err := loadWords(d.Lang)
	if err != nil {
		return nil, err
	}
	glyph, err := newCoverage()
	if err != nil {
		return nil, err
	}
	r := &report{Fpdf: fpdf.New("P", "mm", "A4", ""), Document: d, words: w, glyph: glyph}
	r.setUp()
	r.cover()
	for i, m := range d.Mails {
		r.mail(i, m)
	}
	r.closing()
	var b bytes.Buffer
	if err := r.Output(&b); err != nil {
		return nil, fmt.Errorf("write report: %w", err)
	}
	return b.Bytes(), nil
}

func (r *report) setUp() {
	addFonts(r.Fpdf)
	r.SetMargins(margin, 18, margin)
	r.SetAutoPageBreak(true, 24)
	r.AliasNbPages("{nb}")
	r.SetTitle(r.t("title")+" "+r.EvidenceID, true)
	r.SetSubject(r.Case.Reference, true)
	r.SetProducer(r.clean(r.Software), true)
	r.SetLang(r.Lang)
	r.SetCreationDate(r.IssuedAt)
	r.SetModificationDate(r.IssuedAt)
	r.SetCatalogSort(true)
	r.SetFooterFunc(r.footer)
	var list []fpdf.Attachment
	for _, a := range r.Attachments {
		list = append(list, fpdf.Attachment{Content: a.Data, Filename: a.Name, Description: a.Description})
	}
	r.SetAttachments(list)
}

// footer is on each page: which evidence, which bytes, which page.
func (r *report) footer() {
	r.SetY(-18)
	r.SetDrawColor(190, 196, 206)
	r.Line(margin, r.GetY(), pageWidth-margin, r.GetY())
	r.Ln(1.5)
	r.font("", 7.5)
	r.ink(soft)
	r.CellFormat(60, 4, r.EvidenceID+"  ·  "+r.clean(r.Case.Reference), "", 0, "L", false, 0, "")
	r.CellFormat(width-60, 4, r.t("page", r.PageNo()), "", 1, "R", false, 0, "")
	r.font("", 7.5)
	label := r.t("hash.of", r.HashOf) + " "
	r.CellFormat(r.GetStringWidth(label)+1, 4, label, "", 0, "L", false, 0, "")
	r.mono(7.5)
	r.CellFormat(0, 4, r.Hash, "", 1, "L", false, 0, "")
}
