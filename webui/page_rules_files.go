package webui

import (
	"github.com/labstack/echo/v4"

	"mailward/policy"
)

// postRulesFile switches a file of rules off or on again, with the reason why.
func (s *pages) postRulesFile(c echo.Context) error {
	form, err := reasonForm(c)
	if err == nil && form.Wrong != "" {
		err = policy.ErrReasonRequired
	}
	on := c.FormValue("on") == "yes"
	if err == nil {
		err = s.rules.SwitchFile(c.Request().Context(), s.person(c).Actor, c.FormValue("space"), on, form.Reason)
	}
	if err != nil {
		return s.failure(c, err)
	}
	if on {
		return s.done(c, "flash.rules.file.on", "/yara")
	}
	return s.done(c, "flash.rules.file.off", "/yara")
}
