// Package rescan has the engines look at a held mail once more.
//
// On a mail's path it stands between a person's decision to release it and the
// delivery: what was held as one thing may be known as something worse today.
package rescan

import (
	"context"
	"fmt"
	"io"

	"github.com/google/uuid"

	"mailward/internal/message"
	"mailward/policy"
	"mailward/scanner"
	"mailward/scanner/content"
)

// Scanner is the engines. scanner.Scanner is one.
type Scanner interface {
	Scan(ctx context.Context, job scanner.Job) (policy.Report, *content.Content)
}

// Engines asks a scanner about held mails.
type Engines struct {
	scanner Scanner
	spooler *message.Spooler
}

// New returns Engines.
func New(s Scanner, sp *message.Spooler) *Engines { return &Engines{s, sp} }

// Rescan scans the bytes of a held mail, as they were received.
func (e *Engines) Rescan(ctx context.Context, mail uuid.UUID, raw io.Reader) (policy.Report, error) {
	spool, err := e.spooler.Spool(ctx, raw)
	if err != nil {
		return policy.Report{}, fmt.Errorf("read held mail for a scan: %w", err)
	}
	defer spool.Close()
	report, _ := e.scanner.Scan(ctx, scanner.Job{MailID: mail, Spool: spool, Envelope: message.Envelope{ID: mail}})
	return report, nil
}
