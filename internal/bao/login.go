package bao

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/openbao/openbao/api/v2"
)

const (
	// loginEvery is the least time between two logins. A 403 can mean that the
	// token died or that the policy does not allow the act; the second must not
	// make a login of each call.
	loginEvery = 5 * time.Second
	// renewCheck is how often Run looks whether the token is due.
	renewCheck = 5 * time.Second
)

// tokenState is what is known of our token. The token itself is in the client.
type tokenState struct {
	number    int // counts logins; 0: none yet
	tried     time.Time
	err       error // of the last login
	renewable bool
	renewAt   time.Time // zero: never
	expires   time.Time // zero: never
}

func (c *Client) state() tokenState {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.token
}

func (c *Client) setState(t tokenState) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.token = t
}

// call does one act with a token, and once more after a new login where the
// token turned out to be dead.
func (c *Client) call(ctx context.Context, what string, act func(context.Context, *api.Client) error) error {
	ctx, cancel := context.WithTimeout(ctx, c.cfg.Timeout)
	defer cancel()
	number, err := c.login(ctx, -1)
	if err != nil {
		return clean(what, err)
	}
	err = clean(what, act(ctx, c.api))
	if !errors.Is(err, ErrDenied) {
		return err
	}
	if again, lerr := c.login(ctx, number); lerr != nil || again == number {
		return err
	}
	return clean(what, act(ctx, c.api))
}

// login makes sure that there is a token other than the dead one with this
// number, and returns the number of the token there is. One caller logs in, the
// others wait for it; waiting ends with their context.
func (c *Client) login(ctx context.Context, dead int) (int, error) {
	if t := c.state(); c.usable(t, dead) {
		return t.number, nil
	}
	select {
	case c.gate <- struct{}{}:
		defer func() { <-c.gate }()
	case <-ctx.Done():
		return 0, ctx.Err()
	}
	t := c.state()
	if c.usable(t, dead) {
		return t.number, nil
	}
	now := c.now()
	if !t.tried.IsZero() && now.Sub(t.tried) < loginEvery {
		if t.err != nil {
			return 0, t.err
		}
		return t.number, nil // as fresh as can be: the 403 is about the policy
	}
	next, err := c.authenticate(ctx)
	if err != nil {
		// Our own caller's haste says nothing about the server.
		if ctx.Err() == nil {
			t.tried, t.err = now, err
			c.setState(t)
		}
		return 0, err
	}
	next.number, next.tried = t.number+1, now
	c.setState(next)
	return next.number, nil
}

func (c *Client) usable(t tokenState, dead int) bool {
	return t.number > 0 && t.number != dead && (t.expires.IsZero() || c.now().Before(t.expires))
}

// authenticate gets a token: by AppRole, or the one that is given.
func (c *Client) authenticate(ctx context.Context) (tokenState, error) {
	if c.cfg.Token != nil {
		token, err := secret("token", c.cfg.Token)
		if err != nil {
			return tokenState{}, err
		}
		c.api.SetToken(token)
		return tokenState{}, nil
	}
	role, err := secret("role_id", c.cfg.RoleID)
	if err != nil {
		return tokenState{}, err
	}
	id, err := secret("secret_id", c.cfg.SecretID)
	if err != nil {
		return tokenState{}, err
	}
	s, err := c.out.Logical().WriteWithContext(ctx, "auth/"+c.cfg.MountAppRole+"/login", map[string]any{"role_id": role, "secret_id": id})
	if err != nil {
		// Bad credentials are a 400, not a 403.
		err = clean("log in", err)
		if errors.Is(err, ErrBadRequest) {
			err = fmt.Errorf("log in: role or secret id refused: %w", ErrDenied)
		}
		return tokenState{}, err
	}
	if s == nil || s.Auth == nil || s.Auth.ClientToken == "" {
		return tokenState{}, fmt.Errorf("log in: %w: no token", errAnswer)
	}
	c.api.SetToken(s.Auth.ClientToken)
	return c.lease(s.Auth), nil
}

// secret reads a secret. An error of the reader names the file, not what is in it.
func secret(name string, read Secret) (string, error) {
	v, err := read()
	if err != nil {
		return "", fmt.Errorf("%w: read %s", ErrUnavailable, name)
	}
	if v = strings.TrimSpace(v); v == "" {
		return "", fmt.Errorf("%w: %s is empty", ErrUnavailable, name)
	}
	return v, nil
}

// lease plans the renewal: at two thirds of the token's life, a little apart
// for each node.
func (c *Client) lease(a *api.SecretAuth) tokenState {
	t := tokenState{renewable: a.Renewable}
	if a.LeaseDuration <= 0 {
		return t
	}
	life := time.Duration(a.LeaseDuration) * time.Second
	now := c.now()
	t.expires = now.Add(life)
	t.renewAt = now.Add(life*2/3 - time.Duration(rand.Int64N(int64(life/20)+1)))
	return t
}

// Token asks the server whether our token is good, and says when it expires;
// the zero time is never.
func (c *Client) Token(ctx context.Context) (time.Time, error) {
	err := c.call(ctx, "look the token up", func(ctx context.Context, a *api.Client) error {
		_, err := a.Auth().Token().LookupSelfWithContext(ctx)
		return err
	})
	return c.state().expires, err
}

// Run keeps the token alive until ctx ends, and then gives it back. Without it
// the client works too, but then a call pays for the login after each expiry.
func (c *Client) Run(ctx context.Context) error {
	tick := time.NewTicker(renewCheck)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			c.revoke(context.WithoutCancel(ctx))
			return nil
		case <-tick.C:
			c.keepAlive(ctx)
		}
	}
}

// keepAlive renews a token that is due, or logs in anew where it cannot be renewed.
func (c *Client) keepAlive(ctx context.Context) {
	t := c.state()
	if t.number == 0 || t.renewAt.IsZero() || c.now().Before(t.renewAt) {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, c.cfg.Timeout)
	defer cancel()
	if t.renewable {
		s, err := c.api.Auth().Token().RenewSelfWithContext(ctx, 0)
		if err == nil && s != nil && s.Auth != nil {
			next := c.lease(s.Auth)
			// Near its longest life a token is renewed for less and less: log in.
			if next.expires.Sub(t.expires) > 0 && next.expires.Sub(c.now()) > 2*renewCheck {
				c.renewed(t.number, next)
				return
			}
		} else if ctx.Err() != nil || !errors.Is(clean("renew", err), ErrDenied) {
			c.log.Warn("OpenBao: the token was not renewed", "err", clean("renew the token", err))
			if c.now().Before(t.expires) {
				return // tried again at the next tick
			}
		}
	}
	if _, err := c.login(ctx, t.number); err != nil {
		c.log.Warn("OpenBao: no new token", "err", clean("log in", err))
	}
}

// renewed notes the token's new lease, if it is still the same token.
func (c *Client) renewed(number int, next tokenState) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.token.number == number {
		next.number, next.tried = number, c.token.tried
		c.token = next
	}
}

// revoke gives our own token back. One that was given to us stays.
func (c *Client) revoke(ctx context.Context) {
	if c.cfg.Token != nil || c.state().number == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, c.cfg.Timeout)
	defer cancel()
	if err := c.api.Auth().Token().RevokeSelfWithContext(ctx, ""); err != nil {
		c.log.Warn("OpenBao: the token was not given back", "err", clean("revoke the token", err))
	}
}
