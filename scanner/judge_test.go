package scanner

import (
	"context"
	"errors"
	"log/slog"
	"testing"

	"mailward/policy"
	"mailward/scanner/content"
)

// scripted is a judge that does what a test wants.
type scripted struct {
	name   string
	judge  func(Question) ([]policy.Finding, error)
	redact func(*policy.Report)
}

func (j scripted) Name() string { return j.name }

func (j scripted) Judge(_ context.Context, q Question) ([]policy.Finding, Info, error) {
	found, err := j.judge(q)
	return found, Info{Version: "1"}, err
}

func (j scripted) Redact(_ Question, rep *policy.Report) {
	if j.redact != nil {
		j.redact(rep)
	}
}

func TestJudge(t *testing.T) {
	t.Parallel()
	said := &content.Content{Subject: "4111"}
	sees := func(q Question) ([]policy.Finding, error) {
		if q.Content != said || len(q.Findings) != 1 {
			return nil, errors.New("it did not hear what the engines found")
		}
		return []policy.Finding{{Engine: "a", Name: "A", Score: 1}}, nil
	}
	for name, tt := range map[string]struct {
		content  *content.Content
		judge    scripted
		failed   bool
		findings int
		subject  string
	}{
		"it finds something":       {said, scripted{name: "a", judge: sees}, false, 2, "4111"},
		"nothing was read":         {nil, scripted{name: "a", judge: sees}, false, 1, "4111"},
		"it has no verdict":        {said, scripted{name: "a", judge: func(Question) ([]policy.Finding, error) { return nil, ErrUnavailable }}, true, 1, "4111"},
		"it panics":                {said, scripted{name: "a", judge: func(Question) ([]policy.Finding, error) { panic("no") }}, true, 1, "4111"},
		"it masks":                 {said, scripted{name: "a", judge: sees, redact: func(r *policy.Report) { r.Subject = "4***" }}, false, 2, "4***"},
		"it panics while it masks": {said, scripted{name: "a", judge: sees, redact: func(*policy.Report) { panic("no") }}, true, 0, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, err := New(DefaultConfig(), slog.New(slog.DiscardHandler))
			if err != nil {
				t.Fatal(err)
			}
			rep := policy.Report{Subject: "4111", Findings: []policy.Finding{{Engine: "clamav", Name: "X"}}, Engines: []policy.EngineAnswer{{Engine: "clamav", Answered: true}}}
			s.WithJudges(tt.judge).Judge(t.Context(), Question{Content: tt.content}, &rep)
			if (len(rep.Failed()) > 0) != tt.failed || len(rep.Findings) != tt.findings || rep.Subject != tt.subject {
				t.Errorf("%+v", rep)
			}
		})
	}
}
