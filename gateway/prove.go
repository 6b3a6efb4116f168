package gateway

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"mailward/internal/message"
	"mailward/policy"
)

// Mark is a test mail by which an engine proves that it detects: that it answers
// says only that it runs.
type Mark struct {
	Engine string // whose finding is waited for
	Body   string // of the mail, from its Content-Type on
	Hit    func(f policy.Finding) bool
}

// Proof is what became of a test mail.
type Proof struct {
	Engine   string
	At       time.Time
	Detected bool
	Answered bool // the engine gave an answer at all
	Detail   string
}

// proof goes with a test mail on its way through handle.
type proof struct {
	mark     Mark
	key      []byte // of this process, for the label
	label    string
	decision *policy.Decision
	engines  []policy.EngineAnswer
}

// proofHeader is the label of a test mail: who made it, when, and a signature over
// both and the body by a key that lives in this process alone.
const proofHeader = "X-Mailward-Proof"

// proofLimit bounds one test mail.
const proofLimit = 30 * time.Second

var errProof = errors.New("gateway: a test mail without its label")

// Prove sends a test mail for each mark on the way of every mail, up to the
// decision. It is on no record and in no count, and cannot be delivered: the way
// ends before there is anything that delivers. What comes over the wire never goes
// this way, whatever label it bears.
func (s *Server) Prove(ctx context.Context, marks []Mark) []Proof {
	list := make([]Proof, 0, len(marks))
	for _, m := range marks {
		list = append(list, s.prove(ctx, m))
	}
	return list
}

func (s *Server) prove(ctx context.Context, mark Mark) Proof {
	ctx, cancel := context.WithTimeout(ctx, proofLimit)
	defer cancel()
	p := Proof{Engine: mark.Engine, At: time.Now()}
	m, err := s.proofMail(mark)
	if err != nil {
		p.Detail = err.Error()
		return p
	}
	defer m.spool.Close()
	if err := s.handle(ctx, s.log.With("mail", m.env.ID, "proof", mark.Engine), m); err != nil || m.proof.decision == nil {
		p.Detail = "the test mail did not come to a decision"
		if err != nil {
			p.Detail += ": " + err.Error()
		}
		return p
	}
	return m.proof.read(p)
}

// read is what the decision says of the engine.
func (pr *proof) read(p Proof) Proof {
	p.Detected = slices.ContainsFunc(pr.decision.Findings, func(f policy.Finding) bool { return f.Engine == p.Engine && pr.mark.Hit(f) })
	i := slices.IndexFunc(pr.engines, func(e policy.EngineAnswer) bool { return e.Engine == p.Engine })
	p.Answered = i >= 0 && pr.engines[i].Answered
	switch {
	case p.Detected:
	case i < 0:
		p.Detail = "the engine was not asked"
	case !p.Answered:
		p.Detail = "the engine gave no answer: " + pr.engines[i].Error
	default:
		var names []string
		for _, f := range pr.decision.Findings {
			names = append(names, f.Engine+" "+f.Name)
		}
		p.Detail = "the engine answered and did not find the mark"
		if len(names) > 0 {
			p.Detail += "; found: " + strings.Join(names[:min(len(names), 5)], ", ")
		}
	}
	return p
}

// proofMail makes a labelled test mail. Its recipient exists nowhere (RFC 2606).
func (s *Server) proofMail(mark Mark) (*mail, error) {
	id, err := uuid.NewV7()
	if err != nil {
		return nil, fmt.Errorf("make id of test mail: %w", err)
	}
	now := time.Now().UTC()
	pr := &proof{mark: mark, key: make([]byte, 32)}
	rand.Read(pr.key)
	stamp := mark.Engine + " " + now.Format(time.RFC3339)
	pr.label = stamp + " " + hex.EncodeToString(pr.mac(stamp, []byte(mark.Body)))
	var b bytes.Buffer
	fmt.Fprintf(&b, "%s: %s\r\nFrom: proof@mailward.invalid\r\nTo: nobody@mailward.invalid\r\nSubject: Mailward proof of detection (%s)\r\nDate: %s\r\nMessage-ID: <%s@mailward.invalid>\r\nMIME-Version: 1.0\r\n%s",
		proofHeader, pr.label, mark.Engine, now.Format(time.RFC1123Z), id, mark.Body)
	spool, err := s.deps.Spooler.FromBytes(b.Bytes())
	if err != nil {
		return nil, fmt.Errorf("spool test mail: %w", err)
	}
	r := policy.Recipient{Address: "nobody@mailward.invalid", Direction: policy.Inbound, Ours: "mailward.invalid", Domain: policy.Domain{Workspace: policy.DefaultWorkspace, Name: "mailward.invalid"}}
	return &mail{proof: pr, spool: spool, trusted: true, recipients: []recipient{{Recipient: r}},
		env: message.Envelope{ID: id, From: "proof@mailward.invalid", ReceivedAt: now, ClientIP: netip.IPv6Loopback(), Helo: s.cfg.Hostname}}, nil
}

func (pr *proof) mac(stamp string, body []byte) []byte {
	h := hmac.New(sha256.New, pr.key)
	h.Write([]byte(stamp + "\n"))
	h.Write(body)
	return h.Sum(nil)
}

// proven ends the way of a test mail. What was looked into must be what was made:
// the label is read back from the bytes that the engines have seen.
func (s *Server) proven(m *mail, d policy.Decision) error {
	head, body, _ := bytes.Cut(m.header, []byte("\r\n"))
	label, ok := strings.CutPrefix(string(head), proofHeader+": ")
	stamp, sum, cut := cutLast(label)
	mac, err := hex.DecodeString(sum)
	if !ok || !cut || err != nil || len(body) == 0 || !hmac.Equal(mac, m.proof.mac(stamp, []byte(m.proof.mark.Body))) {
		return errProof
	}
	m.proof.decision, m.proof.engines = &d, m.report.Engines
	return nil
}

func cutLast(s string) (before, after string, ok bool) {
	i := strings.LastIndexByte(s, ' ')
	if i < 0 {
		return s, "", false
	}
	return s[:i], s[i+1:], true
}

// attachment is the body of a mail with a file.
func attachment(text, name string, data []byte) string {
	return "Content-Type: multipart/mixed; boundary=\"proof\"\r\n\r\n--proof\r\nContent-Type: text/plain; charset=us-ascii\r\n\r\n" + text +
		"\r\n--proof\r\nContent-Type: application/octet-stream\r\nContent-Disposition: attachment; filename=\"" + name + "\"\r\nContent-Transfer-Encoding: 7bit\r\n\r\n" + string(data) + "\r\n--proof--\r\n"
}

const proofText = "This is a test mail that Mailward sends to itself to prove that it detects.\r\nIt is never delivered.\r\n"

// EICARMark is found by every scanner of viruses.
func EICARMark(engine string, testFile []byte) Mark {
	return Mark{Engine: engine, Body: attachment(proofText, "eicar.com", testFile), Hit: func(f policy.Finding) bool { return strings.Contains(strings.ToLower(f.Name), "eicar") }}
}

// TextMark is found by a text, and by the name of the finding; "": any.
func TextMark(engine, text, name string) Mark {
	return Mark{Engine: engine, Body: "Content-Type: text/plain; charset=us-ascii\r\n\r\n" + proofText + text + "\r\n", Hit: func(f policy.Finding) bool { return name == "" || f.Name == name }}
}

// PhishingMark says one address and links to another.
func PhishingMark(engine string) Mark {
	return Mark{Engine: engine, Body: "Content-Type: text/html; charset=us-ascii\r\n\r\n<html><body><p>" + proofText + "</p>" +
		"<p>Please verify your account now: <a href=\"http://login.mailward-proof.invalid/verify\">https://www.paypal.com/signin</a></p></body></html>\r\n",
		Hit: func(f policy.Finding) bool { return f.Name == "LINK_OTHER_DOMAIN" }}
}
