package proof

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
)

func (v *verifier) checkPurges() error {
	for id, p := range v.purged {
		if p.want == "" {
			if v.man.Workspace != "" || v.man.FirstSeq > 0 || v.man.EndSeq < v.man.Size {
				v.rep.Notices = append(v.rep.Notices, "the protocol "+id+" of a deletion is not in this extract")
				continue
			}
			if v.told(id) {
				v.rep.Notices = append(v.rep.Notices, "the protocol "+id+" of a deletion was itself deleted when its time was over: that the deletion was lawful is not shown any more")
				continue
			}
			return wrong("events are missing, and the protocol %s of their deletion too", id)
		}
		if hex.EncodeToString(p.digest.Sum(nil)) != p.want {
			return &tampered{problem: "the protocol " + id + " is not about the events that are missing", event: id}
		}
	}
	return nil
}

// told says whether a protocol that is not here went in a deletion of its own, whose
// protocol is here, or went so itself. It has a higher number than what it tells of.
func (v *verifier) told(id string) bool {
	for range v.purged {
		p := v.purged[id]
		if p.want != "" {
			return true
		}
		if p.number == nil || *p.number <= p.last {
			return false
		}
		next, dead := v.dead[*p.number]
		if !dead {
			return false
		}
		id = next
	}
	return false
}

// checkHeads checks signatures and roots of all checkpoints, and follows the
// hand-over from key to key: a key is trusted when one that is trusted has signed
// that it is the next. That both have signed a checkpoint says nothing.
func (v *verifier) checkHeads() error {
	v.trusted = slices.Clone(v.opt.Trusted)
	if len(v.trusted) == 0 {
		if err := v.trustKept(); err != nil {
			return err
		}
	}
	var last []Key
	for i, c := range v.heads {
		_, by, err := Open(v.points[i].Note, v.keys)
		if err != nil {
			return wrong("the checkpoint of %d events under %s: bad signature, or one of an unknown key", c.Size, c.Origin)
		}
		if c.Size > v.rep.Leaves {
			return wrong("the checkpoint of %d events under %s is about more than the %d that there are", c.Size, c.Origin, v.rep.Leaves)
		}
		if !bytes.Equal(v.roots[c.Size], c.Root) {
			return wrong("the first %d events are not those that were signed under %s", c.Size, c.Origin)
		}
		last = nil
		for _, k := range by {
			if hasKey(v.trusted, k) {
				last = append(last, k)
			}
		}
		if last != nil && c.Next != "" {
			next, err := ParseVKey(c.Next)
			if err != nil {
				return wrong("the checkpoint of %d events under %s hands over to a key that is none", c.Size, c.Origin)
			}
			v.trusted = append(v.trusted, next)
		}
		v.rep.Checkpoints++
	}
	if last == nil {
		return wrong("the newest checkpoint is not signed by a key that you trust, nor by one that such a key has handed over to: somebody else has made this bundle, or the key is that of another record")
	}
	v.rep.Head, v.rep.SignedBy = v.heads[len(v.heads)-1], last
	if v.rep.Head.Size != v.man.Size || v.rep.Head.Origin != v.man.Origin {
		return wrong("the newest checkpoint is about %d events of %s, the manifest says %d of %s", v.rep.Head.Size, v.rep.Head.Origin, v.man.Size, v.man.Origin)
	}
	return nil
}

// trustKept is for who brings no key: the one that has signed the checkpoint that
// was kept is as good, and without that only the bundle's own are there.
func (v *verifier) trustKept() error {
	if v.opt.Earlier != "" {
		_, by, err := Open(v.opt.Earlier, v.keys)
		if err != nil {
			return v.strange(err)
		}
		v.trusted = by
		v.rep.Notices = append(v.rep.Notices, "no key was given: that of the checkpoint that was kept is believed")
		return nil
	}
	v.trusted = slices.Clone(v.keys)
	v.rep.Notices = append(v.rep.Notices, "no key was given, so the keys of the bundle itself are believed: compare them with what you were told on another way")
	return nil
}

// strange tells of a kept checkpoint that no key of the bundle has signed: of
// another record, or of this one and the bundle is made up.
func (v *verifier) strange(err error) error {
	c, _ := Read(v.opt.Earlier)
	if slices.ContainsFunc(v.heads, func(h Checkpoint) bool { return h.Origin == c.Origin }) {
		return wrong("the checkpoint that was kept is of %s too, and no key of the bundle has signed it: somebody else has made this bundle, or changed the checkpoint", c.Origin)
	}
	return fmt.Errorf("the checkpoint that was kept is not signed by a key of this record: %w", err)
}

func hasKey(list []Key, k Key) bool {
	return slices.ContainsFunc(list, func(o Key) bool { return bytes.Equal(o.Public, k.Public) })
}

// checkEarlier compares with a checkpoint that somebody has kept.
func (v *verifier) checkEarlier() error {
	if v.opt.Earlier == "" {
		return nil
	}
	c, _, err := Open(v.opt.Earlier, append(slices.Clone(v.opt.Trusted), v.keys...))
	if err != nil {
		return v.strange(err)
	}
	if why := Contradicts(c, v.rep.Leaves, v.roots[c.Size]); why != "" {
		return wrong("%s%s", why, v.restored(c.Origin))
	}
	return nil
}

// Contradicts says why a tree is not one that has grown out of a checkpoint, or "".
func Contradicts(c Checkpoint, leaves uint64, root []byte) string {
	switch {
	case c.Size > leaves:
		return fmt.Sprintf("the checkpoint that was kept is about %d events, and there are only %d: events were taken away", c.Size, leaves)
	case !bytes.Equal(root, c.Root):
		return fmt.Sprintf("the first %d events are not those of the checkpoint that was kept (root %s)", c.Size, base64.StdEncoding.EncodeToString(c.Root))
	}
	return ""
}

// restored tells of a restore that could be the cause.
func (v *verifier) restored(origin string) string {
	var list []BundleOrigin
	if v.json(FileOrigins, &list) != nil {
		return ""
	}
	return GivenUp(list, origin)
}

// GivenUp says when and why an origin was left for another, or "".
func GivenUp(list []BundleOrigin, origin string) string {
	for _, o := range list {
		if old, err := Read(o.OldNote); err == nil && old.Origin == origin {
			return fmt.Sprintf("; %s was given up on %s after a restore, with the reason: %s", origin, o.OpenedAt.UTC().Format(time.RFC3339), o.Reason)
		}
	}
	return ""
}

func (v *verifier) checkAnchors() error {
	return v.lines(FileAnchors, func(n int, b []byte) error {
		a, err := line[BundleAnchor](FileAnchors, n, b)
		if err != nil {
			return err
		}
		v.rep.Receipts++
		if a.Kind != "tsa" {
			return nil
		}
		note, ok := v.notes[noteKey(a.Origin, a.Size)]
		if !ok {
			return wrong("a time stamp is about a checkpoint of %d events that is not here", a.Size)
		}
		at, trusted, err := CheckToken(a.Receipt, note, v.opt.Roots)
		if err != nil {
			return wrong("the time stamp of the checkpoint of %d events: %v", a.Size, err)
		}
		v.stamped(a.Size, at)
		v.rep.Stamps++
		if trusted {
			v.rep.Trusted++
		}
		return nil
	})
}

// checkSums checks the files against their checksums, and the signature over these:
// it covers what no leaf does, as the manifest, the receipts and the text for people.
func (v *verifier) checkSums() error {
	sums := map[string]string{}
	err := v.lines(FileSums, func(n int, b []byte) error {
		sum, name, ok := strings.Cut(string(b), "  ")
		if !ok {
			return wrong("line %d of %s is no checksum", n, FileSums)
		}
		sums[name] = sum
		return nil
	})
	if err != nil {
		return err
	}
	for name := range v.files {
		if name == FileSums || name == FileSigned {
			continue
		}
		r, err := v.open(name)
		if err != nil {
			return err
		}
		h := sha256.New()
		_, err = io.Copy(h, r)
		r.Close()
		if err != nil {
			return broken(name, err)
		}
		if sums[name] != hex.EncodeToString(h.Sum(nil)) {
			return wrong("the file %s was changed", name)
		}
		delete(sums, name)
	}
	for name := range sums {
		return wrong("the file %s was taken out", name)
	}
	return v.checkSigned()
}

func (v *verifier) checkSigned() error {
	sums, err := v.whole(FileSums)
	if err != nil {
		return err
	}
	signed, err := v.whole(FileSigned)
	if err != nil {
		return err
	}
	text, _, err := openNote(string(signed), v.man.Origin, v.trusted)
	if err != nil || text != sumsText(v.man.Origin, sums) {
		return wrong("what the bundle says beside its events was changed (its manifest, a receipt, the text for people): the signature in %s is not of these files", FileSigned)
	}
	return nil
}
