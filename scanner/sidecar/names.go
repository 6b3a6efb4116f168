package sidecar

import (
	"path"
	"strings"
	"unicode"

	"mailward/policy"
	"mailward/scanner/sidecar/document"
)

// partNames are what mail clients may call a part, the usual name first, with
// all ways to hide it undone: RFC 2231 in pieces, RFC 2047 where it does not
// belong, folders, a name that differs from the filename, a NUL in it.
func partNames(h header, types []contentType) (names []string, odd bool) {
	var raw []string
	for _, d := range h.all("content-disposition") {
		_, params := parseContentType(d)
		raw = append(raw, params["filename"], params["name"], params["filename"+again], params["name"+again])
	}
	for _, t := range types {
		raw = append(raw, t.params["name"], t.params["filename"], t.params["name"+again], t.params["filename"+again])
	}
	for _, r := range raw {
		if r == "" {
			continue
		}
		name := decodeWords(r)
		if before, after, ok := strings.Cut(name, "\x00"); ok {
			names = add(names, cleanName(before), cleanName(after))
			odd = true
		}
		names = add(names, cleanName(strings.ReplaceAll(name, "\x00", "")))
		odd = odd || hidesEnd(name)
	}
	if len(names) == 0 {
		names = []string{""}
	}
	return names, odd
}

// cleanName is a name as it ends up in a folder.
func cleanName(name string) string {
	if i := strings.LastIndexAny(name, `/\`); i >= 0 {
		name = name[i+1:]
	}
	return strings.TrimRight(strings.TrimSpace(name), ". ")
}

// hidesEnd says whether a name is written so that a reader does not see how it
// ends: many blanks, or dots and blanks that Windows drops.
func hidesEnd(name string) bool {
	if strings.Contains(document.Blanks(name), "          ") {
		return true
	}
	bare := strings.TrimRight(name, ". ")
	return len(name)-len(bare) > 1 && path.Ext(bare) != "" || strings.ContainsFunc(name, func(r rune) bool { return r != '\t' && r != '\n' && r != '\r' && unicode.IsControl(r) })
}

// extension is how a name ends, in lower case, with its dot.
func extension(name string) string { return strings.ToLower(path.Ext(name)) }

// otherNames matches the rules on the further names of a part.
func (w *walker) otherNames(names []string, data []byte, v Vars) error {
	for _, n := range names {
		if extension(n) == v.Ext {
			continue
		}
		w.odd("a part with several names")
		v.Name, v.Ext = n, extension(n)
		if err := w.run(data, v); err != nil {
			return err
		}
	}
	return nil
}

// report notes a finding of our own; without a class it is a sign.
func (w *walker) report(name string, class policy.Class, score float64, p, part, reason string) {
	w.resp.Findings = append(w.resp.Findings, policy.Finding{Engine: "yara", Name: name, Class: class, Score: score, Part: p, PartName: part, Reason: reason})
}

// odd notes an anomaly: something that mail clients read in different ways.
func (w *walker) odd(what string) {
	if what != "" {
		w.anomaly[what] = true
		w.oddities++
	}
}
