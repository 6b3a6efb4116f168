package evidence

import (
	"context"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"regexp"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"mailward/audit"
	"mailward/audit/proof"
	"mailward/evidence/pdf"
	"mailward/evidence/receipt"
	"mailward/internal/aezip"
	"mailward/internal/worm"
	"mailward/quarantine"
)

// What a worker may try again.
var (
	errStamp = errors.New("no time stamp")
	errStore = errors.New("not stored")
)

// making is an export that is being made.
type making struct {
	*Store
	Export
	tries  int
	read   readEvent
	head   pdf.Head
	until  time.Time
	mails  []mail
	chain  []Step
	files  []File // that are stored
	data   map[string][]byte
	stored uuid.UUID // event

	key         proof.Key // of the receipt
	fingerprint string
	embedded    []pdf.Attachment
	at          time.Time // of storing
}

// mail is one of them, with its exact bytes.
type mail struct {
	quarantine.Item
	file, envelope string
	raw            []byte
	sha512         string
	ingest         *audit.Row
	holdsHash      bool
	pdf            pdf.Mail
	facts          facts
}

// make is the whole of it: read and compare, report, store and confirm, record,
// seal, receipt.
func (s *Store) make(ctx context.Context, id uuid.UUID, tries int, read readEvent) error {
	e, err := s.Get(ctx, id)
	if err != nil {
		return err
	}
	m := &making{Store: s, Export: e, tries: tries, read: read, data: map[string][]byte{}, until: s.Now().UTC().Add(s.cfg.Keep).Truncate(time.Second)}
	m.ReceiptID = "rcpt_" + strings.ReplaceAll(id.String(), "-", "")
	if tries > 1 {
		m.ReceiptID += fmt.Sprintf("-%d", tries)
	}
	for _, st := range []struct {
		name string
		do   func(context.Context) error
	}{{"read", m.readMails}, {"report", m.report}, {"store", m.putFirst}, {"seal", m.record}, {"receipt", m.receipt}} {
		if err := s.step(ctx, id, tries, st.name); err != nil {
			return err
		}
		if err := st.do(ctx); err != nil {
			return fmt.Errorf("%s: %w", st.name, err)
		}
	}
	return nil
}

// readMails reads the bytes and compares them with what came in. From here on only
// these bytes are used.
func (m *making) readMails(ctx context.Context) error {
	if _, err := m.Audit.Sequence(ctx); err != nil { // the report names events by number
		return err
	}
	for i, id := range m.Items {
		it, err := m.Quarantine.Get(ctx, id)
		if err != nil {
			return err
		}
		n := mail{Item: it, file: "original.eml", envelope: "envelope.json"}
		if len(m.Items) > 1 {
			n.file, n.envelope = fmt.Sprintf("original-%02d.eml", i+1), fmt.Sprintf("envelope-%02d.json", i+1)
		}
		if err := m.open(ctx, &n); err != nil {
			return err
		}
		m.mails = append(m.mails, n)
	}
	if err := m.acquired(ctx); err != nil {
		return err
	}
	last, err := m.Seal.Last(ctx)
	if err == nil {
		m.head = pdf.Head{Origin: last.Origin, Size: last.Size, Root: hex.EncodeToString(last.Root)}
	}
	return nil // before the first seal there is no head, and the proof comes later anyway
}

func (m *making) open(ctx context.Context, n *mail) error {
	f, err := m.Quarantine.File(ctx, n.Item)
	if err != nil {
		return err
	}
	defer f.Close()
	if n.raw, err = io.ReadAll(io.NewSectionReader(f, 0, n.Size+1)); err != nil {
		return fmt.Errorf("read mail: %w", err)
	}
	short, long := sha256.Sum256(n.raw), sha512.Sum512(n.raw)
	n.sha512 = hex.EncodeToString(long[:])
	row, _, err := m.Ledger.Get(ctx, n.MailID)
	if err == nil && row.SHA256 != n.SHA256 || int64(len(n.raw)) != n.Size || hex.EncodeToString(short[:]) != n.SHA256 {
		return fmt.Errorf("%w: item %s", ErrDamaged, n.ID)
	}
	if n.ingest, err = m.ingestEvent(ctx, n); err != nil {
		return err
	}
	return m.gather(ctx, n, f, row)
}

// ingestEvent is the event under which the mail came in. It has the hash since this
// version; one of an older version is still shown to be there.
func (m *making) ingestEvent(ctx context.Context, n *mail) (*audit.Row, error) {
	page, err := m.Audit.List(ctx, audit.Filter{Action: audit.ItemCreate, Target: n.ID.String(), Limit: 1})
	if err != nil || len(page.Items) == 0 {
		return nil, err
	}
	row := page.Items[0]
	var e struct {
		Change struct {
			After struct {
				SHA256 string `json:"sha256"`
			}
		}
	}
	if err := json.Unmarshal(row.Bytes, &e); err != nil {
		return nil, fmt.Errorf("%w: the event of item %s cannot be read", ErrDamaged, n.ID)
	}
	if e.Change.After.SHA256 != "" && e.Change.After.SHA256 != n.SHA256 {
		return nil, fmt.Errorf("%w: the audit has another hash of item %s", ErrDamaged, n.ID)
	}
	n.holdsHash = e.Change.After.SHA256 != ""
	return &row, nil
}

// acquired begins the chain of custody with how the mails came to us.
func (m *making) acquired(ctx context.Context) error {
	chain, err := m.Custody(ctx, m.ID)
	if err != nil {
		return err
	}
	known := false
	for _, c := range chain {
		known = known || c.Event == "acquired"
	}
	if !known { // not in a second try
		err = m.DB.Act(ctx, worker(m.ID), func(ctx context.Context, tx pgx.Tx) error {
			for _, n := range m.mails {
				event := m.read.ID
				if n.ingest != nil {
					event = n.ingest.ID
				}
				by := worker(m.ID)
				by.Display = "System (gateway)"
				if err := m.custody(ctx, tx, custody{Export: m.ID, Workspace: m.Workspace, At: n.ReceivedAt, Event: "acquired", Actor: by, Place: n.facts.Node, Reason: n.file, AuditEvent: event}); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	m.chain, err = m.Custody(ctx, m.ID)
	return err
}

// report makes what is derived from the originals: envelopes, manifest, PDF.
func (m *making) report(ctx context.Context) error {
	if err := m.keys(ctx); err != nil {
		return err
	}
	for _, n := range m.mails {
		m.data[n.file] = n.raw
		a, err := m.original(n, pdf.Words(m.Language))
		if err != nil {
			return err
		}
		m.embedded = append(m.embedded, a)
		b, err := receipt.Encode(n.facts.Envelope)
		if err != nil {
			return err
		}
		m.data[n.envelope] = b
	}
	b, err := receipt.Encode(m.manifest())
	if err != nil {
		return err
	}
	m.data[receipt.FileManifest] = b
	doc, err := pdf.Render(m.document())
	if err != nil {
		return err
	}
	signer := pdf.Signer{Cert: m.Signer.Cert, Key: m.Signer.Key, Name: "Mailward " + m.cfg.Hostname, Stamp: func(ctx context.Context, data []byte) ([]byte, error) {
		st, err := m.TSA.Stamp(ctx, data)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", errStamp, err)
		}
		return st.Token, nil
	}}
	if m.Signer.Root != nil && !m.Signer.Root.Equal(m.Signer.Cert) {
		signer.Chain = append(signer.Chain, m.Signer.Root)
	}
	signed, err := pdf.Sign(ctx, doc, signer, m.Now())
	m.data[receipt.FileReport] = signed
	return err
}

// first are the files that the log vouches for.
func (m *making) first() (names []string) {
	for _, n := range m.mails {
		names = append(names, n.file, n.envelope)
	}
	return append(names, receipt.FileManifest, receipt.FileReport)
}

func (m *making) putFirst(ctx context.Context) error {
	for _, name := range m.first() {
		if err := m.put(ctx, name); err != nil {
			return err
		}
	}
	m.at = m.Now()
	return nil
}

var unsafeName = regexp.MustCompile(`[^A-Za-z0-9._-]+`)

// folder is where the files of an export lie: case, evidence, and the try, since
// nothing is ever written over.
func (m *making) folder() string {
	ref := strings.Trim(unsafeName.ReplaceAllString(m.Reference, "_"), "._-")
	if ref == "" {
		ref = m.CaseID.String()
	}
	return path.Join(m.Workspace.String(), ref, fmt.Sprintf("%s.%d", m.EvidenceID, m.tries))
}

func (m *making) put(ctx context.Context, name string) error {
	b := m.data[name]
	o, err := m.Vault.Put(ctx, path.Join(m.folder(), name), mediaType(name), b, worm.Lock{Until: m.until, Hold: m.LegalHold})
	if err != nil {
		return fmt.Errorf("%w: %w", errStore, err)
	}
	sum := sha256.Sum256(b)
	m.files = append(m.files, File{Name: name, Bytes: int64(len(b)), SHA256: hex.EncodeToString(sum[:]), Object: o})
	return nil
}

func mediaType(name string) string {
	switch path.Ext(name) {
	case ".eml":
		return "message/rfc822"
	case ".pdf":
		return "application/pdf"
	case ".json":
		return "application/json"
	case ".txt", ".pem":
		return "text/plain; charset=utf-8"
	}
	return "application/octet-stream"
}

// record puts on record what was stored, and has the audit sealed at once, so that
// the proof can go into the bundle.
func (m *making) record(ctx context.Context) error {
	sums := map[string]any{}
	for _, f := range m.files {
		sums[f.Name] = f.SHA256
	}
	err := m.DB.Act(ctx, worker(m.ID), func(ctx context.Context, tx pgx.Tx) error {
		var err error
		m.stored, err = m.Audit.Append(ctx, tx, audit.Event{Action: audit.EvidenceStored, Workspace: m.Workspace, Actor: worker(m.ID), Retention: audit.Retention3Years, Reason: m.Reason,
			Targets: exportTargets(m.Export), Correlation: audit.Correlation{CausationID: m.read.ID.String()},
			After: map[string]any{"receipt_id": m.ReceiptID, "evidence_id": m.EvidenceID, "files": sums, "uri": m.uri(), "worm": m.Vault.Mode(), "retain_until": m.retain()}})
		if err != nil {
			return err
		}
		return m.custody(ctx, tx, custody{Export: m.ID, Workspace: m.Workspace, At: m.at, Event: "stored", Actor: worker(m.ID), Place: m.uri(), AuditEvent: m.stored})
	})
	if err != nil {
		return err
	}
	return m.sealed(ctx)
}

func (m *making) uri() string { return m.Vault.URI(m.folder()) }

// retain is until when the files are locked; nothing where no lock is.
func (m *making) retain() any {
	if !m.Locks() {
		return nil
	}
	return m.until.Format(time.RFC3339)
}

// sealWait bounds how long the numbering of events is waited for: another process
// may be at it.
const sealWait = 30 * time.Second

func (m *making) sealed(ctx context.Context) error {
	end := time.Now().Add(sealWait)
	for {
		for n := 1; n > 0; {
			var err error
			if n, err = m.Audit.Sequence(ctx); err != nil {
				return err
			}
		}
		if _, err := m.Seal.Seal(ctx); err != nil {
			return err
		}
		if _, err := m.Seal.Include(ctx, m.stored); err == nil {
			return nil
		} else if time.Now().After(end) {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(200 * time.Millisecond):
		}
	}
}

// viewMail has the sidecar open a mail.
func (m *making) viewMail(ctx context.Context, f *os.File) (View, bool) {
	if m.View == nil {
		return View{}, false
	}
	v, err := m.View(ctx, f)
	if err != nil {
		m.Log.Warn("a mail cannot be taken apart for its report", "export", m.ID, "error", err)
		return View{}, false
	}
	return v, true
}

// original is what goes into the PDF: the mail, or a zip that nothing opens by
// mistake.
func (m *making) original(n mail, t func(string) string) (pdf.Attachment, error) {
	if !dangerous(n.Class) {
		return pdf.Attachment{Name: n.file, Description: t("att.original"), Data: n.raw}, nil
	}
	z, err := aezip.Pack(n.file, n.raw, n.ReceivedAt)
	return pdf.Attachment{Name: strings.TrimSuffix(n.file, ".eml") + ".zip", Description: t("att.zip"), Data: z}, err
}
