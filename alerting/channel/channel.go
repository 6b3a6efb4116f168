// Package channel carries alerts to people and other systems: e-mail, Slack,
// Teams, webhooks, PagerDuty, syslog and a file for Wazuh. It decides nothing:
// when, how often and to whom is the business of package alerting. It is not on a
// mail's path; its own mail goes straight to the next hop, past the delivery queue.
package channel

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"time"

	"github.com/google/uuid"

	"mailward/alerting/rule"
)

// The kinds of channel.
const (
	Email     = "email"
	Slack     = "slack"
	Teams     = "teams"
	Webhook   = "webhook"
	Wazuh     = "wazuh"
	Syslog    = "syslog"
	PagerDuty = "pagerduty"
)

// Kinds are all of them.
func Kinds() []string { return []string{Email, Slack, Teams, Webhook, PagerDuty, Syslog, Wazuh} }

// Channel is where a message goes.
type Channel struct {
	Name     string
	Kind     string
	Target   string // addresses, an address of the web, host:port
	Secret   string // its value
	Language string // en, de
}

// Alert is one alert in a message.
type Alert struct {
	ID        uuid.UUID     `json:"id"`
	Rule      uuid.UUID     `json:"rule_id"`
	Name      string        `json:"name"`
	Notice    rule.Notice   `json:"notice"` // alarm or resolved
	Severity  rule.Severity `json:"severity"`
	Workspace uuid.UUID     `json:"workspace_id"`
	Subject   string        `json:"subject,omitempty"` // domain or component
	Metric    string        `json:"metric"`
	Compare   rule.Compare  `json:"compare"`
	Threshold float64       `json:"threshold"`
	Value     float64       `json:"value"`
	Has       bool          `json:"has_value"`
	Usual     float64       `json:"usual,omitempty"`
	Since     time.Time     `json:"since"`
	At        time.Time     `json:"at"`
	Runbook   string        `json:"runbook,omitempty"`
	Late      bool          `json:"late,omitempty"` // seen only after a pause
	Hits      []Hit         `json:"hits,omitempty"` // the newest of those that were found late
}

// Hit is a mail that somebody has and that was found bad afterwards.
type Hit struct {
	Item    uuid.UUID   `json:"item_id"`
	Class   string      `json:"class"`
	Found   []string    `json:"found"`
	Holders []HitHolder `json:"recipients"`
	More    int         `json:"more_recipients,omitempty"` // that are not listed
}

// HitHolder is who has a mail of a [Hit].
type HitHolder struct {
	Address string    `json:"address"`
	Since   time.Time `json:"since"`
	Seconds int64     `json:"for_seconds"` // from then until it was found
}

// Message is what one notification says.
type Message struct {
	Test   bool    `json:"test,omitempty"`
	Note   string  `json:"note,omitempty"` // of a test: who asked for it
	Alerts []Alert `json:"alerts"`
}

// Mailer hands a finished mail over to the servers of its recipients.
type Mailer interface {
	Mail(ctx context.Context, from string, to []string, mail []byte) error
}

// Config of a Sender.
type Config struct {
	Hostname     string
	PublicURL    string // for links; "": none
	From         string // of mails
	AllowPrivate []netip.Prefix
	Roots        *x509.CertPool // nil: those of the system
	File         string         // for Wazuh; "": none
	Mailer       Mailer         // nil: no e-mail
}

// Sender sends.
type Sender struct {
	cfg  Config
	http *http.Client
	now  func() time.Time
}

const (
	// sendLimit is for one try.
	sendLimit = 20 * time.Second
	// maxAnswer is what is read of an answer.
	maxAnswer = 64 << 10
	// maxAlerts is how many alerts a message spells out.
	maxAlerts = 20
)

// NewSender returns a Sender.
func NewSender(cfg Config) *Sender {
	d := guardedDialer(cfg.AllowPrivate)
	t := &http.Transport{
		// No proxy from the environment: it would look up names and connect in our
		// place, past the guard.
		Proxy: nil, DialContext: d.DialContext, TLSHandshakeTimeout: 10 * time.Second, ResponseHeaderTimeout: sendLimit,
		TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: cfg.Roots}, MaxIdleConnsPerHost: 1, IdleConnTimeout: 30 * time.Second, ForceAttemptHTTP2: true,
	}
	return &Sender{cfg: cfg, now: time.Now, http: &http.Client{Transport: t, Timeout: sendLimit,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}}
}

// Close lets go of idle connections.
func (s *Sender) Close() { s.http.CloseIdleConnections() }

// FailedError is why a message did not go out. Its text names no secret.
type FailedError struct {
	Text      string
	Permanent bool          // the same again would fail again
	After     time.Duration // how long the other side asks to be left alone
}

func (e *FailedError) Error() string { return e.Text }

func permanent(format string, args ...any) error {
	return &FailedError{Text: fmt.Sprintf(format, args...), Permanent: true}
}

func temporary(format string, args ...any) error {
	return &FailedError{Text: fmt.Sprintf(format, args...)}
}

// Send sends one message. id stays the same over all tries of it.
func (s *Sender) Send(ctx context.Context, c Channel, id uuid.UUID, m Message) error {
	ctx, cancel := context.WithTimeout(ctx, sendLimit)
	defer cancel()
	send, ok := map[string]func(context.Context, Channel, uuid.UUID, Message) error{
		Email: s.email, Slack: s.slack, Teams: s.teams, Webhook: s.webhook, PagerDuty: s.pagerDuty, Syslog: s.syslog, Wazuh: s.wazuh,
	}[c.Kind]
	if !ok {
		return permanent("there is no channel of the kind %q", c.Kind)
	}
	err := send(ctx, c, id, m)
	var known *FailedError
	if err != nil && !errors.As(err, &known) {
		return temporary("%s", err.Error())
	}
	return err
}
