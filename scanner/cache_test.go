package scanner

import (
	"crypto/sha256"
	"os"
	"path/filepath"
	"testing"
	"time"
)

func TestVerdicts(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file := filepath.Join(dir, "a.ndb")
	write := func(text string, at time.Time) {
		t.Helper()
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(file, at, at); err != nil {
			t.Fatal(err)
		}
	}
	now := time.Date(2026, 11, 25, 12, 0, 0, 0, time.UTC)
	write("one", now.Add(-time.Hour))
	v := newVerdicts(dir, func() time.Time { return now })
	sum := sha256.Sum256([]byte("a part"))
	key, ok := v.key(sum, splitMode)
	if !ok || v.clean(key) {
		t.Fatal("known before it was looked at")
	}
	v.remember(key, sum, splitMode)
	if !v.clean(key) {
		t.Fatal("not remembered")
	}
	if other, _ := v.key(sum, "whole"); v.clean(other) {
		t.Error("known in another mode")
	}
	now = now.Add(verdictKept + time.Second)
	if v.clean(key) {
		t.Error("known after its time")
	}
	// New signatures: nothing of before is known, and nothing is remembered until
	// clamd has surely loaded them.
	v.remember(key, sum, splitMode)
	write("two", now)
	now = now.Add(2 * lookEvery)
	fresh, _ := v.key(sum, splitMode)
	if fresh == key || v.clean(fresh) {
		t.Error("known under new signatures")
	}
	v.remember(fresh, sum, splitMode)
	v.remember(key, sum, splitMode)
	if v.clean(fresh) {
		t.Error("remembered while clamd may have the old signatures")
	}
	now = now.Add(settle)
	v.remember(fresh, sum, splitMode)
	if !v.clean(fresh) {
		t.Error("not remembered after the signatures have settled")
	}
	// The same where they are new when we start.
	write("three", now)
	v = newVerdicts(dir, func() time.Time { return now })
	key, _ = v.key(sum, splitMode)
	if v.remember(key, sum, splitMode); v.clean(key) {
		t.Error("remembered right after the start")
	}
	// Signatures that are not known, or cannot be read: nothing is remembered.
	for _, dir := range []string{"", filepath.Join(dir, "nowhere")} {
		if _, ok := newVerdicts(dir, time.Now).key(sum, splitMode); ok {
			t.Errorf("%q: a key without signatures", dir)
		}
	}
}
