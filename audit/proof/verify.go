package proof

import (
	"archive/zip"
	"bufio"
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Options are what somebody who checks a bundle brings along.
type Options struct {
	Trusted []Key          // none: the bundle's own keys, and the report says so
	Earlier string         // a checkpoint that was kept, as a signed note; "": none
	Roots   *x509.CertPool // of time stamp authorities; nil: who they are is not checked
	// Signature says whether a passkey signed what an event has under "attestation",
	// for the person whose act it is. nil: that is not looked at.
	Signature func(attestation map[string]any, person string) error
}

// Report is what a check has found.
type Report struct {
	Events, Leaves  uint64
	Checkpoints     int // whose signature and root fit
	Receipts        int // of anchors
	Stamps, Trusted int // time stamps that fit, and those by a trusted authority
	Erased          int // personal values that are gone, whose commitments stay
	Purged          int // events that were deleted when their time was over
	Signed          int // acts that the passkey of who did them has signed
	SignedErased    int // acts with a signature, of which the text that was signed is gone
	Unsigned        int // acts of the same kinds that stand on the server's word alone
	Head            Checkpoint
	SignedBy        []Key
	Notices         []string
	// Problem is the first thing that does not fit; Event the id of its event.
	Problem, Event string
}

// tampered is a problem that was found, as opposed to a failure to check.
type tampered struct{ problem, event string }

func (t *tampered) Error() string { return t.problem }

func wrong(format string, a ...any) error { return &tampered{problem: fmt.Sprintf(format, a...)} }

// Verify checks a bundle. An error means that it could not be checked; that
// something was changed is in the report.
func Verify(r io.ReaderAt, size int64, opt Options) (Report, error) {
	z, err := zip.NewReader(r, size)
	if err != nil {
		return Report{}, fmt.Errorf("the bundle is no zip file: %w", err)
	}
	v := &verifier{opt: opt, files: map[string]*zip.File{}, roots: map[uint64][]byte{}, notes: map[string]string{}, purged: map[string]purge{}, passkeys: map[string]string{}}
	if err = v.unpack(r, size, z); err == nil {
		err = v.run()
	}
	for i, n := range v.rep.Notices {
		v.rep.Notices[i] = shown(n)
	}
	var t *tampered
	if errors.As(err, &t) {
		v.rep.Problem, v.rep.Event = shown(t.problem), shown(t.event)
		return v.rep, nil
	}
	return v.rep, err
}

// shown is text for a terminal: names and reasons in it are those of whoever has made
// the bundle, and could command it.
func shown(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) || unicode.Is(unicode.Bidi_Control, r) || r == utf8.RuneError {
			return '?'
		}
		return r
	}, s)
}

type purge struct {
	digest hash.Hash
	want   string
	number *uint64 // of the protocol
	last   uint64  // of the deleted events
}

// verifier is the state of one check.
type verifier struct {
	opt     Options
	trusted []Key // what was brought along, and what that has handed over to
	files   map[string]*zip.File
	rep     Report
	man     Manifest
	keys    []Key
	points  []BundleCheckpoint
	heads   []Checkpoint
	roots   map[uint64][]byte // by size, of the leaves in the bundle
	notes   map[string]string // by origin and size
	purged  map[string]purge  // by the protocol's event
	dead    map[uint64]string // deleted events, and their protocol
	clock   clock
	// passkeys are the public keys of credentials, as far as they have come.
	passkeys map[string]string
}

func (v *verifier) run() error {
	if err := v.readParts(); err != nil {
		return err
	}
	// Events first: of all that a changed byte breaks, the event says most.
	if err := v.walk(); err != nil {
		return err
	}
	for _, step := range []func() error{v.checkPurges, v.checkHeads, v.checkEarlier, v.checkAnchors, v.checkSums} {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

func (v *verifier) open(name string) (io.ReadCloser, error) {
	f := v.files[name]
	if f == nil {
		return nil, fmt.Errorf("the bundle has no %s", name)
	}
	r, err := f.Open()
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", name, err)
	}
	return r, nil
}

// partLimit bounds files that are read whole.
const partLimit = 64 << 20

func (v *verifier) json(name string, out any) error {
	b, err := v.whole(name)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(b, out); err != nil {
		return fmt.Errorf("%s cannot be read: %w", name, err)
	}
	return nil
}

// whole reads a file that is small.
func (v *verifier) whole(name string) ([]byte, error) {
	r, err := v.open(name)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	b, err := io.ReadAll(io.LimitReader(r, partLimit+1))
	if err != nil {
		return nil, broken(name, err)
	}
	if len(b) > partLimit {
		return nil, fmt.Errorf("%s is too large to be one of ours", name)
	}
	return b, nil
}

// broken is a file of the bundle whose bytes are not those that were written:
// zip has a checksum of its own.
func broken(name string, err error) error {
	if errors.Is(err, zip.ErrChecksum) {
		return wrong("the file %s was changed", name)
	}
	return fmt.Errorf("read %s: %w", name, err)
}

// lineLimit bounds one line.
const lineLimit = 16 << 20

func (v *verifier) lines(name string, fn func(n int, b []byte) error) error {
	r, err := v.open(name)
	if err != nil {
		return err
	}
	defer r.Close()
	sc := bufio.NewScanner(r)
	sc.Buffer(nil, lineLimit)
	for n := 1; sc.Scan(); n++ {
		if err := fn(n, sc.Bytes()); err != nil {
			return err
		}
	}
	if err := sc.Err(); err != nil {
		return broken(name, err)
	}
	return nil
}

func (v *verifier) readParts() error {
	if err := v.json(FileManifest, &v.man); err != nil {
		return err
	}
	if v.man.Schema == "mailward-bundle/1" {
		return errors.New("this bundle is of a form in which only the events were signed: have it exported anew")
	}
	if v.man.Schema != BundleSchema {
		return fmt.Errorf("bundles of the form %q are not known here", v.man.Schema)
	}
	var keys []BundleKey
	if err := v.json(FileKeys, &keys); err != nil {
		return err
	}
	for _, k := range keys {
		v.keys = append(v.keys, Key{k.Algorithm, k.Public})
	}
	err := v.lines(FileCheckpoints, func(n int, b []byte) error {
		p, err := line[BundleCheckpoint](FileCheckpoints, n, b)
		if err != nil {
			return err
		}
		c, err := Read(p.Note)
		if err != nil {
			return wrong("line %d of %s is no checkpoint", n, FileCheckpoints)
		}
		v.points, v.heads = append(v.points, p), append(v.heads, c)
		v.roots[c.Size] = nil
		v.notes[noteKey(c.Origin, c.Size)] = p.Note
		return nil
	})
	if err != nil {
		return err
	}
	if len(v.heads) == 0 {
		return errors.New("the bundle has no checkpoint, so nothing in it can be checked")
	}
	if v.opt.Earlier != "" {
		c, err := Read(v.opt.Earlier)
		if err != nil {
			return errors.New("the checkpoint that was kept cannot be read")
		}
		v.roots[c.Size] = nil
	}
	v.dead = map[uint64]string{}
	return v.lines(FilePurged, func(n int, b []byte) error {
		p, err := line[BundlePurge](FilePurged, n, b)
		if err != nil {
			return err
		}
		one, there := v.purged[p.Event]
		if !there {
			one.digest = sha256.New()
		}
		one.number = p.Number
		for _, seq := range p.Seqs {
			v.dead[seq], one.last = p.Event, max(one.last, seq)
		}
		v.purged[p.Event] = one
		return nil
	})
}

func noteKey(origin string, size uint64) string { return fmt.Sprintf("%s %d", origin, size) }

// walk goes through leaves and events side by side, in order.
func (v *verifier) walk() error {
	leaves, err := v.open(FileLeaves)
	if err != nil {
		return err
	}
	defer leaves.Close()
	in := bufio.NewReaderSize(leaves, 1<<20)
	grow, leaf := NewGrower(), make([]byte, sha256.Size)
	// next brings the tree to the leaf with a number.
	next := func(until uint64) error {
		for grow.Size() < until {
			if _, err := io.ReadFull(in, leaf); err != nil {
				if err == io.EOF || err == io.ErrUnexpectedEOF {
					return wrong("%s ends after %d leaves", FileLeaves, grow.Size())
				}
				return broken(FileLeaves, err)
			}
			if err := v.take(grow, leaf); err != nil {
				return err
			}
		}
		return nil
	}
	want := v.man.FirstSeq
	err = v.lines(FileEvents, func(n int, b []byte) error {
		e, err := line[BundleEvent](FileEvents, n, b)
		if err != nil {
			return wrong("line %d of %s is not readable", n, FileEvents)
		}
		if err := v.gap(want, e.Seq); err != nil {
			return err
		}
		want = e.Seq + 1
		if err := next(want); err != nil {
			return err
		}
		v.rep.Events++
		if err := v.event(e, leaf); err != nil {
			return err
		}
		v.tell(e)
		return nil
	})
	if err != nil {
		return err
	}
	if err := v.gap(want, v.man.EndSeq); err != nil {
		return err
	}
	if err := next(v.man.Size); err != nil {
		return err
	}
	if _, err := in.ReadByte(); err != io.EOF {
		return wrong("%s has more leaves than the manifest says", FileLeaves)
	}
	if v.rep.Events != v.man.Events {
		return wrong("the bundle has %d events, its manifest says %d", v.rep.Events, v.man.Events)
	}
	v.rep.Leaves = grow.Size()
	return nil
}

// take adds a leaf, and notes the root where a checkpoint is.
func (v *verifier) take(grow *Grower, leaf []byte) error {
	seq := grow.Size()
	if protocol, ok := v.dead[seq]; ok {
		p := v.purged[protocol]
		p.digest.Write(binary.BigEndian.AppendUint64(nil, seq))
		p.digest.Write(leaf)
	}
	if seq == 0 {
		if _, asked := v.roots[0]; asked {
			v.roots[0], _ = grow.Root()
		}
	}
	if err := grow.Add(leaf); err != nil {
		return fmt.Errorf("build the tree: %w", err)
	}
	if _, asked := v.roots[grow.Size()]; asked {
		root, err := grow.Root()
		if err != nil {
			return fmt.Errorf("build the tree: %w", err)
		}
		v.roots[grow.Size()] = root
	}
	return nil
}

// gap says whether events that should be there are missing.
func (v *verifier) gap(want, got uint64) error {
	if got < want {
		return wrong("the events are not in their order at number %d", got)
	}
	if v.man.Workspace != "" {
		return nil
	}
	for seq := want; seq < got; seq++ {
		if _, dead := v.dead[seq]; !dead {
			return wrong("event number %d is missing", seq)
		}
		v.rep.Purged++
	}
	return nil
}

// event checks one against its leaf.
func (v *verifier) event(e BundleEvent, leaf []byte) error {
	bad := func(format string, a ...any) error {
		return &tampered{problem: fmt.Sprintf("event %s (number %d) ", e.ID, e.Seq) + fmt.Sprintf(format, a...), event: e.ID}
	}
	if h := Leaf(int64(e.Seq), e.RecordedAt, []byte(e.Event)); !bytes.Equal(h[:], leaf) {
		return bad("was changed")
	}
	in, err := readEvent(e.Event)
	if err != nil {
		return bad("is not readable: %v", err)
	}
	if in["id"] != e.ID {
		return bad("stands under another id than its own")
	}
	if class, _ := in["class"].(map[string]any); class["retention"] != e.Retention {
		return bad("stands under another retention than its own")
	}
	if v.man.Workspace != "" && in["workspace_id"] != v.man.Workspace {
		return bad("belongs to another workspace")
	}
	if in["action"] == ActionPurged {
		v.protocol(e.ID, in)
	}
	values := map[string]PII{}
	for _, p := range e.PII {
		values[p.Path] = p
	}
	bound := commitments(in, nil)
	for path, sum := range bound {
		p, there := values[path]
		delete(values, path)
		if !there {
			v.rep.Erased++
			continue
		}
		salt, err := hex.DecodeString(p.Salt)
		h := sha256.Sum256(append(salt, p.Value...))
		if err != nil || sum != "sha256:"+hex.EncodeToString(h[:]) {
			return bad("does not commit to the value at %s", path)
		}
	}
	if len(values) > 0 {
		return bad("has values that it does not commit to")
	}
	if err := v.passkey(in, bad); err != nil {
		return err
	}
	return v.signature(e, in, bad)
}

// readEvent reads the text of an event. The database takes numbers that no float holds.
func readEvent(text string) (in map[string]any, err error) {
	d := json.NewDecoder(strings.NewReader(text))
	d.UseNumber()
	if err := d.Decode(&in); err != nil {
		return nil, err
	}
	if _, err := d.Token(); err != io.EOF {
		return nil, errors.New("there is more behind it")
	}
	return in, nil
}

// protocol notes what an event of a deletion says was deleted.
func (v *verifier) protocol(id string, in map[string]any) {
	p, ok := v.purged[id]
	change, _ := in["change"].(map[string]any)
	before, _ := change["before"].(map[string]any)
	if sum, is := before["leaves_sha256"].(string); ok && is {
		p.want = sum
		v.purged[id] = p
	}
}

// commitments finds {"c": ..., "ref": "pii:PATH"} wherever it is.
func commitments(x any, out map[string]string) map[string]string {
	if out == nil {
		out = map[string]string{}
	}
	switch x := x.(type) {
	case map[string]any:
		ref, isRef := x["ref"].(string)
		sum, isSum := x["c"].(string)
		if path, ok := strings.CutPrefix(ref, "pii:"); ok && isRef && isSum && len(x) == 2 {
			out[path] = sum
			return out
		}
		for _, y := range x {
			commitments(y, out)
		}
	case []any:
		for _, y := range x {
			commitments(y, out)
		}
	}
	return out
}
