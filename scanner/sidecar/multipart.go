package sidecar

import (
	"bytes"
	"fmt"
	"slices"
	"strings"

	"mailward/policy"
)

// multiparts cuts a body at each boundary that it may have, also where it has to
// be decoded first, which the standard forbids and some clients do.
func (w *walker) multiparts(p string, h header, types []contentType, body []byte, depth int) error {
	if slices.ContainsFunc(types, func(t contentType) bool { return strings.HasPrefix(t.kind, "multipart/encrypted") }) {
		w.report("Mailward.PGP", policy.Encrypted, 0, p, "", "it is encrypted with PGP for its recipient")
	}
	all := boundaries(types, body)
	if len(all) > 1 {
		w.odd("several boundaries")
	}
	if len(all) > w.lim.Readings {
		return errReadingsLimit
	}
	if len(all) == 0 {
		w.odd("a multipart without boundary")
		if all = []string{guessBoundary(body)}; all[0] == "" {
			return w.leaf(p, h, []contentType{{kind: "text/plain", params: types[0].params}}, body, depth)
		}
	}
	for i, b := range all {
		sub := p
		if i > 0 {
			sub = fmt.Sprintf("%s.r%d", p, i)
			if err := w.reading(body); err != nil {
				return err
			}
		}
		if err := w.multipart(sub, h, types, b, body, depth); err != nil {
			return err
		}
		if err := w.decodedMultipart(sub, h, types, b, body, depth); err != nil {
			return err
		}
	}
	return nil
}

// decodedMultipart cuts what a transfer encoding of a multipart decodes to, where
// that has other parts than the body as it stands.
func (w *walker) decodedMultipart(p string, h header, types []contentType, b string, body []byte, depth int) error {
	names, _ := encodings(h, "multipart/mixed", nil)
	for i, name := range names {
		if name == "binary" {
			continue
		}
		data, _ := decodeCTE(name, body)
		plain, _ := cutBoundary(body, b, w.lim.Parts+2)
		pieces, _ := cutBoundary(data, b, w.lim.Parts+2)
		if len(pieces) < 2 || len(pieces) == len(plain) {
			continue
		}
		w.odd("a multipart with a transfer encoding")
		if err := w.reading(data); err != nil {
			return err
		}
		if err := w.multipart(fmt.Sprintf("%s.e%d", p, i+1), h, types, b, data, depth); err != nil {
			return err
		}
	}
	return nil
}

// multipart cuts a body at the lines of one boundary.
func (w *walker) multipart(p string, h header, types []contentType, b string, body []byte, depth int) error {
	pieces, terminated := cutBoundary(body, b, w.lim.Parts+2)
	if len(pieces) < 2 {
		w.odd("a multipart without parts")
		return w.leaf(p, h, []contentType{{kind: "text/plain", params: types[0].params}}, body, depth)
	}
	if !terminated {
		w.odd("a multipart without end")
	}
	if err := w.pieces(p, b, pieces, terminated, depth); err != nil {
		return err
	}
	if longerLines(body, b) {
		w.odd("a boundary that other lines start with")
		if err := w.reading(body); err != nil {
			return err
		}
		pieces, terminated = cutLines(body, b, w.lim.Parts+2, true)
		return w.pieces(p+".l", b, pieces, terminated, depth)
	}
	return nil
}

// pieces looks at the pieces of a multipart. What stands before the first and
// after the last part is shown by few clients, but is looked at all the same.
func (w *walker) pieces(p, b string, pieces [][]byte, terminated bool, depth int) error {
	for i, piece := range pieces {
		sub := fmt.Sprintf("%s.%d", p, i)
		var err error
		switch {
		case i == 0:
			err = w.outside(sub, piece, depth)
		case terminated && i == len(pieces)-1:
			err = w.behind(sub, b, piece, depth)
		default:
			err = w.entity(sub, piece, depth+1, false)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// behind looks at what follows the end of a multipart: some clients go on there
// when more parts come.
func (w *walker) behind(p, b string, piece []byte, depth int) error {
	more, terminated := cutBoundary(piece, b, w.lim.Parts+2)
	if len(more) < 2 {
		return w.outside(p, piece, depth)
	}
	w.odd("parts behind the end of a multipart")
	if depth >= w.lim.Depth {
		return errDepthLimit
	}
	return w.pieces(p, b, more, terminated, depth+1)
}

// outside looks at text that belongs to no part.
func (w *walker) outside(p string, piece []byte, depth int) error {
	if len(bytes.TrimSpace(piece)) == 0 {
		return nil
	}
	if err := w.run(piece, Vars{Path: p, Name: "preamble", ContentType: "text/plain", Depth: depth}); err != nil {
		return err
	}
	for i, data := range hiddenIn(piece) {
		w.odd("a file outside of all parts")
		if err := w.piece(fmt.Sprintf("%s.b%d", p, i+1), "", "application/octet-stream", "", data, depth+1, 0); err != nil {
			return err
		}
	}
	return nil
}
