package main

import (
	"context"
	"errors"
	"sync"
	"time"

	"mailward/health"
	"mailward/intel"
)

// buildIntel makes what knows of indicators, and what reads feeds.
func (p *program) buildIntel() error {
	p.intel = intel.NewStore(p.db, p.audit, p.log)
	p.feeds = intel.NewFeeds(p.intel, p.conf.Intel.configs(), p.log)
	return p.metrics.Register(p.feeds)
}

// feedComponents is one component a feed. They are asked at the same time, so one
// look at the database serves all of a run.
func (p *program) feedComponents() (list []health.Component) {
	var mu sync.Mutex
	var at time.Time
	var states []intel.FeedState
	look := func(ctx context.Context) ([]intel.FeedState, error) {
		mu.Lock()
		defer mu.Unlock()
		if time.Since(at) < time.Second {
			return states, nil
		}
		found, err := p.feeds.States(ctx)
		if err == nil {
			states, at = found, time.Now()
		}
		return found, err
	}
	for _, f := range p.conf.Intel.configs() {
		list = append(list, health.Feed(f.Name, func(ctx context.Context) (health.FeedStatus, error) {
			all, err := look(ctx)
			if err != nil {
				return health.FeedStatus{}, err
			}
			for _, s := range all {
				if s.Name == f.Name {
					return feedStatus(s), nil
				}
			}
			return health.FeedStatus{Never: true}, errNoWorker
		}))
	}
	return list
}

var errNoWorker = errors.New("no process has taken the feed up yet: does a worker run?")

func feedStatus(s intel.FeedState) health.FeedStatus {
	st := health.FeedStatus{Lag: time.Duration(s.LagMinutes * float64(time.Minute)), Late: s.Late, Never: s.LastGoodAt == nil, Rows: s.Rows, Code: s.Code, Problem: s.Error,
		Denied: s.Code == intel.CodeDenied, Alarm: s.Alarm}
	if s.LastGoodAt != nil {
		st.LastGood = *s.LastGoodAt
	}
	return st
}
