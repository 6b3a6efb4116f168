package evidence

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"mailward/approval"
	"mailward/audit"
	"mailward/evidence/pdf"
	"mailward/evidence/receipt"
	"mailward/gateway/ledger"
	"mailward/policy"
)

// facts are what is on record of a mail, for programs.
type facts struct {
	File      string                `json:"file"`
	Envelope  envelope              `json:"envelope"`
	Node      string                `json:"node"`
	Class     policy.Class          `json:"class"`
	Score     float64               `json:"score"`
	Reasons   []string              `json:"reasons"`
	Findings  []policy.Finding      `json:"findings"`
	Engines   []policy.EngineAnswer `json:"engines"`
	Parts     []policy.Part         `json:"parts"`
	Auth      json.RawMessage       `json:"auth"`
	SHA256    string                `json:"sha256"`
	SHA512    string                `json:"sha512"`
	Bytes     int64                 `json:"bytes"`
	IngestID  string                `json:"ingest_event_id,omitempty"`
	Timeline  []json.RawMessage     `json:"timeline"` // events as they are on record: personal values as commitments
	Outcomes  []ledger.Outcome      `json:"outcomes"`
	Decisions any                   `json:"decisions"`
}

// envelope is what SMTP said beside the mail.
type envelope struct {
	MailID     string           `json:"mail_id"`
	ItemID     string           `json:"item_id"`
	ReceivedAt time.Time        `json:"received_at"`
	Direction  policy.Direction `json:"direction"`
	ClientIP   string           `json:"client_ip"`
	Helo       string           `json:"helo"`
	TLS        string           `json:"tls"`
	MailFrom   string           `json:"mail_from"`
	RcptTo     []envelopeCopy   `json:"rcpt_to"`
}

type envelopeCopy struct {
	Address string `json:"address"`
	State   string `json:"state"`
	Reply   string `json:"reply,omitempty"`
}

// gather collects what is on record of a mail, and has its text taken out.
func (m *making) gather(ctx context.Context, n *mail, f *os.File, row ledger.Row) error {
	outcomes := []ledger.Outcome{}
	if row.ID == n.MailID {
		_, list, err := m.Ledger.Get(ctx, n.MailID)
		if err != nil {
			return err
		}
		outcomes = append(outcomes, list...)
	}
	env := envelope{MailID: n.MailID.String(), ItemID: n.ID.String(), ReceivedAt: n.ReceivedAt.UTC(), Direction: n.Direction, ClientIP: n.ClientIP, Helo: n.Helo, TLS: row.TLS, MailFrom: n.EnvelopeFrom}
	d := pdf.Mail{File: n.file, SHA256: n.SHA256, SHA512: n.sha512, Size: n.Size, MailID: n.MailID.String(), ItemID: n.ID.String(), Class: n.Class, Score: n.Score, Direction: n.Direction,
		ReceivedAt: n.ReceivedAt, Node: row.Node, ClientIP: n.ClientIP, Helo: n.Helo, TLS: row.TLS, EnvelopeFrom: n.EnvelopeFrom, HeaderFrom: n.HeaderFrom, Subject: n.Subject, MessageID: n.MessageID,
		Reasons: n.Reasons, Findings: n.Findings, Engines: n.Engines, Parts: n.Parts, Auth: checks(n.Auth)}
	for _, r := range n.Recipients {
		reply := strings.TrimSpace(r.ReplyText)
		if r.ReplyCode != 0 {
			reply = fmt.Sprintf("%d %s", r.ReplyCode, reply)
		}
		env.RcptTo = append(env.RcptTo, envelopeCopy{r.Address, string(r.State), reply})
		d.Recipients = append(d.Recipients, pdf.Recipient{Address: r.Address, State: string(r.State), Reply: reply})
	}
	n.facts = facts{File: n.file, Envelope: env, Node: row.Node, Class: n.Class, Score: n.Score, Reasons: n.Reasons, Findings: n.Findings, Engines: n.Engines, Parts: n.Parts, Auth: n.Auth,
		SHA256: n.SHA256, SHA512: n.sha512, Bytes: n.Size, Outcomes: outcomes, Decisions: row.Recipients}
	if n.ingest != nil {
		n.facts.IngestID = n.ingest.ID.String()
		if n.ingest.Seq != nil {
			seq := uint64(*n.ingest.Seq)
			d.IngestSeq = &seq
		}
	}
	v, opened := m.viewMail(ctx, f)
	d.Text, d.TextNote, d.Links = readable(v, opened)
	for _, h := range v.Headers {
		d.Headers = append(d.Headers, pdf.Field{Name: h.Name, Value: h.Value})
	}
	var err error
	n.facts.Timeline, d.Timeline, err = m.timeline(ctx, n.ID.String())
	n.pdf = d
	return err
}

// timelineLimit bounds the events of one mail; a mail has a few dozen.
const timelineLimit = 2000

// timeline is what the audit has of a mail, the first event first.
func (m *making) timeline(ctx context.Context, target string) (raw []json.RawMessage, steps []pdf.Step, err error) {
	f := audit.Filter{Target: target, Limit: 500}
	for len(raw) < timelineLimit {
		page, err := m.Audit.List(ctx, f)
		if err != nil {
			return nil, nil, err
		}
		for _, row := range page.Items {
			raw = append(raw, json.RawMessage(row.Bytes))
			if st, ok := stepOf(row); ok {
				steps = append(steps, st)
			}
		}
		if f.Cursor = page.Next; f.Cursor == "" {
			break
		}
	}
	slices.Reverse(raw)
	slices.Reverse(steps)
	return raw, steps, nil
}

// looked are the acts by which somebody saw or decided something.
var looked = []string{audit.ViewBody, audit.ViewPart, audit.RawDownload, audit.ReleaseRequest, audit.ReleaseExecute, audit.ReleaseApprove, audit.ReleaseDeny, audit.ItemDelete, audit.SandboxRequest,
	audit.EvidenceRequest, audit.EvidenceExecute, audit.EvidenceApprove, audit.EvidenceDeny, audit.EvidenceDownload}

func stepOf(row audit.Row) (pdf.Step, bool) {
	f := row.Fields()
	text := func(path ...string) string {
		var v any = f
		for _, p := range path {
			m, _ := v.(map[string]any)
			v = m[p]
		}
		s, _ := v.(string)
		return s
	}
	st := pdf.Step{At: row.RecordedAt, Action: text("action"), Who: text("actor", "email")}
	if st.Who == "" {
		st.Who = text("actor", "display")
	}
	if job := text("actor", "job", "name"); job != "" {
		st.Who = strings.TrimSpace(st.Who + " (" + job + ")")
	}
	var detail []string
	for _, s := range []string{text("reason", "code"), text("reason", "text"), text("outcome", "detail")} {
		if s != "" && !slices.Contains(detail, s) {
			detail = append(detail, s)
		}
	}
	if r := text("outcome", "result"); r != "success" && r != "" {
		detail = append([]string{r}, detail...)
	}
	st.Detail = strings.Join(detail, ": ")
	if row.Seq != nil {
		n := uint64(*row.Seq)
		st.Seq = &n
	}
	// An act that is put on record before and after it is one line.
	result := text("phase") == "result" && (st.Action == audit.ViewBody || st.Action == audit.ViewPart || st.Action == audit.RawDownload || st.Action == audit.EvidenceDownload)
	st.Looked = slices.Contains(looked, st.Action) && text("actor", "type") != "system"
	return st, !result || text("outcome", "result") != "success"
}

// checks are the answers about the sender, as package mailauth has written them.
func checks(raw json.RawMessage) (out []pdf.Check) {
	var a struct {
		From  string
		SPF   struct{ Result, Domain, Reason string }
		HELO  struct{ Result, Domain, Reason string }
		DKIM  []struct{ Result, Domain, Selector, Algorithm, Reason string }
		DMARC struct {
			Result, Domain, Policy, Reason string
		}
		ARC   struct{ Result, Reason string }
		IPRev struct{ Result, Name, Reason string }
	}
	if json.Unmarshal(raw, &a) != nil {
		return nil
	}
	add := func(what, result string, detail ...string) {
		if result != "" {
			out = append(out, pdf.Check{What: what, Result: result, Detail: strings.Join(slices.DeleteFunc(detail, func(s string) bool { return s == "" }), ", ")})
		}
	}
	add("SPF", a.SPF.Result, a.SPF.Domain, a.SPF.Reason)
	add("SPF (HELO)", a.HELO.Result, a.HELO.Domain, a.HELO.Reason)
	for _, k := range a.DKIM {
		add("DKIM", k.Result, k.Domain, k.Selector, k.Algorithm, k.Reason)
	}
	want := ""
	if a.DMARC.Policy != "" {
		want = "p=" + a.DMARC.Policy
	}
	add("DMARC", a.DMARC.Result, a.DMARC.Domain, want, a.DMARC.Reason)
	add("ARC", a.ARC.Result, a.ARC.Reason)
	add("iprev", a.IPRev.Result, a.IPRev.Name, a.IPRev.Reason)
	return out
}

func dangerous(c policy.Class) bool {
	return c == policy.Malware || c == policy.Unscannable || c == policy.Suspicious
}

// manifest is everything about the export that is known before it is stored.
func (m *making) manifest() any {
	var mails []facts
	for _, n := range m.mails {
		mails = append(mails, n.facts)
	}
	return map[string]any{"schema": "gw-evidence/1", "receipt_id": m.ReceiptID, "evidence_id": m.EvidenceID, "export_id": m.ID, "made_at": m.Now().UTC(),
		"installation": m.cfg.Hostname, "software": "Mailward " + m.cfg.Version, "workspace_id": m.Workspace,
		"case":      map[string]any{"id": m.CaseID, "reference": m.Reference, "title": m.Title, "purpose": m.Purpose},
		"requested": map[string]any{"by": m.RequestedName, "id": m.RequestedBy, "at": m.CreatedAt.UTC(), "reason": m.Reason, "event_id": m.Intent},
		"approved":  map[string]any{"four_eyes": m.Mode, "by": m.approver(), "id": m.Approver, "at": m.DecidedAt},
		"custody":   m.chain, "mails": mails}
}

// document is the report.
func (m *making) document() pdf.Document {
	hashOf, hash := m.mails[0].file, m.mails[0].SHA256
	if len(m.mails) > 1 {
		hashOf, hash = receipt.FileManifest, sumOf(m.data[receipt.FileManifest])
	}
	t := pdf.Words(m.Language)
	d := pdf.Document{Lang: m.Language, EvidenceID: m.EvidenceID, ReceiptID: m.ReceiptID, Case: pdf.Case{Reference: m.Reference, Title: m.Title, Purpose: m.Purpose}, Reason: m.Reason,
		RequestedBy: m.RequestedName, ApprovedBy: m.approver(), IssuedAt: m.Now(), Installation: m.cfg.Hostname, Software: "Mailward " + m.cfg.Version, HashOf: hashOf, Hash: hash, Head: m.head,
		Signing: pdf.Signing{TSA: m.TSA.Name(), BuiltIn: m.TSA.BuiltIn(), Fingerprint: m.fingerprint}, Storage: m.storageText(t)}
	if m.Mode == approval.SingleOperator {
		d.ApprovedBy = ""
	}
	for _, n := range m.mails {
		d.Mails = append(d.Mails, n.pdf)
	}
	for _, c := range m.chain {
		d.Custody = append(d.Custody, pdf.Step{At: c.At, Action: c.Event, Who: c.Actor, Detail: strings.TrimSpace(c.Place + " " + c.Reason), Seq: c.Seq})
	}
	d.Attachments = append(m.embedded, pdf.Attachment{Name: receipt.FileManifest, Description: t("att.manifest"), Data: m.data[receipt.FileManifest]})
	return d
}

func (m *making) storageText(t func(string) string) string {
	if m.Locks() {
		return fmt.Sprintf(t("store.s3"), m.uri(), m.until.Format(time.DateOnly))
	}
	return fmt.Sprintf(t("store.folder"), m.uri())
}
