package channel

import (
	"net/url"
	"strconv"
	"strings"
	"time"

	"mailward/alerting/rule"
)

// texts of messages, by language. Both have the same keys.
var texts = map[string]map[string]string{
	"en": {
		"alarm": "Alert", "resolved": "Resolved", "test": "Test", "more": "{0} more alerts", "several": "{0} alerts",
		"severity": "Severity", "info": "info", "warn": "warning", "critical": "critical",
		"subject": "Concerns", "value": "Value", "threshold": "Threshold", "since": "Since", "ended": "Ended", "open": "Open alert", "quarantine": "Open quarantine", "late_hits": "Open late hits", "mail": "Open the newest mail", "runbook": "Runbook",
		"above": "above {0}", "below": "below {0}", "times": "more than {0} times the usual ({1})", "none": "no values",
		"delivered": "Delivered to", "ago": "{0} before it was found", "others": "and {0} more",
		"late": "Seen late: the evaluation had paused.", "test_text": "This is a test of the channel “{0}”, asked for by {1}. Nothing has happened.", "all": "everything",
		"foot": "Sent by Mailward on {0}.",
	},
	"de": {
		"alarm": "Alarm", "resolved": "Behoben", "test": "Test", "more": "{0} weitere Alarme", "several": "{0} Alarme",
		"severity": "Schwere", "info": "Hinweis", "warn": "Warnung", "critical": "kritisch",
		"subject": "Betrifft", "value": "Wert", "threshold": "Schwelle", "since": "Seit", "ended": "Beendet", "open": "Alarm öffnen", "quarantine": "Quarantäne öffnen", "late_hits": "Späte Treffer öffnen", "mail": "Neueste Mail öffnen", "runbook": "Anleitung",
		"above": "über {0}", "below": "unter {0}", "times": "mehr als das {0}-Fache des Üblichen ({1})", "none": "keine Werte",
		"delivered": "Zugestellt an", "ago": "{0} vor dem Fund", "others": "und {0} weitere",
		"late": "Verspätet bemerkt: Die Auswertung hatte ausgesetzt.", "test_text": "Dies ist ein Test des Kanals „{0}“, veranlasst von {1}. Es ist nichts geschehen.", "all": "alles",
		"foot": "Gesendet von Mailward auf {0}.",
	},
}

type words struct{ lang string }

func (w words) t(key string, args ...string) string {
	m, ok := texts[w.lang]
	if !ok {
		m = texts["en"]
	}
	s := m[key]
	for i, a := range args {
		s = strings.ReplaceAll(s, "{"+strconv.Itoa(i)+"}", a)
	}
	return s
}

// number writes a value as short as it is exact enough for people.
func (w words) number(f float64) string {
	s := strconv.FormatFloat(f, 'f', 1, 64)
	s = strings.TrimSuffix(s, ".0")
	if w.lang == "de" {
		s = strings.ReplaceAll(s, ".", ",")
	}
	return s
}

func (w words) time(t time.Time) string {
	if w.lang == "de" {
		return t.UTC().Format("02.01.2006, 15:04:05 UTC")
	}
	return t.UTC().Format("2 Jan 2006, 15:04:05 UTC")
}

// title is one alert in a line.
func (w words) title(a Alert) string {
	s := w.t(string(a.Notice)) + ": " + harmless(a.Name, 100)
	if a.Subject != "" {
		s += " – " + harmless(a.Subject, 100)
	}
	return s
}

// heading is a whole message in a line.
func (w words) heading(m Message) string {
	switch {
	case m.Test:
		return "[Mailward] " + w.t("test")
	case len(m.Alerts) == 1:
		return "[Mailward] " + w.title(m.Alerts[0])
	}
	return "[Mailward] " + w.t("several", strconv.Itoa(len(m.Alerts)))
}

// fact is one line of what is known.
type fact struct{ name, value string }

func (w words) facts(a Alert) []fact {
	condition := w.t(string(a.Compare), w.number(a.Threshold), w.number(a.Usual))
	v := w.t("none")
	if a.Has {
		v = w.number(a.Value)
	}
	list := []fact{{w.t("severity"), w.t(string(a.Severity))}}
	if a.Subject != "" {
		list = append(list, fact{w.t("subject"), harmless(a.Subject, 100)})
	}
	list = append(list, fact{w.t("value"), a.Metric + " = " + v}, fact{w.t("threshold"), condition}, fact{w.t("since"), w.time(a.Since)})
	if a.Notice == rule.Ended {
		list = append(list, fact{w.t("ended"), w.time(a.At)})
	}
	for _, h := range a.Hits[:min(len(a.Hits), shownHits)] {
		list = append(list, fact{w.t("delivered"), w.hit(h)})
	}
	if more := len(a.Hits) - shownHits; more > 0 {
		list = append(list, fact{w.t("delivered"), w.t("others", strconv.Itoa(more))})
	}
	return list
}

// shownHits are as many as fit into a message beside the other facts: Slack takes
// ten fields.
const (
	shownHits    = 3
	shownHolders = 5
)

// hit says who has a mail, for how long before it was found, and what it is.
func (w words) hit(h Hit) string {
	var who []string
	for _, x := range h.Holders[:min(len(h.Holders), shownHolders)] {
		age := time.Duration(x.Seconds) * time.Second
		who = append(who, harmless(x.Address, 100)+" ("+w.t("ago", w.age(age))+")")
	}
	if more := max(len(h.Holders)-shownHolders, 0) + h.More; more > 0 {
		who = append(who, w.t("others", strconv.Itoa(more)))
	}
	return strings.Join(who, ", ") + ": " + harmless(strings.Join(append([]string{h.Class}, h.Found...), ", "), 200)
}

// age is a span in its two largest units.
func (w words) age(d time.Duration) string {
	days := "d"
	if w.lang == "de" {
		days = "T"
	}
	switch h, m := int(d.Hours()), int(d.Minutes()); {
	case h >= 24:
		return strconv.Itoa(h/24) + " " + days + " " + strconv.Itoa(h%24) + " h"
	case h > 0:
		return strconv.Itoa(h) + " h " + strconv.Itoa(m%60) + " min"
	case m > 0:
		return strconv.Itoa(m) + " min"
	}
	return strconv.Itoa(int(d.Seconds())) + " s"
}

// link is where to go on. key names it for programs.
type link struct{ key, name, url string }

// links of an alert: the alert, the mails that it is about, and what the rule's
// author has written.
func (s *Sender) links(w words, a Alert) []link {
	list := s.pages(w, a)
	if a.Runbook != "" {
		list = append(list, link{"runbook", w.t("runbook"), a.Runbook})
	}
	return list
}

// pages are those of ours that an alert leads to. What was found late stands in no
// list of the quarantine: a scan's finds have a list of their own, the sandbox's stand
// on the page of the mail.
func (s *Sender) pages(w words, a Alert) []link {
	base := strings.TrimRight(s.cfg.PublicURL, "/")
	if base == "" {
		return nil
	}
	list := []link{{"alert", w.t("open"), base + "/alerts/" + a.ID.String()}}
	if q := quarantineQuery(a); q != "" {
		list = append(list, link{"quarantine", w.t("quarantine"), base + "/quarantine?" + q})
	}
	switch {
	case a.Metric == "coverage_late_hits":
		list = append(list, link{"late_hits", w.t("late_hits"), base + "/health/coverage#late"})
	case a.Metric == "sandbox_late_malicious" && len(a.Hits) > 0:
		list = append(list, link{"mail", w.t("mail"), base + "/quarantine/" + a.Hits[0].Item.String()})
	}
	return list
}

// quarantineQuery is the filter for the mails of an alert; "": it has none.
func quarantineQuery(a Alert) string {
	m, _ := rule.MetricNamed(a.Metric)
	if m.Of != "domain" {
		return ""
	}
	q := url.Values{}
	switch a.Metric {
	case "phishing_rate_5min":
		q.Set("class", "phishing")
	case "malware_hits_5min":
		q.Set("class", "malware")
	case "dlp_hits_per_hour":
		q.Set("class", "dlp")
	case "quarantine_rate_5min":
	default:
		return ""
	}
	if a.Subject != "" {
		q.Set("domain", a.Subject)
	}
	return q.Encode()
}

// shown are the alerts that a message spells out, and how many it does not.
func shown(m Message, most int) ([]Alert, int) {
	if len(m.Alerts) > most {
		return m.Alerts[:most], len(m.Alerts) - most
	}
	return m.Alerts, 0
}
