package webui

import (
	"context"
	"net/http"
	"time"

	"github.com/google/uuid"

	"mailward/alerting"
	"mailward/alerting/rule"
	"mailward/identity"
)

// ReactionBody is a reaction as somebody writes one.
type ReactionBody struct {
	Kind      rule.ReactionKind `json:"kind" enum:"lock,sandbox,tighten,pause" doc:"lock: mail is quarantined; sandbox: every file goes there first; tighten: limits are tighter; pause: nothing leaves the quarantine"`
	DryRun    *bool             `json:"dry_run,omitempty" doc:"it only counts what it would do; default true"`
	Lasts     string            `json:"lasts,omitempty" example:"1h" default:"1h" doc:"1m to 24h; it then ends by itself"`
	Most      int               `json:"most,omitempty" minimum:"1" maximum:"10000" default:"1000" doc:"mails, refusals or releases that it may touch"`
	Direction string            `json:"direction,omitempty" enum:"inbound,outbound,both" doc:"of lock and sandbox; default inbound"`
	Match     string            `json:"match,omitempty" enum:"sender,sender_domain,subject" doc:"of lock and sandbox; left out: all mail of the domain"`
	Value     string            `json:"value,omitempty" maxLength:"320" doc:"what match looks for; of a subject a regular expression (RE2)"`
	Divisor   int               `json:"divisor,omitempty" minimum:"2" maximum:"100" doc:"of tighten: limits are divided by it; default 10"`
}

func (b ReactionBody) reaction() (rule.Reaction, error) {
	r := rule.Reaction{Kind: b.Kind, DryRun: b.DryRun == nil || *b.DryRun, Most: b.Most, Direction: b.Direction, Match: b.Match, Value: b.Value, Divisor: b.Divisor}
	if b.Lasts == "" {
		return r, nil
	}
	var err error
	if r.Lasts, err = time.ParseDuration(b.Lasts); err != nil {
		return r, &rule.InvalidError{Field: "reaction", Problem: "must last a length of time such as 30m or 2h"}
	}
	return r, nil
}

func reactionBodyOf(r *rule.Reaction) *ReactionBody {
	if r == nil {
		return nil
	}
	return &ReactionBody{r.Kind, &r.DryRun, r.Lasts.String(), r.Most, r.Direction, r.Match, r.Value, r.Divisor}
}

// reactionShown is a reaction with the newest that it touched.
type reactionShown struct {
	alerting.Reaction
	Mails []alerting.Touch `json:"mails" nullable:"false" doc:"the newest hundred that it touched; of tighten refusals, which are no mails"`
}

type reactionList struct {
	Active bool   `query:"active" doc:"only those in force"`
	Alert  string `query:"alert" format:"uuid" doc:"only those of one alert"`
}

type reactionStart struct {
	Body struct {
		Alert     string        `json:"alert_id,omitempty" format:"uuid" doc:"begins the reaction of the alert's rule, for this alert"`
		DryRun    *bool         `json:"dry_run,omitempty" doc:"with alert_id: other than the rule says; to do what a rule only tries takes the right to write rules"`
		Reaction  *ReactionBody `json:"reaction,omitempty" doc:"without alert_id: what is to be done; takes the right to write rules"`
		Domain    string        `json:"domain,omitempty" maxLength:"255" doc:"without alert_id: of ours; empty: all"`
		Workspace string        `json:"workspace_id,omitempty" format:"uuid" doc:"without alert_id; empty: everywhere"`
		Reason    string        `json:"reason" minLength:"3" maxLength:"500"`
	}
}

type undoInput struct {
	ByID
	Body struct {
		Reason string `json:"reason" minLength:"3" maxLength:"500"`
	}
}

func (s *Server) registerReactions() {
	store := s.deps.Alerts
	register(s, endpoint{http.MethodGet, "/alerts/reactions", "list-reactions", "Reactions to alerts, those in force first", identity.AlertsRead, 0},
		func(ctx context.Context, p identity.Principal, in *reactionList) (*list[alerting.Reaction], error) {
			f := alertsOf(p)
			f.Open = in.Active
			got, err := store.Reactions(ctx, f, optionalID(in.Alert))
			return page(got, ""), err
		})
	register(s, endpoint{http.MethodGet, "/alerts/reactions/{id}", "get-reaction", "One reaction, with the mails that it touched", identity.AlertsRead, 0},
		func(ctx context.Context, p identity.Principal, in *ByID) (*one[reactionShown], error) {
			return shownReaction(ctx, store, p, in.uuid())
		})
	register(s, endpoint{http.MethodPost, "/alerts/reactions", "start-reaction", "Begins a reaction by hand", identity.AlertsAct, http.StatusCreated},
		func(ctx context.Context, p identity.Principal, in *reactionStart) (*one[reactionShown], error) {
			n, err := newReaction(ctx, store, p, in)
			if err != nil {
				return nil, err
			}
			id, err := store.StartReaction(ctx, whoActs(p), n, in.Body.Reason)
			if err != nil {
				return nil, err
			}
			return shownReaction(ctx, store, p, id)
		})
	register(s, endpoint{http.MethodPost, "/alerts/reactions/{id}/undo", "undo-reaction", "Ends a reaction before its time; what it holds stays held", identity.AlertsAct, 0},
		func(ctx context.Context, p identity.Principal, in *undoInput) (*one[reactionShown], error) {
			x, err := store.Reaction(ctx, alertsOf(p), in.uuid())
			if err == nil && !mayAlert(p, identity.AlertsAct, x.Workspace) {
				err = alerting.ErrNotFound
			}
			if err == nil {
				err = store.UndoReaction(ctx, whoActs(p), x.ID, in.Body.Reason)
			}
			if err != nil {
				return nil, err
			}
			return shownReaction(ctx, store, p, x.ID)
		})
}

func shownReaction(ctx context.Context, store *alerting.Store, p identity.Principal, id uuid.UUID) (*one[reactionShown], error) {
	x, err := store.Reaction(ctx, alertsOf(p), id)
	if err != nil {
		return nil, err
	}
	out := reactionShown{x, []alerting.Touch{}}
	// Mails of all workspaces are for who sees all of them.
	if mayAlert(p, identity.AlertsRead, x.Workspace) {
		if out.Mails, err = store.Touched(ctx, id, touchesShown); err != nil {
			return nil, err
		}
	}
	return &one[reactionShown]{out}, nil
}

// touchesShown bounds how many mails of a reaction are listed.
const touchesShown = 100

// newReaction is what somebody asks for, as far as they may.
func newReaction(ctx context.Context, store *alerting.Store, p identity.Principal, in *reactionStart) (n alerting.NewReaction, err error) {
	b := in.Body
	if b.Alert != "" {
		a, err := store.Alert(ctx, alertsOf(p), optionalID(b.Alert))
		if err != nil {
			return n, err
		}
		dry := a.Spec.Reaction != nil && a.Spec.Reaction.DryRun
		if b.DryRun != nil {
			dry = *b.DryRun
		}
		return reactionFor(p, a, dry)
	}
	if b.Reaction == nil {
		return n, &rule.InvalidError{Field: "reaction", Problem: "is needed where no alert is named"}
	}
	n.Workspace, n.Domain = optionalID(b.Workspace), b.Domain
	if !mayAlert(p, identity.AlertsWrite, n.Workspace) {
		return n, alerting.ErrNotFound
	}
	n.Reaction, err = b.Reaction.reaction()
	return n, err
}

// reactionFor is the reaction of an alert's rule. To do what the rule only tries
// is to change what it does.
func reactionFor(p identity.Principal, a alerting.Alert, dry bool) (alerting.NewReaction, error) {
	n, ok := alerting.ForAlert(a)
	switch {
	case !mayAlert(p, identity.AlertsAct, a.Workspace) || ok && n.DryRun && !dry && !mayAlert(p, identity.AlertsWrite, a.Workspace):
		return n, alerting.ErrNotFound
	case !ok:
		return n, &rule.InvalidError{Field: "alert_id", Problem: "is of a rule that has no reaction"}
	}
	n.DryRun = dry
	return n, nil
}
