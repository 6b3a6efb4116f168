package hop

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/emersion/go-sasl"
	"github.com/xdg-go/scram"
)

// errLogin says little: what a hop answers to a login may repeat parts of it.
var errLogin = errors.New("the next hop does not accept our login")

// Mechanisms of SMTP AUTH that we know, the best first.
var mechanisms = []string{"SCRAM-SHA-256", sasl.Plain, sasl.Login}

// login does SMTP AUTH (RFC 4954). Credentials go in clear only where the
// configuration says so.
func (c *conn) login(ctx context.Context, a *Auth) error {
	if c.tls == nil && !a.Clear {
		return fmt.Errorf("%w: not without TLS", errLogin)
	}
	offered := strings.Fields(strings.ToUpper(c.features["AUTH"]))
	mechanism := ""
	for _, m := range mechanisms {
		if slices.Contains(offered, m) && (a.Mechanism == "" || a.Mechanism == m) {
			mechanism = m
			break
		}
	}
	client, err := a.client(mechanism)
	if err != nil {
		return err
	}
	_, first, err := client.Start()
	if err != nil {
		return fmt.Errorf("%w: %w", errLogin, err)
	}
	switch {
	case first == nil:
		c.command("AUTH ", mechanism)
	case len(first) == 0:
		c.command("AUTH ", mechanism, " =")
	default:
		c.command("AUTH ", mechanism, " ", base64.StdEncoding.EncodeToString(first))
	}
	return c.converse(ctx, client)
}

// challengesMost bounds a login.
const challengesMost = 8

func (c *conn) converse(ctx context.Context, client sasl.Client) error {
	for range challengesMost {
		if err := c.send(ctx); err != nil {
			return err
		}
		c.within(ctx, c.limit)
		code, lines, err := c.readReply()
		switch {
		case err != nil:
			return err
		case code == 235:
			if s, ok := client.(*scramClient); ok && !s.talk.Valid() {
				return fmt.Errorf("%w: it did not prove that it knows the password", errLogin)
			}
			return nil
		case code != 334:
			return fmt.Errorf("%w: %d", errLogin, code)
		}
		challenge, err := base64.StdEncoding.DecodeString(lines[len(lines)-1])
		if err != nil {
			return fmt.Errorf("%w: a challenge that is no base64", errLogin)
		}
		answer, err := client.Next(challenge)
		if err != nil {
			c.command("*")
			c.send(ctx)
			return fmt.Errorf("%w: %w", errLogin, err)
		}
		c.command(base64.StdEncoding.EncodeToString(answer))
	}
	return fmt.Errorf("%w: it asks without end", errLogin)
}

func (a *Auth) client(mechanism string) (sasl.Client, error) {
	switch mechanism {
	case "SCRAM-SHA-256":
		client, err := scram.SHA256.NewClient(a.User, a.Password, "")
		if err != nil {
			return nil, fmt.Errorf("%w: user or password cannot be used with SCRAM", errLogin)
		}
		return &scramClient{talk: client.NewConversation()}, nil
	case sasl.Plain:
		return sasl.NewPlainClient("", a.User, a.Password), nil
	case sasl.Login:
		return &loginClient{answers: []string{a.User, a.Password}}, nil
	}
	return nil, fmt.Errorf("%w: it offers no mechanism that we may use", errLogin)
}

// scramClient is SCRAM (RFC 7677) behind the interface of go-sasl.
type scramClient struct{ talk *scram.ClientConversation }

func (s *scramClient) Start() (string, []byte, error) {
	first, err := s.talk.Step("")
	return "SCRAM-SHA-256", []byte(first), err
}

func (s *scramClient) Next(challenge []byte) ([]byte, error) {
	next, err := s.talk.Step(string(challenge))
	return []byte(next), err
}

// loginClient is LOGIN, which no standard has: servers ask for the user, then
// for the password, in words of their own.
type loginClient struct{ answers []string }

func (l *loginClient) Start() (string, []byte, error) { return sasl.Login, nil, nil }

func (l *loginClient) Next([]byte) ([]byte, error) {
	if len(l.answers) == 0 {
		return nil, sasl.ErrUnexpectedServerChallenge
	}
	answer := l.answers[0]
	l.answers = l.answers[1:]
	return []byte(answer), nil
}
