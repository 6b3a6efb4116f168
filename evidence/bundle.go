package evidence

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"crypto/x509"
	"embed"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"

	"mailward/audit"
	"mailward/audit/proof"
	"mailward/audit/seal"
	"mailward/evidence/receipt"
	"mailward/evidence/tsa"
)

//go:embed verify/*.txt
var verifyFiles embed.FS

func sumOf(b []byte) string {
	h := sha256.Sum256(b)
	return hex.EncodeToString(h[:])
}

// keys finds the key that signs the receipt.
func (m *making) keys(ctx context.Context) error {
	list, err := m.Keys.List(ctx)
	if err != nil {
		return fmt.Errorf("key of the receipt: %w", err)
	}
	m.key, m.fingerprint = list[0], receipt.Fingerprint(list[0].Public)
	return nil
}

// receipt makes what shows that all of it is what was exported, stores it, and
// ends the export.
func (m *making) receipt(ctx context.Context) error {
	core, err := m.core(ctx)
	if err != nil {
		return err
	}
	if err := m.publicKeys(); err != nil {
		return err
	}
	b, err := receipt.Encode(core)
	if err != nil {
		return err
	}
	sig, err := m.Keys.Sign(ctx, m.key, b)
	if err != nil {
		return fmt.Errorf("sign receipt: %w", err)
	}
	st, err := m.TSA.Stamp(ctx, b)
	if err != nil {
		return fmt.Errorf("%w: %w", errStamp, err)
	}
	m.data[receipt.FileCore], m.data[receipt.FileSignature], m.data[receipt.FileStamp] = b, sig, st.Response
	m.stampKeys(st)
	r := receipt.Receipt{Core: core, Stamps: []receipt.Stamp{m.stamp(b, st)}, Verify: m.commands(st),
		Signature: receipt.Signature{Alg: "Ed25519", Over: receipt.FileCore, File: receipt.FileSignature, PublicKey: receipt.FileKey, Fingerprint: m.fingerprint}}
	if m.data[receipt.FileReceipt], err = receipt.Encode(r); err != nil {
		return err
	}
	if err := m.instructions(r); err != nil {
		return err
	}
	if err := m.sums(ctx); err != nil {
		return err
	}
	first := m.first()
	for _, name := range slices.Sorted(maps.Keys(m.data)) {
		if slices.Contains(first, name) {
			continue // stored before
		}
		if err := m.put(ctx, name); err != nil {
			return err
		}
	}
	return m.finish(ctx)
}

// core is what is signed.
func (m *making) core(ctx context.Context) (c receipt.Core, err error) {
	c = receipt.Core{Schema: receipt.Schema, ID: m.ReceiptID, IssuedAt: m.Now().UTC().Truncate(1000),
		Issuer:    receipt.Issuer{Organisation: m.cfg.Organisation, Installation: m.cfg.Hostname, Software: "Mailward " + m.cfg.Version, KeyID: "ed25519:" + m.key.ID()},
		Case:      receipt.Case{ID: m.CaseID.String(), Reference: m.Reference, Title: m.Title, Purpose: m.Purpose, EvidenceID: m.EvidenceID, Workspace: m.Workspace.String()},
		Storage:   receipt.Storage{URI: m.uri(), WORM: receipt.WORM{Mode: m.Vault.Mode(), LegalHold: m.LegalHold && m.Locks()}},
		Retention: receipt.Retention{Class: "evidence", DeleteAfter: m.until}}
	if m.Locks() {
		at := m.at.UTC()
		c.Storage.WORM.RetainUntil, c.Storage.WORM.ConfirmedAt, c.Storage.Version = &m.until, &at, map[string]string{}
	} else {
		c.Storage.WORM.Note = "a folder of this installation, not write-once storage"
	}
	for _, f := range m.files {
		if f.Object.Version != "" {
			c.Storage.Version[f.Name] = f.Object.Version
		}
		if strings.HasSuffix(f.Name, ".eml") {
			continue
		}
		a := receipt.Artifact{File: f.Name, Bytes: f.Bytes, SHA256: f.SHA256}
		if f.Name == receipt.FileReport {
			a.Profile, a.Signature = "PDF 1.x, no PDF/A", "ETSI.CAdES.detached with a time stamp (RFC 3161); no conformance to a PAdES level is claimed"
		}
		c.Artifacts = append(c.Artifacts, a)
	}
	var all []receipt.Original
	for i, n := range m.mails {
		o, err := m.originalOf(ctx, i, n)
		if err != nil {
			return c, err
		}
		all = append(all, o)
	}
	c.Original = all[0]
	if len(all) > 1 {
		c.Originals = all
	}
	if c.Custody, err = m.custodyOf(ctx); err != nil {
		return c, err
	}
	c.Log, err = m.logOf(ctx)
	return c, err
}

func (m *making) originalOf(ctx context.Context, i int, n mail) (receipt.Original, error) {
	o := receipt.Original{File: n.file, MediaType: "message/rfc822", Bytes: n.Size, SHA256: n.SHA256, SHA512: n.sha512, MailID: n.MailID.String(), ItemID: n.ID.String(), AcquiredAt: n.ReceivedAt.UTC(),
		AcquiredBy: strings.TrimSpace("mailward gateway " + n.facts.Node), Method: "copy of the bytes of SMTP DATA before anything was added", IngestHash: n.facts.SHA256, Matches: true, Changes: []string{}, EnvelopeRef: n.envelope}
	if n.ingest == nil {
		return o, nil
	}
	e, err := m.event(ctx, *n.ingest, fmt.Sprintf("log/ingest-%02d", i+1))
	if errors.Is(err, audit.ErrNotFound) { // deleted after its time
		return o, nil
	}
	if err != nil {
		return o, err
	}
	e.HoldsHash = n.holdsHash
	o.Ingest = &e
	return o, nil
}

// event puts an event and its proof into the bundle.
func (m *making) event(ctx context.Context, row audit.Row, base string) (receipt.Event, error) {
	p, err := m.Seal.Include(ctx, row.ID)
	if err != nil {
		return receipt.Event{}, fmt.Errorf("prove event %s: %w", row.ID, err)
	}
	e := receipt.Event{ID: row.ID.String(), Seq: p.Seq, RecordedAt: row.RecordedAt.UTC(), File: base + ".json", Proof: base + ".tlog-proof"}
	m.data[e.File], m.data[e.Proof] = row.Bytes, []byte(proof.Text(p.Seq, p.Path, p.Note))
	return e, nil
}

// logOf is the place of the export in the log, with the checkpoint in a form that
// openssl reads.
func (m *making) logOf(ctx context.Context) (receipt.Log, error) {
	row, err := m.Audit.Get(ctx, m.stored)
	if err != nil {
		return receipt.Log{}, err
	}
	p, err := m.Seal.Include(ctx, m.stored)
	if err != nil {
		return receipt.Log{}, fmt.Errorf("prove the export: %w", err)
	}
	l := receipt.Log{Origin: p.Origin, LeafHash: hex.EncodeToString(p.Leaf), TreeSize: p.Size, RootHash: hex.EncodeToString(p.Root), Checkpoint: receipt.FileCheckpoint, PublicKey: receipt.FileLogKey,
		Event: receipt.Event{ID: row.ID.String(), Seq: p.Seq, RecordedAt: row.RecordedAt.UTC(), File: receipt.FileEvent, Proof: receipt.FileProof, HoldsHash: true}}
	m.data[l.File], m.data[l.Proof], m.data[l.Checkpoint] = row.Bytes, []byte(proof.Text(p.Seq, p.Path, p.Note)), []byte(p.Checkpoint.Text())
	key, sig, err := m.sealedBy(ctx, p.Signed)
	if err != nil {
		return l, err
	}
	m.data[receipt.FileSealed] = sig
	m.data[receipt.FileLogKey], err = receipt.PEM(key)
	return l, err
}

// sealedBy takes the bare signature out of a signed note, with its key.
func (m *making) sealedBy(ctx context.Context, c seal.Signed) (ed25519.PublicKey, []byte, error) {
	known, err := m.Seal.PublicKeys(ctx)
	if err != nil {
		return nil, nil, err
	}
	text := []byte(c.Checkpoint.Text())
	for line := range strings.Lines(c.Note) {
		fields := strings.Fields(line)
		if len(fields) != 3 || fields[0] != "—" {
			continue
		}
		b, err := base64.StdEncoding.DecodeString(fields[2])
		if err != nil || len(b) != 4+ed25519.SignatureSize {
			continue
		}
		for _, k := range known {
			if ed25519.Verify(k.Public, text, b[4:]) {
				return k.Public, b[4:], nil
			}
		}
	}
	return nil, nil, errors.New("the checkpoint is signed by no key of ours")
}

func (m *making) custodyOf(ctx context.Context) (out []receipt.Custody, err error) {
	chain, err := m.Custody(ctx, m.ID)
	if err != nil {
		return nil, err
	}
	for i, c := range chain {
		s := receipt.Custody{N: i + 1, At: c.At.UTC(), Event: c.Event, By: c.Actor, Where: c.Place, Reason: c.Reason, EventID: c.EventID.String(), Seq: c.Seq}
		if c.ActorID != "" {
			s.By = "uuid:" + c.ActorID + " " + c.Actor
		}
		if c.Event == "stored" && m.Approver != nil {
			s.ApprovedBy = []string{"uuid:" + m.Approver.String() + " " + m.approver()}
		}
		out = append(out, s)
	}
	return out, nil
}

func (m *making) publicKeys() (err error) {
	if m.data[receipt.FileKey], err = receipt.PEM(m.key.Public); err != nil {
		return err
	}
	root := m.Signer.Root
	if root == nil {
		root = m.Signer.Cert
	}
	m.data[receipt.FilePDFRoot] = tsa.PEM(root)
	return nil
}

// stampKeys keeps what is needed to check the stamp: its chain, and the root. Where
// nobody has said whom to trust, the top of the chain stands for it, and the receipt
// says so.
func (m *making) stampKeys(st tsa.Stamp) {
	roots := m.TSA.Roots()
	if len(roots) == 0 {
		for _, c := range st.Chain {
			if bytes.Equal(c.RawIssuer, c.RawSubject) {
				roots = append(roots, c)
			}
		}
	}
	if len(roots) == 0 {
		roots = []*x509.Certificate{st.Chain[len(st.Chain)-1]}
	}
	m.data[receipt.FileTSARoot], m.data[receipt.FileTSAChain] = tsa.PEM(roots...), tsa.PEM(st.Chain...)
}

func (m *making) stamp(core []byte, st tsa.Stamp) receipt.Stamp {
	s := receipt.Stamp{Over: receipt.FileCore, HashAlg: "sha256", Imprint: sumOf(core), Token: receipt.FileStamp, GenTime: st.Time, TSA: m.TSA.Name(), Policy: st.Policy, Trusted: st.Trusted, BuiltIn: st.BuiltIn,
		Chain: receipt.FileTSAChain, Root: receipt.FileTSARoot, Until: st.Signer.NotAfter.UTC()}
	switch {
	case st.BuiltIn:
		s.Note = "by the authority that is built in, for tests and demonstration: it proves nothing about the time to others"
	case !st.Trusted:
		s.Note = "the authority was not checked when this was issued: no roots were set up"
	}
	return s
}

func (m *making) commands(st tsa.Stamp) []string {
	list := []string{
		"sha256sum -c " + receipt.FileSums,
		"openssl pkeyutl -verify -pubin -inkey " + receipt.FileKey + " -rawin -in " + receipt.FileSums + " -sigfile " + receipt.FileSumsSigned,
		"openssl pkeyutl -verify -pubin -inkey " + receipt.FileKey + " -rawin -in " + receipt.FileCore + " -sigfile " + receipt.FileSignature,
		"openssl ts -verify -data " + receipt.FileCore + " -in " + receipt.FileStamp + " -CAfile " + receipt.FileTSARoot + " -untrusted " + receipt.FileTSAChain + " -attime " + strconv.FormatInt(st.Time.Unix(), 10),
		"openssl pkeyutl -verify -pubin -inkey " + receipt.FileLogKey + " -rawin -in " + receipt.FileCheckpoint + " -sigfile " + receipt.FileSealed,
		"pdfsig -nocert " + receipt.FileReport,
		"pdfdetach -saveall -o ../embedded " + receipt.FileReport,
		"mailward receipt verify .",
	}
	return list
}

// instructions writes VERIFY.txt.
func (m *making) instructions(r receipt.Receipt) error {
	b, err := verifyFiles.ReadFile("verify/" + m.Language + ".txt")
	if err != nil {
		return fmt.Errorf("read the text of %s: %w", receipt.FileVerify, err)
	}
	c := r.Verify
	inside := ""
	for i, a := range m.embedded {
		n := m.mails[i]
		if a.Name == n.file {
			inside += "  sha256sum ../embedded/" + a.Name + "\n"
		} else {
			inside += "  7z x -pinfected ../embedded/" + a.Name + " -so | sha256sum\n"
		}
		inside += "    " + n.SHA256 + "\n"
	}
	built := ""
	if r.Stamps[0].Note != "" {
		built = "  ! " + r.Stamps[0].Note + "\n"
	}
	m.data[receipt.FileVerify] = []byte(strings.NewReplacer("{receipt}", m.ReceiptID, "{evidence}", m.EvidenceID, "{case}", m.Reference, "{key}", m.fingerprint, "{installation}", m.cfg.Hostname,
		"{sums}", c[0], "{sumsig}", c[1], "{core}", c[2], "{stamp}", c[3], "{log}", c[4], "{pdfsig}", c[5], "{detach}", c[6], "{mailward}", c[7], "{inside}", inside, "{built}", built,
		"{seq}", fmt.Sprint(r.Log.Seq), "{origin}", r.Log.Origin, "{size}", fmt.Sprint(r.Log.TreeSize)).Replace(string(b)))
	return nil
}

// sums lists all files, and signs the list.
func (m *making) sums(ctx context.Context) error {
	var b strings.Builder
	for _, name := range slices.Sorted(maps.Keys(m.data)) {
		fmt.Fprintf(&b, "%s  %s\n", sumOf(m.data[name]), name)
	}
	m.data[receipt.FileSums] = []byte(b.String())
	sig, err := m.Keys.Sign(ctx, m.key, m.data[receipt.FileSums])
	if err != nil {
		return fmt.Errorf("sign checksums: %w", err)
	}
	m.data[receipt.FileSumsSigned] = sig
	return nil
}

// finish ends the export: from here on its files can be had.
func (m *making) finish(ctx context.Context) error {
	slices.SortFunc(m.files, func(a, b File) int { return strings.Compare(a.Name, b.Name) })
	files, err := json.Marshal(m.files)
	if err != nil {
		return fmt.Errorf("encode files: %w", err)
	}
	var until any
	if m.Locks() {
		until = m.until
	}
	return m.DB.Act(ctx, worker(m.ID), func(ctx context.Context, tx pgx.Tx) error {
		event, err := m.Audit.Append(ctx, tx, audit.Event{Action: audit.EvidenceSealed, Workspace: m.Workspace, Actor: worker(m.ID), Retention: audit.Retention3Years, Targets: exportTargets(m.Export),
			Correlation: audit.Correlation{CausationID: m.stored.String()}, After: map[string]any{"receipt_id": m.ReceiptID, "sums_sha256": sumOf(m.data[receipt.FileSums])}})
		if err != nil {
			return err
		}
		if err := m.custody(ctx, tx, custody{Export: m.ID, Workspace: m.Workspace, Event: "sealed", Actor: worker(m.ID), Place: m.uri(), AuditEvent: event}); err != nil {
			return err
		}
		tag, err := tx.Exec(ctx, finishSQL, m.ID, m.ReceiptID, m.uri(), m.Vault.Mode(), until, string(files), m.tries)
		if err == nil && tag.RowsAffected() == 0 {
			return ErrState
		}
		return err
	})
}
