package scanner

import (
	"bytes"
	"mime"
	"strings"

	"mailward/internal/message"
	"mailward/policy"
	"mailward/scanner/sidecar"
)

// headerSeen bounds what is read of a header where no sidecar reads it.
const headerSeen = 64 << 10

// unscanned is the report on a mail that no engine is asked about: what the
// lists show of its header, and nothing else.
func unscanned(job Job) policy.Report {
	var rep policy.Report
	head, err := job.Spool.Header(headerSeen)
	if err != nil {
		return rep
	}
	for name, to := range map[string]*string{"subject": &rep.Subject, "from": &rep.HeaderFrom, "message-id": &rep.MessageID, "date": &rep.Date} {
		*to = field(head, name)
	}
	rep.MessageID = strings.Trim(rep.MessageID, "<> ")
	return rep
}

// field is the first field of a name, unfolded and with its encoded words
// (RFC 2047) in UTF-8 and Latin-1 decoded.
func field(head []byte, name string) string {
	for f := range message.Fields(head) {
		key, value, ok := bytes.Cut(f, []byte(":"))
		if !ok || !strings.EqualFold(string(bytes.TrimRight(key, " \t")), name) {
			continue
		}
		text := strings.Join(strings.Fields(string(value)), " ")
		if name == "from" {
			return sidecar.DecodeAddresses(text)
		}
		if plain, err := new(mime.WordDecoder).DecodeHeader(text); err == nil {
			text = plain
		}
		return strings.ToValidUTF8(text, "\uFFFD")
	}
	return ""
}
