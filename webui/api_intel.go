package webui

import (
	"bytes"
	"context"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/google/uuid"

	"mailward/identity"
	"mailward/intel"
	"mailward/policy"
)

// maxImport bounds the body of one import of indicators.
const maxImport = 16 << 20

type indicatorQuery struct {
	Value  string `query:"value" maxLength:"2048" doc:"a whole value, defanged or not; what is said of the names above it is found too"`
	Kind   string `query:"kind" enum:"domain,url,ip,email,sha256"`
	Source string `query:"source" maxLength:"60"`
	Class  string `query:"class" enum:"malware,phishing,suspicious,spam,breach" doc:"breach: domains of victims of ransomware, which make no mail bad"`
	Cursor string `query:"cursor" maxLength:"100"`
	Limit  int    `query:"limit" minimum:"1" maximum:"500" default:"50"`
}

type importInput struct {
	Source  string `query:"source" required:"true" minLength:"1" maxLength:"60" doc:"under which the indicators are kept"`
	RawBody []byte `contentType:"text/csv" doc:"CSV with a column named value and any of kind, class, confidence, first_seen, last_seen, expires_at, note, reference; or a JSON list of objects with these fields"`
}

type overrideQuery struct {
	Query  string `query:"q" maxLength:"200" doc:"part of a value, reason or owner"`
	State  string `query:"state" enum:"active,ended"`
	Cursor string `query:"cursor" maxLength:"100"`
	Limit  int    `query:"limit" minimum:"1" maximum:"500" default:"50"`
}

type overrideInput struct {
	Body struct {
		Effect    string       `json:"effect" enum:"allow,block"`
		Kind      intel.Kind   `json:"kind,omitempty" enum:"domain,url,ip,email,sha256" doc:"left out: what the value looks like"`
		Value     string       `json:"value" minLength:"3" maxLength:"2048"`
		Class     policy.Class `json:"class,omitempty" enum:"malware,phishing,suspicious,spam" doc:"that a block gives; left out: phishing"`
		Owner     string       `json:"owner,omitempty" maxLength:"320" doc:"left out: you"`
		Reason    string       `json:"reason" minLength:"3" maxLength:"500"`
		ExpiresAt *time.Time   `json:"expires_at,omitempty" doc:"an allow must have one, within a year"`
		Workspace string       `json:"workspace_id,omitempty" format:"uuid" doc:"left out: the default workspace"`
		Everybody bool         `json:"installation,omitempty" doc:"for all workspaces; needs the right rules_write"`
	}
}

type overrideEnd struct {
	ByID
	Reason string `query:"reason" required:"true" minLength:"3" maxLength:"500"`
}

type byFeed struct {
	Name string `path:"name" maxLength:"60"`
}

func (s *Server) registerIntel() {
	store, feeds := s.deps.Intel, s.deps.Feeds
	register(s, endpoint{http.MethodGet, "/intel/indicators", "list-indicators", "Indicators of threat intelligence that are in force", identity.ViewMeta, 0},
		func(ctx context.Context, _ identity.Principal, in *indicatorQuery) (*list[intel.Indicator], error) {
			found, next, err := store.List(ctx, intel.Filter{Value: in.Value, Kind: in.Kind, Source: in.Source, Class: in.Class, Cursor: in.Cursor, Limit: in.Limit})
			return page(found, next), err
		})
	register(s, endpoint{http.MethodPost, "/intel/indicators", "import-indicators", "Imports indicators; lines that cannot be used are named, the others count", identity.RulesWrite, 0},
		func(ctx context.Context, p identity.Principal, in *importInput) (*one[intel.Imported], error) {
			out, err := store.Import(ctx, intel.Person{Actor: p.Actor(), Roles: p.RoleNames()}, in.Source, bytes.NewReader(in.RawBody))
			return &one[intel.Imported]{Body: out}, err
		}, func(op *huma.Operation) { op.MaxBodyBytes = maxImport })
	register(s, endpoint{http.MethodGet, "/intel/overrides", "list-intel-overrides", "What analysts say of indicators, above all feeds", identity.ViewMeta, 0},
		func(ctx context.Context, p identity.Principal, in *overrideQuery) (*list[intel.Override], error) {
			ws, _, err := s.deps.Identity.WorkspacesOf(ctx, p, identity.ViewMeta)
			if err != nil {
				return nil, err
			}
			found, next, err := store.Overrides(ctx, intel.OverrideFilter{Workspaces: ws, Query: in.Query, State: in.State, Cursor: in.Cursor, Limit: in.Limit})
			return page(found, next), err
		})
	register(s, endpoint{http.MethodPost, "/intel/overrides", "create-intel-override", "Allows or blocks a value, whatever feeds say of it; what engines find counts all the same", identity.IntelWrite, http.StatusCreated}, s.postOverride)
	register(s, endpoint{http.MethodDelete, "/intel/overrides/{id}", "delete-intel-override", "Ends an override", identity.IntelWrite, http.StatusNoContent},
		func(ctx context.Context, p identity.Principal, in *overrideEnd) (*nothing, error) {
			o, err := store.Override(ctx, in.uuid())
			if err != nil {
				return nil, err
			}
			if !mayOverride(p.Can, o.Workspace) {
				return nil, intel.ErrNotFound
			}
			return &nothing{}, store.EndOverride(ctx, p.Actor(), o.ID, in.Reason)
		})
	register(s, endpoint{http.MethodGet, "/intel/feeds", "list-intel-feeds", "How feeds of threat intelligence fare", identity.ViewMeta, 0},
		func(ctx context.Context, _ identity.Principal, _ *struct{}) (*list[intel.FeedState], error) {
			states, err := feeds.States(ctx)
			return page(states, ""), err
		})
	register(s, endpoint{http.MethodPost, "/intel/feeds/{name}/sync", "sync-intel-feed", "Has a feed read now", identity.RulesWrite, http.StatusAccepted},
		func(ctx context.Context, p identity.Principal, in *byFeed) (*nothing, error) {
			return &nothing{}, feeds.SyncNow(ctx, intel.Person{Actor: p.Actor(), Roles: p.RoleNames()}, in.Name)
		})
}

// mayOverride says whether somebody may say something for a workspace; what is
// said for all of them is for who keeps the rules of the installation.
func mayOverride(can func(identity.Right, uuid.UUID) bool, workspace *uuid.UUID) bool {
	if workspace == nil {
		return can(identity.RulesWrite, uuid.Nil)
	}
	return can(identity.IntelWrite, *workspace)
}

func (s *Server) postOverride(ctx context.Context, p identity.Principal, in *overrideInput) (*one[intel.Override], error) {
	b := in.Body
	o := intel.Override{Effect: b.Effect, Kind: b.Kind, Value: b.Value, Class: b.Class, Owner: b.Owner, Reason: b.Reason, ExpiresAt: b.ExpiresAt}
	if o.Owner == "" {
		o.Owner = p.User.Email
	}
	if b.Everybody {
		if !mayOverride(p.Can, nil) {
			return nil, huma.Error403Forbidden("this needs the right " + string(identity.RulesWrite))
		}
	} else {
		w, err := workspaceFor(p, b.Workspace, identity.IntelWrite)
		if err != nil {
			return nil, err
		}
		o.Workspace = &w
	}
	o, err := s.deps.Intel.AddOverride(ctx, p.Actor(), o)
	return &one[intel.Override]{Body: o}, err
}
