package alerting

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/google/uuid"

	"mailward/alerting/channel"
	"mailward/alerting/rule"
)

// fallback is what a process can still say when the database, in which rules,
// states and jobs are, is the thing that is broken.
type fallback struct {
	mu       sync.Mutex // guards channels
	channels []Channel
}

const (
	fallbackEvery = 10 * time.Second
	fallbackAfter = time.Minute
	fallbackAgain = time.Hour
	fallbackWait  = 5 * time.Second
)

// databaseAlert is the id of the one alert that no row can have.
var databaseAlert = uuid.NewSHA1(uuid.NameSpaceURL, []byte("mailward:alert:database"))

// RunFallback watches the database from this process until ctx ends. After a
// minute without it the channels that take everything hear of that directly, as
// they were known last; each process of an installation says so for itself.
func (s *Store) RunFallback(ctx context.Context) error {
	t := time.NewTicker(fallbackEvery)
	defer t.Stop()
	var w outage
	for {
		err := s.refresh(ctx)
		if ctx.Err() != nil {
			return nil
		}
		if notice := w.step(err != nil, time.Now()); notice != rule.Nothing {
			s.say(ctx, notice, w.since)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-t.C:
		}
	}
}

// outage is how long the database has been away.
type outage struct {
	since time.Time // zero: it is there
	told  time.Time // zero: nobody was told of this outage
}

func (o *outage) step(away bool, now time.Time) rule.Notice {
	switch {
	case away && o.since.IsZero():
		o.since = now
	case away && now.Sub(o.since) >= fallbackAfter && (o.told.IsZero() || now.Sub(o.told) >= fallbackAgain):
		o.told = now
		return rule.Alarmed
	case !away && !o.told.IsZero():
		o.told, o.since = time.Time{}, time.Time{}
		return rule.Ended
	case !away:
		o.since = time.Time{}
	}
	return rule.Nothing
}

// refresh remembers the channels.
func (s *Store) refresh(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, fallbackWait)
	defer cancel()
	list, err := s.Channels(ctx)
	if err != nil {
		return err
	}
	s.last.mu.Lock()
	defer s.last.mu.Unlock()
	s.last.channels = list
	return nil
}

func (s *Store) say(ctx context.Context, notice rule.Notice, since time.Time) {
	spec := rule.Spec{Name: fmt.Sprintf("Database away, as seen by %s", s.cfg.Node), Severity: rule.Critical}
	s.log.Error("the database is away: alerts are not evaluated", "since", since, "notice", notice)
	s.last.mu.Lock()
	to := route(s.last.channels, spec, uuid.Nil)
	s.last.mu.Unlock()
	now := time.Now().UTC()
	m := channel.Message{Alerts: []channel.Alert{{ID: databaseAlert, Name: spec.Name, Notice: notice, Severity: spec.Severity, Subject: "postgresql", Metric: "component_down",
		Compare: rule.Above, Value: 1, Has: true, Since: since.UTC(), At: now}}}
	if notice == rule.Ended {
		m.Alerts[0].Value, m.Alerts[0].Since = 0, now
	}
	for _, c := range to {
		id, err := uuid.NewV7()
		if err != nil {
			return
		}
		err = s.deps.Sender.Send(ctx, channel.Channel{Name: c.Name, Kind: c.Kind, Target: c.Target, Secret: s.cfg.Secrets[c.Secret], Language: c.Language}, id, m)
		if err != nil {
			s.log.Error("nobody told of the missing database by this channel", "channel", c.Name, "error", err)
		}
	}
}
