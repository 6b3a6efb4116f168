package main

import (
	"context"
	"embed"
	"fmt"
	"strings"

	"mailward/internal/pg"
)

//go:embed queries/*.sql
var queryFiles embed.FS

type migrateCmd struct {
	AdminURL    string `name:"admin-url" env:"MAILWARD_ADMIN_URL" placeholder:"URL" help:"Superuser's connection to an outside database; also file:/path or env:NAME. Not needed for the embedded one."`
	AppPassword string `name:"app-password" env:"MAILWARD_APP_PASSWORD" placeholder:"PASSWORD" help:"Password that the runtime role mailward_app shall have; also file:/path or env:NAME."`
	AcceptGuard bool   `help:"Take what the self-check of the audit's guard complains about as right from now on. That goes on record."`
}

// Run brings the schema up to date and says how well the audit is guarded.
func (cmd *migrateCmd) Run(ctx context.Context, c *cli, e *env) error {
	conf, err := c.load(e)
	if err != nil {
		return err
	}
	admin, err := cmd.secret(cmd.AdminURL, "--admin-url", e)
	if err != nil {
		return err
	}
	password, err := cmd.secret(cmd.AppPassword, "--app-password", e)
	if err != nil {
		return err
	}
	log := quiet(e.err)
	if admin == "" {
		if conf.Database.URL.Value() != "" {
			return fmt.Errorf("database.url is the runtime role, which may not change the schema: give a superuser's connection with --admin-url")
		}
		b, err := findServers(ctx, conf, needs{database: true}, log)
		if err != nil {
			return err
		}
		defer b.stop(ctx)
		admin = b.adminURL
	}
	report, err := pg.Migrate(ctx, admin, pg.MigrateOptions{AppPassword: password, Version: version, AcceptGuard: cmd.AcceptGuard}, log)
	if err != nil {
		return err
	}
	applied := "nothing to do"
	if len(report.Applied) > 0 {
		applied = "applied " + strings.Join(report.Applied, ", ")
	}
	fmt.Fprintf(e.out, "%s; guard of the audit: %s\n", applied, report.Guard)
	for _, f := range report.Findings {
		fmt.Fprintln(e.out, "The guard complains:", f)
	}
	if report.Guard != "full" {
		fmt.Fprintln(e.out, "The guard is reduced because the connection is not a superuser's: see docs/security.md.")
	}
	return nil
}

func (cmd *migrateCmd) secret(reference, flag string, e *env) (string, error) {
	s := Secret{reference: reference}
	err := s.resolve(func(name string) (string, bool) {
		for _, v := range e.environ {
			if value, ok := strings.CutPrefix(v, name+"="); ok {
				return value, true
			}
		}
		return "", false
	})
	if err != nil {
		return "", fmt.Errorf("%s: %w", flag, err)
	}
	return s.Value(), nil
}
