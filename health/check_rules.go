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
	const meaning = "Mail flows and is scanned with the rules that are in force, which may be older ones or fewer."
	return Component{
		Name: "rule_sets", Title: "YARA rule sets", Group: "engines", Effect: Weakens, Meaning: meaning,
		Check: func(ctx context.Context) Result {
			st, err := check(ctx)
			if err != nil {
				return Result{State: Unknown, Code: "lookup_failed", Detail: err.Error(), Reason: "The rule sets cannot be looked up. Check PostgreSQL first."}
			}
			return judgeRuleSets(st, meaning)
		},
	}
}

func judgeRuleSets(st RuleSetStatus, meaning string) Result {
	r := Result{State: Up, Detail: st.Problem, Facts: map[string]string{"sets": fmt.Sprint(st.Sets), "wanted": st.Wanted, "in_force": st.InForce}}
	switch {
	case !st.Shared && st.Sets == 0:
		r.State, r.Code, r.Reason = NotConfigured, "not_shared", "The scanner runs by itself, and no folder for rule sets is shared with it (scanner.managed_rules)."
	case !st.Shared:
		r.State, r.Code, r.Reason = Degraded, "not_shared", "Rule sets are enabled, but no folder is shared with the scanner. Set scanner.managed_rules, and give the scanner the folder as --managed. "+meaning
	case st.Problem != "" || st.Late:
		r.State, r.Code, r.Reason = Degraded, "not_in_force", "The scanner does not match the rule sets that are enabled. "+meaning+" Look at the log of mailward-scanner."
	case st.InForce != st.Wanted:
		r.Code, r.Reason = "taking_over", "The scanner is taking over changed rule sets."
	default:
		r.Reason = fmt.Sprintf("The scanner matches the %d rule sets that are enabled.", st.Sets)
	}
	return r
}
