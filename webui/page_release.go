package webui

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/labstack/echo/v4"

	"mailward/audit"
	"mailward/internal/pg"
	"mailward/policy"
	"mailward/quarantine"
)

const rightPolicy = "policy_write"

// registerReleases has what belongs to a release besides the decision.
func (s *pages) registerReleases(r router) {
	r.page(http.MethodPost, "/quarantine/:id/cancel", rightRelease, audit.ReleaseCancel, s.postCancel)
	r.page(http.MethodPost, "/quarantine/:id/rescan", rightRelease, audit.Rescanned, s.postRescan)
	r.page(http.MethodPost, "/quarantine/:id/mistake", rightRelease, audit.FalsePositive, s.postMistake)
}

// releaseMode is what the release of an item takes.
func (s *pages) releaseMode(ctx context.Context, it quarantine.Item, four string) (string, error) {
	if s.releases == nil {
		return four, nil
	}
	return s.releases.ReleaseMode(ctx, it.Workspace, it.Class)
}

// alone says whether one person is enough for a release.
func (v itemView) alone() bool { return v.Mode != quarantine.Required }

// begins is when the first copy of a release goes out; nil: none waits for that.
func (v itemView) begins() *time.Time {
	for _, r := range v.Releases {
		if r.State == "approved" && r.BeginsAt != nil {
			return r.BeginsAt
		}
	}
	return nil
}

// mayTakeBack says whether a release waits that can be taken back.
func (v itemView) mayTakeBack(p *frame) bool {
	return v.begins() != nil && p.User.CanIn(rightRelease, v.Workspace)
}

// seconds are those until a moment, for the countdown.
func seconds(p *frame, at time.Time) int {
	return max(0, int(at.Sub(p.Now).Round(time.Second).Seconds()))
}

// waits is what a release waits for that could not go out yet.
func (v itemView) waits() string {
	for _, r := range v.Releases {
		if r.Waits != "" {
			return r.Waits
		}
	}
	return ""
}

// unknown are the copies of which nobody knows whether they arrived.
func (v itemView) unknown() []quarantine.ItemRecipient {
	if !v.hasBytes() {
		return nil
	}
	return slices.DeleteFunc(slices.Clone(v.Recipients), func(r quarantine.ItemRecipient) bool { return r.State != quarantine.OutcomeUnknown })
}

// canExcept says whether an exception can let mail of this class through.
func (v itemView) canExcept(p *frame) bool {
	return slices.Contains(policy.Liftable(), v.Class) && p.User.CanIn(rightPolicy, v.Workspace)
}

// replied is what the next hop said of a copy, where and when.
func replied(p *frame, r quarantine.ItemRecipient) string {
	var out []string
	if r.ReplyHost != "" {
		out = append(out, plain(r.ReplyHost, 255))
	}
	if r.ReplyAt != nil {
		out = append(out, p.Short(*r.ReplyAt))
	}
	return strings.Join(out, " · ")
}

// releaseInput reads what a release is wanted for, beyond the form of every act.
func releaseInputOf(c echo.Context, form actForm) quarantine.ReleaseRequest {
	req := quarantine.ReleaseRequest{Reason: form.Reason, Code: c.FormValue("code"), Recipients: form.Chosen, Insist: c.FormValue("insist") == "on", Again: c.FormValue("again") == "on"}
	req.Others = strings.FieldsFunc(c.FormValue("others"), func(r rune) bool { return strings.ContainsRune(",; \r\n", r) })
	return req
}

// insist has who insists on a release that was stopped show who they are, also
// where two people decide.
func (s *pages) insist(c echo.Context, it quarantine.Item) (wrong string, err error) {
	v := s.person(c)
	if it.StoppedAt == nil || s.now().Sub(v.AuthenticatedAt) <= stepUpAge {
		return "", nil
	}
	return s.confirm(c, v, c.FormValue("password"))
}

// wrongRelease is the text for what a person can put right in the form.
func wrongRelease(err error) string {
	switch {
	case errors.Is(err, quarantine.ErrNotServed):
		return "act.wrong.others"
	case errors.Is(err, quarantine.ErrStopped):
		return "act.wrong.insist"
	case errors.Is(err, quarantine.ErrReasonCode):
		return "act.wrong.code"
	}
	return ""
}

func (s *pages) postCancel(c echo.Context) error {
	id, err := paramID(c)
	if err != nil {
		return s.failure(c, err)
	}
	it, err := s.item(c, id, rightRelease)
	if err != nil {
		return s.failure(c, err)
	}
	v := s.person(c)
	if _, err := s.releases.TakeBack(c.Request().Context(), v.Actor, v.Roles, it.ID, short(c.FormValue("reason"))); errors.Is(err, quarantine.ErrTooLate) {
		return s.done(c, "flash.toolate", "/quarantine/"+it.ID.String())
	} else if err != nil {
		return s.failure(c, err)
	}
	return s.done(c, "flash.cancelled", "/quarantine/"+it.ID.String())
}

func (s *pages) postRescan(c echo.Context) error {
	it, form, err := s.actInput(c, rightRelease)
	if err != nil {
		return s.failure(c, err)
	}
	if form.Wrong != "" {
		return s.showItem(c, http.StatusUnprocessableEntity, form, "rescan")
	}
	v := s.person(c)
	if _, err := s.releases.Rescan(c.Request().Context(), v.Actor, v.Roles, it.ID, form.Reason); errors.Is(err, quarantine.ErrEnginesSilent) {
		form.Wrong = "act.wrong.engines"
		return s.showItem(c, http.StatusServiceUnavailable, form, "rescan")
	} else if err != nil {
		return s.failure(c, err)
	}
	return s.done(c, "flash.rescanned", "/quarantine/"+it.ID.String())
}

// postMistake reports a false positive, and makes the exception that was ticked.
func (s *pages) postMistake(c echo.Context) error {
	it, form, err := s.actInput(c, rightRelease)
	if err != nil {
		return s.failure(c, err)
	}
	if form.Wrong != "" {
		return s.showItem(c, http.StatusUnprocessableEntity, form, "mistake")
	}
	var entry policy.Entry
	ctx, v := c.Request().Context(), s.person(c)
	if match := oneOf(c.FormValue("match"), policy.MatchSender, policy.MatchDomain); match != "" && v.CanIn(rightPolicy, it.Workspace) {
		days, _ := strconv.Atoi(c.FormValue("days"))
		if entry, err = exceptionFor(it, policy.EntryAllow, exception{Match: match, Days: min(max(days, 0), 365)}, s.now()); err == nil {
			entry.Owner, entry.Reason = v.Email, form.Reason
			entry, err = s.policies.PutEntry(ctx, v.Actor, entry)
		}
		if err != nil {
			form.Wrong = "act.wrong.exception"
			return s.showItem(c, http.StatusUnprocessableEntity, form, "mistake")
		}
	}
	if err := s.releases.FalsePositive(pg.WithReason(ctx, form.Reason), v.Actor, v.Roles, it, form.Reason, entry.ID); err != nil {
		return s.failure(c, err)
	}
	return s.done(c, "flash.mistake", "/quarantine/"+it.ID.String())
}

// rescanFound names what the engines found anew.
func rescanFound(v itemView) string {
	var names []string
	if v.Rescan != nil {
		for _, f := range v.Rescan.Findings {
			names = append(names, f.Engine+": "+plain(f.Name, 200))
		}
	}
	return strings.Join(names, ", ")
}
