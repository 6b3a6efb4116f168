package gateway

import (
	"errors"
	netmail "net/mail"
	"strings"
	"unicode/utf8"
)

var errAddress = errors.New("gateway: address is malformed")

// pathLimit is how long an address may be. RFC 5321 §4.5.3.1.3 asks for 254
// octets; list managers and forwarders make longer ones.
const pathLimit = 990

// mailbox writes an address as it has to stand in a command, in headers and in
// all records. go-smtp hands the local part over without its quotes: as it is,
// <"ceo@ours.example> X"@evil.example> would be another address to the next hop
// than the one that was checked here.
func mailbox(a string) (string, error) {
	i := strings.LastIndexByte(a, '@')
	control := func(r rune) bool { return r < ' ' || r == 0x7f }
	if i < 1 || len(a) > pathLimit || !utf8.ValidString(a) || strings.ContainsFunc(a, control) || !isDomain(a[i+1:]) {
		return "", errAddress
	}
	path := (&netmail.Address{Address: a}).String() // in its brackets
	return path[1 : len(path)-1], nil
}

// isDomain: a name, also one that is not in the DNS, or an address literal.
func isDomain(d string) bool {
	if inner, ok := strings.CutPrefix(d, "["); ok {
		inner, ok = strings.CutSuffix(inner, "]")
		return ok && inner != "" && strings.Trim(inner, letters+".:") == ""
	}
	for label := range strings.SplitSeq(strings.TrimSuffix(d, "."), ".") {
		if label == "" || strings.ContainsFunc(label, func(r rune) bool { return r < utf8.RuneSelf && !strings.ContainsRune(letters, r) }) {
			return false
		}
	}
	return true
}

const letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_"
