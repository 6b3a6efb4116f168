package cape

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
)

// Signature is one thing that a file did.
type Signature struct {
	Name        string `json:"name"`
	Description string `json:"description"`
	Severity    int    `json:"severity"` // 1 to 3, and more
}

// Report is what an analysis came to.
type Report struct {
	Version    string
	Score      float64 // 0 to 10
	Status     string  // Malicious, Suspicious, Clean, Undetected, Failed; empty: CAPE does not say, as of everything but programs
	Families   []string
	Signatures []Signature // the gravest first, up to maxSignatures
	Processes  bool        // something ran
}

// Verdict is what a report says.
type Verdict string

// The verdicts.
const (
	Clean      Verdict = "clean"
	Suspicious Verdict = "suspicious"
	Malicious  Verdict = "malicious"
	None       Verdict = "none" // it did not run, so nothing is known
)

// Scores from which CAPE itself speaks of malicious and suspicious.
const (
	maliciousScore  = 7
	suspiciousScore = 4
)

// Verdict reads a report. CAPE gives a status to programs only; for documents
// and scripts the score and the families count, and where nothing ran a low
// score is no verdict.
func (r Report) Verdict() Verdict {
	switch {
	case r.Status == "Malicious" || len(r.Families) > 0 || r.Score >= maliciousScore:
		return Malicious
	case r.Status == "Suspicious" || r.Score >= suspiciousScore:
		return Suspicious
	case r.Status == "Clean", r.Status == "" && r.Processes:
		return Clean
	}
	return None
}

// Bounds of what is kept of a report.
const (
	maxSignatures = 50
	maxFamilies   = 10
	maxValue      = 8 << 20 // one value of the report
)

// Report fetches the report of a task. It may be hundreds of megabytes: it is
// read as it comes, and what is not needed is not kept.
func (c *Client) Report(ctx context.Context, id int64) (Report, error) {
	ctx, cancel := context.WithTimeout(ctx, c.cfg.ReportTimeout)
	defer cancel()
	what := fmt.Sprintf("report %d", id)
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, c.base+fmt.Sprintf("tasks/get/report/%d/json/", id), nil)
	if err != nil {
		return Report{}, fmt.Errorf("cape: make request: %w", err)
	}
	resp, err := c.do(req, what)
	if err != nil {
		return Report{}, err
	}
	defer resp.Body.Close()
	r, err := readReport(io.LimitReader(resp.Body, c.cfg.MaxReport))
	if err != nil {
		return Report{}, fmt.Errorf("cape %s: %w", what, err)
	}
	return r, nil
}

// readReport picks what we need out of a report.
func readReport(src io.Reader) (r Report, err error) {
	var e envelope
	var scored bool
	s := newStream(src)
	err = s.object(func(key string) error {
		switch key {
		case "error":
			e.Error, err = s.value(1 << 10)
		case "error_value":
			e.ErrorValue, err = s.value(1 << 10)
		case "behavior":
			return s.behavior(&r)
		case "info", "malscore", "malstatus", "signatures", "detections", "malfamily":
			var b json.RawMessage
			if b, err = s.value(maxValue); err == nil && b != nil {
				scored = scored || key == "malscore" && string(b) != "null"
				err = r.set(key, b)
			}
		default:
			_, err = s.value(0)
		}
		return err
	})
	switch {
	case err != nil:
		return Report{}, fmt.Errorf("%w: read report: %w", ErrUnavailable, err)
	case e.failed():
		return Report{}, failure(e.message())
	case !scored:
		return Report{}, fmt.Errorf("%w: it has no score", ErrNoReport)
	}
	return r, nil
}

// behavior looks only whether anything ran.
func (s *stream) behavior(r *Report) error {
	kind, err := s.peek()
	if err != nil || kind != '{' {
		_, verr := s.value(0)
		return errors.Join(err, verr)
	}
	return s.object(func(key string) error {
		if key != "processes" {
			_, err := s.value(0)
			return err
		}
		some, err := s.filled()
		r.Processes = r.Processes || some
		return err
	})
}

// set takes one value over. One that is not as it should be is an error: a
// report that we cannot read is no clean one.
func (r *Report) set(key string, b []byte) error {
	switch key {
	case "info":
		var v struct{ Version json.RawMessage }
		err := json.Unmarshal(b, &v)
		r.Version = clip(strings.Trim(string(v.Version), `"`), 64)
		return err
	case "malscore":
		return json.Unmarshal(b, &r.Score)
	case "malstatus":
		var v *string
		if err := json.Unmarshal(b, &v); err != nil {
			return err
		}
		if v != nil {
			r.Status = clip(*v, 32)
		}
		return nil
	case "malfamily":
		var v *string
		if json.Unmarshal(b, &v) == nil && v != nil {
			r.family(*v)
		}
		return nil
	case "detections":
		return r.detections(b)
	default:
		return r.signatures(b)
	}
}

// detections is a list of families, or one family's name in older versions.
func (r *Report) detections(b []byte) error {
	var name string
	if json.Unmarshal(b, &name) == nil {
		r.family(name)
		return nil
	}
	var list []struct{ Family string }
	if err := json.Unmarshal(b, &list); err != nil {
		return err
	}
	for _, d := range list {
		r.family(d.Family)
	}
	return nil
}

func (r *Report) family(name string) {
	if name = clip(name, 100); name != "" && len(r.Families) < maxFamilies && !slices.Contains(r.Families, name) {
		r.Families = append(r.Families, name)
	}
}

func (r *Report) signatures(b []byte) error {
	var list []Signature
	if err := json.Unmarshal(b, &list); err != nil {
		return err
	}
	slices.SortStableFunc(list, func(a, b Signature) int { return b.Severity - a.Severity })
	for _, s := range list[:min(len(list), maxSignatures)] {
		r.Signatures = append(r.Signatures, Signature{clip(s.Name, 100), clip(s.Description, 300), s.Severity})
	}
	return nil
}
