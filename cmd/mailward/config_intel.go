package main

import (
	"cmp"
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"

	"mailward/intel"
	"mailward/policy"
)

// Intel is where indicators of threat intelligence come from.
type Intel struct {
	Feeds []Feed `yaml:"feeds"`
}

// Feed is one source that is read again and again.
type Feed struct {
	Name         string        `yaml:"name"`
	Type         string        `yaml:"type"`
	URL          string        `yaml:"url"`
	Key          Secret        `yaml:"key"`
	Interval     time.Duration `yaml:"interval"`
	Class        string        `yaml:"class"`
	Confidence   int           `yaml:"confidence"`
	Expiry       time.Duration `yaml:"expiry"`
	AllowPrivate bool          `yaml:"allow_private"`
	Sightings    bool          `yaml:"sightings"`
}

var feedName = regexp.MustCompile(`^[a-z0-9][a-z0-9._-]{0,59}$`)

// resolveSecrets looks up the keys of feeds.
func (c *Intel) resolveSecrets(getenv func(string) (string, bool)) (errs []error) {
	for i := range c.Feeds {
		if err := c.Feeds[i].Key.resolve(getenv); err != nil {
			errs = append(errs, fmt.Errorf("intel.feeds.%s.key: %w", c.Feeds[i].Name, err))
		}
	}
	return errs
}

func (c *Intel) validate(p *problems) {
	seen := map[string]bool{}
	p.check(len(c.Feeds) <= 50, "intel.feeds", "must not have more than 50 feeds")
	for _, f := range c.configs() {
		key := "intel.feeds." + f.Name
		p.check(feedName.MatchString(f.Name) && !seen[f.Name], "intel.feeds", "must each have a name of its own of small letters, digits and - . _, has %q", f.Name)
		seen[f.Name] = true
		p.check(slices.Contains(intel.FeedTypes(), f.Type), key+".type", "must be one of %s, is %q", strings.Join(intel.FeedTypes(), ", "), f.Type)
		u, err := url.Parse(f.URL)
		p.check(err == nil && (u.Scheme == "http" || u.Scheme == "https") && u.Host != "" && u.User == nil, key+".url", "must be an address on http or https, without a password")
		p.check(f.Interval >= 5*time.Minute && f.Interval <= 7*24*time.Hour, key+".interval", "must be 5m to 168h, is %s", f.Interval)
		p.check(f.Expiry >= time.Hour && f.Expiry <= 366*24*time.Hour, key+".expiry", "must be 1h to 8784h, is %s", f.Expiry)
		p.check(slices.Contains(intel.Classes(), f.Class), key+".class", "must be malware, phishing, suspicious or spam, is %q", f.Class)
		p.check(f.Confidence >= 1 && f.Confidence <= 100, key+".confidence", "must be 1 to 100, is %d", f.Confidence)
		p.check(!f.Sightings || f.Type == intel.TypeMISP, key+".sightings", "are for a feed of type misp only")
	}
}

// configs are the feeds with what they do not say.
func (c *Intel) configs() (list []intel.FeedConfig) {
	for _, f := range c.Feeds {
		if f.Class == "" && f.Type == intel.TypeOpenPhish {
			f.Class = string(policy.Phishing)
		}
		list = append(list, intel.FeedConfig{Name: f.Name, Type: f.Type, URL: f.URL, Key: f.Key.Value(), Interval: cmp.Or(f.Interval, time.Hour), Class: policy.Class(cmp.Or(f.Class, string(policy.Malware))),
			Confidence: cmp.Or(f.Confidence, 80), Expiry: cmp.Or(f.Expiry, 30*24*time.Hour), AllowPrivate: f.AllowPrivate, Sightings: f.Sightings})
	}
	return list
}
