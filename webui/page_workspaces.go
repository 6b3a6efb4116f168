package webui

import (
	"errors"
	"net/http"

	"github.com/labstack/echo/v4"

	"mailward/audit"
	"mailward/identity"
)

const rightWorkspacesWrite = string(identity.WorkspacesWrite)

func (s *pages) registerWorkspaces(r router) {
	r.page(http.MethodGet, "/workspaces", rightHealthRead, audit.PageView, s.getWorkspaces)
	r.page(http.MethodPost, "/workspaces", rightWorkspacesWrite, "workspace.create", s.postWorkspace)
	r.page(http.MethodPost, "/workspaces/:id/:verb", rightWorkspacesWrite, "workspace.update", s.postWorkspaceAct)
}

// workspacesView is the list of workspaces: those in which the person has a
// role, and all for who runs the installation.
type workspacesView struct {
	Query  string
	All    int // also those that the search leaves out
	Items  []identity.Workspace
	Name   string // of the one that was to be made
	Wrong  string
	StepUp bool
}

func (v workspacesView) mayArchive(w identity.Workspace) bool {
	return w.ID != identity.DefaultWorkspace && w.Domains == 0
}

func (s *pages) getWorkspaces(c echo.Context) error {
	return s.showWorkspaces(c, http.StatusOK, workspacesView{})
}

func (s *pages) showWorkspaces(c echo.Context, status int, v workspacesView) error {
	p := s.frame(c, "workspaces")
	list, err := s.people.ListWorkspaces(c.Request().Context(), visibleWorkspaces(p.User.principal))
	if err != nil {
		return s.failure(c, err)
	}
	v.Query, v.All = short(c.QueryParam("q")), len(list)
	for _, w := range list {
		if hasPart(v.Query, w.Name) {
			v.Items = append(v.Items, w)
		}
	}
	v.StepUp = s.needsPassword(p)
	s.flash(c, p)
	return s.render(c, status, workspacesPage(p, v))
}

// needsPassword says whether an act of this page takes the password: one person
// acts alone, and showed who they are too long ago.
func (s *pages) needsPassword(p *frame) bool {
	return p.SingleOperator && s.now().Sub(p.User.AuthenticatedAt) > stepUpAge
}

// reasonAndPassword reads what each act on people and workspaces takes. wrong is
// the key of what is wrong with it.
func (s *pages) reasonAndPassword(c echo.Context) (reason, wrong string, err error) {
	form, err := reasonForm(c)
	if err != nil || form.Wrong != "" {
		return "", form.Wrong, err
	}
	wrong, err = s.stepUp(c)
	return form.Reason, wrong, err
}

func (s *pages) postWorkspace(c echo.Context) error {
	v := workspacesView{Name: short(c.FormValue("name"))}
	reason, wrong, err := s.reasonAndPassword(c)
	if err == nil && wrong == "" {
		_, err = s.people.CreateWorkspace(c.Request().Context(), s.person(c).principal, v.Name, reason)
	}
	return s.workspaceDone(c, v, wrong, err)
}

// postWorkspaceAct renames a workspace, archives it or opens it again.
func (s *pages) postWorkspaceAct(c echo.Context) error {
	id, err := paramID(c)
	if err != nil {
		return s.failure(c, err)
	}
	verb := oneOf(c.Param("verb"), "rename", "archive", "open")
	if verb == "" {
		return s.failure(c, identity.ErrNotFound)
	}
	reason, wrong, err := s.reasonAndPassword(c)
	if err == nil && wrong == "" {
		ctx, who := c.Request().Context(), s.person(c).principal
		if verb == "rename" {
			_, err = s.people.RenameWorkspace(ctx, who, id, c.FormValue("name"), reason)
		} else {
			_, err = s.people.ArchiveWorkspace(ctx, who, id, verb == "archive", reason)
		}
	}
	return s.workspaceDone(c, workspacesView{}, wrong, err)
}

func (s *pages) workspaceDone(c echo.Context, v workspacesView, wrong string, err error) error {
	status := http.StatusUnprocessableEntity
	switch {
	case errors.Is(err, identity.ErrNameTaken):
		wrong, status = "act.wrong.space.taken", http.StatusConflict
	case errors.Is(err, identity.ErrInUse):
		wrong, status = "act.wrong.space.used", http.StatusConflict
	case errors.Is(err, identity.ErrInvalid):
		wrong = "act.wrong.space.name"
	case err != nil:
		return s.failure(c, err)
	}
	if wrong == "" {
		return s.done(c, "flash.space.saved", "/workspaces")
	}
	v.Wrong = wrong
	return s.showWorkspaces(c, status, v)
}
