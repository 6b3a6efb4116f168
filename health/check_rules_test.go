package health

import (
	"context"
	"errors"
	"testing"
)

func TestRuleSets(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		st    RuleSetStatus
		err   error
		state State
		code  string
	}{
		"in force":            {RuleSetStatus{Shared: true, Sets: 2, Wanted: "a", InForce: "a"}, nil, Up, ""},
		"none":                {RuleSetStatus{Shared: true, Wanted: "0", InForce: "0"}, nil, Up, ""},
		"on the way":          {RuleSetStatus{Shared: true, Sets: 2, Wanted: "a", InForce: "b"}, nil, Up, "taking_over"},
		"late":                {RuleSetStatus{Shared: true, Sets: 2, Wanted: "a", InForce: "b", Late: true}, nil, Degraded, "not_in_force"},
		"not written":         {RuleSetStatus{Shared: true, Sets: 2, Wanted: "a", InForce: "a", Problem: "disk full"}, nil, Degraded, "not_in_force"},
		"not shared":          {RuleSetStatus{Wanted: "0"}, nil, NotConfigured, "not_shared"},
		"not shared, enabled": {RuleSetStatus{Sets: 1, Wanted: "a"}, nil, Degraded, "not_shared"},
		"no database":         {RuleSetStatus{}, errors.New("away"), Unknown, "lookup_failed"},
	} {
		r := RuleSets(func(context.Context) (RuleSetStatus, error) { return tt.st, tt.err }).Check(context.Background())
		if r.State != tt.state || r.Code != tt.code || len(r.Reason) == 0 {
			t.Errorf("%s: %+v", name, r)
		}
	}
}
