package main

import (
	"context"
	"io"

	"mailward/gateway/queue"
	"mailward/health"
	"mailward/quarantine"
	"mailward/quarantine/digest"
)

// buildDigests makes what tells recipients of held mail. Every host that serves
// the web has the same key, as links come from all and lead to any.
func (p *program) buildDigests() error {
	key, err := quarantine.OpenSecret(p.conf.subdir("keys", "digest.key"))
	if err != nil {
		return err
	}
	var sign queue.Sign
	if p.signer != nil {
		sign = func(ctx context.Context, domain string, header []byte, body func() io.Reader) ([]byte, error) {
			return p.signer.DKIM(ctx, domain, nil, header, body)
		}
	}
	p.digests = digest.New(digest.Config{Hostname: p.conf.Hostname, PublicURL: webAddress(p.conf), Key: key},
		digest.Deps{Log: p.log, DB: p.db, Held: p.quarantine, Audit: p.audit, Postman: queue.NewLetters(p.queue, sign)})
	return nil
}

func (p *program) digestStatus(ctx context.Context) (health.DigestStatus, error) {
	s, err := p.digests.Status(ctx)
	return health.DigestStatus{Enabled: s.Enabled, Last: s.Last, Failed: s.Failed, Late: s.Late, Error: s.Error}, err
}
