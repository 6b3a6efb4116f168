package sidecar

import (
	"bytes"
	"strings"
	"time"
)

// Bounds of what is shown of a mail.
const (
	viewText   = 512 << 10
	viewHTML   = 1 << 20
	viewInline = 4 << 20
	viewFields = 300
)

// Look takes a mail apart for a person: header, text, HTML, pictures.
func Look(data []byte, lim Limits) *View {
	head, _ := splitHeader(data)
	v := &View{}
	if len(head) > lim.HeaderBytes {
		head, v.Truncated = head[:lim.HeaderBytes], true
	}
	raw := rawFields(head)
	for i, f := range parseHeader(head) {
		if len(v.Headers) == viewFields {
			v.Truncated = true
			break
		}
		v.Headers = append(v.Headers, HeaderField{Name: strings.ToValidUTF8(f.Name, "\uFFFD"), Value: decodeWords(f.Value), Raw: strings.ToValidUTF8(string(raw[i]), "\uFFFD")})
	}
	l := looker{view: v, lim: lim, end: time.Now().Add(lim.Time)}
	l.entity(data, 0)
	return v
}

// rawFields are the fields that [parseHeader] finds, as they came.
func rawFields(head []byte) [][]byte {
	var out [][]byte
	for line := range bytes.Lines(head) {
		l := bytes.TrimRight(line, "\r\n")
		switch {
		case len(l) > 0 && (l[0] == ' ' || l[0] == '\t') && len(out) > 0:
			out[len(out)-1] = append(out[len(out)-1], line...)
		case bytes.IndexByte(l, ':') >= 0 && len(out) < maxFields:
			out = append(out, bytes.Clone(line))
		}
	}
	return out
}

type looker struct {
	view   *View
	lim    Limits
	end    time.Time
	parts  int
	inline int
}

func (l *looker) entity(data []byte, depth int) {
	if l.parts++; l.parts > l.lim.Parts || depth > l.lim.Depth || time.Now().After(l.end) {
		l.view.Truncated = true
		return
	}
	head, body := splitHeader(data)
	if len(head) > l.lim.HeaderBytes {
		l.view.Truncated = true
		return
	}
	h := parseHeader(head)
	ct, params := parseContentType(h.get("content-type"))
	if b := params["boundary"]; b != "" {
		pieces, terminated := cutBoundary(body, b, l.lim.Parts+2)
		for i, p := range pieces {
			if i > 0 && !(terminated && i == len(pieces)-1) {
				l.entity(p, depth+1)
			}
		}
		return
	}
	raw, _ := decodeCTE(strings.ToLower(strings.TrimSpace(h.get("content-transfer-encoding"))), body)
	attached := strings.HasPrefix(strings.ToLower(h.get("content-disposition")), "attachment")
	switch {
	case ct == "message/rfc822" && len(raw) > 0 && !attached:
		l.entity(raw, depth+1)
	case (ct == "text/plain" || ct == "") && !attached:
		l.view.Text = l.add(l.view.Text, raw, params["charset"], viewText)
	case ct == "text/html" && !attached:
		l.view.HTML = l.add(l.view.HTML, raw, params["charset"], viewHTML)
	case strings.HasPrefix(ct, "image/") && h.get("content-id") != "" && ct != "image/svg+xml":
		if l.inline += len(raw); l.inline > viewInline {
			l.view.Truncated = true
			return
		}
		l.view.Inline = append(l.view.Inline, Inline{CID: strings.Trim(h.get("content-id"), "<> "), ContentType: ct, Data: raw})
	}
}

// add joins texts up to the bound.
func (l *looker) add(have string, raw []byte, charset string, limit int) string {
	more := toUTF8(raw, charset)
	if have != "" {
		have += "\n"
	}
	// toUTF8 has a bound of its own.
	if l.view.Truncated = l.view.Truncated || max(len(raw), len(more)+1) > viewText*2; len(have)+len(more) > limit {
		l.view.Truncated = true
		more = strings.ToValidUTF8(more[:max(0, limit-len(have))], "")
	}
	return have + more
}
