package limit

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"net/netip"
	"strings"
)

// client is the one whose doings are counted: an IPv4 address, or a /64 of
// IPv6, which is the least that one customer has.
func clientOf(a netip.Addr) netip.Prefix {
	a = plain(a)
	bits := 32
	if a.Is6() {
		bits = 64
	}
	p, _ := a.Prefix(bits) // fails on the zero address only, and gives the zero prefix then
	return p
}

// networkOf is what greylisting takes for one sender: big senders try again
// from another address of the same network (RFC 6647 §4).
func networkOf(a netip.Addr) netip.Prefix {
	a = plain(a)
	bits := 24
	if a.Is6() {
		bits = 64
	}
	p, _ := a.Prefix(bits)
	return p
}

// plain is the address without IPv4-in-IPv6 and zone.
func plain(a netip.Addr) netip.Addr { return a.Unmap().WithZone("") }

// address is an envelope address as a key. Case is no way around a limit.
func address(s string) string { return strings.ToLower(s) }

// subject is what a key is about, before hashing: a scope and its parts. Parts
// are told apart by a NUL, and a NUL in a part is written as two bytes, so that
// no two lists of parts give the same subject.
func subject(scope string, parts ...string) string {
	var b strings.Builder
	b.WriteString(scope)
	for _, p := range parts {
		b.WriteByte(0)
		b.WriteString(escape.Replace(p))
	}
	return b.String()
}

var escape = strings.NewReplacer("\x00", "\x01a", "\x01", "\x01b")

// id is a hashed subject.
type id [16]byte

// salt keys the hashes.
type salt [32]byte

// newSalt returns a random salt, or one made of a configured secret.
func newSalt(secret []byte) salt {
	var s salt
	if len(secret) > 0 {
		return sha256.Sum256(append([]byte("mailward limit\x00"), secret...))
	}
	rand.Read(s[:]) // never fails
	return s
}

// hash hides a subject: Redis is no place for addresses of people. 128 bits of
// HMAC-SHA-256 also bound the length of a key, whatever a client sends.
func (s salt) hash(subject string) id {
	m := hmac.New(sha256.New, s[:])
	m.Write([]byte(subject))
	var i id
	copy(i[:], m.Sum(nil))
	return i
}

// keyPrefix begins all keys of this package in Redis.
const keyPrefix = "mailward:limit:"

// key is the name of a subject in Redis.
func (s salt) key(subject string) string {
	i := s.hash(subject)
	return keyPrefix + base64.RawURLEncoding.EncodeToString(i[:])
}
