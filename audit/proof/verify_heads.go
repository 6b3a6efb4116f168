package proof

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
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
			return wrong("events are missing, and the protocol %s of their deletion too", id)
		}
		if hex.EncodeToString(p.digest.Sum(nil)) != p.want {
			return &tampered{problem: "the protocol " + id + " is not about the events that are missing", event: id}
		}
	}
	return nil
}

// checkHeads checks signatures and roots of all checkpoints, and follows the
// hand-over from key to key.
func (v *verifier) checkHeads() error {
	trusted := slices.Clone(v.opt.Trusted)
	if len(trusted) == 0 {
		trusted = slices.Clone(v.keys)
		v.rep.Notices = append(v.rep.Notices, "no key was given, so the keys of the bundle itself are believed: compare them with what you were told on another way")
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
			if hasKey(trusted, k) {
				last = by
			}
		}
		if last != nil {
			trusted = append(trusted, by...)
		}
		v.rep.Checkpoints++
	}
	if last == nil {
		return errors.New("the newest checkpoint is not signed by a key that you trust")
	}
	v.rep.Head, v.rep.SignedBy = v.heads[len(v.heads)-1], last
	if v.rep.Head.Size != v.man.Size || v.rep.Head.Origin != v.man.Origin {
		return wrong("the newest checkpoint is about %d events of %s, the manifest says %d of %s", v.rep.Head.Size, v.rep.Head.Origin, v.man.Size, v.man.Origin)
	}
	return nil
}

func hasKey(list []Key, k Key) bool {
	return slices.ContainsFunc(list, func(o Key) bool { return o.ID() == k.ID() })
}

// checkEarlier compares with a checkpoint that somebody has kept.
func (v *verifier) checkEarlier() error {
	if v.opt.Earlier == "" {
		return nil
	}
	c, _, err := Open(v.opt.Earlier, append(slices.Clone(v.opt.Trusted), v.keys...))
	if err != nil {
		return fmt.Errorf("the checkpoint that was kept is not signed by a key of this record: %w", err)
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
		_, trusted, err := CheckToken(a.Receipt, note, v.opt.Roots)
		if err != nil {
			return wrong("the time stamp of the checkpoint of %d events: %v", a.Size, err)
		}
		v.rep.Stamps++
		if trusted {
			v.rep.Trusted++
		}
		return nil
	})
}

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
		if name == FileSums {
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
	}
	return nil
}
