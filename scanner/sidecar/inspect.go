package sidecar

import (
	"errors"
	"fmt"

	"mailward/policy"
	"mailward/scanner/content"
	"mailward/scanner/sidecar/document"
)

// documentBytes is what may come out of one document, however small it is.
const documentBytes = 64 << 20

// attachedFile says whether a mail client offers a part as a file.
func attachedFile(part policy.Part, archives int) bool {
	return archives > 0 || part.Name != "" || part.Disposition == "attachment"
}

// inspect looks into a piece that may do more than show something.
func (w *walker) inspect(part policy.Part, data []byte, depth, archives int) error {
	f := document.File{Name: part.Name, ContentType: part.ContentType, Type: part.TrueType, Attached: attachedFile(part, archives), Data: data}
	found, err := document.Open(f, w.documentLimits(len(data)))
	return w.inspected(part, found, err, depth, archives)
}

// assembled looks at an archive that is a document, once its files are known.
func (w *walker) assembled(part policy.Part, p *document.Package, size, depth, archives int) error {
	if p == nil {
		return nil
	}
	found, err := p.Open(document.File{Name: part.Name, ContentType: part.ContentType, Type: part.TrueType, Attached: true}, w.documentLimits(size))
	return w.inspected(part, found, err, depth, archives)
}

func (w *walker) documentLimits(size int) document.Limits {
	return document.Limits{Late: w.late, Passwords: w.passwords, Bytes: min(w.lim.TotalBytes-w.total, max(int64(size)*w.lim.Ratio, documentBytes))}
}

// inspected books what was found in a document, and looks at the files in it.
func (w *walker) inspected(part policy.Part, found *document.Found, err error, depth, archives int) error {
	for _, f := range found.Findings {
		f.Engine, f.Part, f.PartName = "yara", part.Path, part.Name
		w.resp.Findings = append(w.resp.Findings, f)
	}
	if found.Locked != "" {
		w.locked(part.Path, part.Name, found.Locked)
	}
	if found.Text != "" {
		w.addText(part.Path, part.Name, "document", found.Text)
	}
	for _, l := range found.Links {
		w.addLink(content.Link{Part: part.Path, Kind: content.LinkDocument, Target: l.Target, Text: l.Text})
	}
	for _, p := range found.Pictures {
		if p.Pixels != nil {
			w.readPixels(part.Path, p.Pixels)
		} else {
			w.readPicture(part.Path, p.File)
		}
	}
	if w.total += found.Bytes; w.total > w.lim.TotalBytes {
		return errTotalLimit
	}
	for _, c := range found.Code {
		kind := "text/x-" + c.Language
		if err := w.run(c.Source, Vars{Path: part.Path + "." + c.Language, Name: part.Name, Ext: "." + c.Language, ContentType: kind, TrueType: kind, Depth: depth + archives, Archived: archives > 0}); err != nil {
			return err
		}
	}
	for i, e := range found.Embedded {
		if w.files++; w.files > w.lim.Files {
			return errFilesLimit
		}
		if archives >= w.lim.ArchiveDepth {
			return errArchiveDepth
		}
		if e.Rare {
			w.hand(fmt.Sprintf("%s.d%d", part.Path, i+1), e.Name, e.Data)
		}
		if err := w.piece(fmt.Sprintf("%s.d%d", part.Path, i+1), e.Name, e.ContentType, "attachment", e.Data, depth, archives+1); err != nil {
			return err
		}
	}
	if errors.Is(err, document.ErrBytes) {
		w.limit(err)
		return nil
	}
	return err
}
