package channel

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"

	"mailward/alerting/rule"
)

// hookPrefix is before the base64 of a symmetric secret (Standard Webhooks).
const hookPrefix = "whsec_"

// hookKeys are the keys of a secret: several, with a space between them, while
// one takes over from another.
func hookKeys(secret string) (keys [][]byte, err error) {
	for _, one := range strings.Fields(secret) {
		rest, ok := strings.CutPrefix(one, hookPrefix)
		key, e := base64.StdEncoding.DecodeString(rest)
		if !ok || e != nil || len(key) < 24 || len(key) > 64 {
			return nil, permanent("the secret is not whsec_ with the base64 of 24 to 64 bytes")
		}
		keys = append(keys, key)
	}
	if len(keys) == 0 {
		return nil, permanent("the secret is empty")
	}
	return keys, nil
}

// hookSignature signs as Standard Webhooks says: id, time of this try, body.
func hookSignature(keys [][]byte, id string, at time.Time, body []byte) string {
	var list []string
	for _, key := range keys {
		mac := hmac.New(sha256.New, key)
		mac.Write([]byte(id + "." + strconv.FormatInt(at.Unix(), 10) + "."))
		mac.Write(body)
		list = append(list, "v1,"+base64.StdEncoding.EncodeToString(mac.Sum(nil)))
	}
	return strings.Join(list, " ")
}

// shownAlert is an alert as other programs get it.
type shownAlert struct {
	Alert
	Title string            `json:"title"`
	Links map[string]string `json:"links,omitempty"`
}

func (s *Sender) shownAlerts(m Message, most int) ([]shownAlert, int) {
	list, more := shown(m, most)
	out := []shownAlert{}
	for _, a := range list {
		x := shownAlert{Alert: a, Title: words{"en"}.title(a), Links: map[string]string{}}
		for _, l := range s.pages(words{"en"}, a) {
			x.Links[l.key] = l.url
		}
		out = append(out, x)
	}
	return out, more
}

// webhook posts JSON with a signature of Standard Webhooks.
func (s *Sender) webhook(ctx context.Context, c Channel, id uuid.UUID, m Message) error {
	keys, err := hookKeys(c.Secret)
	if err != nil {
		return err
	}
	kind := "alert.changed"
	if m.Test {
		kind = "alert.test"
	}
	list, more := s.shownAlerts(m, maxAlerts)
	now := s.now()
	body, err := json.Marshal(object{"type": kind, "timestamp": now.UTC().Format(time.RFC3339), "data": object{"alerts": list, "more": more, "test": m.Test, "note": m.Note}})
	if err != nil {
		return permanent("message cannot be written: %v", err)
	}
	h := http.Header{}
	h.Set("webhook-id", id.String())
	h.Set("webhook-timestamp", strconv.FormatInt(now.Unix(), 10))
	h.Set("webhook-signature", hookSignature(keys, id.String(), now, body))
	_, err = s.post(ctx, c.Target, body, h)
	return err
}

// pagerDutyURL is where events go when the channel names nothing else that
// speaks version 2 of the Events API.
const pagerDutyURL = "https://events.pagerduty.com/v2/enqueue"

// pagerDuty sends one event for each alert. Its key makes the end close what the
// alarm has opened, and a second alarm of one episode no second incident.
func (s *Sender) pagerDuty(ctx context.Context, c Channel, id uuid.UUID, m Message) error {
	w, address := words{c.Language}, c.Target
	if address == "" {
		address = pagerDutyURL
	}
	// The key is sent in clear: the secret of another kind of channel never is.
	if strings.ContainsAny(c.Secret, ":/") || strings.HasPrefix(c.Secret, "whsec_") {
		return permanent("the secret is no routing key")
	}
	events := []object{}
	list, _ := shown(m, 100)
	for _, a := range list {
		e := object{"routing_key": c.Secret, "event_action": "resolve", "dedup_key": "mailward-" + a.ID.String()}
		if a.Notice != rule.Ended {
			links := []object{}
			for _, l := range s.links(w, a) {
				links = append(links, object{"href": l.url, "text": l.name})
			}
			details := object{"value": a.Value, "threshold": a.Threshold, "rule": a.Name, "late": a.Late}
			if len(a.Hits) > 0 {
				details["hits"] = a.Hits
			}
			e["event_action"], e["client"], e["client_url"], e["links"] = "trigger", "Mailward", s.cfg.PublicURL, links
			e["payload"] = object{"summary": cut(w.title(a), 1024), "source": s.cfg.Hostname, "severity": map[rule.Severity]string{rule.Info: "info", rule.Warn: "warning", rule.Critical: "critical"}[a.Severity],
				"timestamp": a.At.UTC().Format(time.RFC3339), "component": a.Subject, "class": a.Metric, "custom_details": details}
		}
		events = append(events, e)
	}
	if m.Test {
		events = append(events, object{"routing_key": c.Secret, "event_action": "trigger", "dedup_key": "mailward-test-" + id.String(), "client": "Mailward",
			"payload": object{"summary": w.t("test_text", harmless(c.Name, 100), harmless(m.Note, 100)), "source": s.cfg.Hostname, "severity": "info"}})
	}
	for _, e := range events {
		if _, err := s.post(ctx, address, e, nil); err != nil {
			return err
		}
	}
	return nil
}
