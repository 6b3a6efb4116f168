package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
)

// gateway is a started `mailward serve` with its embedded servers and a data
// folder of its own.
type gateway struct {
	dir, data, smtp, http, debug string
	binary                       string
	enginesOff                   bool
	service                      *service
}

// startGateway runs it with the lines in conf added to a plain configuration.
func startGateway(ctx context.Context, b *bed, hop, conf string) (*gateway, error) {
	binary, err := filepath.Abs(b.binary)
	if err != nil {
		return nil, err
	}
	// A folder of its own: when it does not end in order, it is kept.
	dir, err := os.MkdirTemp("", "mwb")
	if err != nil {
		return nil, err
	}
	g := &gateway{dir: dir, data: filepath.Join(dir, "d"), binary: binary, enginesOff: strings.Contains(conf, "engines: [")}
	if err := os.Chmod(dir, 0o755); err != nil {
		return g, err
	}
	addrs, err := freeAddresses(3)
	if err != nil {
		return g, err
	}
	g.smtp, g.http, g.debug = addrs[0], addrs[1], addrs[2]
	file := filepath.Join(dir, "mailward.yaml")
	text := fmt.Sprintf("hostname: mx.%s\ndata_dir: %s\nsmtp: {listen: [%q]}\nrelay: {domains: {%s: %q}}\nlimits: {enabled: false}\ndns: {server: %q}\nhttp: {listen: %q}\ndebug: {listen: %q}\nbootstrap: {admin_email: admin@%s, four_eyes: single_operator}\n",
		domain, g.data, g.smtp, domain, hop, b.resolver, g.http, g.debug, domain) + conf
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		return g, err
	}
	if g.service, err = startService(dir, "mailward", binary, "serve", "--config", file); err != nil {
		return g, err
	}
	return g, g.service.waitFor(ctx, 2*time.Minute, g.ready)
}

func (g *gateway) ready(ctx context.Context) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+g.http+"/readyz", nil)
	if err != nil {
		return err
	}
	r, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	r.Body.Close()
	if r.StatusCode == http.StatusOK {
		return nil
	}
	if g.enginesOff { // It takes mail, and never calls itself ready.
		return listening("tcp", g.smtp)(ctx)
	}
	return errors.New(r.Status)
}

// tree is the process and its servers, each booked under its program.
func (g *gateway) tree() tree { return tree{name: "mailward", root: g.service.pid(), byProgram: true} }

// database connects as the superuser of the embedded PostgreSQL.
func (g *gateway) database(ctx context.Context) (*pgx.Conn, error) {
	return pgx.Connect(ctx, "host="+filepath.Join(g.data, "run")+" user=postgres dbname=mailward")
}

// quarantined returns how often each token is in quarantine.
func (g *gateway) quarantined(ctx context.Context) (map[string]int, error) {
	c, err := g.database(ctx)
	if err != nil {
		return nil, fmt.Errorf("look into the quarantine: %w", err)
	}
	defer c.Close(ctx)
	rows, err := c.Query(ctx, "SELECT message_id, sha256 FROM quarantine_item")
	if err != nil {
		return nil, fmt.Errorf("look into the quarantine: %w", err)
	}
	found := map[string]int{}
	var id string
	var sum []byte
	_, err = pgx.ForEachRow(rows, []any{&id, &sum}, func() error {
		token, _, _ := strings.Cut(strings.Trim(id, "<> "), "@")
		if token == "" { // without the scanner nobody reads headers
			token = string(sum)
		}
		found[token]++
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("look into the quarantine: %w", err)
	}
	return found, nil
}

// profile takes a CPU profile for so long into a file of dir, and beside it
// where the time went.
func (g *gateway) profile(ctx context.Context, dir, name string, length time.Duration) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, fmt.Sprintf("http://%s/debug/pprof/profile?seconds=%d", g.debug, max(1, int(length.Seconds()))), nil)
	if err != nil {
		return err
	}
	r, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer r.Body.Close()
	if r.StatusCode != http.StatusOK {
		return fmt.Errorf("profile: %s", r.Status)
	}
	file := filepath.Join(dir, name+".pprof")
	f, err := os.Create(file)
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err := io.Copy(f, r.Body); err != nil {
		return err
	}
	out, err := exec.CommandContext(ctx, "go", "tool", "pprof", "-top", "-cum", "-nodecount=80", g.binary, file).CombinedOutput()
	if err != nil {
		return fmt.Errorf("go tool pprof: %w\n%s", err, out)
	}
	return os.WriteFile(filepath.Join(dir, name+".txt"), out, 0o644)
}

// stop ends the gateway as an operator would. The folder goes too, unless it
// did not end in order.
func (g *gateway) stop() {
	if g == nil {
		return
	}
	if !g.service.stop(time.Minute) {
		fmt.Fprintf(os.Stderr, "mailward serve did not end within a minute of SIGTERM; its folder is kept: %s\n", g.dir)
		return
	}
	os.RemoveAll(g.dir)
}
