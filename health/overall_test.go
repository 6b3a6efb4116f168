package health

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

func TestOverall(t *testing.T) {
	of := func(e Effect, group string, states ...State) []Status {
		var list []Status
		for _, s := range states {
			list = append(list, Status{Title: "T", Group: group, Effect: e, State: s})
		}
		return list
	}
	join := func(lists ...[]Status) (all []Status) {
		for _, l := range lists {
			all = append(all, l...)
		}
		return all
	}
	up := of(Stops, "x", Up)
	for name, c := range map[string]struct {
		list []Status
		want State
	}{
		"nothing":                        {nil, Unknown},
		"nothing known":                  {of(Stops, "x", Unknown, Unknown), Unknown},
		"all up":                         {up, Up},
		"not configured is fine":         {join(up, of(Weakens, "y", NotConfigured)), Up},
		"needed one down":                {join(up, of(Stops, "y", Down)), Down},
		"needed one refuses us":          {join(up, of(Stops, "y", NotAuthorised)), Down},
		"needed one degraded":            {join(up, of(Stops, "y", Degraded)), Degraded},
		"needed one unknown":             {join(up, of(Stops, "y", Unknown)), Degraded},
		"Redis down":                     {join(up, of(Weakens, "y", Down)), Degraded},
		"optional one refuses us":        {join(up, of(Weakens, "y", NotAuthorised)), Degraded},
		"optional one unknown":           {join(up, of(Weakens, "y", Unknown)), Degraded},
		"one of two next hops down":      {join(up, of(StopsAsGroup, "hop", Up, Down)), Degraded},
		"all next hops down":             {join(up, of(StopsAsGroup, "hop", Down, NotAuthorised)), Down},
		"only next hop down":             {join(up, of(StopsAsGroup, "hop", Down)), Down},
		"one hop down, one not known":    {join(up, of(StopsAsGroup, "hop", Down, Unknown)), Degraded},
		"maintenance":                    {join(up, of(Stops, "y", Maintenance)), Maintenance},
		"maintenance hides nothing else": {join(of(Stops, "x", Down), of(Stops, "y", Maintenance)), Down},
	} {
		got, reason := overall(c.list)
		if got != c.want || reason == "" {
			t.Errorf("%s: %s (%q), want %s", name, got, reason, c.want)
		}
	}
}

func TestOverall_NamesWhatFailed(t *testing.T) {
	list := []Status{{Title: "ClamAV", Effect: Stops, State: Down}, {Title: "Redis", State: Down}, {Title: "PostgreSQL", Effect: Stops, State: Down}}
	if _, reason := overall(list); !strings.Contains(reason, "ClamAV and PostgreSQL do not work") || strings.Contains(reason, "Redis") {
		t.Error(reason)
	}
}

func TestHealthJSON(t *testing.T) {
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	r := Report{State: Down, Reason: "Mail waits.", Components: []Status{
		{Name: "clamav", Title: "ClamAV", Group: "engines", State: Down, Reason: "secret host", LatencyMS: 12, CheckedAt: at},
		{Name: "postgresql", Group: "stores", State: Up, Reason: "fine", CheckedAt: at},
		{Name: "next_hop:10.0.0.5:25", State: Degraded, CheckedAt: at},
		{Name: "next_hop:10.0.0.6:25", State: Up, CheckedAt: at},
	}}
	code, body := r.HealthJSON(false)
	if code != 503 || string(body) != `{"status":"fail"}` {
		t.Errorf("without login: %d %s", code, body)
	}
	code, body = r.HealthJSON(true)
	var doc struct {
		Status, Output string
		Checks         map[string][]map[string]any
	}
	if err := json.Unmarshal(body, &doc); err != nil || code != 503 {
		t.Fatal(code, err)
	}
	if doc.Output != "Mail waits." || len(doc.Checks["next_hop:responseTime"]) != 2 || doc.Checks["postgresql:responseTime"][0]["componentType"] != "datastore" {
		t.Errorf("%s", body)
	}
	if o, ok := doc.Checks["postgresql:responseTime"][0]["output"]; ok {
		t.Errorf("output %v on a pass", o)
	}
	if c := doc.Checks["clamav:responseTime"][0]; c["status"] != "fail" || c["time"] != "2026-01-02T03:04:05Z" || c["observedValue"] != 12.0 {
		t.Errorf("%v", c)
	}
	for state, want := range map[State]struct {
		code int
		word string
	}{Up: {200, "pass"}, Degraded: {200, "warn"}, Unknown: {200, "warn"}, Maintenance: {200, "pass"}, Down: {503, "fail"}} {
		code, body := Report{State: state}.HealthJSON(false)
		if code != want.code || !strings.Contains(string(body), want.word) {
			t.Errorf("%s: %d %s", state, code, body)
		}
	}
}

func TestCollector(t *testing.T) {
	m := New([]Component{fixedState("a", Up), fixedState("b", Down)}, quiet())
	reg := prometheus.NewPedanticRegistry()
	if err := reg.Register(m); err != nil {
		t.Fatal(err)
	}
	m.Check(t.Context())
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	set := map[string]bool{}
	for _, f := range families {
		for _, metric := range f.Metric {
			if f.GetName() == "mailward_health_component_state" && metric.GetGauge().GetValue() == 1 {
				set[metric.Label[0].GetValue()+"="+metric.Label[1].GetValue()] = true
			}
		}
	}
	if len(set) != 2 || !set["a=up"] || !set["b=down"] {
		t.Errorf("%v", set)
	}
}
