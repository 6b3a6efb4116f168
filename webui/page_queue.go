package webui

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"slices"

	"github.com/google/uuid"
	"github.com/labstack/echo/v4"

	"mailward/gateway/queue"
)

// deliveries is the delivery queue.
type deliveries interface {
	List(ctx context.Context, f queue.Filter) (queue.Page, error)
	Get(ctx context.Context, id uuid.UUID) (queue.Entry, []queue.Try, error)
	Waiting(ctx context.Context, workspaces []uuid.UUID) ([]queue.Waiting, error)
	Retry(ctx context.Context, who queue.Person, id uuid.UUID) error
	RetryDestination(ctx context.Context, who queue.Person, workspaces []uuid.UUID, destination string) (int64, error)
	Delete(ctx context.Context, who queue.Person, id uuid.UUID, notify bool) error
}

// queueStates are what the list can be narrowed to; "waiting" is what it shows by itself.
var queueStates = []string{"waiting", "delivered", "failed", "outcome_unknown", "cancelled", "deleted", "all"}

// queueView is the list of deliveries.
type queueView struct {
	Query, State, Destination, MailID string
	Order                             string // oldest, or "" for the newest first
	Link                              listLink
	Items                             []queue.Entry
	Waiting                           []queue.Waiting
}

func (v queueView) stateOptions(p *frame) (out []option) {
	for _, s := range queueStates {
		out = append(out, option{s, p.T("queue.state." + s)})
	}
	return out
}

// ariaSort says how the list is sorted by time.
func (v queueView) ariaSort() string {
	if v.Order == "oldest" {
		return "ascending"
	}
	return "descending"
}

func (v queueView) orderOptions(p *frame) []option {
	return []option{{"", p.T("order.newest")}, {"oldest", p.T("order.oldest")}}
}

func (s *pages) getQueue(c echo.Context) error {
	q, who, ctx := c.QueryParams(), s.person(c), c.Request().Context()
	v := queueView{Query: short(q.Get("q")), State: "waiting", Destination: short(q.Get("destination")), MailID: q.Get("mail_id")}
	if slices.Contains(queueStates, q.Get("state")) {
		v.State = q.Get("state")
	}
	if q.Get("order") == "oldest" {
		v.Order = "oldest"
	}
	f := queue.Filter{Workspaces: who.Workspaces, Oldest: v.Order == "oldest", Query: v.Query, Destination: v.Destination, Cursor: q.Get("after"), Limit: pageSize}
	if id, err := uuid.Parse(v.MailID); err == nil {
		f.MailID = id
		if q.Get("state") == "" {
			v.State = "all" // The story of one mail is all of it.
		}
	} else {
		v.MailID = ""
	}
	switch v.State {
	case "waiting":
		f.States = []string{"queued", "delivering"}
	case "all":
	default:
		f.States = []string{v.State}
	}
	set := url.Values{"q": {v.Query}, "destination": {v.Destination}, "mail_id": {v.MailID}, "order": {v.Order}}
	if v.State != "waiting" {
		set.Set("state", v.State)
	}
	v.Link = listLink{path: "/queue", set: set, size: pageSize, at: f.Cursor, page: pageNumber(q.Get("page"))}
	if f.Cursor == "" {
		v.Link.page = 1
	}
	page, err := s.queue.List(ctx, f)
	if err != nil {
		return s.failure(c, err)
	}
	v.Items, v.Link.next = page.Items, page.Next
	p := s.frame(c, "queue")
	if isFragment(c, "results") {
		return s.render(c, http.StatusOK, queueResults(p, v))
	}
	if v.Waiting, err = s.queue.Waiting(ctx, who.Workspaces); err != nil {
		return s.failure(c, err)
	}
	return s.render(c, http.StatusOK, queuePage(p, v))
}

// deliveryView is one delivery, and what somebody was about to do with it.
type deliveryView struct {
	queue.Entry
	Tries  []queue.Try
	Dialog string // retry, delete or ""
	Form   actForm
	StepUp bool
}

func (s *pages) getDelivery(c echo.Context) error {
	return s.showDelivery(c, http.StatusOK, actForm{}, c.QueryParam("act"))
}

func (s *pages) showDelivery(c echo.Context, status int, form actForm, dialog string) error {
	e, tries, err := s.delivery(c, rightViewMeta)
	if err != nil {
		return s.failure(c, err)
	}
	v := deliveryView{Entry: e, Tries: tries, Form: form}
	if slices.Contains([]string{"retry", "delete"}, dialog) {
		v.Dialog = dialog
	}
	p := s.frame(c, "queue")
	v.StepUp = p.SingleOperator && s.now().Sub(p.User.AuthenticatedAt) > stepUpAge
	return s.render(c, status, deliveryPage(p, v))
}

// delivery reads the one that the path names, where the person has a right on it.
func (s *pages) delivery(c echo.Context, right string) (queue.Entry, []queue.Try, error) {
	id, err := paramID(c)
	if err != nil {
		return queue.Entry{}, nil, err
	}
	e, tries, err := s.queue.Get(c.Request().Context(), id)
	if err == nil && !s.person(c).CanIn(right, e.Workspace) {
		err = queue.ErrNotFound
	}
	return e, tries, err
}

func (s *pages) postDeliveryRetry(c echo.Context) error {
	return s.deliveryAct(c, "retry", rightRelease, func(ctx context.Context, who queue.Person, e queue.Entry) error {
		return s.queue.Retry(ctx, who, e.ID)
	})
}

func (s *pages) postDeliveryDelete(c echo.Context) error {
	return s.deliveryAct(c, "delete", rightDelete, func(ctx context.Context, who queue.Person, e queue.Entry) error {
		return s.queue.Delete(ctx, who, e.ID, c.FormValue("notify") == "yes")
	})
}

// deliveryAct does what a form asks for. A reason is always required, and the
// password where one person gives a mail up alone.
func (s *pages) deliveryAct(c echo.Context, name, right string, do func(context.Context, queue.Person, queue.Entry) error) error {
	e, _, err := s.delivery(c, right)
	if err != nil {
		return s.failure(c, err)
	}
	form, err := reasonForm(c)
	if err != nil {
		return s.failure(c, err)
	}
	if form.Wrong == "" && name == "delete" {
		if form.WrongPass, err = s.stepUp(c); err != nil {
			return s.failure(c, err)
		}
	}
	if form.Wrong != "" || form.WrongPass != "" {
		return s.showDelivery(c, http.StatusUnprocessableEntity, form, name)
	}
	who := s.person(c)
	if err := do(c.Request().Context(), queue.Person{Actor: who.Actor, Roles: who.Roles, Reason: form.Reason}, e); err != nil {
		return s.failure(c, err)
	}
	return s.done(c, "flash.queue."+name, "/queue/"+e.ID.String())
}

// postQueueRetry tries all that waits for a destination.
func (s *pages) postQueueRetry(c echo.Context) error {
	form, err := reasonForm(c)
	if err == nil && form.Wrong != "" {
		err = queue.ErrReasonRequired
	}
	if err != nil {
		return s.failure(c, err)
	}
	who := s.person(c)
	_, err = s.queue.RetryDestination(c.Request().Context(), queue.Person{Actor: who.Actor, Roles: who.Roles, Reason: form.Reason}, who.WorkspacesWith(rightRelease), c.FormValue("destination"))
	if err != nil && !errors.Is(err, queue.ErrNotFound) {
		return s.failure(c, err)
	}
	return s.done(c, "flash.queue.retry", "/queue")
}

// queueOf is the list of what waits for a destination.
func queueOf(destination string) string {
	return "/queue?" + url.Values{"destination": {destination}}.Encode()
}

// queueTone colours a delivery's state.
func queueTone(state string) string {
	switch state {
	case "delivered":
		return "ok"
	case "failed", "outcome_unknown":
		return "crit"
	case "queued", "delivering":
		return "info"
	}
	return "none"
}
