package main

import (
	"fmt"
	"net/url"

	"mailward/health"
	"mailward/mailcow"
)

// MailcowConf is the mailcow behind us.
type MailcowConf struct {
	URL        string `yaml:"url"`
	Key        Secret `yaml:"key"`
	CAFile     string `yaml:"ca_file"`
	NextHop    string `yaml:"next_hop"`
	Recipients bool   `yaml:"recipients"`
}

func (m *MailcowConf) validate(p *problems) {
	if m.URL == "" {
		p.check(m.Key.reference == "" && m.NextHop == "", "mailcow.url", "must be set where mailcow.key or mailcow.next_hop is")
		return
	}
	u, err := url.Parse(m.URL)
	p.check(err == nil && u.Host != "" && u.User == nil && (u.Scheme == "https" || u.Scheme == "http" && isLoopback(u.Hostname())), "mailcow.url", "must be like https://mail.example.org: the key travels with each call")
	p.check(m.Key.reference != "", "mailcow.key", "must be set: mailcow's API needs a key")
	if _, err := pool(m.CAFile); err != nil {
		p.add("mailcow.ca_file", "%v", err)
	}
}

// client speaks to the mailcow of the configuration; nil without one.
func (m MailcowConf) client() (*mailcow.Client, error) {
	if m.URL == "" {
		return nil, nil
	}
	roots, err := pool(m.CAFile)
	if err != nil {
		return nil, err
	}
	return mailcow.New(mailcow.Config{URL: m.URL, Key: m.Key.Value(), Roots: roots}), nil
}

// component watches it; nil without one.
func (m MailcowConf) component() ([]health.Component, error) {
	if m.URL == "" {
		return nil, nil
	}
	roots, err := pool(m.CAFile)
	if err != nil {
		return nil, fmt.Errorf("mailcow.ca_file %w", err)
	}
	return []health.Component{health.Mailcow(m.URL, m.Key.Value(), roots)}, nil
}
