package main

import (
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"mailward/health"
)

// HealthConf is what is watched besides what the rest of the configuration names.
type HealthConf struct {
	HTTP []HTTPCheck `yaml:"http"`
	NTP  []string    `yaml:"ntp"`
}

// HTTPCheck is a service that is asked over HTTP.
type HTTPCheck struct {
	Name    string             `yaml:"name"`
	Title   string             `yaml:"title"`
	URL     string             `yaml:"url"`
	Method  string             `yaml:"method"`
	Status  []int              `yaml:"status"`
	Body    string             `yaml:"body"`
	Headers map[string]*Secret `yaml:"headers"`
	CAFile  string             `yaml:"ca_file"`
	Every   time.Duration      `yaml:"every"`
	Meaning string             `yaml:"meaning"`
}

// maxServices bounds what is asked at the same time.
const maxServices = 50

// resolveSecrets looks up what headers hold; what is in OpenBao is put into kept.
func (c *HealthConf) resolveSecrets(getenv func(string) (string, bool), kept map[string]*Secret) (errs []error) {
	for i := range c.HTTP {
		for _, name := range slices.Sorted(maps.Keys(c.HTTP[i].Headers)) {
			s, key := c.HTTP[i].Headers[name], "health.http."+c.HTTP[i].Name+".headers."+name
			if s == nil {
				continue
			}
			if strings.HasPrefix(s.reference, "bao:") {
				kept[key] = s
			} else if err := s.resolve(getenv); err != nil {
				errs = append(errs, fmt.Errorf("%s: %w", key, err))
			}
		}
	}
	return errs
}

func (c *HealthConf) validate(p *problems) {
	p.check(len(c.HTTP) <= maxServices, "health.http", "must not have more than %d services", maxServices)
	seen := map[string]bool{}
	for _, h := range c.HTTP {
		key := "health.http." + h.Name
		p.check(feedName.MatchString(h.Name) && !seen[h.Name], "health.http", "must each have a name of its own of small letters, digits and - . _, has %q", h.Name)
		seen[h.Name] = true
		p.check(isWeb(h.URL), key+".url", "must be an address on http or https, without a password")
		p.check(slices.Contains([]string{"", http.MethodGet, http.MethodHead, http.MethodPost, http.MethodOptions}, h.Method), key+".method", "must be GET, HEAD, POST or OPTIONS, is %q", h.Method)
		for _, s := range h.Status {
			p.check(s >= 200 && s <= 599, key+".status", "must hold numbers from 200 to 599, has %d", s)
		}
		p.check(h.Every == 0 || h.Every >= time.Second && h.Every <= time.Hour, key+".every", "must be 1s to 1h, is %s", h.Every)
		for _, name := range slices.Sorted(maps.Keys(h.Headers)) {
			p.check(name != "" && !strings.ContainsAny(name, " :\r\n") && h.Headers[name] != nil && !strings.ContainsAny(h.Headers[name].Value(), "\r\n"), key+".headers", "has %q, which cannot be sent", name)
		}
		if _, err := pool(h.CAFile); err != nil {
			p.add(key+".ca_file", "%v", err)
		}
	}
	p.check(len(c.NTP) <= 5, "health.ntp", "must not have more than five servers")
	for _, s := range c.NTP {
		host := s
		if h, _, ok := strings.Cut(s, ":"); ok && strings.Count(s, ":") == 1 {
			host = h
		}
		p.check(host != "" && !strings.ContainsAny(s, " /@"), "health.ntp", "must hold time servers such as ntp.example.org, has %q", s)
	}
}

func isWeb(address string) bool {
	u, err := url.Parse(address)
	return err == nil && (u.Scheme == "http" || u.Scheme == "https") && u.Host != "" && u.User == nil
}

// components are the checks of what is named here.
func (c *HealthConf) components() (list []health.Component, err error) {
	for _, h := range c.HTTP {
		roots, err := pool(h.CAFile)
		if err != nil {
			return nil, fmt.Errorf("health.http.%s.ca_file %w", h.Name, err)
		}
		header := map[string]string{}
		for k, v := range h.Headers {
			header[k] = v.Value()
		}
		title := h.Title
		if title == "" {
			title = h.Name
		}
		meaning := strings.TrimSpace(h.Meaning)
		if meaning != "" && !strings.HasSuffix(meaning, ".") {
			meaning += "."
		}
		list = append(list, health.HTTP(health.Service{Name: "http:" + h.Name, Title: title, URL: h.URL, Method: h.Method, Status: h.Status, Body: h.Body, Header: header, Roots: roots, Every: h.Every, Meaning: health.Plain(meaning)}))
	}
	return list, nil
}
