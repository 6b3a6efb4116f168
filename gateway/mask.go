package gateway

import (
	"bytes"
	"slices"
	"strings"

	"mailward/policy"
)

// maskedFields lists the header fields that may hold what a judge has masked in
// the report. before is the report as the engines gave it.
func maskedFields(before, after policy.Report) (names []string) {
	if before.Subject != after.Subject {
		names = append(names, "subject", "thread-topic", "comments", "keywords")
	}
	if !slices.EqualFunc(before.Parts, after.Parts, func(a, b policy.Part) bool { return a.Name == b.Name }) {
		names = append(names, "content-type", "content-disposition", "content-description")
	}
	return names
}

// maskFields is a header with the values of some fields made unreadable, byte
// for byte: offsets into it stay true. It is a copy where there are such fields.
func maskFields(header []byte, names []string) []byte {
	if len(names) == 0 {
		return header
	}
	header = bytes.Clone(header)
	in, rest := false, header
	for len(rest) > 0 {
		line := rest
		if i := bytes.IndexByte(rest, '\n'); i >= 0 {
			line = rest[:i+1]
		}
		rest = rest[len(line):]
		value := line
		if line[0] != ' ' && line[0] != '\t' {
			name, _, colon := bytes.Cut(line, []byte(":"))
			in = colon && slices.Contains(names, strings.ToLower(string(bytes.TrimRight(name, " \t"))))
			value = line[min(len(line), len(name)+1):]
		}
		if in {
			for i, c := range value {
				if !strings.ContainsRune(" \t\r\n", rune(c)) {
					value[i] = '*'
				}
			}
		}
	}
	return header
}
