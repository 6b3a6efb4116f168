package pg

import (
	"context"
	"errors"
	"fmt"
	"io"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"
)

func TestErrors(t *testing.T) {
	for name, c := range map[string]struct {
		err                                  error
		unavailable, conflict, unique, locks bool
	}{
		"no error":          {nil, false, false, false, false},
		"shutting down":     {&pgconn.PgError{Code: "57P01"}, true, false, false, false},
		"too many":          {&pgconn.PgError{Code: "53300"}, true, false, false, false},
		"cut":               {fmt.Errorf("x: %w", io.ErrUnexpectedEOF), true, false, false, false},
		"too late":          {context.DeadlineExceeded, true, false, false, false},
		"the caller left":   {context.Canceled, false, false, false, false},
		"deadlock":          {&pgconn.PgError{Code: "40P01"}, false, true, false, false},
		"unique":            {fmt.Errorf("x: %w", &pgconn.PgError{Code: "23505", ConstraintName: "i"}), false, false, true, false},
		"locked":            {&pgconn.PgError{Code: "55P03"}, false, false, false, true},
		"something of ours": {errors.New("x"), false, false, false, false},
	} {
		if IsUnavailable(c.err) != c.unavailable || IsConflict(c.err) != c.conflict || IsUnique(c.err, "i") != c.unique || IsLockTimeout(c.err) != c.locks {
			t.Errorf("%s: %v %v %v %v", name, IsUnavailable(c.err), IsConflict(c.err), IsUnique(c.err, "i"), IsLockTimeout(c.err))
		}
	}
}
