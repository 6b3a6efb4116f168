package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"mailward/health"
)

type doctorCmd struct {
	Ready bool `help:"Only ask the running gateway whether it takes mail. For health checks of containers."`
}

// readyLimit is under the 5 s that container engines give a health check.
const readyLimit = 4 * time.Second

// Run says what is missing or broken, one line each.
func (cmd *doctorCmd) Run(ctx context.Context, c *cli, e *env) error {
	conf, err := c.load(e)
	if err != nil {
		return err
	}
	if cmd.Ready {
		return ready(ctx, conf, e.out)
	}
	bad := 0
	say := func(ok bool, text string) {
		mark := "ok     "
		if !ok {
			mark, bad = "BROKEN ", bad+1
		}
		fmt.Fprintln(e.out, mark+text)
	}
	say(true, "the configuration is good")
	for _, p := range missingPrograms(conf) {
		say(false, p)
	}
	if err := writable(conf.DataDir); err != nil {
		say(false, "data_dir: "+oneLine(err))
	} else {
		say(true, "data_dir "+conf.DataDir+" can be written to")
	}
	if err := ready(ctx, conf, io.Discard); err != nil {
		say(false, oneLine(err))
		return cmd.end(bad)
	}
	say(true, "the gateway runs and takes mail")
	servers, err := findServers(ctx, conf, needs{database: true, redis: true, clamd: true, scanner: true}, quiet(e.err))
	if err != nil {
		say(false, oneLine(err))
		return cmd.end(bad)
	}
	defer servers.stop(ctx)
	report, err := checkOnce(ctx, conf, servers, quiet(e.err))
	if err != nil {
		say(false, oneLine(err))
		return cmd.end(bad)
	}
	for _, s := range report.Components {
		say(s.State == health.Up || s.State == health.NotConfigured, s.Title+": "+s.Reason)
	}
	return cmd.end(bad)
}

func (cmd *doctorCmd) end(bad int) error {
	if bad > 0 {
		return exitCode{1, nil}
	}
	return nil
}

// ready asks /readyz over the loopback.
func ready(ctx context.Context, conf Config, out io.Writer) error {
	ctx, cancel := context.WithTimeout(ctx, readyLimit)
	defer cancel()
	url := "http://" + dialable(conf.HTTP.Listen) + "/readyz"
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	r, err := http.DefaultClient.Do(req)
	if err != nil {
		return fmt.Errorf("no gateway answers on %s: start it with mailward serve", url)
	}
	defer r.Body.Close()
	if r.StatusCode != http.StatusOK {
		return fmt.Errorf("the gateway runs but does not take mail (%s says %d): look at the health page", url, r.StatusCode)
	}
	_, err = fmt.Fprintln(out, "ready")
	return err
}

// missingPrograms names what an embedded server needs and the machine lacks.
func missingPrograms(conf Config) (list []string) {
	need := func(configured bool, key string, there func() bool, what string) {
		if !configured && !there() {
			list = append(list, fmt.Sprintf("%s is not installed: run `make setup`, or set %s", what, key))
		}
	}
	found := func(names ...string) func() bool {
		return func() bool {
			for _, n := range names {
				if _, err := exec.LookPath(n); err == nil {
					return true
				}
				if m, _ := filepath.Glob(n); len(m) > 0 {
					return true
				}
			}
			return false
		}
	}
	need(conf.Database.URL.Value() != "", "database.url", found("postgres", "/usr/lib/postgresql/*/bin/postgres"), "PostgreSQL")
	need(conf.Redis.URL.Value() != "", "redis.url", found("redis-server"), "Redis")
	need(conf.ClamAV.Address != "", "clamav.address", found("clamd", "/usr/sbin/clamd"), "ClamAV")
	self, err := os.Executable()
	need(conf.Scanner.Socket != "", "scanner.socket", func() bool {
		if err != nil {
			return false
		}
		_, err := os.Stat(filepath.Join(filepath.Dir(self), "mailward-scanner"))
		return err == nil
	}, "mailward-scanner")
	return list
}

func writable(dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	f, err := os.CreateTemp(dir, ".doctor")
	if err != nil {
		return err
	}
	f.Close()
	return os.Remove(f.Name())
}

func webAddress(conf Config) string {
	if conf.HTTP.PublicURL != "" {
		return strings.TrimRight(conf.HTTP.PublicURL, "/")
	}
	a := dialable(conf.HTTP.Listen)
	return "http://" + strings.Replace(a, "127.0.0.1:", "localhost:", 1)
}
