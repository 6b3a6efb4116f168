package identity

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"
	"regexp"
	"slices"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"mailward/audit"
	"mailward/identity/sso"
	"mailward/internal/pg"
)

// SSO is one provider and what its groups mean here.
type SSO struct {
	*sso.Provider
	Roles []RoleOfGroup
}

// RoleOfGroup gives a role to the people of a provider's group.
type RoleOfGroup struct {
	Group string
	Role  Role
	// Workspace is a name or an id; empty the default one, * the installation.
	Workspace string
}

var (
	// ErrNoProvider means that no provider has this name.
	ErrNoProvider = errors.New("identity: there is no such provider")
	// ErrNoRole means that a provider knows the person, and none of their groups
	// has a role here.
	ErrNoRole = errors.New("identity: no role here for this person")
	// ErrTaken means that the address belongs to an account that this sign-in is
	// not linked to. An address proves nothing: its owner links the two.
	ErrTaken = errors.New("identity: an account with this address is there and not linked")
	// ErrOtherPerson means that somebody else came back from the provider.
	ErrOtherPerson = errors.New("identity: this is another person than before")
)

// What somebody is sent to a provider for.
const (
	ForLogin   = "login"
	ForConfirm = "confirm" // a step-up
	ForLink    = "link"    // to link an account there with the one here
)

// ssoStep is kept while the person is at the provider.
type ssoStep struct {
	Provider string      `json:"provider"`
	Purpose  string      `json:"purpose"`
	Next     string      `json:"next"`
	Request  sso.Request `json:"request"`
}

// Providers are those that people can sign in with, as configured.
func (s *Store) Providers() []SSO { return s.providers }

func (s *Store) provider(name string) (SSO, error) {
	i := slices.IndexFunc(s.providers, func(p SSO) bool { return p.Name() == name })
	if i < 0 {
		return SSO{}, ErrNoProvider
	}
	return s.providers[i], nil
}

// browserToken is what ties steps to a browser; see [Store.StartSSO].
var browserToken = regexp.MustCompile(`^[A-Za-z0-9_-]{43}$`)

// stateStep names a step by the browser that began it and by the state that comes
// back (RFC 6749 §10.12). So several tabs can be at the provider at a time, and an
// answer that somebody made up uses up no step.
func stateStep(browser, state string) string { return browser + "." + state }

// StartSSO makes the address of the provider to which the browser is sent, and
// what ties the answer to this browser, for a cookie. browser is what the cookie
// holds already, from another tab, or "". p is nobody for a login.
func (s *Store) StartSSO(ctx context.Context, name, purpose, next, browser string, p Principal) (address, cookie string, err error) {
	prov, err := s.provider(name)
	if err != nil {
		return "", "", err
	}
	if purpose == ForLink {
		if err := s.fresh(p); err != nil {
			return "", "", err
		}
	}
	if err := s.mayBegin(ctx); err != nil {
		return "", "", err
	}
	address, req, err := prov.Start(ctx, purpose == ForConfirm)
	if err != nil {
		r, _ := pg.RequestFrom(ctx)
		return "", "", s.failedSSO(ctx, ssoAttempt(prov, r.SourceIP), prov, problemCode(err), err)
	}
	if !browserToken.MatchString(browser) {
		browser, _ = newSecret()
	}
	err = s.putStep(ctx, stepSSO, stateStep(browser, req.State), step{User: p.User.ID, Session: p.SessionID}, ssoStep{Provider: name, Purpose: purpose, Next: next, Request: req})
	return address, browser, err
}

// SSOResult is what came of a trip to the provider.
type SSOResult struct {
	Token         string // the new cookie; empty where nothing was opened
	Purpose, Next string
}

// FinishSSO ends what [Store.StartSSO] began. browser is what its cookie holds,
// problem the provider's own word where it refused. p is who is signed in here.
func (s *Store) FinishSSO(ctx context.Context, name, browser, state, code, problem string, p Principal, from netip.Addr, userAgent string) (res SSOResult, err error) {
	prov, err := s.provider(name)
	if err != nil {
		return res, err
	}
	who := ssoAttempt(prov, from)
	var kept ssoStep
	of, err := s.takeStep(ctx, stepSSO, stateStep(browser, state), &kept)
	if errors.Is(err, ErrStep) || err == nil && kept.Provider != name {
		return res, s.failedSSO(ctx, who, prov, "bad_state", ErrStep)
	}
	if err != nil {
		return res, err
	}
	res.Purpose, res.Next = kept.Purpose, kept.Next
	if problem != "" || code == "" {
		return res, s.failedSSO(ctx, who, prov, "provider_refused", fmt.Errorf("%w: %.100q", sso.ErrRefused, problem))
	}
	c, err := prov.Finish(ctx, kept.Request, code)
	if err != nil {
		return res, s.failedSSO(ctx, who, prov, problemCode(err), err)
	}
	if missing := prov.Missing(c); missing != "" {
		return res, s.failedSSO(ctx, who, prov, missing, fmt.Errorf("%w: it shows no second factor", sso.ErrRefused))
	}
	if kept.Purpose != ForLogin && (p.SessionID == uuid.Nil || of.Session != p.SessionID) {
		return res, s.failedSSO(ctx, who, prov, "other_session", ErrStep)
	}
	switch kept.Purpose {
	case ForConfirm:
		res.Token, err = s.confirmSSO(ctx, p, c)
	case ForLink:
		err = s.link(ctx, p, c)
	default:
		res.Token, err = s.loginSSO(ctx, prov, c, who, userAgent)
	}
	return res, err
}

func ssoAttempt(prov SSO, from netip.Addr) attempt {
	return attempt{from: from, method: "sso", target: audit.Target{Type: "provider", ID: prov.Name()}, action: audit.LoginFailed}
}

// problemCode is what the record says of a provider that did not let somebody in.
func problemCode(err error) string {
	switch {
	case errors.Is(err, sso.ErrUnavailable):
		return "provider_unavailable"
	case errors.Is(err, sso.ErrRefused):
		return "provider_refused"
	}
	return "bad_answer"
}

// failedSSO records a failure, with the provider. Anybody can make up answers of a
// provider: beyond a number from one network only the lock-out is on record.
func (s *Store) failedSSO(ctx context.Context, a attempt, prov SSO, code string, cause error) error {
	ev := a.event(code)
	switch v := s.throttle.Address(ctx, "sso", a.from); {
	case v.First:
		ev = lockout(a, v)
	case !v.OK():
		return &ThrottledError{Until: v.Until}
	}
	ev.Actor.Provider, ev.Actor.Protocol, ev.Actor.Issuer = prov.Name(), "oidc", prov.Issuer()
	if err := s.recordOrSpool(ctx, ev); err != nil {
		return fmt.Errorf("record failed login: %w", err)
	}
	return cause
}

// owner is the account that belongs to a person at a provider.
func (s *Store) owner(ctx context.Context, c sso.Claims) (uuid.UUID, error) {
	var id uuid.UUID
	err := s.db.QueryRow(ctx, externalSQL, c.Issuer, c.Subject).Scan(&id)
	if errors.Is(err, pgx.ErrNoRows) {
		return uuid.Nil, ErrNotFound
	}
	if err != nil {
		return uuid.Nil, fmt.Errorf("read account of a provider: %w", err)
	}
	return id, nil
}

func (s *Store) loginSSO(ctx context.Context, prov SSO, c sso.Claims, who attempt, userAgent string) (string, error) {
	id, err := s.owner(ctx, c)
	known := err == nil
	if err != nil && !errors.Is(err, ErrNotFound) {
		return "", err
	}
	wanted, err := s.rolesFor(ctx, prov, c.Groups)
	if err != nil {
		return "", err
	}
	if !known {
		if len(wanted) == 0 {
			code := "no_role"
			if len(c.Groups) == 0 {
				code = "groups_missing"
			}
			return "", s.failedSSO(ctx, who, prov, code, ErrNoRole)
		}
		id, err = s.createExternal(ctx, c)
		if errors.Is(err, ErrTaken) {
			// By themselves, in another tab?
			if other, again := s.owner(ctx, c); again == nil {
				id, err = other, nil
			}
		}
		if errors.Is(err, ErrTaken) {
			return "", s.failedSSO(ctx, who, prov, "address_taken", err)
		}
		if err != nil {
			return "", err
		}
	}
	who.target = audit.Target{Type: "user_account", ID: id.String()}
	if known {
		if err := s.replacePlaceholder(ctx, c, id); err != nil {
			return "", err
		}
	}
	// Groups that were left out are not groups that were lost.
	if c.GroupsKnown {
		if err := s.syncRoles(ctx, c, id, wanted); err != nil {
			return "", err
		}
	}
	u, err := s.user(ctx, userByIDSQL, id)
	if err != nil {
		return "", err
	}
	roles, install, err := s.Grants(ctx, id)
	switch {
	case err != nil:
		return "", err
	case u.State != "active":
		return "", s.failedSSO(ctx, who, prov, "account_"+u.State, ErrNoRole)
	case len(roles)+len(install) == 0:
		return "", s.failedSSO(ctx, who, prov, "no_role", ErrNoRole)
	}
	token, _, err := s.openSession(ctx, u, way{Method: "sso", Provider: prov.Name(), Protocol: "oidc", Issuer: c.Issuer, Subject: c.Subject,
		ProviderSession: c.Session, ProviderKey: c.IDToken, MFA: c.MFA}, who.from, userAgent)
	return token, err
}

type grantKey struct {
	Workspace uuid.UUID // zero: the installation
	Role      Role
}

// rolesFor is what a person's groups mean.
func (s *Store) rolesFor(ctx context.Context, prov SSO, groups []string) (map[grantKey]bool, error) {
	out := map[grantKey]bool{}
	for _, m := range prov.Roles {
		if !slices.Contains(groups, m.Group) {
			continue
		}
		k := grantKey{Role: m.Role, Workspace: DefaultWorkspace}
		switch m.Workspace {
		case "":
		case "*":
			k.Workspace = uuid.Nil
		default:
			err := s.db.QueryRow(ctx, workspaceNamedSQL, m.Workspace).Scan(&k.Workspace)
			if errors.Is(err, pgx.ErrNoRows) {
				s.log.Warn("a group gives a role in a workspace that is not there", "provider", prov.Name(), "group", m.Group, "workspace", m.Workspace)
				continue
			}
			if err != nil {
				return nil, fmt.Errorf("find workspace: %w", err)
			}
		}
		out[k] = true
	}
	return out, nil
}

// ssoActor is the program that does what the provider's word leads to.
func ssoActor(provider, issuer, cause string) pg.Actor {
	a := pg.System("sso "+provider, cause)
	a.Provider, a.Protocol, a.Issuer = provider, "oidc", issuer
	return a
}

// placeholderAddress stands in for a person whose address the provider does not
// vouch for; nobody can have it (RFC 2606 §2).
func placeholderAddress(c sso.Claims) string {
	sum := sha256.Sum256([]byte(c.Issuer + "\x00" + c.Subject))
	return hex.EncodeToString(sum[:8]) + "@" + c.Provider + ".invalid"
}

// createExternal makes an account for a person at their first sign-in.
func (s *Store) createExternal(ctx context.Context, c sso.Claims) (uuid.UUID, error) {
	email, err := NormaliseEmail(c.Email)
	if err != nil {
		email = placeholderAddress(c)
	}
	id, err := uuid.NewV7()
	if err != nil {
		return uuid.Nil, fmt.Errorf("make account id: %w", err)
	}
	return id, s.db.Act(ctx, ssoActor(c.Provider, c.Issuer, "first sign-in"), func(ctx context.Context, tx pgx.Tx) error {
		_, err := tx.Exec(ctx, insertUserSQL, id, email, c.Name, "", false, "sso:"+c.Provider)
		if pg.IsUnique(err, "user_account_email_idx") {
			return ErrTaken
		}
		if err != nil {
			return fmt.Errorf("insert account: %w", err)
		}
		return s.insertExternal(ctx, tx, id, c)
	})
}

// replacePlaceholder gives an account the address that its provider vouches for by
// now. One that it has stays: what it gets in mail must not move with a claim.
func (s *Store) replacePlaceholder(ctx context.Context, c sso.Claims, id uuid.UUID) error {
	u, err := s.user(ctx, userByIDSQL, id)
	if err != nil || u.Email != placeholderAddress(c) {
		return err
	}
	email, err := NormaliseEmail(c.Email)
	if err != nil {
		return nil // it vouches for none
	}
	err = s.db.Act(ctx, ssoActor(c.Provider, c.Issuer, "verified address"), func(ctx context.Context, tx pgx.Tx) error {
		_, err := tx.Exec(ctx, setEmailSQL, id, email)
		return err
	})
	if err != nil && !pg.IsUnique(err, "user_account_email_idx") {
		return fmt.Errorf("store a verified address: %w", err)
	}
	return nil // of another account: it stays there
}

func (s *Store) insertExternal(ctx context.Context, tx pgx.Tx, user uuid.UUID, c sso.Claims) error {
	id, err := uuid.NewV7()
	if err != nil {
		return fmt.Errorf("make id of link: %w", err)
	}
	_, err = tx.Exec(ctx, insertExternalSQL, id, user, c.Provider, c.Issuer, c.Subject, s.now())
	if pg.IsUnique(err, "external_identity_issuer_subject_key") {
		return ErrTaken
	}
	if err != nil {
		return fmt.Errorf("link account: %w", err)
	}
	return nil
}

// syncRoles makes the roles that this provider gave what its groups say now.
// Roles that people gave stay.
func (s *Store) syncRoles(ctx context.Context, c sso.Claims, user uuid.UUID, wanted map[grantKey]bool) error {
	by := "sso:" + c.Provider
	return s.db.Act(ctx, ssoActor(c.Provider, c.Issuer, "groups"), func(ctx context.Context, tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, touchExternalSQL, c.Issuer, c.Subject, s.now()); err != nil {
			return fmt.Errorf("note use of link: %w", err)
		}
		rows, err := tx.Query(ctx, providerGrantsSQL, user, by)
		if err != nil {
			return fmt.Errorf("read roles: %w", err)
		}
		var stale []uuid.UUID
		var id uuid.UUID
		var w *uuid.UUID
		var r Role
		has := map[grantKey]bool{}
		_, err = pgx.ForEachRow(rows, []any{&id, &w, &r}, func() error {
			k := grantKey{Role: r}
			if w != nil {
				k.Workspace = *w
			}
			if has[k] = true; !wanted[k] {
				stale = append(stale, id)
			}
			return nil
		})
		if err != nil {
			return fmt.Errorf("read roles: %w", err)
		}
		for _, id := range stale {
			if _, err := tx.Exec(ctx, deleteGrantSQL, id); err != nil {
				return fmt.Errorf("take role back: %w", err)
			}
		}
		for k := range wanted {
			if !has[k] {
				if err := s.grant(ctx, tx, user, pg.NullID(k.Workspace), []Role{k.Role}, by); err != nil {
					return err
				}
			}
		}
		return nil
	})
}

// confirmSSO is a step-up at the provider; it must be the same person.
func (s *Store) confirmSSO(ctx context.Context, p Principal, c sso.Claims) (string, error) {
	id, err := s.owner(ctx, c)
	if errors.Is(err, ErrNotFound) || err == nil && id != p.User.ID {
		return "", s.stepUpFailed(ctx, p, "sso", "other_person", ErrOtherPerson)
	}
	if err != nil {
		return "", err
	}
	return s.stepUp(ctx, p, "sso")
}

// link ties the person's account at the provider to the one that they are signed in to.
func (s *Store) link(ctx context.Context, p Principal, c sso.Claims) error {
	if err := s.fresh(p); err != nil {
		return err
	}
	err := s.db.Act(ctx, p.Actor(), func(ctx context.Context, tx pgx.Tx) error {
		return s.insertExternal(ctx, tx, p.User.ID, c)
	})
	if errors.Is(err, ErrTaken) {
		ev := audit.Event{Action: audit.LoginFailed, Outcome: "refused", OutcomeCode: "linked_already", Severity: "warning", Actor: p.Actor(), Roles: p.RoleNames(),
			Targets: []audit.Target{{Type: "provider", ID: c.Provider}}}
		if failed := s.record.Record(ctx, ev); failed != nil {
			return fmt.Errorf("record a refused link: %w", failed)
		}
	}
	return err
}

// Unlink takes the link with a provider away, and ends what may have been opened by it.
// An account without a password has no other way in and keeps it.
func (s *Store) Unlink(ctx context.Context, p Principal, provider string) error {
	if err := s.fresh(p); err != nil {
		return err
	}
	if !p.User.HasPassword() {
		return fmt.Errorf("%w: this account has no password to sign in with", ErrInvalid)
	}
	return s.db.Act(ctx, p.Actor(), func(ctx context.Context, tx pgx.Tx) error {
		tag, err := tx.Exec(ctx, deleteExternalSQL, p.User.ID, provider)
		if err != nil {
			return fmt.Errorf("take link away: %w", err)
		}
		if tag.RowsAffected() == 0 {
			return ErrNotFound
		}
		return s.endOthers(ctx, tx, p.Actor(), p.RoleNames(), p.User.ID, p.SessionID, endedByPerson)
	})
}

// Linked names the providers that an account is linked with.
func (s *Store) Linked(ctx context.Context, user uuid.UUID) ([]string, error) {
	rows, err := s.db.Query(ctx, externalsSQL, user)
	if err != nil {
		return nil, fmt.Errorf("list links: %w", err)
	}
	list, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return nil, fmt.Errorf("list links: %w", err)
	}
	return list, nil
}
