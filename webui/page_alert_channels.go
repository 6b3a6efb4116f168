package webui

import (
	"errors"
	"net/http"
	"strconv"
	"strings"

	"github.com/google/uuid"
	"github.com/labstack/echo/v4"

	"mailward/alerting"
	"mailward/alerting/channel"
	"mailward/alerting/rule"
	"mailward/identity"
)

// channelForm is one channel while somebody writes it.
type channelForm struct {
	alerting.Channel
	Wrong string
}

type channelsView struct {
	Items   []alerting.Channel
	Secrets []string
	Form    channelForm
}

type channelView struct {
	Form    channelForm
	Secrets []string
	Log     []alerting.Notification
}

func (s *pages) getChannels(c echo.Context) error {
	return s.showChannels(c, http.StatusOK, channelForm{Channel: alerting.Channel{Kind: channel.Email, Language: "en", Severity: rule.Info, PerMinute: 6, Everything: true, Enabled: true}})
}

func (s *pages) showChannels(c echo.Context, status int, f channelForm) error {
	all, err := s.alerts.Channels(c.Request().Context())
	if err != nil {
		return s.alertFailure(c, err)
	}
	v := channelsView{Secrets: s.secretNames(c), Form: f}
	for _, x := range all {
		if s.mayAlert(c, identity.AlertsWrite, x.Workspace) {
			v.Items = append(v.Items, x)
		}
	}
	p := s.frame(c, "alerts")
	s.flash(c, p)
	return s.render(c, status, channelsPage(p, v))
}

func (s *pages) secretNames(c echo.Context) []string {
	return s.alerts.SecretNames(func(workspace uuid.UUID) bool { return s.mayAlert(c, identity.AlertsWrite, workspace) })
}

// channelOf is the channel of the path, where the person may change it.
func (s *pages) channelOf(c echo.Context) (alerting.Channel, error) {
	id, err := paramID(c)
	if err != nil {
		return alerting.Channel{}, err
	}
	x, err := s.alerts.Channel(c.Request().Context(), id)
	if err == nil && !s.mayAlert(c, identity.AlertsWrite, x.Workspace) {
		err = alerting.ErrNotFound
	}
	return x, err
}

func (s *pages) getChannel(c echo.Context) error {
	x, err := s.channelOf(c)
	if err != nil {
		return s.alertFailure(c, err)
	}
	return s.showChannel(c, http.StatusOK, channelForm{Channel: x})
}

func (s *pages) showChannel(c echo.Context, status int, f channelForm) error {
	log, _, err := s.alerts.Notifications(c.Request().Context(), []uuid.UUID{f.ID}, "", 50)
	if err != nil {
		return s.alertFailure(c, err)
	}
	p := s.frame(c, "alerts")
	s.flash(c, p)
	return s.render(c, status, channelPage(p, channelView{f, s.secretNames(c), log}))
}

func (s *pages) postChannel(c echo.Context) error {
	f := channelForm{}
	known := c.Param("id") != ""
	var err error
	if known {
		if f.Channel, err = s.channelOf(c); err == nil {
			f.Version, err = strconv.ParseInt(c.FormValue("version"), 10, 64)
		}
	} else if f.Workspace, err = s.alertScope(c, identity.AlertsWrite); err == nil {
		f.Kind = short(c.FormValue("kind"))
	}
	if err != nil {
		return s.alertFailure(c, err)
	}
	f.Name, f.Target, f.Secret = short(c.FormValue("name")), strings.TrimSpace(strings.ToValidUTF8(c.FormValue("target"), "")), short(c.FormValue("secret"))
	f.Language, f.Severity, f.Everything, f.Enabled = short(c.FormValue("language")), rule.Severity(short(c.FormValue("severity"))), c.FormValue("everything") != "", c.FormValue("enabled") != ""
	f.PerMinute, _ = strconv.Atoi(c.FormValue("per_minute")) // what is no number is the default
	_, err = s.alerts.PutChannel(c.Request().Context(), s.alertPerson(c), f.Channel)
	var invalid *rule.InvalidError
	p := s.frame(c, "alerts")
	status := http.StatusUnprocessableEntity
	switch {
	case err == nil:
		return s.done(c, "flash.alert.channel.saved", "/alerts/channels")
	case errors.As(err, &invalid):
		f.Wrong = p.word("alert.field", invalid.Field) + ": " + invalid.Problem
	case errors.Is(err, alerting.ErrExists):
		f.Wrong = p.T("alert.wrong.exists")
	case errors.Is(err, alerting.ErrConflict):
		f.Wrong, status = p.T("error.409.text"), http.StatusConflict
	default:
		return s.alertFailure(c, err)
	}
	if known {
		return s.showChannel(c, status, f)
	}
	return s.showChannels(c, status, f)
}

func (s *pages) postChannelTest(c echo.Context) error {
	x, err := s.channelOf(c)
	if err == nil {
		_, err = s.alerts.Test(c.Request().Context(), s.alertPerson(c), x.ID)
	}
	if err != nil {
		return s.alertFailure(c, err)
	}
	return s.done(c, "flash.alert.channel.test", "/alerts/channels/"+x.ID.String())
}

func (s *pages) postChannelDelete(c echo.Context) error {
	x, err := s.channelOf(c)
	if err != nil {
		return s.alertFailure(c, err)
	}
	version, err := strconv.ParseInt(c.FormValue("version"), 10, 64)
	if err != nil {
		return s.failure(c, errBadInput)
	}
	if err := s.alerts.DeleteChannel(c.Request().Context(), s.alertPerson(c), x.ID, version, strings.ToValidUTF8(c.FormValue("reason"), "")); err != nil {
		return s.alertFailure(c, err)
	}
	return s.done(c, "flash.alert.channel.deleted", "/alerts/channels")
}

// secretOptions are the names that a channel can use.
func secretOptions(p *frame, names []string) []option {
	out := []option{{"", p.T("alert.secret.none")}}
	for _, n := range names {
		out = append(out, option{n, n})
	}
	return out
}

// notified is what a notification was about, in a line.
func (p *frame) notified(n alerting.Notification) string {
	if n.Message.Test {
		return p.T("alert.log.test")
	}
	var out []string
	for _, a := range n.Message.Alerts {
		s := p.word("alert.notice", string(a.Notice)) + ": " + plain(a.Name, 100)
		if a.Subject != "" {
			s += " – " + plain(a.Subject, 100)
		}
		out = append(out, s)
	}
	return strings.Join(out, "; ")
}
