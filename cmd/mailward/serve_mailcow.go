package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"mailward/mailcow"
)

const (
	// mailcowEvery is how soon a new mailbox counts without a question to mailcow's
	// SMTP server.
	mailcowEvery = 5 * time.Minute
	// mailcowKeep is how long an old list counts when mailcow gives no new one.
	mailcowKeep = 24 * time.Hour
)

func (p *program) buildMailcow() error {
	c, err := p.conf.Mailcow.client()
	if err != nil {
		return fmt.Errorf("mailcow.ca_file %w", err)
	}
	if c != nil {
		p.mailcow = &mailcow.Directory{Client: c, NextHop: p.conf.Mailcow.NextHop, Record: p.audit}
	}
	return nil
}

// learnRecipients reads mailcow's mailboxes and aliases time and again, so that
// RCPT need not be asked there.
func (p *program) learnRecipients(ctx context.Context) error {
	var last time.Time
	for {
		list, err := p.mailcow.Recipients(ctx)
		switch {
		case ctx.Err() != nil:
			return nil
		case err == nil:
			last = time.Now()
			p.lists.Learn(list)
		default:
			p.log.Warn("mailcow does not tell its recipients: they are asked for one by one", "error", err)
			if time.Since(last) > mailcowKeep {
				p.lists.Learn(nil)
			}
		}
		wait := mailcowEvery
		if errors.Is(err, mailcow.ErrDenied) {
			wait = time.Hour
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(wait):
		}
	}
}
