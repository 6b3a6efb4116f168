package main

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
)

// gateway is a started `mailward serve` with its embedded servers and a data
// folder of its own.
type gateway struct {
	dir, data, smtp, http string
	cmd                   *exec.Cmd
	exited                chan struct{}
	logFile               *os.File
}

func startGateway(ctx context.Context, binary, hop, resolver string) (*gateway, error) {
	binary, err := filepath.Abs(binary)
	if err != nil {
		return nil, err
	}
	// Unix sockets live below: the path has to be short, and other users of the
	// embedded servers have to pass through it.
	dir, err := os.MkdirTemp("", "mwb")
	if err != nil {
		return nil, err
	}
	g := &gateway{dir: dir, data: filepath.Join(dir, "d"), exited: make(chan struct{})}
	if err := os.Chmod(dir, 0o755); err != nil {
		return g, err
	}
	if g.smtp, err = freeAddress(); err != nil {
		return g, err
	}
	if g.http, err = freeAddress(); err != nil {
		return g, err
	}
	conf := filepath.Join(dir, "mailward.yaml")
	text := fmt.Sprintf("hostname: mx.%s\ndata_dir: %s\nsmtp: {listen: [%q]}\nrelay: {domains: {%s: %q}}\nlimits: {enabled: false}\ndns: {server: %q}\nhttp: {listen: %q}\nbootstrap: {admin_email: admin@%s, four_eyes: single_operator}\n",
		domain, g.data, g.smtp, domain, hop, resolver, g.http, domain)
	if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
		return g, err
	}
	if g.logFile, err = os.Create(filepath.Join(dir, "log")); err != nil {
		return g, err
	}
	g.cmd = exec.Command(binary, "serve", "--config", conf)
	g.cmd.Stdout, g.cmd.Stderr = g.logFile, g.logFile
	// In a group of its own, so that ^C ends it through us and in order.
	g.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := g.cmd.Start(); err != nil {
		return g, fmt.Errorf("start %s: %w", binary, err)
	}
	go func() { g.cmd.Wait(); close(g.exited) }()
	return g, g.waitReady(ctx)
}

func (g *gateway) waitReady(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	for {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+g.http+"/readyz", nil)
		if err != nil {
			return err
		}
		if r, err := http.DefaultClient.Do(req); err == nil {
			r.Body.Close()
			if r.StatusCode == http.StatusOK {
				return nil
			}
		}
		select {
		case <-g.exited:
			return fmt.Errorf("mailward serve ended:\n%s", g.lastLog())
		case <-ctx.Done():
			return fmt.Errorf("mailward serve is not ready: %w\n%s", ctx.Err(), g.lastLog())
		case <-time.After(100 * time.Millisecond):
		}
	}
}

func (g *gateway) lastLog() string {
	b, _ := os.ReadFile(filepath.Join(g.dir, "log"))
	lines := strings.Split(strings.TrimSpace(string(b)), "\n")
	return strings.Join(lines[max(0, len(lines)-20):], "\n")
}

func (g *gateway) clamd() string { return filepath.Join(g.data, "run", "clamd.sock") }

// quarantined returns how often each token is in quarantine.
func (g *gateway) quarantined(ctx context.Context) (map[string]int, error) {
	c, err := pgx.Connect(ctx, "host="+filepath.Join(g.data, "run")+" user=postgres dbname=mailward")
	if err != nil {
		return nil, fmt.Errorf("look into the quarantine: %w", err)
	}
	defer c.Close(ctx)
	rows, err := c.Query(ctx, "SELECT message_id FROM quarantine_item")
	if err != nil {
		return nil, fmt.Errorf("look into the quarantine: %w", err)
	}
	ids, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return nil, fmt.Errorf("look into the quarantine: %w", err)
	}
	found := map[string]int{}
	for _, id := range ids {
		token, _, _ := strings.Cut(strings.Trim(id, "<> "), "@")
		found[token]++
	}
	return found, nil
}

// stop ends the gateway as an operator would. The folder goes too, unless it
// did not end in order.
func (g *gateway) stop() {
	if g == nil {
		return
	}
	clean := true
	if g.cmd != nil && g.cmd.Process != nil {
		g.cmd.Process.Signal(syscall.SIGTERM)
		select {
		case <-g.exited:
		case <-time.After(time.Minute):
			clean = false
			g.cmd.Process.Kill()
			<-g.exited
		}
	}
	if g.logFile != nil {
		g.logFile.Close()
	}
	if !clean {
		fmt.Fprintf(os.Stderr, "mailward serve did not end within a minute of SIGTERM; its folder is kept: %s\n", g.dir)
		return
	}
	os.RemoveAll(g.dir)
}

func freeAddress() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer l.Close()
	return l.Addr().String(), nil
}
