package webui

import (
	"context"
	"sync"
	"time"

	"github.com/labstack/echo/v4"
)

const (
	// identifyLimit is for who calls: a few rows by their keys. A database that is
	// silent shows here first, with nearly every call.
	identifyLimit = 5 * time.Second
	// answerLimit is until the first byte of an answer, well under what proxies and
	// people wait for.
	answerLimit = 30 * time.Second
	// slowLimit is for calls that do much before they answer.
	slowLimit = 5 * time.Minute
)

// slow are the routes whose work may take longer than answerLimit: a mail is
// scanned, a month of the record goes, a value is erased from all of it.
var slow = map[string]bool{"/policies/edit": true, "/audit/retention": true, "/audit/retention/purge": true, "/audit/integrity/erase": true, "/approvals/:id/:word": true,
	"/api/v1/audit/retention": true, "/api/v1/approvals/:id/approve": true}

func limitOf(path string) time.Duration {
	if slow[path] {
		return slowLimit
	}
	return answerLimit
}

// patience is a context that ends by itself unless an answer has begun: what is
// being sent, as an export or a raw mail, may take as long as its reader needs.
type patience struct {
	context.Context
	done chan struct{}

	mu  sync.Mutex // guards err
	err error
}

// Done implements [context.Context].
func (p *patience) Done() <-chan struct{} { return p.done }

// Err implements [context.Context].
func (p *patience) Err() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.err
}

func (p *patience) end(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.err == nil {
		p.err = err
		close(p.done)
	}
}

// withPatience bounds the time until c's answer begins. stop ends the clock alone:
// how a call went wrong is told after its handler has returned.
func withPatience(ctx context.Context, c echo.Context, limit time.Duration) (_ context.Context, stop func() bool) {
	p := &patience{Context: ctx, done: make(chan struct{})}
	timer := time.AfterFunc(limit, func() { p.end(context.DeadlineExceeded) })
	context.AfterFunc(ctx, func() { p.end(ctx.Err()) })
	c.Response().Before(func() { timer.Stop() })
	return p, timer.Stop
}
