// Command mailward-scanner is the scanner sidecar: it opens hostile mail so that
// the gateway does not have to. See package mailward/scanner/sidecar.
package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"runtime"
	"syscall"
	"time"

	"github.com/alecthomas/kong"

	"mailward/internal/timerslack"
	"mailward/scanner/sidecar"
)

// options are the command line.
type options struct {
	Socket         string   `help:"Unix socket to listen on." placeholder:"PATH"`
	Rules          []string `help:"Folder with YARA rules (*.yar, *.yara). Can be given again." placeholder:"DIR"`
	Managed        string   `help:"Folder into which the gateway writes the rule sets that are managed in its web UI." placeholder:"DIR"`
	NoBuiltinRules bool     `help:"Leave out the rules that come with Mailward."`
	Workers        int      `help:"Worker processes. Default: two for each processor." default:"0"`
	User           string   `help:"User to change to. Needs root." placeholder:"NAME"`
	SocketMode     string   `help:"Mode of the socket, octal." default:"0666"`
	MemoryLimit    int64    `help:"Memory of one worker, in MiB." default:"2048"`
	Check          bool     `help:"Ask a running scanner whether it works, and exit 0 or 1."`
	CheckRules     bool     `help:"Compile the rules, print what is wrong with them, and exit 0 or 1."`

	Worker  bool   `hidden:"" help:"Run as a worker."`
	Jail    string `hidden:"" help:"Empty folder that a worker of root is locked into."`
	RulesFD int    `hidden:"" help:"Open file with the rules, from the parent."`
}

func main() {
	var opt options
	kong.Parse(&opt, kong.Name("mailward-scanner"), kong.Description("Takes mails apart and matches YARA rules, for mailward."))
	log := slog.New(slog.NewJSONHandler(os.Stderr, nil))
	if err := run(opt, log); err != nil {
		fmt.Fprintf(os.Stderr, "mailward-scanner: %v\n", err)
		os.Exit(1)
	}
}

func run(opt options, log *slog.Logger) error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	switch {
	case opt.Worker:
		return runWorker(ctx, opt, log)
	case opt.CheckRules:
		n, err := checkRules(opt)
		if err != nil {
			return err
		}
		fmt.Printf("%d rules\n", n)
		return nil
	case opt.Socket == "":
		return errors.New("--socket is needed")
	case opt.Check:
		return check(opt.Socket)
	}
	if err := timerslack.Widen(); err != nil {
		log.Warn("the scanner will need more processor time", "error", err)
	}
	return runParent(ctx, opt, log)
}

// check asks a running scanner for its rules.
func check(socket string) error {
	conn, err := net.DialTimeout("unix", socket, 3*time.Second)
	if err != nil {
		return fmt.Errorf("no scanner at %s: is it running?", socket)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(3 * time.Second))
	resp, err := sidecar.Exchange(conn.(*net.UnixConn), sidecar.Request{Op: sidecar.OpPing})
	if err != nil {
		return fmt.Errorf("the scanner at %s does not answer: %w", socket, err)
	}
	fmt.Printf("ok: libyara %s, %d rules, version %s\n", resp.Version, resp.Rules, resp.RulesVersion)
	return nil
}

func workerCount(opt options) int {
	if opt.Workers > 0 {
		return opt.Workers
	}
	return 2 * runtime.NumCPU()
}
