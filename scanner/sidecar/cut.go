package sidecar

import "bytes"

// Cut is the body of one part that another engine may be given decoded, on its
// own, in place of the piece of the mail that it is: base64 that a strict
// decoder reads. Offset and Length are of the encoded bytes, in the mail.
type Cut struct {
	Path   string `json:"path"`
	Name   string `json:"name,omitempty"`
	Offset int64  `json:"offset"`
	Length int64  `json:"length"`
}

// cutMin is the size in encoded octets from which a part is worth a scan of its
// own: one costs about as much as 50 KB of scanning.
const cutMin = 64 << 10

// cut notes a part for the answer. Parts of decoded parts are not where the mail
// has them, so they are none.
func (w *walker) cut(p, name string, body []byte) {
	if len(body) < cutMin {
		return
	}
	at := cap(w.mail) - cap(body)
	if at < 0 || at+len(body) > len(w.mail) || &w.mail[at] != &body[0] {
		return
	}
	w.resp.Cuts = append(w.resp.Cuts, Cut{Path: p, Name: name, Offset: int64(at), Length: int64(len(bytes.TrimRight(body, "\r\n")))})
}
