package webui

import (
	"context"
	"net/http"

	"github.com/danielgtaylor/huma/v2"
	"github.com/google/uuid"

	"mailward/gateway/queue"
	"mailward/identity"
)

type queueFilter struct {
	Paging
	State       []string `query:"state" enum:"queued,delivering,delivered,failed,outcome_unknown,cancelled,deleted"`
	Kind        []string `query:"kind" enum:"release,relay,dsn"`
	Destination string   `query:"destination" maxLength:"300"`
	MailID      string   `query:"mail_id" maxLength:"36" doc:"deliveries of one mail"`
	Query       string   `query:"q" maxLength:"200" doc:"part of an address or of the last reply; or an id"`
	Order       string   `query:"order" enum:"newest,oldest" default:"newest" doc:"what comes first"`
}

// queueDetail is a delivery with its attempts, the last one first.
type queueDetail struct {
	queue.Entry
	Tries []queue.Try `json:"tries" nullable:"false"`
}

type queueRetry struct {
	ByID
	Body struct {
		Reason string `json:"reason" maxLength:"2000" doc:"why; it goes on record"`
	}
}

type queueRetryAll struct {
	Body struct {
		Destination string `json:"destination" minLength:"1" maxLength:"300"`
		Reason      string `json:"reason" maxLength:"2000" doc:"why; it goes on record"`
	}
}

type queueDelete struct {
	ByID
	Body struct {
		Reason string `json:"reason" maxLength:"2000" doc:"why; it goes on record"`
		Notify bool   `json:"notify_sender,omitempty" doc:"tell the sender that the mail was not delivered, where it may be told"`
	}
}

type retried struct {
	Deliveries int64 `json:"deliveries"`
}

func (s *Server) registerQueue() {
	q := s.deps.Queue
	register(s, endpoint{http.MethodGet, "/queue", "list-queue", "Deliveries that wait or have ended", identity.ViewMeta, 0},
		func(ctx context.Context, p identity.Principal, in *queueFilter) (*list[queue.Entry], error) {
			f := queue.Filter{States: in.State, Kinds: in.Kind, Destination: in.Destination, Query: in.Query, Oldest: in.Order == "oldest", Cursor: in.Cursor, Limit: in.Limit}
			var err error
			if in.MailID != "" {
				if f.MailID, err = uuid.Parse(in.MailID); err != nil {
					return nil, huma.Error422UnprocessableEntity("mail_id is no id")
				}
			}
			if f.Workspaces, _, err = s.deps.Identity.WorkspacesOf(ctx, p, identity.ViewMeta); err != nil {
				return nil, err
			}
			got, err := q.List(ctx, f)
			return page(got.Items, got.Next), err
		})
	register(s, endpoint{http.MethodGet, "/queue/destinations", "list-queue-destinations", "What waits where, the longest queue first", identity.ViewMeta, 0},
		func(ctx context.Context, p identity.Principal, _ *struct{}) (*list[queue.Waiting], error) {
			ws, _, err := s.deps.Identity.WorkspacesOf(ctx, p, identity.ViewMeta)
			if err != nil {
				return nil, err
			}
			got, err := q.Waiting(ctx, ws)
			return page(got, ""), err
		})
	register(s, endpoint{http.MethodGet, "/queue/{id}", "get-delivery", "One delivery with its attempts", identity.ViewMeta, 0},
		func(ctx context.Context, p identity.Principal, in *ByID) (*one[queueDetail], error) {
			return s.delivery(ctx, p, in.uuid(), identity.ViewMeta)
		})
	s.registerQueueActs()
}

func (s *Server) registerQueueActs() {
	q := s.deps.Queue
	register(s, endpoint{http.MethodPost, "/queue/retry", "retry-destination", "Tries all that waits for a destination now", identity.Release, 0},
		func(ctx context.Context, p identity.Principal, in *queueRetryAll) (*one[retried], error) {
			ws, _, err := s.deps.Identity.WorkspacesOf(ctx, p, identity.Release)
			if err != nil {
				return nil, err
			}
			n, err := q.RetryDestination(ctx, person(p, in.Body.Reason), ws, in.Body.Destination)
			return &one[retried]{Body: retried{n}}, err
		})
	register(s, endpoint{http.MethodPost, "/queue/{id}/retry", "retry-delivery", "Tries a delivery now", identity.Release, 0},
		func(ctx context.Context, p identity.Principal, in *queueRetry) (*one[queueDetail], error) {
			if _, err := s.delivery(ctx, p, in.uuid(), identity.Release); err != nil {
				return nil, err
			}
			if err := q.Retry(ctx, person(p, in.Body.Reason), in.uuid()); err != nil {
				return nil, err
			}
			return s.delivery(ctx, p, in.uuid(), identity.ViewMeta)
		})
	register(s, endpoint{http.MethodPost, "/queue/{id}/delete", "delete-delivery", "Takes a delivery out of the queue: its recipient does not get the mail", identity.Delete, 0},
		func(ctx context.Context, p identity.Principal, in *queueDelete) (*one[queueDetail], error) {
			if _, err := s.delivery(ctx, p, in.uuid(), identity.Delete); err != nil {
				return nil, err
			}
			if err := s.stepUp(ctx, p); err != nil {
				return nil, err
			}
			if err := q.Delete(ctx, person(p, in.Body.Reason), in.uuid(), in.Body.Notify); err != nil {
				return nil, err
			}
			return s.delivery(ctx, p, in.uuid(), identity.ViewMeta)
		})
}

func person(p identity.Principal, reason string) queue.Person {
	return queue.Person{Actor: p.Actor(), Roles: p.RoleNames(), Reason: reason}
}

// delivery reads one that the caller has a right on; any other is not there.
func (s *Server) delivery(ctx context.Context, p identity.Principal, id uuid.UUID, right identity.Right) (*one[queueDetail], error) {
	e, tries, err := s.deps.Queue.Get(ctx, id)
	if err != nil {
		return nil, err
	}
	if !p.Can(identity.ViewMeta, e.Workspace) {
		return nil, queue.ErrNotFound
	}
	if !p.Can(right, e.Workspace) {
		return nil, huma.Error403Forbidden("this needs the right " + string(right) + " in the mail's workspace")
	}
	if tries == nil {
		tries = []queue.Try{}
	}
	return &one[queueDetail]{Body: queueDetail{Entry: e, Tries: tries}}, nil
}
