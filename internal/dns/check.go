package dns

import (
	"context"
	"fmt"
	"sync"
	"time"

	miekg "github.com/miekg/dns"
)

// Asked is one resolver, asked just now.
type Asked struct {
	Server  string
	Latency time.Duration
	Err     error
}

// Check asks each resolver for the name servers of the root, past the cache and
// past what is thought of the resolver, for Health. A resolver that cannot reach
// the root resolves nothing.
func (r *Resolver) Check(ctx context.Context) []Asked {
	list := make([]Asked, len(r.servers))
	var wg sync.WaitGroup
	for i, s := range r.servers {
		wg.Go(func() {
			ctx, cancel := context.WithTimeout(ctx, r.cfg.Try)
			defer cancel()
			began := time.Now()
			m, err := r.exchange(ctx, s.addr, "udp", question(key{name: ".", qtype: miekg.TypeNS}, true))
			if err == nil && m.Rcode != miekg.RcodeSuccess {
				err = fmt.Errorf("dns: the resolver answers %s", miekg.RcodeToString[m.Rcode])
			}
			list[i] = Asked{Server: s.addr, Latency: time.Since(began), Err: err}
		})
	}
	wg.Wait()
	return list
}
