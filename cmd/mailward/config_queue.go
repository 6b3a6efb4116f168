package main

import (
	"time"

	"mailward/gateway/queue"
	"mailward/quarantine"
)

// Queue is how long we try to deliver.
type Queue struct {
	Lifetime  time.Duration `yaml:"lifetime"`
	WarnAfter time.Duration `yaml:"warn_after"`
}

// Quarantine is how held mail is let go.
type Quarantine struct {
	TakeBack time.Duration `yaml:"take_back"`
}

func (q *Quarantine) validate(p *problems) {
	p.check(q.TakeBack >= 0 && q.TakeBack <= 10*time.Minute, "quarantine.take_back", "must be 0 to 10m, is %s", q.TakeBack)
}

func (q *Queue) validate(p *problems) {
	p.check(q.Lifetime >= time.Hour && q.Lifetime <= 30*24*time.Hour, "queue.lifetime", "must be 1h to 720h, is %s", q.Lifetime)
	p.check(q.WarnAfter == 0 || q.WarnAfter >= time.Minute && q.WarnAfter < q.Lifetime, "queue.warn_after", "must be 0 (never), or at least 1m and less than queue.lifetime, is %s", q.WarnAfter)
}

func defaultQueue() Queue {
	d := queue.DefaultConfig("")
	return Queue{Lifetime: d.Lifetime, WarnAfter: d.WarnAfter}
}

func (c *Config) queueConfig() queue.Config {
	return queue.Config{Hostname: c.Hostname, Lifetime: c.Queue.Lifetime, WarnAfter: c.Queue.WarnAfter}
}

// quarantineConfig has the queue's time for released mails too.
func (c *Config) quarantineConfig() quarantine.Config {
	q := quarantine.DefaultConfig()
	q.GiveUpAfter = c.Queue.Lifetime
	q.TakeBack = c.Quarantine.TakeBack
	return q
}
