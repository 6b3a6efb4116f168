package webui

import (
	"context"
	"net/http"

	"github.com/danielgtaylor/huma/v2"
	"github.com/google/uuid"

	"mailward/identity"
	"mailward/quarantine/digest"
)

// ofWorkspace names the workspace whose digests are meant.
type ofWorkspace struct {
	Workspace string `query:"workspace" format:"uuid" doc:"default: the first one"`
}

func (w ofWorkspace) id() uuid.UUID {
	if w.Workspace == "" {
		return identity.DefaultWorkspace
	}
	id, err := uuid.Parse(w.Workspace)
	if err != nil {
		return uuid.Nil
	}
	return id
}

type putDigest struct {
	ofWorkspace
	Body struct {
		digest.Timetable
		Reason string `json:"reason" minLength:"3" maxLength:"500" doc:"why; it goes on record"`
	}
}

type sendDigest struct {
	ofWorkspace
	Body struct {
		Reason string `json:"reason,omitempty" maxLength:"500"`
	}
}

func (s *Server) registerDigestAPI() {
	d := s.deps.Digests
	register(s, endpoint{http.MethodGet, "/digest", "get-digest", "When and of what recipients are told", identity.ViewMeta, 0},
		func(ctx context.Context, p identity.Principal, in *ofWorkspace) (*one[digest.Timetable], error) {
			if !p.Can(identity.ViewMeta, in.id()) {
				return nil, errNoSpace
			}
			set, err := d.Timetable(ctx, in.id())
			return &one[digest.Timetable]{Body: set}, err
		})
	register(s, endpoint{http.MethodPut, "/digest", "put-digest", "Sets when and of what recipients are told", identity.PolicyWrite, 0},
		func(ctx context.Context, p identity.Principal, in *putDigest) (*one[digest.Timetable], error) {
			if !p.Can(identity.PolicyWrite, in.id()) {
				return nil, errNoSpace
			}
			if err := d.Put(ctx, p.Actor(), in.id(), in.Body.Timetable, in.Body.Reason); err != nil {
				return nil, err
			}
			set, err := d.Timetable(ctx, in.id())
			return &one[digest.Timetable]{Body: set}, err
		})
	register(s, endpoint{http.MethodPost, "/digest/send", "send-digest", "Sends the caller a digest of what is held for their address now", identity.PolicyWrite, 0},
		func(ctx context.Context, p identity.Principal, in *sendDigest) (*nothing, error) {
			if !p.Can(identity.PolicyWrite, in.id()) {
				return nil, errNoSpace
			}
			set, err := d.Timetable(ctx, in.id())
			if err != nil {
				return nil, err
			}
			return &nothing{}, d.Send(ctx, p.Actor(), in.id(), set, p.User.Email, true)
		})
}

var errNoSpace = huma.Error404NotFound("there is no such thing, or it is not yours to see")
