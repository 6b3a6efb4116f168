package pg

import (
	"strings"
	"time"

	"github.com/google/uuid"
)

// Text makes text that PostgreSQL takes: valid UTF-8 without NUL.
func Text(s string) string {
	return strings.ToValidUTF8(strings.ReplaceAll(s, "\x00", ""), "\uFFFD")
}

// NullID is NULL for no id.
func NullID(id uuid.UUID) *uuid.UUID {
	if id == uuid.Nil {
		return nil
	}
	return &id
}

// NullTime is NULL for no time.
func NullTime(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}
