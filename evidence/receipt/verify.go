package receipt

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"reflect"
	"slices"
	"strings"

	"mailward/audit/proof"
)

// Options are what the one who checks knows from elsewhere.
type Options struct {
	// Key is the fingerprint (SHA-256 of the public key, hex) of the key that
	// receipts are signed with. Empty: the key in the bundle is believed.
	Key string
	// LogKeys are those of the log. None: the key in the bundle is believed.
	LogKeys []proof.Key
	// Roots are authorities of time stamps. Nil: that in the bundle is believed.
	Roots *x509.CertPool
}

// Report is what came of it.
type Report struct {
	File    string   // the first bad one; "" where all fit
	Problem string   // what is wrong with it
	Notices []string // what the reader should know although all fits
	Receipt Receipt
	Files   int
	LogKey  string // fingerprint of the key that sealed the log
}

// bad is a file that is not what was exported.
type bad struct{ file, what string }

func (b *bad) Error() string { return b.file + ": " + b.what }

func badf(file, format string, a ...any) error { return &bad{file, fmt.Sprintf(format, a...)} }

// ErrNoBundle means that there is nothing that could be checked.
var ErrNoBundle = errors.New("receipt: not a bundle of evidence")

// check is one bundle under verification.
type check struct {
	fsys fs.FS
	opt  Options
	rep  Report
	key  ed25519.PublicKey
}

// Verify checks everything in a bundle. An error means that it could not be
// checked; a bundle that was changed is in the report.
func Verify(fsys fs.FS, opt Options) (Report, error) {
	c := &check{fsys: fsys, opt: opt}
	if _, err := fs.Stat(fsys, FileSums); err != nil {
		return c.rep, fmt.Errorf("%w: it has no %s", ErrNoBundle, FileSums)
	}
	for _, step := range []func() error{c.sums, c.core, c.files, c.stamps, c.log} {
		err := step()
		var b *bad
		if errors.As(err, &b) {
			c.rep.File, c.rep.Problem = b.file, b.what
			return c.rep, nil
		}
		if err != nil {
			return c.rep, err
		}
	}
	return c.rep, nil
}

func (c *check) read(name string) ([]byte, error) {
	b, err := fs.ReadFile(c.fsys, name)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrInvalid) {
		return nil, badf(name, "is missing")
	}
	if err != nil {
		return nil, badf(name, "cannot be read: %v", err)
	}
	return b, nil
}

func sum(b []byte) string {
	h := sha256.Sum256(b)
	return hex.EncodeToString(h[:])
}

// sums checks the list of checksums and its signature, and every file against it.
func (c *check) sums() error {
	list, err := c.read(FileSums)
	if err != nil {
		return err
	}
	sig, err := c.read(FileSumsSigned)
	if err != nil {
		return err
	}
	wrong := c.eachSum(list)
	if err := c.publicKey(); err != nil {
		if wrong != nil {
			return wrong
		}
		return err
	}
	if ed25519.Verify(c.key, list, sig) {
		return wrong
	}
	// Which of the three is the bad one shows in whether the rest still fits.
	var b *bad
	switch {
	case wrong == nil:
		return badf(FileSumsSigned, "is not the signature of %s", FileSums)
	case errors.As(wrong, &b) && b.file == FileKey:
		return wrong
	}
	return badf(FileSums, "is not what was signed (%v)", wrong)
}

// eachSum compares all files with the list.
func (c *check) eachSum(list []byte) error {
	listed := map[string]bool{FileSums: true, FileSumsSigned: true}
	for line := range strings.Lines(string(list)) {
		want, name, ok := strings.Cut(strings.TrimSuffix(line, "\n"), "  ")
		if !ok || len(want) != 64 || !fs.ValidPath(name) || listed[name] || !strings.HasSuffix(line, "\n") {
			return badf(FileSums, "has the line %q", line)
		}
		listed[name] = true
		b, err := c.read(name)
		if err != nil {
			return err
		}
		if sum(b) != want {
			return badf(name, "is not what was exported: its SHA-256 is %s, the list has %s", sum(b), want)
		}
		c.rep.Files++
	}
	return fs.WalkDir(c.fsys, ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return badf(path, "cannot be read: %v", err)
		}
		if !d.IsDir() && !listed[path] {
			return badf(path, "is not part of the bundle")
		}
		return nil
	})
}

func (c *check) publicKey() error {
	b, err := c.read(FileKey)
	if err != nil {
		return err
	}
	if c.key, err = parseKey(b); err != nil {
		return badf(FileKey, "%v", err)
	}
	switch want := strings.ToLower(strings.ReplaceAll(c.opt.Key, ":", "")); {
	case want == "":
		c.rep.Notices = append(c.rep.Notices, "The key of the receipt was believed as it is in the bundle. Compare its fingerprint with one that you have from elsewhere: "+Fingerprint(c.key))
	case want != Fingerprint(c.key):
		return badf(FileKey, "is not the key that you trust: its fingerprint is %s", Fingerprint(c.key))
	}
	return nil
}

// Fingerprint is the SHA-256 of a public key.
func Fingerprint(k ed25519.PublicKey) string { return sum(k) }

// PEM writes a public key as openssl reads it.
func PEM(k ed25519.PublicKey) ([]byte, error) {
	der, err := x509.MarshalPKIXPublicKey(k)
	if err != nil {
		return nil, fmt.Errorf("write public key: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}), nil
}

func parseKey(b []byte) (ed25519.PublicKey, error) {
	block, _ := pem.Decode(b)
	if block == nil {
		return nil, errors.New("is no public key in PEM")
	}
	k, err := x509.ParsePKIXPublicKey(block.Bytes)
	if err != nil {
		return nil, errors.New("is no public key")
	}
	ed, ok := k.(ed25519.PublicKey)
	if !ok {
		return nil, errors.New("is not an Ed25519 key")
	}
	return ed, nil
}

// core checks the signature, and that the receipt says what was signed.
func (c *check) core() error {
	core, err := c.read(FileCore)
	if err != nil {
		return err
	}
	sig, err := c.read(FileSignature)
	if err != nil {
		return err
	}
	if !ed25519.Verify(c.key, core, sig) {
		return badf(FileSignature, "is not the signature of %s by %s", FileCore, FileKey)
	}
	whole, err := c.read(FileReceipt)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(whole, &c.rep.Receipt); err != nil {
		return badf(FileReceipt, "cannot be read: %v", err)
	}
	if c.rep.Receipt.Schema != Schema {
		return fmt.Errorf("%w: its receipt is of the form %q, this version knows %s", ErrNoBundle, c.rep.Receipt.Schema, Schema)
	}
	var a, b map[string]any
	if json.Unmarshal(core, &a) != nil || json.Unmarshal(whole, &b) != nil {
		return badf(FileCore, "cannot be read")
	}
	for _, k := range []string{"timestamps", "signature", "verify"} {
		delete(b, k)
	}
	if !reflect.DeepEqual(a, b) {
		return badf(FileReceipt, "says something else than %s, which is signed", FileCore)
	}
	return nil
}

// files checks what the receipt says of each file.
func (c *check) files() error {
	for _, o := range c.rep.Receipt.All() {
		b, err := c.read(o.File)
		if err != nil {
			return err
		}
		long := sha512.Sum512(b)
		switch {
		case sum(b) != o.SHA256 || int64(len(b)) != o.Bytes || hex.EncodeToString(long[:]) != o.SHA512:
			return badf(o.File, "is not what the receipt names")
		case o.IngestHash != o.SHA256 || !o.Matches:
			return badf(o.File, "is not what came in: its SHA-256 at that time was %s", o.IngestHash)
		}
	}
	for _, a := range c.rep.Receipt.Artifacts {
		b, err := c.read(a.File)
		if err != nil {
			return err
		}
		if sum(b) != a.SHA256 || int64(len(b)) != a.Bytes {
			return badf(a.File, "is not what the receipt names")
		}
	}
	return nil
}

// stamps checks the time stamp over the core.
func (c *check) stamps() error {
	core, err := c.read(FileCore)
	if err != nil {
		return err
	}
	if len(c.rep.Receipt.Stamps) == 0 {
		return badf(FileReceipt, "names no time stamp")
	}
	for _, s := range c.rep.Receipt.Stamps {
		resp, err := c.read(s.Token)
		if err != nil {
			return err
		}
		token, err := tokenOf(resp)
		if err != nil {
			return badf(s.Token, "%v", err)
		}
		roots := c.opt.Roots
		if roots == nil && (s.Trusted || s.BuiltIn) {
			b, err := c.read(s.Root)
			if err != nil {
				return err
			}
			roots = x509.NewCertPool()
			if !roots.AppendCertsFromPEM(b) {
				return badf(s.Root, "has no certificate")
			}
		}
		at, trusted, err := proof.CheckToken(token, string(core), roots)
		if err != nil {
			return badf(s.Token, "%v", err)
		}
		if !at.UTC().Equal(s.GenTime.UTC()) {
			return badf(FileReceipt, "names another time than %s", s.Token)
		}
		switch {
		case s.BuiltIn:
			c.rep.Notices = append(c.rep.Notices, "The time stamp is by the authority that is built in, for tests and demonstration. It proves nothing about the time.")
		case !trusted:
			c.rep.Notices = append(c.rep.Notices, "The authority of the time stamp ("+s.TSA+") was not checked.")
		case c.opt.Roots == nil:
			c.rep.Notices = append(c.rep.Notices, "The root of the time stamp's authority was believed as it is in the bundle.")
		}
	}
	return nil
}

// log checks that the export, and the mails as they came in, are in the sealed
// audit, and that the log has the same hashes.
func (c *check) log() error {
	l := c.rep.Receipt.Log
	b, err := c.read(l.PublicKey)
	if err != nil {
		return err
	}
	k, err := parseKey(b)
	if err != nil {
		return badf(l.PublicKey, "%v", err)
	}
	known := c.opt.LogKeys
	if len(known) == 0 {
		known = []proof.Key{{Algorithm: proof.AlgorithmEd25519, Public: k}}
		c.rep.Notices = append(c.rep.Notices, "The key of the audit was believed as it is in the bundle. Its fingerprint: "+Fingerprint(k))
	}
	c.rep.LogKey = Fingerprint(k)
	event, head, err := c.included(l.Event, known)
	if err != nil {
		return err
	}
	if head.Origin != l.Origin || head.Size != l.TreeSize || hex.EncodeToString(head.Root) != l.RootHash {
		return badf(l.Proof, "is under another checkpoint than the receipt names")
	}
	text, err := c.read(l.Checkpoint)
	if err != nil {
		return err
	}
	if sig, err := c.read(FileSealed); err != nil {
		return err
	} else if string(text) != head.Text() || !ed25519.Verify(k, text, sig) {
		return badf(l.Checkpoint, "is not the checkpoint of %s", l.Proof)
	}
	if err := c.sameHashes(event); err != nil {
		return err
	}
	return c.ingested(known)
}

// sameHashes compares what the log says of the export with the receipt.
func (c *check) sameHashes(event []byte) error {
	var e struct {
		Change struct {
			After struct {
				ReceiptID string            `json:"receipt_id"`
				Files     map[string]string `json:"files"`
			} `json:"after"`
		} `json:"change"`
	}
	r, name := c.rep.Receipt, c.rep.Receipt.Log.File
	if json.Unmarshal(event, &e) != nil || e.Change.After.ReceiptID != r.ID {
		return badf(name, "is the event of another export")
	}
	want := map[string]string{}
	for _, o := range r.All() {
		want[o.File] = o.SHA256
	}
	for _, a := range r.Artifacts {
		want[a.File] = a.SHA256
	}
	if !reflect.DeepEqual(want, e.Change.After.Files) {
		return badf(name, "has other hashes than the receipt")
	}
	return nil
}

// ingested checks that the hash of each mail is in the log since it came in.
func (c *check) ingested(known []proof.Key) error {
	for _, o := range c.rep.Receipt.All() {
		if o.Ingest == nil || !o.Ingest.HoldsHash {
			c.rep.Notices = append(c.rep.Notices, "The hash of "+o.File+" when it came in is not in the log: an older version has taken it in, or the event is over its time.")
			if o.Ingest == nil {
				continue
			}
		}
		event, _, err := c.included(*o.Ingest, known)
		if err != nil {
			return err
		}
		if o.Ingest.HoldsHash && !bytes.Contains(event, []byte(`"sha256":"`+o.SHA256+`"`)) {
			return badf(o.Ingest.File, "has another hash than %s", o.File)
		}
		if !slices.Contains(targets(event), o.ItemID) {
			return badf(o.Ingest.File, "is the event of another mail")
		}
	}
	return nil
}

func targets(event []byte) (ids []string) {
	var e struct{ Targets []struct{ ID string } }
	if json.Unmarshal(event, &e) == nil {
		for _, t := range e.Targets {
			ids = append(ids, t.ID)
		}
	}
	return ids
}

// included checks that an event is under a signed checkpoint.
func (c *check) included(e Event, known []proof.Key) ([]byte, proof.Checkpoint, error) {
	event, err := c.read(e.File)
	if err != nil {
		return nil, proof.Checkpoint{}, err
	}
	text, err := c.read(e.Proof)
	if err != nil {
		return nil, proof.Checkpoint{}, err
	}
	index, path, note, err := parseProof(string(text))
	if err != nil || index != e.Seq {
		return nil, proof.Checkpoint{}, badf(e.Proof, "is not a proof of event %d", e.Seq)
	}
	head, _, err := proof.Open(note, known)
	if err != nil {
		return nil, head, badf(e.Proof, "%v", err)
	}
	leaf := proof.Leaf(int64(e.Seq), e.RecordedAt, event)
	if err := proof.CheckInclusion(head, index, leaf[:], path); err != nil {
		return nil, head, badf(e.File, "is not the event that was sealed as number %d", e.Seq)
	}
	return event, head, nil
}
