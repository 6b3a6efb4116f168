package main

import (
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"

	"mailward/gateway/queue"
	"mailward/internal/worm"
	"mailward/quarantine"
)

// Queue is how long we try to deliver.
type Queue struct {
	Lifetime  time.Duration `yaml:"lifetime"`
	WarnAfter time.Duration `yaml:"warn_after"`
}

// Quarantine is how held mail is kept and let go.
type Quarantine struct {
	TakeBack  time.Duration `yaml:"take_back"`
	Key       string        `yaml:"key"`
	Store     string        `yaml:"store"`
	AccessKey Secret        `yaml:"access_key"`
	SecretKey Secret        `yaml:"secret_key"`
}

func (q *Quarantine) validate(p *problems, bao bool) {
	name, is := strings.CutPrefix(q.Key, "bao:")
	p.check(q.Key == "" || is && name != "", "quarantine.key", "must be empty or bao:NAME, is %q", q.Key)
	p.check(!is || bao, "quarantine.key", "needs openbao.url")
	if _, _, err := q.bucket(); err != nil {
		p.add("quarantine.store", "%v", err)
	}
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

// bucket is where blobs are kept, and under which prefix; nil: in a folder of ours.
func (q *Quarantine) bucket() (*worm.Objects, string, error) {
	if q.Store == "" {
		return nil, "", nil
	}
	u, err := url.Parse(q.Store)
	if err != nil || u.Scheme != "s3" || u.Host == "" {
		return nil, "", errors.New("must be empty or s3://bucket/prefix?endpoint=https://host:port")
	}
	for name := range u.Query() {
		if name != "endpoint" {
			return nil, "", fmt.Errorf("has %s, which a bucket of held mail does not know", name)
		}
	}
	e, err := url.Parse(u.Query().Get("endpoint"))
	if err != nil || e.Host == "" || e.Scheme != "http" && e.Scheme != "https" {
		return nil, "", errors.New("must be like s3://bucket/prefix?endpoint=https://host:port")
	}
	if q.AccessKey.Value() == "" || q.SecretKey.Value() == "" {
		return nil, "", errors.New("needs quarantine.access_key and quarantine.secret_key")
	}
	o, err := worm.NewObjects(worm.Bucket{Endpoint: e.Host, Name: u.Host, AccessKey: q.AccessKey.Value(), SecretKey: q.SecretKey.Value(), PlainHTTP: e.Scheme == "http"})
	return o, strings.Trim(u.Path, "/"), err
}
