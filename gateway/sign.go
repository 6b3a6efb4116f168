package gateway

import (
	"bytes"
	"context"
	"io"
	"log/slog"

	"mailward/internal/message"
	"mailward/mailauth"
	"mailward/policy"
)

// Signer puts our signatures on mail. mailauth.Signer is one.
type Signer interface {
	DKIM(ctx context.Context, fromDomain string, head, header []byte, body func() io.Reader) ([]byte, error)
	Seal(ctx context.Context, arc mailauth.ARC, authResults string, head, header []byte, body func() io.Reader) ([]byte, error)
}

// sign puts our signatures on top of a mail that may leave us: DKIM on what our
// own people send, an ARC seal on what we pass on. A mail that is held is signed
// too, as it may be released.
//
// What must be signed and cannot be now is deferred: its domain may ask the
// world to refuse unsigned mail. A seal only helps those behind us, so a mail is
// passed on without one, and that is on record.
func (s *Server) sign(ctx context.Context, log *slog.Logger, m *mail, d policy.Decision) policy.Decision {
	if s.deps.Signer == nil || d.Action == policy.Defer || d.Action == policy.Reject {
		return d
	}
	// What is signed is what goes out: without the fields that are not passed on.
	header, err := io.ReadAll(message.Without(bytes.NewReader(m.header), int64(len(m.header)), m.edits))
	if err != nil { // the ranges are ours and lie within: this cannot be
		return d.Deferred("the header of the mail cannot be read")
	}
	body := func() io.Reader {
		return io.NewSectionReader(m.spool.File(), int64(len(m.header)), m.spool.Size()-int64(len(m.header)))
	}
	if m.direction() == policy.Outbound {
		domain, _ := mailauth.AuthorDomain(m.header)
		sig, err := s.deps.Signer.DKIM(ctx, domain, m.trace, header, body)
		if err != nil {
			log.Error("mail not signed", "domain", domain, "error", err)
			return d.Deferred("the mail cannot be signed for " + domain + " now: try again later")
		}
		m.trace = append(sig, m.trace...)
		return d
	}
	if m.trusted {
		return d // it comes from our own people: there is nothing to testify
	}
	seal, err := s.deps.Signer.Seal(ctx, m.auth.ARC, s.authResults(m), m.trace, header, body)
	if err != nil {
		log.Warn("mail not sealed", "error", err)
		d.Reasons = append(d.Reasons, "passed on without an ARC seal: it could not be made")
		return d
	}
	m.trace = append(seal, m.trace...)
	return d
}
