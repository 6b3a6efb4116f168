package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"

	"mailward/audit"
	"mailward/identity"
	"mailward/internal/pg"
)

// newIdentity makes the accounts. A command has no sealer: it reads no secrets,
// and must not make the key as another user than the gateway.
func newIdentity(conf Config, db *pg.DB, log *audit.Log, client *redis.Client, logger *slog.Logger, sealer identity.Sealer, metrics prometheus.Registerer) (*identity.Store, error) {
	return identity.New(db, log, identity.Options{
		Log: logger, Throttle: identity.NewThrottle(client, logger), Sealer: sealer, SpoolDir: conf.subdir("logins"), PublicURL: webAddress(conf), Metrics: metrics,
		Providers: conf.providers(),
		Policy: identity.Policy{Name: conf.Hostname, RequireSecondFactor: conf.Login.SecondFactor == "required", Grace: conf.Login.Grace,
			Idle: conf.Login.SessionIdle, Life: conf.Login.SessionLife},
	})
}

// openIdentity is the accounts for a command.
func openIdentity(ctx context.Context, c *cli, e *env) (*identity.Store, func(), error) {
	conf, err := c.load(e)
	if err != nil {
		return nil, nil, err
	}
	log := quiet(e.err)
	db, done, err := databaseFor(ctx, conf, log)
	if err != nil {
		return nil, nil, err
	}
	events := audit.New(db, audit.Options{Observer: audit.Observer{Node: nodeName(), Version: version}, Log: log})
	store, err := newIdentity(conf, db, events, nil, log, nil, nil)
	if err != nil {
		done()
		return nil, nil, err
	}
	// A token or a user before the first start of the gateway: the first
	// administrator has to be there.
	first, err := store.Bootstrap(ctx, bootstrapOf(conf))
	if err != nil {
		done()
		return nil, nil, err
	}
	if first.Created && first.OneTimePassword != "" {
		fmt.Fprintf(e.err, "The first administrator was made: %s, one-time password %s\n", first.Email, first.OneTimePassword)
	}
	return store, done, nil
}

func bootstrapOf(conf Config) identity.Bootstrap {
	return identity.Bootstrap{Email: adminEmail(conf), Password: conf.Bootstrap.AdminPassword.Value(), FourEyes: conf.Bootstrap.FourEyes}
}

func adminEmail(conf Config) string {
	if conf.Bootstrap.AdminEmail != "" {
		return conf.Bootstrap.AdminEmail
	}
	return "admin@" + conf.Hostname
}

type userCmd struct {
	Create userCreateCmd `cmd:"" help:"Make an account."`
	Reset  userResetCmd  `cmd:"" help:"Give an account a one-time password and end its sessions."`
	Mark   userMarkCmd   `cmd:"" help:"Mark an account as one for emergencies: each login to it is an alarm."`
}

type userResetCmd struct {
	Email   string `required:"" placeholder:"ADDRESS" help:"Whose."`
	Factors bool   `help:"Take the second factors, recovery codes and links with single sign-on away too."`
}

// Run prints the one-time password.
func (cmd *userResetCmd) Run(ctx context.Context, c *cli, e *env) error {
	store, done, err := openIdentity(ctx, c, e)
	if err != nil {
		return err
	}
	defer done()
	u, err := store.UserByEmail(ctx, cmd.Email)
	if err != nil {
		return err
	}
	if cmd.Factors {
		if err := store.ResetFactors(ctx, operator(), nil, u.ID); err != nil {
			return err
		}
	}
	once, err := store.ResetPassword(ctx, operator(), nil, u.ID)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(e.out, "%s: one-time password %s\n", u.Email, once)
	return err
}

type userMarkCmd struct {
	Email string `required:"" placeholder:"ADDRESS" help:"Whose."`
	Off   bool   `help:"Take the mark away."`
}

// Run marks an account.
func (cmd *userMarkCmd) Run(ctx context.Context, c *cli, e *env) error {
	store, done, err := openIdentity(ctx, c, e)
	if err != nil {
		return err
	}
	defer done()
	u, err := store.UserByEmail(ctx, cmd.Email)
	if err != nil {
		return err
	}
	return store.SetBreakGlass(ctx, operator(), u.ID, !cmd.Off)
}

type userCreateCmd struct {
	Email         string          `required:"" placeholder:"ADDRESS" help:"E-mail address, with which the person logs in."`
	Name          string          `placeholder:"NAME" help:"Name to show."`
	Role          []identity.Role `placeholder:"ROLE" help:"Role in the default workspace: admin, analyst, approver, auditor or viewer; may be given several times."`
	InstallRole   []identity.Role `placeholder:"ROLE" help:"Role in the whole installation: operator or auditor; may be given several times."`
	PasswordStdin bool            `help:"Read the password from standard input. Otherwise a one-time password is made and printed."`
}

// Run makes an account and prints its one-time password.
func (cmd *userCreateCmd) Run(ctx context.Context, c *cli, e *env) error {
	if len(cmd.Role)+len(cmd.InstallRole) == 0 {
		return errors.New("an account without a role can do nothing: give --role or --install-role")
	}
	password, once := rand.Text(), true
	if cmd.PasswordStdin {
		b, err := io.ReadAll(io.LimitReader(e.in, 4096))
		if err != nil {
			return err
		}
		if password, once = strings.TrimRight(string(b), "\r\n"), false; password == "" {
			return errors.New("standard input holds no password")
		}
	}
	store, done, err := openIdentity(ctx, c, e)
	if err != nil {
		return err
	}
	defer done()
	user, err := store.CreateUser(ctx, operator(), identity.NewUser{Email: cmd.Email, Name: cmd.Name, Password: password, Roles: cmd.Role, InstallRoles: cmd.InstallRole, MustChange: once})
	if err != nil {
		return err
	}
	if once {
		fmt.Fprintf(e.out, "%s: one-time password %s\n", user.Email, password)
		return nil
	}
	fmt.Fprintf(e.out, "%s\n", user.Email)
	return nil
}

type tokenCmd struct {
	Create tokenCreateCmd `cmd:"" help:"Make a token and print it alone. It is shown only now."`
}

type tokenCreateCmd struct {
	Role    identity.Role `required:"" placeholder:"ROLE" help:"admin, analyst, approver, auditor, viewer or operator."`
	Owner   string        `placeholder:"ADDRESS" help:"Whose token it is. Default: the first administrator."`
	Name    string        `default:"command line" help:"What it is for."`
	Expires time.Duration `placeholder:"DURATION" help:"When it ends, from now: 720h. Default: never."`
}

// Run makes a token.
func (cmd *tokenCreateCmd) Run(ctx context.Context, c *cli, e *env) error {
	store, done, err := openIdentity(ctx, c, e)
	if err != nil {
		return err
	}
	defer done()
	var owner identity.User
	if cmd.Owner == "" {
		owner, err = store.FirstAdmin(ctx)
	} else {
		owner, err = store.UserByEmail(ctx, cmd.Owner)
	}
	if err != nil {
		return fmt.Errorf("find the owner: %w; name one with --owner", err)
	}
	n := identity.NewToken{Name: cmd.Name, Role: cmd.Role, OwnerID: owner.ID}
	if cmd.Expires > 0 {
		n.Expires = time.Now().Add(cmd.Expires)
	}
	plain, _, err := store.CreateToken(ctx, operator(), n)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintln(e.out, plain)
	return err
}
