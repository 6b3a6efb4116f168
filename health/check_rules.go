package health

import (
	"context"
	"fmt"
)

// RuleSetStatus says which managed YARA rule sets should be in force, and which are.
type RuleSetStatus struct {
	Shared          bool // the scanner gets managed sets at all
	Sets            int  // that are enabled
	Wanted, InForce string
	Late            bool // they differ for longer than a takeover lasts
	Problem         string
}

// RuleSets checks that the scanner matches the rule sets that are enabled.
func RuleSets(check func(context.Context) (RuleSetStatus, error)) Component {
	meaning := say("m.rules")
	return Component{
		Name: "rule_sets", Title: "YARA rule sets", Group: "engines", Effect: Weakens, Meaning: meaning,
		Check: func(ctx context.Context) Result {
			st, err := check(ctx)
			if err != nil {
				return Result{State: Unknown, Code: "lookup_failed", Detail: err.Error(), Reason: say("rules.lookup")}
			}
			return judgeRuleSets(st, meaning)
		},
	}
}

func judgeRuleSets(st RuleSetStatus, meaning Text) Result {
	r := Result{State: Up, Detail: st.Problem, Facts: map[string]string{"sets": fmt.Sprint(st.Sets), "wanted": st.Wanted, "in_force": st.InForce}}
	switch {
	case !st.Shared && st.Sets == 0:
		r.State, r.Code, r.Reason = NotConfigured, "not_shared", say("rules.none")
	case !st.Shared:
		r.State, r.Code, r.Reason = Degraded, "not_shared", say("rules.not_shared").with(meaning)
	case st.Problem != "" || st.Late:
		r.State, r.Code, r.Reason = Degraded, "not_in_force", say("rules.not_in_force").with(meaning).and("rules.do")
	case st.InForce != st.Wanted:
		r.Code, r.Reason = "taking_over", say("rules.taking")
	default:
		r.Reason = say("rules.ok", num(st.Sets))
	}
	return r
}
