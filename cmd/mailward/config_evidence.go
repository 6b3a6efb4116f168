package main

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net/url"
	"os"
	"strings"
	"time"

	"mailward/approval"
	"mailward/audit/seal"
	"mailward/evidence"
	"mailward/evidence/store"
	"mailward/evidence/tsa"
)

// Evidence is where forensic exports go, and what signs and stamps them.
type Evidence struct {
	Store        string        `yaml:"store"`
	AccessKey    Secret        `yaml:"access_key"`
	SecretKey    Secret        `yaml:"secret_key"`
	Keep         time.Duration `yaml:"keep"`
	Organisation string        `yaml:"organisation"`
	Key          string        `yaml:"key"`
	Certificate  string        `yaml:"certificate"`
	TSA          StampConf     `yaml:"tsa"`
}

// StampConf is the authority of time stamps.
type StampConf struct {
	URL    string `yaml:"url"`
	CAFile string `yaml:"ca_file"`
}

func defaultEvidence() Evidence { return Evidence{Keep: 400 * 24 * time.Hour} }

// vault is the store of the configuration; without one a folder of ours.
func (c *Config) vault() (store.Store, error) {
	if c.Evidence.Store == "" {
		return store.Folder{Dir: c.subdir("evidence")}, nil
	}
	return store.Parse(c.Evidence.Store, store.Keys{Access: c.Evidence.AccessKey.Value(), Secret: c.Evidence.SecretKey.Value()})
}

func (c *Config) validateEvidence(p *problems) {
	e := &c.Evidence
	if _, err := c.vault(); err != nil {
		p.add("evidence.store", "%v", err)
	}
	p.check(e.Keep >= 24*time.Hour && e.Keep <= 100*365*24*time.Hour, "evidence.keep", "must be 24h or more, is %s", e.Keep)
	name, bao := strings.CutPrefix(e.Key, "bao:")
	p.check(e.Key == "" || bao && name != "", "evidence.key", "must be empty or bao:NAME, is %q", e.Key)
	p.check(!bao || c.OpenBao.URL != "", "evidence.key", "needs openbao.url")
	if e.TSA.URL != "" {
		u, err := url.Parse(e.TSA.URL)
		p.check(err == nil && (u.Scheme == "http" || u.Scheme == "https") && u.Host != "", "evidence.tsa.url", "must be the address of a time stamp authority (http or https)")
	}
	if _, err := certificates(e.TSA.CAFile); err != nil {
		p.add("evidence.tsa.ca_file", "%v", err)
	}
	p.check(e.TSA.CAFile == "" || e.TSA.URL != "", "evidence.tsa.ca_file", "needs evidence.tsa.url")
	if e.Certificate != "" {
		if _, err := pairFile(e.Certificate); err != nil {
			p.add("evidence.certificate", "%v", err)
		}
	}
}

// certificates reads certificates to believe; none where there is no file.
func certificates(file string) ([]*x509.Certificate, error) {
	if file == "" {
		return nil, nil
	}
	b, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("cannot be read: %w", err)
	}
	return tsa.ParsePEM(b)
}

func pairFile(file string) (tsa.Pair, error) {
	b, err := os.ReadFile(file)
	if err != nil {
		return tsa.Pair{}, fmt.Errorf("cannot be read: %w", err)
	}
	return tsa.ParsePair(b)
}

// buildEvidence makes the exports. Database, audit, seal and quarantine are there.
func (p *program) buildEvidence() (err error) {
	c, dir := p.conf.Evidence, p.conf.subdir("keys", "evidence")
	d := evidence.Deps{DB: p.db, Audit: p.audit, Seal: p.seal, Quarantine: p.quarantine, Ledger: p.ledger, Approvals: approval.New(p.db, p.audit, nil), Keys: seal.Local{Dir: dir}, Log: p.log, View: p.viewMail}
	if name, ok := strings.CutPrefix(c.Key, "bao:"); ok {
		d.Keys = seal.Remote{Transit: p.bao, Name: name}
	}
	if d.Vault, err = p.conf.vault(); err != nil {
		return fmt.Errorf("evidence.store %w", err)
	}
	if c.Certificate != "" {
		d.Signer, err = pairFile(c.Certificate)
	} else {
		d.Signer, err = tsa.OpenSigner(dir, p.conf.Hostname, time.Now)
	}
	if err != nil {
		return fmt.Errorf("evidence.certificate: %w", err)
	}
	if c.TSA.URL != "" {
		roots, err := certificates(c.TSA.CAFile)
		if err != nil {
			return fmt.Errorf("evidence.tsa.ca_file %w", err)
		}
		d.TSA = tsa.Remote{URL: c.TSA.URL, Trust: roots, Client: seal.HTTPClient()}
	} else if d.TSA, err = tsa.OpenLocal(dir, p.conf.Hostname, time.Now); err != nil {
		return err
	}
	p.evidence = evidence.New(evidence.Config{Hostname: p.conf.Hostname, Organisation: c.Organisation, Version: version, Keep: c.Keep}, d)
	return nil
}

// viewMail has the sidecar take a mail apart.
func (p *program) viewMail(ctx context.Context, f *os.File) (evidence.View, error) {
	if p.sidecar == nil {
		return evidence.View{}, errors.New("there is no scanner")
	}
	v, err := p.sidecar.View(ctx, f)
	if err != nil {
		return evidence.View{}, err
	}
	out := evidence.View{Text: v.Text, HTML: v.HTML}
	for _, h := range v.Headers {
		out.Headers = append(out.Headers, evidence.Header{Name: h.Name, Value: h.Value})
	}
	return out, nil
}
