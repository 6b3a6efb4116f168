package rule

import (
	"encoding/json"
	"errors"
	"math"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
)

func TestSpec_Check(t *testing.T) {
	t.Parallel()
	tests := []struct {
		field  string
		change func(*Spec)
	}{
		{"", func(*Spec) {}},
		{"name", func(s *Spec) { s.Name = "  " }},
		{"metric", func(s *Spec) { s.Metric = "moon" }},
		{"compare", func(s *Spec) { s.Compare = "about" }},
		{"severity", func(s *Spec) { s.Severity = "loud" }},
		{"threshold", func(s *Spec) { s.Threshold = math.NaN() }},
		{"threshold", func(s *Spec) { s.Compare, s.Threshold = Times, 0.5 }},
		{"window", func(s *Spec) { s.Window = 15 * time.Second }},
		{"window", func(s *Spec) { s.Window = 25 * time.Hour }},
		{"for", func(s *Spec) { s.For = -1 }},
		{"cooldown", func(s *Spec) { s.Cooldown = time.Second }},
		{"each", func(s *Spec) { s.Metric, s.Each = "login_failures_5min", true }},
		{"subjects", func(s *Spec) { s.Subjects = []string{"example.org"} }},
		{"inhibits", func(s *Spec) { s.Inhibits = []string{"moon"} }},
		{"runbook", func(s *Spec) { s.Runbook = "javascript:alert(1)" }},
		{"schedule", func(s *Spec) { s.Schedule.Zone = "Mars/Olympus" }},
		{"schedule", func(s *Spec) { s.Schedule.To = 1441 }},
		{"missing", func(s *Spec) { s.Missing = "maybe" }},
	}
	for _, tt := range tests {
		s := spike()
		tt.change(&s)
		err := s.Check()
		var invalid *InvalidError
		if errors.As(err, &invalid); (invalid == nil) != (tt.field == "") || invalid != nil && invalid.Field != tt.field {
			t.Errorf("wanted a mistake in %q, got %v", tt.field, err)
		}
	}
	s := Spec{Name: " a  b ", Metric: "component_down", Threshold: 0, Cooldown: time.Hour, Each: true, Subjects: []string{" PostgreSQL", "postgresql", ""}}
	if err := s.Check(); err != nil || s.Name != "a b" || s.Window != time.Minute || s.Severity != Warn || len(s.Subjects) != 1 || s.Subjects[0] != "postgresql" {
		t.Errorf("%+v: %v", s, err)
	}
}

func TestSchedule(t *testing.T) {
	t.Parallel()
	night := Schedule{Days: []time.Weekday{time.Monday}, From: 22 * 60, To: 6 * 60, Zone: "Europe/Berlin"}
	tests := []struct {
		at   string
		s    Schedule
		want bool
	}{
		{"2026-03-03T12:00:00Z", Schedule{}, true},
		{"2026-03-03T07:59:00Z", Schedule{From: 480, To: 1080}, false},
		{"2026-03-03T08:00:00Z", Schedule{From: 480, To: 1080}, true},
		{"2026-03-03T18:00:00Z", Schedule{From: 480, To: 1080}, false},
		{"2026-03-07T12:00:00Z", Schedule{Days: []time.Weekday{1, 2, 3, 4, 5}}, false},
		{"2026-03-02T21:30:00Z", night, true},  // Monday 22:30 in Berlin
		{"2026-03-03T04:30:00Z", night, true},  // Tuesday 05:30, of Monday's night
		{"2026-03-03T21:30:00Z", night, false}, // Tuesday night
		{"2026-03-02T04:30:00Z", night, false}, // Sunday's night
	}
	for _, tt := range tests {
		at, err := time.Parse(time.RFC3339, tt.at)
		if err != nil {
			t.Fatal(err)
		}
		if got := tt.s.Active(at); got != tt.want {
			t.Errorf("%+v at %s: %v", tt.s, tt.at, got)
		}
	}
}

func TestPercentile(t *testing.T) {
	t.Parallel()
	var list []Bucket
	for ms := 1; ms <= 1000; ms++ {
		list = append(list, Bucket{Slot: SlotOf(float64(ms)), Count: 1})
	}
	if got, has := Value(P95, list); !has || got < 950 || got > 950*slotBase {
		t.Errorf("95 of 100 of 1 to 1000 ms: %v", got)
	}
	if _, has := Value(P95, nil); has {
		t.Error("nothing has a percentile")
	}
	for _, ms := range []float64{0, -1, math.NaN(), math.Inf(1), 1e300} {
		if s := SlotOf(ms); s < 0 || s > math.MaxInt16 {
			t.Errorf("slot of %v: %d", ms, s)
		}
	}
}

func TestUsual(t *testing.T) {
	t.Parallel()
	m, _ := MetricNamed("mails_5min")
	hours, alive := map[time.Time][]Bucket{}, []time.Time{}
	for d := range 6 {
		h := noon.AddDate(0, 0, -1-d)
		alive = append(alive, h)
		hours[h] = []Bucket{{Sum: float64(120 * (d + 1))}}
	}
	if _, ok := Usual(m, 5*time.Minute, hours, alive); ok {
		t.Error("six days are not enough")
	}
	alive = append(alive, noon.AddDate(0, 0, -7)) // nothing came in that hour
	if got, ok := Usual(m, 5*time.Minute, hours, alive); !ok || got != 30 {
		t.Errorf("median 360 an hour is %v in five minutes, want 30", got)
	}
}

func TestTry_IsTheSameJudge(t *testing.T) {
	t.Parallel()
	r := Rule{Workspace: uuid.Nil, Spec: spike()}
	r.Spec.Each, r.Spec.For = true, 0
	p := Past{From: noon, To: noon.Add(2 * time.Hour), Step: 5 * time.Minute}
	k := Key{uuid.New(), "example.org"}
	for i := range 24 {
		at := noon.Add(time.Duration(i) * p.Step)
		p.Alive = append(p.Alive, at)
		sum := 5.0
		if i >= 6 && i < 10 { // twenty minutes
			sum = 40 + float64(i)
		}
		p.Buckets = append(p.Buckets, Bucket{At: at, Key: k, Sum: sum, Count: int64(sum)})
	}
	got := Try(r, p)
	if len(got.Episodes) != 1 || got.Episodes[0].Key != k || got.Episodes[0].Peak != 49 || got.Sent != 2 || got.Over != 20*time.Minute {
		t.Errorf("%+v, sent %d, over %v", got.Episodes, got.Sent, got.Over)
	}
	if len(got.Points) != 25 || got.Points[8].Value != 47 {
		t.Errorf("points %+v", got.Points)
	}
}

func TestTick_InhibitionAndKeys(t *testing.T) {
	t.Parallel()
	db := Rule{ID: uuid.New(), Spec: Spec{Metric: "component_down", Compare: Above, Cooldown: time.Hour, Severity: Critical, Each: true, Subjects: []string{"postgresql"}, Inhibits: []string{"*"}, For: time.Minute}}
	other := Rule{ID: uuid.New(), Spec: Spec{Metric: "component_down", Compare: Above, Cooldown: time.Hour, Severity: Critical, Each: true}}
	down := map[Key][]Bucket{}
	for _, name := range []string{"postgresql", "audit", "queue"} {
		down[Key{Subject: name}] = []Bucket{{Max: 1, Count: 1}}
	}
	w := Windows{db.ID: {Buckets: down, Alive: true}, other.ID: {Buckets: down, Alive: true}}
	states, sent := Tick([]Rule{db, other}, nil, w, Moment{Now: noon, Step: Step})
	if len(sent) != 0 || len(states) != 4 {
		t.Fatalf("pending of the database keeps the others silent: sent %v", sent)
	}
	for i := 1; i <= 6; i++ {
		states, sent = Tick([]Rule{db, other}, states, w, Moment{Now: noon.Add(time.Duration(i) * Step), Step: Step})
	}
	if len(sent) != 1 || sent[0].Alert.Rule != db.ID {
		t.Errorf("forty mails: %+v", sent)
	}
}

func TestSpec_IsWrittenForPeople(t *testing.T) {
	t.Parallel()
	s := spike()
	b, err := json.Marshal(s)
	if err != nil || !strings.Contains(string(b), `"window":"5m0s"`) || strings.Count(string(b), `"cooldown"`) != 1 {
		t.Fatalf("%v: %s", err, b)
	}
	var back Spec
	if err := json.Unmarshal(b, &back); err != nil || !reflect.DeepEqual(back, s) {
		t.Errorf("%v: %+v", err, back)
	}
}
