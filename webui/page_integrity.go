package webui

import (
	"context"
	"encoding/base64"
	"errors"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/labstack/echo/v4"

	"mailward/audit"
	"mailward/audit/proof"
	"mailward/audit/seal"
	"mailward/identity"
	"mailward/internal/pg"
)

const (
	// checkLimit bounds one check of the whole record.
	checkLimit = 2 * time.Hour
	// valueLimit is what an address can have.
	valueLimit = 320
)

// errNotAll is for people who may read the events of some workspaces only: how
// the record is kept is the installation's business.
var errNotAll = echo.NewHTTPError(http.StatusForbidden, "this needs the right audit_read for the whole installation")

func (s *pages) registerIntegrity(r router) {
	r.page(http.MethodGet, "/audit/integrity", rightAuditRead, audit.PageView, s.getIntegrity)
	r.page(http.MethodPost, "/audit/integrity/verify", rightAuditRead, audit.VerifyRun, s.postIntegrityVerify)
	r.page(http.MethodPost, "/audit/integrity/erase", rightAuditErase, audit.PIIErased, s.postErase)
	r.page(http.MethodGet, "/audit/events/:id/proof", rightAuditRead, audit.PageView, s.getEventProof)
}

// checking is a check of the whole record that somebody has asked for. Each
// process has its own; that and what it found are on record.
type checking struct {
	mu    sync.Mutex // guards state
	state checkState
}

// checkState is how far a check is.
type checkState struct {
	Running         bool
	Started, Ended  time.Time
	Events, Total   int64
	Checkpoints     int
	Problem, Failed string // what does not fit, or why it was not checked
}

// Percent is how much is done, for the bar.
func (c checkState) Percent() int {
	if c.Total <= 0 {
		return 0
	}
	return int(min(100, c.Events*100/c.Total))
}

func (c *checking) get() checkState { c.mu.Lock(); defer c.mu.Unlock(); return c.state }

func (c *checking) set(f func(*checkState)) { c.mu.Lock(); defer c.mu.Unlock(); f(&c.state) }

// begin says whether no other check is under way.
func (c *checking) begin(now time.Time, total int64) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.state.Running {
		return false
	}
	c.state = checkState{Running: true, Started: now, Total: total}
	return true
}

// startCheck puts the check on record and begins it. It goes on when the caller
// has gone; the result is on record, too.
func (c *checking) startCheck(ctx context.Context, log *audit.Log, sealer *seal.Sealer, who pg.Actor, roles []string, now func() time.Time) error {
	st, err := sealer.Status(ctx)
	if err != nil {
		return err
	}
	ev := audit.Event{Action: audit.VerifyRun, Phase: "intent", Actor: who, Roles: roles}
	if ev.ID, err = uuid.NewV7(); err != nil {
		return err
	}
	if !c.begin(now(), int64(st.Size)+st.Unsealed) {
		return nil // the one that is under way is as good
	}
	if err := log.Record(ctx, ev); err != nil {
		c.set(func(s *checkState) { *s = checkState{} })
		return err
	}
	ctx = context.WithoutCancel(ctx)
	go func() { // ends by itself: checkLimit
		ctx, cancel := context.WithTimeout(ctx, checkLimit)
		defer cancel()
		c.check(ctx, log, sealer)
		end := c.get()
		ev.Correlation.CausationID, ev.ID, ev.Phase = ev.ID.String(), uuid.Nil, "result"
		ev.After = map[string]any{"events": end.Events, "checkpoints": end.Checkpoints}
		switch {
		case end.Problem != "":
			ev.Outcome, ev.Severity, ev.OutcomeDetail = "failure", "critical", end.Problem
		case end.Failed != "":
			ev.Outcome, ev.OutcomeDetail = "unknown", end.Failed
		}
		err := log.Record(context.WithoutCancel(ctx), ev)
		c.set(func(s *checkState) {
			s.Running, s.Ended = false, now()
			if err != nil {
				s.Failed = "unrecorded"
			}
		})
	}()
	return nil
}

// check looks at every event, and then at the tree.
func (c *checking) check(ctx context.Context, log *audit.Log, sealer *seal.Sealer) {
	res, err := log.VerifyTold(ctx, func(n int64) { c.set(func(s *checkState) { s.Events = n }) })
	var tree seal.Verified
	if err == nil && res.Problem == "" {
		tree, err = sealer.VerifyDatabase(ctx, "")
	}
	c.set(func(s *checkState) {
		s.Events, s.Checkpoints, s.Problem = res.Events, tree.Checkpoints, res.Problem
		if s.Problem == "" {
			s.Problem = tree.Problem
		}
		if err != nil {
			s.Failed = "unreadable"
		}
	})
}

// integrityView is the state of the record.
type integrityView struct {
	Seal      seal.Status
	Root      string // of the newest checkpoint
	Keys      []SealKey
	Findings  []string
	CheckedAt time.Time
	Check     checkState
	MayErase  bool
	Fresh     bool // who they are was shown a moment ago
	FourEyes  bool
	Erase     eraseForm
	Wrong     string // last word of a key (integrity.wrong.*)
	Refused   string // the database's own words
}

// eraseForm is what stands in the form, and what it would do.
type eraseForm struct {
	Value, Basis, Reason string
	Asked                bool
	Values, Events       int64
}

func (s *pages) getIntegrity(c echo.Context) error {
	return s.showIntegrity(c, http.StatusOK, integrityView{})
}

func (s *pages) showIntegrity(c echo.Context, status int, v integrityView) error {
	if !s.person(c).AuditAll {
		return s.fail(c, http.StatusForbidden, errNotAll)
	}
	p := s.frame(c, "audit")
	v.Check = s.checking.get()
	if isFragment(c, "check") {
		return s.render(c, status, integrityCheck(p, v.Check))
	}
	if err := s.readIntegrity(c.Request().Context(), &v); err != nil {
		return s.failure(c, err)
	}
	v.FourEyes = !p.SingleOperator
	var err error
	if v.MayErase, err = disposesOf(c.Request().Context(), s.ids, p.User.principal); err != nil {
		return s.failure(c, err)
	}
	v.Fresh = s.now().Sub(p.User.AuthenticatedAt) <= stepUpAge
	s.flash(c, p)
	return s.render(c, status, integrityPage(p, v))
}

func (s *pages) readIntegrity(ctx context.Context, v *integrityView) (err error) {
	if v.Seal, err = s.seal.Status(ctx); err != nil {
		return err
	}
	last, err := s.seal.Last(ctx)
	switch {
	case err == nil:
		v.Root = base64.StdEncoding.EncodeToString(last.Root)
		if v.Keys, err = sealKeys(ctx, s.seal, last.Origin); err != nil {
			return err
		}
	case !errors.Is(err, seal.ErrNotSealed):
		return err
	}
	if v.Findings, v.CheckedAt, err = s.seal.Audit.Checked(ctx); err != nil {
		return err
	}
	return nil
}

func (s *pages) postIntegrityVerify(c echo.Context) error {
	who := s.person(c)
	if !who.AuditAll {
		return s.fail(c, http.StatusForbidden, errNotAll)
	}
	if err := s.checking.startCheck(c.Request().Context(), s.seal.Audit, s.seal, who.Actor, who.Roles, s.now); err != nil {
		return s.failure(c, err)
	}
	return c.Redirect(http.StatusSeeOther, "/audit/integrity#check")
}

// disposesOf says whether somebody may erase and delete: events are the whole
// installation's, so it takes reading all of them and the right in each workspace.
func disposesOf(ctx context.Context, ids *identity.Store, p identity.Principal) (bool, error) {
	every, all, err := ids.WorkspacesOf(ctx, p, identity.AuditRead)
	if err != nil || !all {
		return false, err
	}
	for _, w := range every {
		if !p.Can(identity.AuditErase, w) {
			return false, nil
		}
	}
	return len(every) > 0, nil
}

// disposes is [disposesOf] with a fresh proof of who it is. Where it says no, the
// answer is sent already.
func (s *pages) disposes(c echo.Context) (bool, error) {
	p := s.person(c).principal
	ok, err := disposesOf(c.Request().Context(), s.ids, p)
	if err != nil {
		return false, s.failure(c, err)
	}
	if !ok {
		return false, s.fail(c, http.StatusForbidden, errNotAll)
	}
	if s.now().Sub(p.AuthenticatedAt) > stepUpAge {
		return false, c.Redirect(http.StatusSeeOther, "/confirm?next=%2Faudit%2Fintegrity")
	}
	return true, nil
}

// postErase shows what an erasure would do, and does it when asked a second time.
// The value is never in an address, where it would stay in logs and histories.
func (s *pages) postErase(c echo.Context) error {
	if ok, err := s.disposes(c); !ok {
		return err
	}
	ctx, field := c.Request().Context(), func(name string, most int) string {
		v := strings.TrimSpace(c.FormValue(name))
		return v[:min(len(v), most)]
	}
	v := integrityView{Erase: eraseForm{Value: field("value", valueLimit), Basis: field("basis", 200), Reason: field("reason", 500)}}
	f := &v.Erase
	if f.Value == "" || f.Basis == "" || f.Reason == "" {
		v.Wrong = "incomplete"
		return s.showIntegrity(c, http.StatusUnprocessableEntity, v)
	}
	if c.FormValue("do") != "erase" {
		var err error
		if f.Values, f.Events, err = s.seal.Audit.CountPersonal(ctx, f.Value); err != nil {
			return s.failure(c, err)
		}
		f.Asked = true
		return s.showIntegrity(c, http.StatusOK, v)
	}
	_, err := s.seal.Audit.Erase(ctx, s.person(c).Actor, f.Value, f.Basis, f.Reason)
	if err != nil {
		return s.failure(c, err)
	}
	return s.done(c, "flash.erased", "/audit/integrity#erase")
}

// getEventProof is the proof of one event as a file (c2sp.org/tlog-proof).
func (s *pages) getEventProof(c echo.Context) error {
	id, err := paramID(c)
	if err != nil {
		return s.failure(c, err)
	}
	ctx, who := c.Request().Context(), s.person(c)
	row, err := s.seal.Audit.Get(ctx, id)
	if err == nil && !who.AuditAll && !inWorkspaces(row, who.Workspaces) {
		err = audit.ErrNotFound
	}
	if err != nil {
		return s.failure(c, err)
	}
	got, err := s.seal.Include(ctx, id)
	if errors.Is(err, seal.ErrNotSealed) || errors.Is(err, audit.ErrNotFound) { // the event is there, so it waits
		return s.fail(c, http.StatusConflict, err)
	}
	if err != nil {
		return s.failure(c, err)
	}
	c.Response().Header().Set(echo.HeaderContentDisposition, `attachment; filename="`+id.String()+`.tlog-proof"`)
	return c.Blob(http.StatusOK, "text/plain; charset=utf-8", []byte(proof.Text(got.Seq, got.Path, got.Note)))
}
