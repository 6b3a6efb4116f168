package identity

import (
	"context"
	"crypto/rand"
	_ "embed"
	"fmt"
	"strings"
	"sync"
	"unicode"

	"github.com/alexedwards/argon2id"
	"golang.org/x/text/unicode/norm"
)

const (
	minPassword = 12
	maxPassword = 512
	// hashesAtOnce bounds memory: each hash takes 64 MiB while it runs.
	hashesAtOnce = 2
)

// hasher makes and compares password hashes, a few at a time.
type hasher struct {
	params *argon2id.Params
	slots  chan struct{}
	dummy  string // of a password that nobody has
}

func newHasher(memory, rounds uint32) *hasher {
	p := &argon2id.Params{Memory: 64 * 1024, Iterations: 3, Parallelism: 2, SaltLength: 16, KeyLength: 32}
	if memory != 0 {
		p.Memory = memory
	}
	if rounds != 0 {
		p.Iterations = rounds
	}
	h := &hasher{params: p, slots: make(chan struct{}, hashesAtOnce)}
	// An error here means no random numbers, which Go turns into a crash.
	h.dummy, _ = argon2id.CreateHash(rand.Text(), p)
	return h
}

func (h *hasher) enter(ctx context.Context) error {
	select {
	case h.slots <- struct{}{}:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("wait for a password hash: %w", ctx.Err())
	}
}

// normal makes one of the ways in which a text can be typed: what one keyboard sends
// as a letter with its accent, another sends as two characters (NIST SP 800-63B
// §3.1.1.2).
func normal(password string) string { return norm.NFKC.String(password) }

func (h *hasher) hash(ctx context.Context, password string) (string, error) {
	if err := h.enter(ctx); err != nil {
		return "", err
	}
	defer func() { <-h.slots }()
	s, err := argon2id.CreateHash(normal(password), h.params)
	if err != nil {
		return "", fmt.Errorf("hash password: %w", err)
	}
	return s, nil
}

// matches compares; with an empty hash it takes as long and says no, so that
// nobody learns by time which accounts exist.
func (h *hasher) matches(ctx context.Context, password, hash string) (bool, error) {
	if len(password) > maxPassword {
		return false, nil
	}
	if err := h.enter(ctx); err != nil {
		return false, err
	}
	defer func() { <-h.slots }()
	known := hash != ""
	if !known {
		hash = h.dummy
	}
	ok, err := argon2id.ComparePasswordAndHash(normal(password), hash)
	if err == nil && !ok && normal(password) != password {
		ok, err = argon2id.ComparePasswordAndHash(password, hash) // set before passwords were normalised
	}
	if err != nil {
		return false, fmt.Errorf("compare password: %w", err)
	}
	return ok && known, nil
}

//go:embed data/common-passwords.txt
var commonPasswords string

// common holds the passwords that are tried first.
var common = sync.OnceValue(func() map[string]bool {
	m := map[string]bool{}
	for w := range strings.Lines(commonPasswords) {
		m[strings.TrimSpace(w)] = true
	}
	return m
})

// productWords are the first guesses for this program; no password may be one of
// them with something around it.
var productWords = []string{"mailward", "quarantine", "gateway", "administrator", "welcome"}

// checkPassword refuses what is guessed first. Length counts; rules about kinds
// of characters do not (NIST SP 800-63B §3.1.1.2).
func checkPassword(password, email, name string) error {
	password = normal(password)
	if n := len([]rune(password)); n < minPassword || len(password) > maxPassword {
		return fmt.Errorf("%w: it needs %d to %d characters", ErrWeakPassword, minPassword, maxPassword)
	}
	low := strings.ToLower(password)
	bare := strings.TrimFunc(low, func(r rune) bool { return !unicode.IsLetter(r) })
	if common()[low] || common()[bare] || easy(low) {
		return fmt.Errorf("%w: it is one of the first that would be tried", ErrWeakPassword)
	}
	words := append(strings.FieldsFunc(strings.ToLower(email+" "+name), func(r rune) bool { return !unicode.IsLetter(r) && !unicode.IsDigit(r) }), productWords...)
	rest := low
	for _, w := range words {
		if len(w) > 2 {
			rest = strings.ReplaceAll(rest, w, "")
		}
	}
	// What is left beside the words has to be a password of some length itself.
	if rest != low && len([]rune(rest)) < minPassword-4 {
		return fmt.Errorf("%w: it is made of a name, an address or a word of this program", ErrWeakPassword)
	}
	return nil
}

// easy says whether a password is a row of the keyboard, a count, or one short
// piece again and again.
func easy(low string) bool {
	if strings.Contains("123456789012345678901234567890qwertyuiopasdfghjklzxcvbnm1234567890qwertzuiopasdfghjklyxcvbnm abcdefghijklmnopqrstuvwxyz", low) {
		return true
	}
	// A text is a repetition if it is found in itself, doubled, before its end.
	at := strings.Index((low + low)[1:], low) + 1
	return at < len(low) && (at <= 4 || common()[low[:at]])
}
