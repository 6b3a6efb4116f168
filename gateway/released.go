package gateway

import (
	"context"
	"io"
	"log/slog"

	"mailward/policy"
)

// releasedBefore finds out whether a person has released this very mail and it
// comes by once more. Where that cannot be looked up it is a mail like any other.
func (s *Server) releasedBefore(ctx context.Context, log *slog.Logger, m *mail) *policy.Released {
	r, err := s.deps.Quarantine.ReleasedBefore(ctx, m.header, func(offset int64) io.Reader {
		return io.NewSectionReader(m.spool.File(), offset, m.spool.Size()-offset)
	})
	if err != nil {
		log.Warn("not known whether the mail was released before", "error", err)
		return nil
	}
	return r
}
