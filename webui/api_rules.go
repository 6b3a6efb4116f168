package webui

import (
	"context"
	"fmt"
	"net/http"

	"github.com/danielgtaylor/huma/v2"
	"github.com/google/uuid"

	"mailward/identity"
	"mailward/policy"
	"mailward/scanner"
	"mailward/scanner/ruleset"
)

// RuleSetBody is a rule set as somebody wants it.
type RuleSetBody struct {
	Name        string       `json:"name" minLength:"1" maxLength:"100"`
	Description string       `json:"description,omitempty" maxLength:"2000"`
	Class       policy.Class `json:"class,omitempty" enum:"malware,phishing,dlp,suspicious,spam,sign" default:"suspicious" doc:"of hits whose rule says nothing else; sign: they count by their score only"`
	Score       float64      `json:"score,omitempty" minimum:"0" maximum:"100" default:"5"`
	Source      string       `json:"source" maxLength:"1048576" doc:"YARA rules, without include"`
	Comment     string       `json:"comment,omitempty" maxLength:"500" doc:"on the new version"`
}

func (b RuleSetBody) draft() ruleset.Draft {
	return ruleset.Draft{Name: b.Name, Description: b.Description, Class: b.Class, Score: b.Score, Source: b.Source, Comment: b.Comment}
}

type ruleSetInput struct{ Body RuleSetBody }

type ruleSetChange struct {
	ByID
	Body struct {
		RuleSetBody
		Version int64 `json:"version" minimum:"1" doc:"of the set, as you have read it"`
		Enabled *bool `json:"enabled,omitempty" doc:"left out: as it is"`
		Use     *bool `json:"use,omitempty" doc:"false: a new source is only stored; the version in use stays" default:"true"`
	}
}

type ruleCheck struct {
	ByID
	Body struct {
		Source *string `json:"source,omitempty" maxLength:"1048576" doc:"left out: the newest version's"`
	}
}

type ruleFileInput struct {
	Body struct {
		Space  string `json:"space" minLength:"1" maxLength:"512" doc:"the file, as the status of the rule sets lists it"`
		On     bool   `json:"on"`
		Reason string `json:"reason" minLength:"3" maxLength:"500" doc:"why; it goes on record"`
	}
}

type ruleSetDelete struct {
	ByID
	Version int64 `query:"version" minimum:"1" required:"true" doc:"of the set, as you have read it"`
}

type backtestInput struct {
	ByID
	Body struct {
		Number int `json:"number,omitempty" minimum:"0" doc:"of the version; left out: the newest"`
		Mails  int `json:"mails,omitempty" minimum:"0" maximum:"1000" default:"100" doc:"held ones, the newest first; only such as you may look into"`
	}
}

// byBacktest names one trial of a set.
type byBacktest struct {
	ByID
	Backtest string `path:"backtest" format:"uuid"`
}

// ruleSetDetail is a set with its newest source and what is known of it.
type ruleSetDetail struct {
	ruleset.Set
	Source   string               `json:"source" doc:"of the newest version"`
	Versions []ruleset.SetVersion `json:"versions" nullable:"false"`
	Slow     []ruleset.SlowCount  `json:"slow" nullable:"false"`
}

// ruleSetList is all sets, and whether they are in force.
type ruleSetList struct {
	Body struct {
		Items      []ruleset.Set       `json:"items" nullable:"false"`
		NextCursor string              `json:"next_cursor" doc:"always empty: there are few sets"`
		Status     ruleset.RulesStatus `json:"status"`
	}
}

func (s *Server) registerRules() {
	rules := s.deps.Rules
	big := func(op *huma.Operation) { op.MaxBodyBytes = maxRulesBody }
	register(s, endpoint{http.MethodGet, "/yara/sets", "list-rule-sets", "YARA rule sets, and whether they are in force", identity.RulesRead, 0},
		func(ctx context.Context, _ identity.Principal, _ *struct{}) (*ruleSetList, error) {
			out := &ruleSetList{}
			var err error
			if out.Body.Items, err = rules.List(ctx); err != nil {
				return nil, err
			}
			out.Body.Status, err = rules.Status(ctx)
			return out, err
		})
	register(s, endpoint{http.MethodPost, "/yara/sets", "create-rule-set", "Adds a rule set, which is not enabled", identity.RulesWrite, http.StatusCreated},
		func(ctx context.Context, p identity.Principal, in *ruleSetInput) (*one[ruleset.Set], error) {
			set, _, err := rules.Create(ctx, p.Actor(), in.Body.draft())
			return &one[ruleset.Set]{Body: set}, err
		}, big)
	register(s, endpoint{http.MethodPut, "/yara/files", "switch-rule-file", "Switches a file of rules off, or on again", identity.RulesWrite, http.StatusNoContent},
		func(ctx context.Context, p identity.Principal, in *ruleFileInput) (*nothing, error) {
			return &nothing{}, rules.SwitchFile(ctx, p.Actor(), in.Body.Space, in.Body.On, in.Body.Reason)
		})
	register(s, endpoint{http.MethodGet, "/yara/sets/{id}", "get-rule-set", "One rule set with its newest source", identity.RulesRead, 0},
		func(ctx context.Context, _ identity.Principal, in *ByID) (*one[ruleSetDetail], error) {
			d, err := s.ruleSetDetail(ctx, in.uuid())
			return &one[ruleSetDetail]{Body: d}, err
		})
	register(s, endpoint{http.MethodPut, "/yara/sets/{id}", "put-rule-set", "Changes a rule set; a new source makes a new version", identity.RulesWrite, 0}, s.putRuleSet, big)
	register(s, endpoint{http.MethodDelete, "/yara/sets/{id}", "delete-rule-set", "Takes a rule set out of use for good", identity.RulesWrite, http.StatusNoContent},
		func(ctx context.Context, p identity.Principal, in *ruleSetDelete) (*nothing, error) {
			return &nothing{}, rules.Delete(ctx, p.Actor(), in.uuid(), in.Version)
		})
	register(s, endpoint{http.MethodPost, "/yara/sets/{id}/check", "check-rule-set", "Compiles a source without storing it", identity.RulesWrite, 0},
		func(ctx context.Context, _ identity.Principal, in *ruleCheck) (*one[scanner.Compiled], error) {
			set, err := rules.Get(ctx, in.uuid())
			if err != nil {
				return nil, err
			}
			d := ruleset.Draft{Name: set.Name, Class: set.Class, Score: set.Score}
			if in.Body.Source != nil {
				d.Source = *in.Body.Source
			} else {
				v, err := rules.Source(ctx, set.ID, set.Latest)
				if err != nil {
					return nil, err
				}
				d.Source = v.Source
			}
			c, err := rules.Check(ctx, set.ID, d)
			return &one[scanner.Compiled]{Body: c}, err
		}, big)
	register(s, endpoint{http.MethodPost, "/yara/sets/{id}/backtest", "backtest-rule-set", "Tries a version on held mails and harmless samples", identity.RulesWrite, http.StatusAccepted}, s.postBacktest)
	register(s, endpoint{http.MethodGet, "/yara/sets/{id}/backtest/{backtest}", "get-backtest", "How far a trial is, and what it came to", identity.RulesRead, 0},
		func(ctx context.Context, p identity.Principal, in *byBacktest) (*one[ruleset.Backtest], error) {
			id, err := uuid.Parse(in.Backtest)
			if err != nil {
				return nil, ruleset.ErrNotFound
			}
			b, err := rules.Backtest(ctx, id)
			if err == nil && b.SetID != in.uuid() {
				err = ruleset.ErrNotFound
			}
			b.Result.Hits = visibleHits(b.Result.Hits, func(w uuid.UUID) bool { return p.Can(identity.ViewMeta, w) })
			return &one[ruleset.Backtest]{Body: b}, err
		})
}

func (s *Server) ruleSetDetail(ctx context.Context, id uuid.UUID) (d ruleSetDetail, err error) {
	if d.Set, err = s.deps.Rules.Get(ctx, id); err != nil {
		return d, err
	}
	v, err := s.deps.Rules.Source(ctx, id, d.Latest)
	if err != nil {
		return d, err
	}
	d.Source = v.Source
	if d.Versions, err = s.deps.Rules.Versions(ctx, id); err != nil {
		return d, err
	}
	slow, err := s.deps.Rules.Slow(ctx)
	d.Slow = slowOf(slow, id)
	return d, err
}

// putRuleSet changes a set, and then whether it is enabled. Taking it out of
// force comes first, so that nothing new is in force in between.
func (s *Server) putRuleSet(ctx context.Context, p identity.Principal, in *ruleSetChange) (*one[ruleset.Set], error) {
	rules, id, version := s.deps.Rules, in.uuid(), in.Body.Version
	enable := func(on bool) error {
		set, err := rules.Get(ctx, id)
		if err == nil && set.Enabled != on {
			set, err = rules.Enable(ctx, p.Actor(), id, version, on)
			version = set.Version
		}
		return err
	}
	if e := in.Body.Enabled; e != nil && !*e {
		if err := enable(false); err != nil {
			return nil, err
		}
	}
	d := in.Body.draft()
	d.Later = in.Body.Use != nil && !*in.Body.Use
	set, _, err := rules.Update(ctx, p.Actor(), id, version, d)
	if err != nil {
		return nil, err
	}
	version = set.Version
	if e := in.Body.Enabled; e != nil && *e {
		if err := enable(true); err != nil {
			return nil, err
		}
	}
	set, err = rules.Get(ctx, id)
	return &one[ruleset.Set]{Body: set}, err
}

func (s *Server) postBacktest(ctx context.Context, p identity.Principal, in *backtestInput) (*one[ruleset.Backtest], error) {
	set, err := s.deps.Rules.Get(ctx, in.uuid())
	if err != nil {
		return nil, err
	}
	number := in.Body.Number
	if number == 0 {
		number = set.Latest
	}
	ws, _, err := s.deps.Identity.WorkspacesOf(ctx, p, identity.ViewBody)
	if err != nil {
		return nil, err
	}
	b, err := s.deps.Rules.StartBacktest(ctx, p.Actor(), set.ID, number, in.Body.Mails, ws)
	return &one[ruleset.Backtest]{Body: b}, err
}

// visibleHits leaves out the mails of workspaces that a person may not see.
func visibleHits(hits []ruleset.MailHit, may func(uuid.UUID) bool) []ruleset.MailHit {
	out := []ruleset.MailHit{}
	for _, h := range hits {
		if h.Workspace == nil || may(*h.Workspace) {
			out = append(out, h)
		}
	}
	return out
}

// slowOf are the slow rules of one set.
func slowOf(list []ruleset.SlowCount, id uuid.UUID) []ruleset.SlowCount {
	out := []ruleset.SlowCount{}
	for _, x := range list {
		if x.Space == id.String() {
			out = append(out, x)
		}
	}
	return out
}

// brokenRules tells each mistake with its line.
func brokenRules(b *ruleset.BrokenError) error {
	var details []error
	for _, i := range b.Compiled.Issues {
		kind := "warning"
		if i.Error {
			kind = "error"
		}
		details = append(details, &huma.ErrorDetail{Message: kind + ": " + i.Text, Location: fmt.Sprintf("source:%d", i.Line), Value: i.Rule})
	}
	return huma.Error422UnprocessableEntity("the rules cannot be used: "+b.Error(), details...)
}
