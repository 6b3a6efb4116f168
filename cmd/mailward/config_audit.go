package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"maps"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"mailward/audit"
	"mailward/audit/seal"
	"mailward/audit/sink"
	"mailward/health"
	"mailward/internal/worm"
)

// Audit is how the record is sealed and copied.
type Audit struct {
	Origin  string                 `yaml:"origin"`
	Key     string                 `yaml:"key"`
	Memory  string                 `yaml:"memory"`
	Anchors map[string]*AnchorConf `yaml:"anchors"`
	Syslog  SyslogConf             `yaml:"syslog"`
	File    StreamFile             `yaml:"file"`
}

// AnchorConf is somebody who is given checkpoints.
type AnchorConf struct {
	Kind      string        `yaml:"kind"` // tsa, email, webhook or bucket
	URL       string        `yaml:"url"`
	To        string        `yaml:"to"`
	Every     time.Duration `yaml:"every"`
	CAFile    string        `yaml:"ca_file"`
	Secret    Secret        `yaml:"secret"`
	AccessKey Secret        `yaml:"access_key"`
	SecretKey Secret        `yaml:"secret_key"`
	Keep      time.Duration `yaml:"keep"`
}

// SyslogConf is a syslog server that takes TLS.
type SyslogConf struct {
	Address  string `yaml:"address"`
	CAFile   string `yaml:"ca_file"`
	CertFile string `yaml:"cert_file"`
	KeyFile  string `yaml:"key_file"`
	Max      Size   `yaml:"max_message"`
}

// StreamFile is a file of JSON lines.
type StreamFile struct {
	Path    string `yaml:"path"`
	MaxSize Size   `yaml:"max_size"`
	Keep    int    `yaml:"keep"`
}

func defaultAudit() Audit {
	return Audit{Syslog: SyslogConf{Max: sink.DefaultMessage}, File: StreamFile{MaxSize: 100 << 20, Keep: 5}}
}

// anchorEvery is how often each kind takes a checkpoint where nothing is said.
var anchorEvery = map[string]time.Duration{"tsa": time.Hour, "email": 24 * time.Hour, "webhook": time.Hour, "bucket": time.Hour}

// bucketKeep is how long a checkpoint is locked where nothing is said.
const bucketKeep = 400 * 24 * time.Hour

func (a *Audit) validate(p *problems, bao bool) {
	p.check(!strings.ContainsAny(a.Origin, " \t\n+"), "audit.origin", "must have no space and no +, is %q", a.Origin)
	for _, k := range []struct{ key, value string }{{"audit.key", a.Key}, {"audit.memory", a.Memory}} {
		name, is := strings.CutPrefix(k.value, "bao:")
		p.check(k.value == "" || is && name != "", k.key, "must be empty or bao:NAME, is %q", k.value)
		p.check(!is || bao, k.key, "needs openbao.url")
	}
	for _, name := range slices.Sorted(maps.Keys(a.Anchors)) {
		if c := a.Anchors[name]; c != nil {
			c.validate(p, "audit.anchors."+name)
		} else {
			p.add("audit.anchors."+name, "is empty")
		}
	}
	p.check(a.Syslog.Address == "" || validAddress(a.Syslog.Address), "audit.syslog.address", "must be host:port, is %q", a.Syslog.Address)
	p.check((a.Syslog.CertFile == "") == (a.Syslog.KeyFile == ""), "audit.syslog", "needs both cert_file and key_file, or neither")
	p.check(a.Syslog.Max >= 2048 && a.Syslog.Max <= 1<<20, "audit.syslog.max_message", "must be 2KiB to 1MiB, is %d bytes", a.Syslog.Max)
	if _, err := a.Syslog.tls(); err != nil {
		p.add("audit.syslog", "%v", err)
	}
	p.check(a.File.Path == "" || filepath.IsAbs(a.File.Path), "audit.file.path", "must be an absolute path, is %q", a.File.Path)
	p.check(a.File.Keep >= 0 && a.File.Keep <= 1000, "audit.file.keep", "must be 0 to 1000, is %d", a.File.Keep)
}

func (c *AnchorConf) validate(p *problems, key string) {
	u, err := url.Parse(c.URL)
	web := err == nil && (u.Scheme == "http" || u.Scheme == "https") && u.Host != ""
	switch c.Kind {
	case "tsa":
		p.check(web, key+".url", "must be the address of a time stamp authority, is %q", c.URL)
	case "webhook":
		p.check(web && (u.Scheme == "https" || isLoopback(u.Hostname())), key+".url", "must be https://...")
	case "email":
		p.check(strings.Count(c.To, "@") == 1, key+".to", "must be a mail address, is %q", c.To)
	case "bucket":
		p.check(err == nil && u.Scheme == "s3" && u.Host != "" && u.Query().Get("endpoint") != "", key+".url", "must be like s3://bucket/prefix?endpoint=https://host:port, is %q", c.URL)
		p.check(c.AccessKey.Value() != "" && c.SecretKey.Value() != "", key, "needs access_key and secret_key")
		p.check(c.Keep == 0 || c.Keep >= 24*time.Hour, key+".keep", "must be 24h or more, is %s", c.Keep)
	default:
		p.add(key+".kind", "must be tsa, email, webhook or bucket, is %q", c.Kind)
	}
	p.check(c.Every == 0 || c.Every >= time.Minute, key+".every", "must be 1m or more, is %s", c.Every)
	if _, err := pool(c.CAFile); err != nil {
		p.add(key+".ca_file", "%v", err)
	}
}

// pool reads certificates to believe; nil where there is no file.
func pool(file string) (*x509.CertPool, error) {
	if file == "" {
		return nil, nil
	}
	b, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("cannot be read: %w", err)
	}
	certs := x509.NewCertPool()
	if !certs.AppendCertsFromPEM(b) {
		return nil, fmt.Errorf("%s has no certificate in PEM", file)
	}
	return certs, nil
}

func (s *SyslogConf) tls() (*tls.Config, error) {
	roots, err := pool(s.CAFile)
	if err != nil {
		return nil, err
	}
	cfg := &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: roots}
	if s.CertFile != "" && s.KeyFile != "" {
		pair, err := tls.LoadX509KeyPair(s.CertFile, s.KeyFile)
		if err != nil {
			return nil, fmt.Errorf("certificate cannot be used: %w", err)
		}
		cfg.Certificates = []tls.Certificate{pair}
	}
	return cfg, nil
}

// resolveSecrets looks up the secrets of anchors.
func (a *Audit) resolveSecrets(getenv func(string) (string, bool)) (errs []error) {
	for _, name := range slices.Sorted(maps.Keys(a.Anchors)) {
		c := a.Anchors[name]
		if c == nil {
			continue
		}
		for _, s := range []struct {
			key    string
			secret *Secret
		}{{"secret", &c.Secret}, {"access_key", &c.AccessKey}, {"secret_key", &c.SecretKey}} {
			if err := s.secret.resolve(getenv); err != nil {
				errs = append(errs, fmt.Errorf("audit.anchors.%s.%s: %w", name, s.key, err))
			}
		}
	}
	return errs
}

// anchor builds one. The configuration is valid, but a file may have gone since.
func (c *AnchorConf) anchor(name string, post seal.Postman) (seal.Named, error) {
	n := seal.Named{Name: name, Every: c.Every}
	if n.Every == 0 {
		n.Every = anchorEvery[c.Kind]
	}
	switch c.Kind {
	case "tsa":
		roots, err := pool(c.CAFile)
		if err != nil {
			return n, fmt.Errorf("audit.anchors.%s.ca_file %w", name, err)
		}
		n.Anchor = seal.TSA{URL: c.URL, Roots: roots, Client: seal.HTTPClient()}
	case "webhook":
		n.Anchor = seal.Webhook{URL: c.URL, Secret: c.Secret.Value(), Client: seal.HTTPClient(), Now: time.Now}
	case "email":
		n.Anchor = seal.Mail{To: c.To, Postman: post}
	case "bucket":
		u, err := url.Parse(c.URL)
		if err != nil {
			return n, fmt.Errorf("audit.anchors.%s.url is none", name)
		}
		endpoint, err := url.Parse(u.Query().Get("endpoint"))
		if err != nil || endpoint.Host == "" {
			return n, fmt.Errorf("audit.anchors.%s.url has no endpoint", name)
		}
		b := seal.Bucket{Bucket: worm.Bucket{Endpoint: endpoint.Host, PlainHTTP: endpoint.Scheme == "http", Name: u.Host, AccessKey: c.AccessKey.Value(), SecretKey: c.SecretKey.Value()},
			Prefix: strings.TrimPrefix(u.Path, "/"), Keep: c.Keep, Now: time.Now}
		if b.Prefix != "" && !strings.HasSuffix(b.Prefix, "/") {
			b.Prefix += "/"
		}
		if b.Keep == 0 {
			b.Keep = bucketKeep
		}
		n.Anchor = b
	}
	return n, nil
}

// newSealer builds what signs the tree. Without a postman no mail is sent.
func (p *program) newSealer(post seal.Postman) (*seal.Sealer, error) {
	c := p.conf.Audit
	origin := c.Origin
	if origin == "" {
		origin = p.conf.Hostname + "/audit"
	}
	deps := seal.Deps{DB: p.db, Audit: p.audit, Log: p.log, Keys: seal.Local{Dir: p.conf.subdir("keys")}, Local: seal.File{Path: p.conf.subdir("seal", "head.json")}}
	if name, ok := strings.CutPrefix(c.Key, "bao:"); ok {
		deps.Keys = seal.Remote{Transit: p.bao, Name: name}
	}
	if path, ok := strings.CutPrefix(c.Memory, "bao:"); ok {
		deps.Shared = seal.Shared{KV: p.bao, Path: path}
	}
	if post != nil {
		for _, name := range slices.Sorted(maps.Keys(c.Anchors)) {
			a, err := c.Anchors[name].anchor(name, post)
			if err != nil {
				return nil, err
			}
			deps.Anchors = append(deps.Anchors, a)
		}
	}
	return seal.New(seal.Config{Origin: origin}, deps), nil
}

// runSeal starts what seals the record and carries copies of it away.
func (p *program) runSeal(failed chan<- error, stdout audit.Sink) error {
	p.loop("audit seal", failed, p.seal.Run)
	p.loop("audit anchors", failed, p.seal.RunAnchors)
	p.loop("audit stream", failed, func(ctx context.Context) error { return p.audit.RunSink(ctx, stdout) })
	if c := p.conf.Audit.Syslog; c.Address != "" {
		conf, err := c.tls()
		if err != nil {
			return fmt.Errorf("audit.syslog: %w", err)
		}
		s := &sink.Syslog{Address: c.Address, TLS: conf, Hostname: p.conf.Hostname, MaxMessage: int(c.Max)}
		p.onStop(func(context.Context) { s.Close() })
		p.loop("audit to syslog", failed, func(ctx context.Context) error { return p.audit.RunSink(ctx, s) })
	}
	if c := p.conf.Audit.File; c.Path != "" {
		f := &sink.File{Path: c.Path, MaxSize: int64(c.MaxSize), Keep: c.Keep}
		p.onStop(func(context.Context) { f.Close() })
		p.loop("audit to file", failed, func(ctx context.Context) error { return p.audit.RunSink(ctx, f) })
	}
	return nil
}

// sealStatus is for Health: the seal, the anchors, and the streams.
func (p *program) sealStatus(ctx context.Context) (health.SealStatus, error) {
	s, err := p.seal.Status(ctx)
	if err != nil {
		return health.SealStatus{}, err
	}
	out := health.SealStatus{Origin: s.Origin, Size: s.Size, Unsealed: s.Unsealed, Refused: s.Refused}
	if s.SignedAt != nil {
		out.SignedAt = *s.SignedAt
	}
	if s.Oldest != nil {
		out.OldestAge = time.Since(*s.Oldest)
	}
	for _, a := range s.Anchors {
		h := health.Anchor{Name: a.Name, Kind: a.Kind, Detail: a.Detail, Failing: a.FailingSince != nil, Late: a.Late}
		if a.LastOK != nil {
			h.LastOK = *a.LastOK
		}
		out.Anchors = append(out.Anchors, h)
	}
	sinks, err := p.audit.Sinks(ctx)
	if err != nil {
		return out, err
	}
	used := map[string]bool{"stdout": true, "syslog": p.conf.Audit.Syslog.Address != "", "file": p.conf.Audit.File.Path != ""}
	for _, st := range sinks {
		if used[st.Name] && st.Oldest != nil {
			out.Streams = append(out.Streams, health.Stream{Name: st.Name, Waiting: st.Waiting, OldestAge: time.Since(*st.Oldest)})
		}
	}
	return out, nil
}
