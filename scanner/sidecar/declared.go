package sidecar

import (
	"bytes"
	"slices"

	"mailward/policy"
)

// declared notes what a part's type says: that it is encrypted, or that what a
// client will show is not in this mail.
func (w *walker) declared(p, name string, t contentType, data []byte) {
	switch t.kind {
	case "message/partial":
		w.report("Mailward.Partial", policy.Unscannable, 5, p, name, "it is one piece of a mail that clients put together from several")
	case "message/external-body":
		w.report("Mailward.ExternalBody", "", 3, p, name, "what it shows lies elsewhere, and is fetched when it is opened")
	case "application/pkcs7-mime", "application/x-pkcs7-mime":
		if oid, content, _ := cmsContent(data); content == nil && !bytes.Equal(oid, oidSignedData) {
			w.report("Mailward.SMIME", policy.Encrypted, 0, p, name, "it is encrypted with S/MIME for its recipient")
		}
	default:
		if bytes.Contains(data, []byte("-----BEGIN PGP MESSAGE-----")) || isPGPName(name) && len(data) > 0 && data[0]&0x80 != 0 {
			w.report("Mailward.PGP", policy.Encrypted, 0, p, name, "it holds a message that is encrypted with PGP for its recipient")
		}
	}
}

// isPGPName says whether a file of this name is opened by who has the key or knows
// the password. In its binary form (RFC 9580 §4.2) nothing else tells it.
func isPGPName(name string) bool {
	ext := extension(name)
	return ext == ".gpg" || ext == ".pgp"
}

// looksMail says whether data begins with a field of a header, as mails do.
func looksMail(data []byte) bool {
	if bytes.HasPrefix(data, []byte("From ")) || bytes.HasPrefix(data, []byte(">From ")) {
		return true
	}
	name, _, ok := bytes.Cut(data[:min(len(data), 200)], []byte(":"))
	name = bytes.TrimRight(name, " \t")
	return ok && len(name) > 0 && !bytes.ContainsFunc(name, func(r rune) bool { return r <= ' ' || r >= 0x7f })
}

// unsaidMail says whether a part that does not say what it is, is a mail with parts
// of its own: so it is in a digest (RFC 2046 §5.1.5), and where a header comes after
// an empty line.
func unsaidMail(data []byte) bool {
	if !looksMail(data) {
		return false
	}
	head, _ := splitHeader(data)
	h := parseHeader(head)
	return h.count("content-type") > 0 || h.count("content-transfer-encoding") > 0
}

// onlyMail says whether what is said to be a mail is nothing else: clients save it
// under its name, and a file that is none has no header to speak of.
func (w *walker) onlyMail(names []string, data []byte) bool {
	if !looksMail(bytes.TrimLeft(data, "\r\n")) {
		w.odd("a file that is said to be a mail")
		return false
	}
	return !slices.ContainsFunc(names, func(n string) bool { return extension(n) != "" && !isMailName(n) })
}

// blockMin is the length in letters from which base64 outside of all parts is
// taken for a file.
const blockMin = 64

// hiddenIn finds files in text that belongs to no part: uuencode, yEnc, and
// blocks of base64.
func hiddenIn(text []byte) (out [][]byte) {
	for _, u := range uuParts(text) {
		out = append(out, u.data)
	}
	var block []byte
	end := func() {
		if len(block) >= blockMin && len(out) <= uuMost {
			data, _ := decodeCTE("base64", block)
			out = append(out, data)
		}
		block = nil
	}
	for line := range bytes.Lines(text) {
		l := bytes.TrimSpace(line)
		if isBase64Line(l) {
			block = append(block, l...)
			continue
		}
		end()
	}
	end()
	return out
}

func isBase64Line(l []byte) bool {
	for _, c := range l {
		if base64Table[c] < 0 && c != '=' {
			return false
		}
	}
	return len(l) > 0
}
