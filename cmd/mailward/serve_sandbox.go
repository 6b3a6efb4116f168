package main

import (
	"context"
	"errors"

	"mailward/health"
	"mailward/scanner/cape"
)

// sandboxComponent is CAPE on the health page, and the mail that waits for it.
func (p *program) sandboxComponent() health.Component {
	if p.cape == nil {
		return health.Sandbox(nil)
	}
	return health.Sandbox(func(ctx context.Context) (s health.SandboxStatus, err error) {
		if p.sandbox != nil {
			q, qerr := p.sandbox.Status(ctx)
			if qerr != nil {
				return s, qerr
			}
			s.Waiting, s.Oldest, s.InFlight, s.NoVerdict = q.Waiting, q.Oldest, q.InFlight, q.NoVerdict
		}
		server, err := p.cape.Server(ctx)
		s.Denied, s.Version, s.Machines, s.Free = errors.Is(err, cape.ErrUnauthorized), server.Version, server.Machines, server.Free
		return s, err
	})
}
