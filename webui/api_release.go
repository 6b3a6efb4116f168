package webui

import (
	"context"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"mailward/identity"
	"mailward/policy"
	"mailward/quarantine"
)

// exception is an allow entry that comes with a report, or a block entry: what it
// matches is taken from the item, so that nobody has to type it.
type exception struct {
	Match string `json:"match" enum:"sender,sender_domain,client" doc:"what of the mail it matches"`
	Days  int    `json:"days,omitempty" minimum:"1" maximum:"365" doc:"how long it counts; default 30"`
}

type reportInput struct {
	ByID
	Body struct {
		Reason    string     `json:"reason" minLength:"3" maxLength:"500" doc:"why; it goes on record"`
		Exception *exception `json:"exception,omitempty" doc:"lets mail of the same class and sender through for a while; never malware"`
	}
}

type blockInput struct {
	ByID
	Body struct {
		Reason string `json:"reason" minLength:"3" maxLength:"500" doc:"why; it goes on record"`
		exception
	}
}

type reported struct {
	Item    quarantine.Item      `json:"item"`
	Reports []quarantine.Mistake `json:"reports" nullable:"false"`
	Entry   *policyEntry         `json:"entry,omitempty" doc:"the exception that was made"`
}

type liftAnswer struct {
	Waiting bool `json:"waiting" doc:"for a second person"`
}

type putRules struct {
	ofWorkspace
	Body struct {
		quarantine.Rule
		Reason string `json:"reason" minLength:"3" maxLength:"500" doc:"why; it goes on record"`
	}
}

// registerKeeping has how long held mail is kept, and what a release takes.
func (s *Server) registerKeeping() {
	q := s.deps.Quarantine
	register(s, endpoint{http.MethodPost, "/quarantine/{id}/hold", "set-legal-hold", "Keeps a held mail whatever its time", identity.Delete, 0},
		func(ctx context.Context, p identity.Principal, in *decision) (*one[quarantine.Item], error) {
			if _, err := s.item(ctx, p, in.uuid(), identity.Delete); err != nil {
				return nil, err
			}
			it, err := q.SetHold(ctx, p.Actor(), p.RoleNames(), in.uuid(), in.Body.Reason)
			return &one[quarantine.Item]{Body: it}, err
		})
	register(s, endpoint{http.MethodPost, "/quarantine/{id}/lift-hold", "lift-legal-hold", "Lifts a legal hold; it may wait for a second person", identity.Delete, 0},
		func(ctx context.Context, p identity.Principal, in *decision) (*one[liftAnswer], error) {
			if _, err := s.item(ctx, p, in.uuid(), identity.Delete); err != nil {
				return nil, err
			}
			if err := s.stepUp(ctx, p); err != nil {
				return nil, err
			}
			waiting, err := q.LiftHold(ctx, p.Actor(), p.RoleNames(), in.uuid(), in.Body.Reason)
			return &one[liftAnswer]{Body: liftAnswer{waiting}}, err
		})
	register(s, endpoint{http.MethodGet, "/quarantine-rules", "get-quarantine-rules", "What a workspace wants of each class of held mail", identity.ViewMeta, 0},
		func(ctx context.Context, p identity.Principal, in *ofWorkspace) (*list[quarantine.Rule], error) {
			if !p.Can(identity.ViewMeta, in.id()) {
				return nil, errNoSpace
			}
			rules, err := q.Rules(ctx, in.id())
			return page(rules, ""), err
		})
	register(s, endpoint{http.MethodPut, "/quarantine-rules", "put-quarantine-rule", "Sets how many people a release of a class takes, how long a request waits and how long the mail is kept; it may wait for a second person", identity.PolicyWrite, 0},
		func(ctx context.Context, p identity.Principal, in *putRules) (*one[liftAnswer], error) {
			if !p.Can(identity.PolicyWrite, in.id()) {
				return nil, errNoSpace
			}
			if err := s.stepUp(ctx, p); err != nil {
				return nil, err
			}
			waiting, err := q.ChangeRule(ctx, p.Actor(), p.RoleNames(), in.id(), in.Body.Rule, in.Body.Reason)
			return &one[liftAnswer]{Body: liftAnswer{waiting}}, err
		})
}

// registerReleases has what belongs to a release besides the decisions.
func (s *Server) registerReleases() {
	q := s.deps.Quarantine
	register(s, endpoint{http.MethodPost, "/quarantine/{id}/cancel", "cancel-release", "Takes a release back that has not begun", identity.Release, 0},
		func(ctx context.Context, p identity.Principal, in *decision) (*one[quarantine.Item], error) {
			if _, err := s.item(ctx, p, in.uuid(), identity.Release); err != nil {
				return nil, err
			}
			it, err := q.TakeBack(ctx, p.Actor(), p.RoleNames(), in.uuid(), in.Body.Reason)
			return &one[quarantine.Item]{Body: it}, err
		})
	register(s, endpoint{http.MethodPost, "/quarantine/{id}/rescan", "rescan-quarantine-item", "Has the engines look at a held mail again, with the signatures of today", identity.Release, 0},
		func(ctx context.Context, p identity.Principal, in *decision) (*one[quarantine.Item], error) {
			if _, err := s.item(ctx, p, in.uuid(), identity.Release); err != nil {
				return nil, err
			}
			it, err := q.Rescan(ctx, p.Actor(), p.RoleNames(), in.uuid(), in.Body.Reason)
			return &one[quarantine.Item]{Body: it}, err
		})
	register(s, endpoint{http.MethodPost, "/quarantine/{id}/false-positive", "report-false-positive", "Says that a mail was held by mistake, and may make an exception that ends", identity.Release, 0},
		func(ctx context.Context, p identity.Principal, in *reportInput) (*one[reported], error) {
			it, err := s.item(ctx, p, in.uuid(), identity.Release)
			if err != nil {
				return nil, err
			}
			out, err := s.report(ctx, p, it, in)
			return &one[reported]{Body: out}, err
		})
	register(s, endpoint{http.MethodPost, "/quarantine/{id}/block", "block-sender", "Keeps further mail of the same sender out, for a while", identity.PolicyWrite, http.StatusCreated},
		func(ctx context.Context, p identity.Principal, in *blockInput) (*one[policyEntry], error) {
			it, err := s.item(ctx, p, in.uuid(), identity.PolicyWrite)
			if err != nil {
				return nil, err
			}
			e, err := exceptionFor(it, policy.EntryBlock, in.Body.exception, s.now())
			if err != nil {
				return nil, err
			}
			e.Owner, e.Reason = p.User.Email, in.Body.Reason
			e, err = s.deps.Policies.PutEntry(ctx, p.Actor(), e)
			return &one[policyEntry]{Body: policyEntry{e}}, err
		})
}

func (s *Server) report(ctx context.Context, p identity.Principal, it quarantine.Item, in *reportInput) (out reported, err error) {
	var e policy.Entry
	if in.Body.Exception != nil {
		if !p.Can(identity.PolicyWrite, it.Workspace) {
			return out, huma.Error403Forbidden("an exception needs the right " + string(identity.PolicyWrite) + " in the mail's workspace")
		}
		if e, err = exceptionFor(it, policy.EntryAllow, *in.Body.Exception, s.now()); err != nil {
			return out, err
		}
		e.Owner, e.Reason = p.User.Email, in.Body.Reason
		if e, err = s.deps.Policies.PutEntry(ctx, p.Actor(), e); err != nil {
			return out, err
		}
		out.Entry = &policyEntry{e}
	}
	if err := s.deps.Quarantine.FalsePositive(ctx, p.Actor(), p.RoleNames(), it, in.Body.Reason, e.ID); err != nil {
		return out, err
	}
	out.Item = it
	out.Reports, err = s.deps.Quarantine.Mistakes(ctx, it.ID)
	return out, err
}

// exceptionDays is how long an entry lasts where nobody says anything else.
const exceptionDays = 30

// exceptionFor makes an entry of what an item shows of its sender. An exception lifts
// the class of the item alone: what no entry can lift, as malware, is refused.
func exceptionFor(it quarantine.Item, kind string, x exception, now time.Time) (policy.Entry, error) {
	if x.Days == 0 {
		x.Days = exceptionDays
	}
	end := now.Add(time.Duration(x.Days) * 24 * time.Hour).UTC().Truncate(time.Second)
	e := policy.Entry{Workspace: it.Workspace, Domain: "*", Direction: it.Direction, Kind: kind, Match: x.Match, ExpiresAt: &end}
	_, address := sender(it.HeaderFrom)
	if address == "" {
		address = it.EnvelopeFrom
	}
	switch x.Match {
	case policy.MatchSender:
		e.Value = address
	case policy.MatchDomain:
		e.Value = address[strings.LastIndexByte(address, '@')+1:]
	case policy.MatchClient:
		e.Value = it.ClientIP
	}
	if kind == policy.EntryBlock {
		if e.Class = it.Class; !slices.Contains(policy.BlockClasses(), e.Class) {
			e.Class = policy.Spam
		}
		return e, nil
	}
	if !slices.Contains(policy.Liftable(), it.Class) {
		return e, huma.Error422UnprocessableEntity("no exception can let " + string(it.Class) + " mail through")
	}
	e.Classes = []policy.Class{it.Class}
	return e, nil
}
