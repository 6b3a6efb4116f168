package webui

import (
	"context"
	"errors"
	"net/http"

	"github.com/danielgtaylor/huma/v2"

	"mailward/audit"
	"mailward/identity"
	"mailward/mailcow"
	"mailward/policy"
)

// mailcowEntry has a name of its own in the API's description.
type mailcowEntry mailcow.Domain

type mailcowInput struct {
	Body struct {
		Name        string `json:"name" minLength:"1" maxLength:"253" doc:"a domain that we serve"`
		Description string `json:"description,omitempty" maxLength:"200"`
		Mailboxes   int    `json:"mailboxes,omitempty" minimum:"0" maximum:"1000000" default:"10" doc:"at most"`
		Aliases     int    `json:"aliases,omitempty" minimum:"0" maximum:"1000000" default:"400" doc:"at most"`
		Quota       int64  `json:"quota_mib,omitempty" minimum:"1" maximum:"1073741824" default:"10240" doc:"of the domain, in MiB"`
	}
}

func (s *Server) registerMailcow() {
	register(s, endpoint{http.MethodGet, "/mailcow/domains", "list-mailcow-domains", "Domains of the mailcow behind us", identity.WorkspacesWrite, 0},
		func(ctx context.Context, p identity.Principal, _ *struct{}) (*list[mailcowEntry], error) {
			m, err := s.mailcowFor(p)
			if err != nil {
				return nil, err
			}
			all, err := m.Domains(ctx)
			if err != nil {
				return nil, s.mailcowError(err)
			}
			out := make([]mailcowEntry, len(all))
			for i, d := range all {
				out[i] = mailcowEntry(d)
			}
			return page(out, ""), nil
		})
	register(s, endpoint{http.MethodPost, "/mailcow/domains", "create-mailcow-domain", "Makes a domain that we serve in the mailcow behind us", identity.WorkspacesWrite, http.StatusNoContent},
		func(ctx context.Context, p identity.Principal, in *mailcowInput) (*nothing, error) {
			m, err := s.mailcowFor(p)
			if err != nil {
				return nil, err
			}
			r, ok := s.deps.Policies.Lookup("postmaster@" + in.Body.Name)
			if !ok {
				return nil, policy.ErrNotFound
			}
			n := mailcow.DefaultDomain(r.Domain.Name)
			n.Description, n.Mailboxes, n.Aliases, n.DomainQuota = in.Body.Description, in.Body.Mailboxes, in.Body.Aliases, in.Body.Quota
			n.BoxQuota = min(n.BoxQuota, n.DomainQuota)
			return &nothing{}, s.mailcowError(m.CreateDomain(ctx, p.Actor(), p.RoleNames(), n))
		})
}

// mailcowFor is the mailcow, for those who run the installation.
func (s *Server) mailcowFor(p identity.Principal) (*mailcow.Directory, error) {
	if !p.CanInstall(identity.WorkspacesWrite) {
		return nil, huma.Error403Forbidden("this needs the right " + string(identity.WorkspacesWrite) + " for the whole installation")
	}
	if s.deps.Mailcow == nil {
		return nil, huma.Error404NotFound("no mailcow is set up (mailcow.url)")
	}
	return s.deps.Mailcow, nil
}

// mailcowError says what is wrong with mailcow. An act that could not be recorded
// is for [Server.problem].
func (s *Server) mailcowError(err error) error {
	switch {
	case err == nil, audit.IsUnwritable(err):
		return err
	case errors.Is(err, mailcow.ErrExists):
		return huma.Error409Conflict("mailcow has this domain already")
	case errors.Is(err, mailcow.ErrInvalid):
		return huma.Error422UnprocessableEntity(err.Error())
	case errors.Is(err, mailcow.ErrDenied):
		return huma.Error502BadGateway("mailcow does not take our key, or our address: see mailcow.key")
	case errors.Is(err, mailcow.ErrReadOnly):
		return huma.Error502BadGateway("our key of mailcow's API may only read")
	case errors.Is(err, mailcow.ErrUnknown):
		s.log.Error("mailcow gave no answer to a change", "error", err)
		return huma.Error502BadGateway("mailcow gave no answer: the domain may have been made. Look before you try again")
	}
	s.log.Warn("mailcow cannot be asked", "error", err)
	return huma.Error502BadGateway("mailcow does not answer as its API should")
}
