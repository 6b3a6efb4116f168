package webui

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"time"

	"github.com/google/uuid"
	"golang.org/x/sys/unix"

	"mailward/identity"
	"mailward/internal/aezip"
	"mailward/quarantine"
	"mailward/scanner"
)

// personOf is a principal as the pages need it. workspaces are those whose mail
// it may see.
func personOf(p identity.Principal, workspaces []uuid.UUID) *Person {
	v := &Person{
		ID: p.User.ID, Email: p.User.Email, Name: p.User.Name, Role: "none", Locale: p.User.Locale, Theme: p.User.Theme,
		MustChangePassword: p.User.MustChangePassword, BreakGlass: p.User.BreakGlass, MustEnrol: p.MustEnrol, EnrolBy: p.EnrolBy, AuthenticatedAt: p.AuthenticatedAt, Actor: p.Actor(), Roles: p.RoleNames(), Workspaces: workspaces,
		can:       func(right string, ws uuid.UUID) bool { return p.Can(identity.Right(right), ws) },
		principal: p,
	}
	if len(v.Roles) > 0 {
		v.Role = v.Roles[0]
	}
	if v.Workspaces == nil {
		v.Workspaces = []uuid.UUID{} // nil would select everything
	}
	v.Mine = v.Workspaces
	return v
}

// identityAccounts is package identity as the pages use it.
type identityAccounts struct{ store *identity.Store }

func newAccounts(s *identity.Store) accounts { return identityAccounts{s} }

// accountError translates what a page can show; the rest is a failure.
func accountError(err error) error {
	var throttled *identity.ThrottledError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &throttled):
		return throttledError{Until: throttled.Until}
	case errors.Is(err, identity.ErrBadCredentials):
		return errBadCredentials
	case errors.Is(err, identity.ErrWeakPassword):
		return errWeakPassword
	}
	return err
}

func (a identityAccounts) Login(ctx context.Context, email, password string, from netip.Addr, agent string) (string, *Person, error) {
	token, p, err := a.store.Login(ctx, email, password, from, agent)
	if err != nil {
		return "", nil, accountError(err)
	}
	return token, personOf(p, nil), nil
}

func (a identityAccounts) Logout(ctx context.Context, v *Person, back string) (string, error) {
	return a.store.Logout(ctx, v.principal, back)
}

func (a identityAccounts) Confirm(ctx context.Context, v *Person, password string) (string, error) {
	token, err := a.store.ConfirmPassword(ctx, v.principal, password)
	return token, accountError(err)
}

func (a identityAccounts) ChangePassword(ctx context.Context, v *Person, old, fresh string) error {
	return accountError(a.store.ChangePassword(ctx, v.principal, old, fresh))
}

// Preferences keeps what is not given.
func (a identityAccounts) Preferences(ctx context.Context, v *Person, locale, theme string) error {
	if locale == "" {
		locale = v.Locale
	}
	if theme == "" {
		theme = v.Theme
	}
	return a.store.SetPreferences(ctx, v.principal, locale, theme)
}

func newHeld(s *quarantine.Store) held { return s }

// openAtOnce bounds how many mails are held in memory for looking at.
const openAtOnce = 3

// sidecarOpener has the sidecar take a mail apart: this process never parses
// its structure.
type sidecarOpener struct {
	sidecar *scanner.Sidecar
	slots   chan struct{}
}

func newOpener(s *scanner.Sidecar) opener {
	return sidecarOpener{sidecar: s, slots: make(chan struct{}, openAtOnce)}
}

// slot waits until there is room for one more mail.
func (o sidecarOpener) slot(ctx context.Context) (done func(), err error) {
	select {
	case o.slots <- struct{}{}:
		return func() { <-o.slots }, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (o sidecarOpener) Part(ctx context.Context, raw io.Reader, sum string) ([]byte, error) {
	done, err := o.slot(ctx)
	if err != nil {
		return nil, err
	}
	defer done()
	f, err := sealedFile(raw)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return o.sidecar.Part(ctx, f, sum)
}

func (o sidecarOpener) Zip(ctx context.Context, name string, raw io.Reader, at time.Time) ([]byte, error) {
	done, err := o.slot(ctx)
	if err != nil {
		return nil, err
	}
	defer done()
	b, err := io.ReadAll(raw)
	if err != nil {
		return nil, fmt.Errorf("read held mail: %w", err)
	}
	return aezip.Pack(name, b, at)
}

func (o sidecarOpener) View(ctx context.Context, raw io.Reader) (mailView, error) {
	done, err := o.slot(ctx)
	if err != nil {
		return mailView{}, err
	}
	defer done()
	f, err := sealedFile(raw)
	if err != nil {
		return mailView{}, err
	}
	defer f.Close()
	v, err := o.sidecar.View(ctx, f)
	if err != nil {
		return mailView{}, err
	}
	out := mailView{Text: v.Text, HTML: v.HTML, Truncated: v.Truncated}
	for _, h := range v.Headers {
		out.Headers = append(out.Headers, headerField{Name: h.Name, Value: h.Value, Raw: h.Raw})
	}
	for _, im := range v.Inline {
		out.Inline = append(out.Inline, inlineImage{CID: im.CID, ContentType: im.ContentType, Data: im.Data})
	}
	return out, nil
}

// sealedFile puts a mail into memory that nobody can change any more. It never
// touches a disk in the clear: there it lies encrypted.
func sealedFile(r io.Reader) (*os.File, error) {
	fd, err := unix.MemfdCreate("mailward-view", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	if err != nil {
		return nil, fmt.Errorf("make memory for a mail: %w", err)
	}
	f := os.NewFile(uintptr(fd), "mailward-view")
	if _, err := io.Copy(f, r); err != nil {
		f.Close()
		return nil, fmt.Errorf("read held mail: %w", err)
	}
	if _, err := unix.FcntlInt(f.Fd(), unix.F_ADD_SEALS, unix.F_SEAL_WRITE|unix.F_SEAL_GROW|unix.F_SEAL_SHRINK|unix.F_SEAL_SEAL); err != nil {
		f.Close()
		return nil, fmt.Errorf("seal memory of a mail: %w", err)
	}
	return f, nil
}
