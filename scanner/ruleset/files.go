package ruleset

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"mailward/internal/pg"
	"mailward/scanner"
)

// maxFilesOff bounds how many files are switched off: the sidecar takes as many.
const maxFilesOff = 1000

// RuleFile is a file of rules that comes with the program or lies in a folder of
// the operator's. It can be switched off here, and changed only where it lies.
type RuleFile struct {
	scanner.RuleSpace
	// Reason, Actor and Since say why, by whom and since when it is switched off.
	Reason string     `json:"reason,omitempty"`
	Actor  string     `json:"actor,omitempty"`
	Since  *time.Time `json:"since,omitempty"`
}

// filesOff reads which files are switched off.
func (s *Store) filesOff(ctx context.Context) ([]RuleFile, error) {
	rows, err := s.deps.DB.Query(ctx, filesOffSQL)
	if err != nil {
		return nil, fmt.Errorf("read files switched off: %w", err)
	}
	list, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (f RuleFile, err error) {
		f.Off, f.Rules = true, []string{}
		err = row.Scan(&f.Space, &f.Reason, &f.Actor, &f.Since)
		return f, err
	})
	if err != nil {
		return nil, fmt.Errorf("read files switched off: %w", err)
	}
	return list, nil
}

// filesOf joins what the scanner has with what is switched off. A file that is
// switched off and gone is listed too: it would be off if it came back.
func filesOf(spaces []scanner.RuleSpace, off []RuleFile) []RuleFile {
	out := slices.Clone(off)
	for _, space := range spaces {
		if space.Set != "" {
			continue
		}
		if i := slices.IndexFunc(out, func(f RuleFile) bool { return f.Space == space.Space }); i >= 0 {
			out[i].RuleSpace = space
			continue
		}
		out = append(out, RuleFile{RuleSpace: space})
	}
	slices.SortFunc(out, func(a, b RuleFile) int { return cmp.Compare(a.Space, b.Space) })
	return out
}

// SwitchFile takes a file of rules out of force, or back into it. It is
// [ErrNotFound] where the scanner knows no such file.
func (s *Store) SwitchFile(ctx context.Context, actor pg.Actor, space string, on bool, reason string) error {
	st, err := s.Status(ctx)
	if err != nil {
		return err
	}
	at := slices.IndexFunc(st.Files, func(f RuleFile) bool { return f.Space == space })
	if at < 0 {
		return ErrNotFound
	}
	id, err := uuid.NewV7()
	if err != nil {
		return fmt.Errorf("make id of a switch: %w", err)
	}
	err = s.deps.DB.Act(pg.WithReason(ctx, reason), actor, func(ctx context.Context, tx pgx.Tx) error {
		if on {
			_, err := tx.Exec(ctx, switchOnSQL, space)
			return err
		}
		off, err := s.filesOff(ctx)
		if err == nil && len(off) >= maxFilesOff {
			err = ErrTooMany
		}
		if err != nil {
			return err
		}
		var who *uuid.UUID
		if actor.UserID != uuid.Nil {
			who = &actor.UserID
		}
		_, err = tx.Exec(ctx, switchOffSQL, id, space, reason, who, cmp.Or(actor.Display, actor.Email))
		return err
	})
	if err != nil {
		return fmt.Errorf("switch rules in %s: %w", space, err)
	}
	return nil
}
