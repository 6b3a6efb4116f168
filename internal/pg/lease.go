package pg

import (
	"context"
	"errors"
	"time"
)

// ErrLeaseLost is the cause of a context's end where somebody else has taken over
// what it was about.
var ErrLeaseLost = errors.New("pg: another process has taken this over")

// KeepLease renews a claim every so often while work goes on that may take longer
// than the claim counts. Where renew says [ErrLeaseLost], the context that is
// returned ends with that cause; what else goes wrong is told to failed, and tried
// again the next time. Call stop when the work is done.
func KeepLease(ctx context.Context, every time.Duration, renew func(context.Context) error, failed func(error)) (kept context.Context, stop func()) {
	kept, cancel := context.WithCancelCause(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		t := time.NewTicker(every)
		defer t.Stop()
		for {
			select {
			case <-kept.Done():
				return
			case <-t.C:
			}
			switch err := renew(kept); {
			case errors.Is(err, ErrLeaseLost):
				cancel(ErrLeaseLost)
			case err != nil && kept.Err() == nil:
				failed(err)
			}
		}
	}()
	return kept, func() { cancel(nil); <-done }
}
