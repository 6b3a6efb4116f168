package document

import "strings"

// unfoldLines undoes how lines are cut (RFC 5545 §3.1).
var unfoldLines = strings.NewReplacer("\r\n ", "", "\r\n\t", "", "\n ", "", "\n\t", "")

// calendar takes the files out of a date or a card, where they are properties in
// base64 (RFC 5545 §3.1.3, RFC 2426 §2.4.1).
func (r *reader) calendar() error {
	for line := range strings.Lines(unfoldLines.Replace(string(plainText(r.file.Data)))) {
		head, value, ok := strings.Cut(strings.TrimRight(line, "\r\n"), ":")
		params := strings.Split(head, ";")
		name, packed := "", false
		for _, p := range params[1:] {
			k, v, _ := strings.Cut(p, "=")
			switch strings.ToUpper(k) {
			case "ENCODING":
				packed = strings.EqualFold(v, "base64") || strings.EqualFold(v, "b")
			case "FILENAME", "X-FILENAME", "X-APPLE-FILENAME", "X-ORACLE-FILENAME":
				name = strings.Trim(v, `"`)
			}
		}
		if !ok || !packed {
			continue
		}
		data := looseBase64([]byte(value))
		if err := r.took(len(data)); err != nil {
			return err
		}
		if err := r.embed(name, "", data); err != nil {
			return err
		}
		if n := len(r.out.Embedded); n > 0 {
			r.out.Embedded[n-1].Rare = true
		}
	}
	return nil
}
