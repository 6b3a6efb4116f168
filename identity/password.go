package identity

import (
	"context"
	"crypto/rand"
	"fmt"
	"strings"

	"github.com/alexedwards/argon2id"
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

func (h *hasher) hash(ctx context.Context, password string) (string, error) {
	if err := h.enter(ctx); err != nil {
		return "", err
	}
	defer func() { <-h.slots }()
	s, err := argon2id.CreateHash(password, h.params)
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
	ok, err := argon2id.ComparePasswordAndHash(password, hash)
	if err != nil {
		return false, fmt.Errorf("compare password: %w", err)
	}
	return ok && known, nil
}

// checkPassword refuses what is guessed first. Length counts; rules about kinds
// of characters do not (NIST SP 800-63B §3.1.1.2).
func checkPassword(password, email string) error {
	n := len([]rune(password))
	name, _, _ := strings.Cut(email, "@")
	low := strings.ToLower(password)
	switch {
	case n < minPassword, len(password) > maxPassword:
		return fmt.Errorf("%w: it needs %d to %d characters", ErrWeakPassword, minPassword, maxPassword)
	case low == email, strings.Trim(low, low[:1]) == "", len(name) > 3 && strings.ReplaceAll(low, name, "") == "",
		strings.Contains("passwordpassword1234567890123456qwertyuiopasdfghjkl", low):
		return fmt.Errorf("%w: it is one of the first that would be tried", ErrWeakPassword)
	}
	return nil
}
