package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"strings"
	"sync"
	"time"

	"mailward/gateway/hop"
	"mailward/gateway/limit"
)

// buildEdge makes what stands before a mail is taken: limits, and who exists.
func (p *program) buildEdge() error {
	p.guard = limit.New(p.conf.limitConfig(p.getenv), p.redis, p.dns, p.log, p.metrics)
	p.onStop(func(context.Context) { p.guard.Close() })
	p.guard.Tighten(p.policies)
	p.lists = &limit.Lists{}
	if err := p.lists.Load(p.conf.Relay.Recipients); err != nil {
		return fmt.Errorf("relay.recipients: %w", err)
	}
	if p.conf.Relay.RecipientCheck == "next_hop" {
		p.recipients = limit.NewRecipients(p.redis, p.verify, p.log)
		p.onStop(func(context.Context) { p.recipients.Close() })
	}
	return nil
}

const (
	meetLimit  = 3 * time.Second
	meetAtOnce = 32
)

// meetRoutes asks the next hops what they can carry before the first client is
// greeted: as long as that is not known, SMTPUTF8 and DSN are not offered, and a client
// bounces the mail that needs them. One that is away holds us up for a moment only.
func meetRoutes(hops *hop.Sender, routes []string) {
	ctx, cancel := context.WithTimeout(context.Background(), meetLimit)
	defer cancel()
	var wg sync.WaitGroup
	free := make(chan struct{}, meetAtOnce)
	for _, r := range routes {
		wg.Go(func() {
			free <- struct{}{}
			defer func() { <-free }()
			_, _ = hops.Check(ctx, r) // Health says what is wrong with it.
		})
	}
	wg.Wait()
}

// verify asks a next hop about recipients, for package limit.
func (p *program) verify(ctx context.Context, route string, rcpts []string) ([]*limit.Refusal, error) {
	replies, err := p.hops.Verify(ctx, route, rcpts...)
	refusals := make([]*limit.Refusal, len(replies))
	for i, r := range replies {
		if r.Code/100 != 2 {
			refusals[i] = refusalOf(r)
		}
	}
	return refusals, err
}

func refusalOf(r hop.Reply) *limit.Refusal {
	no := &limit.Refusal{Code: r.Code, Text: r.Text, Kind: limit.KindRecipient}
	// Without an enhanced code the zero value says so.
	_, _ = fmt.Sscanf(r.Enhanced, "%d.%d.%d", &no.Enhanced[0], &no.Enhanced[1], &no.Enhanced[2])
	return no
}

// getenv reads the environment that the program was started with.
func (p *program) getenv(name string) (string, bool) {
	for _, e := range p.environ {
		if v, ok := strings.CutPrefix(e, name+"="); ok {
			return v, true
		}
	}
	return "", false
}

// listener is one open door for mail.
type listener struct {
	net.Listener
	serve func(net.Listener) error
}

// openListeners opens all of them, or none.
func (p *program) openListeners() (list []listener, err error) {
	defer func() {
		if err != nil {
			for _, l := range list {
				l.Close()
			}
		}
	}()
	for _, a := range p.conf.SMTP.Listen {
		l, err := net.Listen("tcp", a)
		if err != nil {
			return list, fmt.Errorf("listen for SMTP: %w", err)
		}
		list = append(list, listener{l, p.gateway.Serve})
	}
	for _, a := range p.conf.SMTP.LMTPListen {
		l, err := listenLMTP(a)
		if err != nil {
			return list, fmt.Errorf("listen for LMTP: %w", err)
		}
		list = append(list, listener{l, p.gateway.ServeLMTP})
	}
	return list, nil
}

// listenLMTP listens on host:port or unix:/path. A socket that a dead process
// has left is taken over; one that answers is not.
func listenLMTP(address string) (net.Listener, error) {
	path, unix := strings.CutPrefix(address, "unix:")
	if !unix {
		return net.Listen("tcp", address)
	}
	if c, err := net.Dial("unix", path); err == nil {
		c.Close()
		return nil, fmt.Errorf("somebody listens on %s already", path)
	}
	if st, err := os.Lstat(path); err == nil && st.Mode()&fs.ModeSocket == 0 {
		return nil, fmt.Errorf("%s is there and is no socket", path)
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("remove old socket: %w", err)
	}
	l, err := net.Listen("unix", path)
	if err != nil {
		return nil, err
	}
	// The mail server that writes here runs as another user of its own; who may
	// reach the folder is the admin's to say.
	if err := os.Chmod(path, 0o666); err != nil {
		l.Close()
		return nil, fmt.Errorf("set mode of socket: %w", err)
	}
	return l, nil
}
