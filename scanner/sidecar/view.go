package sidecar

import (
	"strings"
	"time"
)

// Bounds of what is shown of a mail.
const (
	viewText   = 512 << 10
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
	for _, f := range parseHeader(head) {
		if len(v.Headers) == viewFields {
			v.Truncated = true
			break
		}
		v.Headers = append(v.Headers, HeaderField{Name: strings.ToValidUTF8(f.Name, "\uFFFD"), Value: decodeWords(f.Value)})
	}
	l := looker{view: v, lim: lim, end: time.Now().Add(lim.Time)}
	l.entity(data, 0)
	return v
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
		l.view.Text = l.add(l.view.Text, toUTF8(raw, params["charset"]))
	case ct == "text/html" && !attached:
		l.view.HTML = l.add(l.view.HTML, toUTF8(raw, params["charset"]))
	case strings.HasPrefix(ct, "image/") && h.get("content-id") != "" && ct != "image/svg+xml":
		if l.inline += len(raw); l.inline > viewInline {
			l.view.Truncated = true
			return
		}
		l.view.Inline = append(l.view.Inline, Inline{CID: strings.Trim(h.get("content-id"), "<> "), ContentType: ct, Data: raw})
	}
}

// add joins texts up to the bound.
func (l *looker) add(have, more string) string {
	if have != "" {
		have += "\n"
	}
	if len(have)+len(more) > viewText {
		l.view.Truncated = true
		more = strings.ToValidUTF8(more[:max(0, viewText-len(have))], "")
	}
	return have + more
}
