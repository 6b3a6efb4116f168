// Command mailward is the gateway, its web UI, its workers and every command
// around them.
//
// main only turns arguments and signals into a call and the result into an
// exit code. serve.go builds the running program, top to bottom on one page.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	_ "time/tzdata" // the container image has no zone files, and zones are part of alert rules, digests and deadlines

	"github.com/alecthomas/kong"

	"mailward/internal/timerslack"
)

// version is set when the binary is linked.
var version = "development"

func main() {
	if slices.Contains(os.Args[1:], "serve") {
		if err := timerslack.Widen(); err != nil {
			fmt.Fprintf(os.Stderr, "mailward: it will need more processor time: %v\n", err)
		}
	}
	ctx, cancel := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, env{args: os.Args[1:], environ: os.Environ(), in: os.Stdin, out: os.Stdout, err: os.Stderr})
	cancel()
	os.Exit(code)
}

// env is what a command sees of the world.
type env struct {
	args    []string
	environ []string
	in      io.Reader
	out     io.Writer
	err     io.Writer
}

// defaultConfigFile is read when no other is named and it is there.
const defaultConfigFile = "/etc/mailward/mailward.yaml"

// cli is every command with its flags.
type cli struct {
	Config string `help:"Configuration file. Default: ${config}, where it is there." env:"MAILWARD_CONFIG" placeholder:"FILE"`

	Serve   serveCmd      `cmd:"" help:"Run the gateway, the web UI and the workers, with embedded servers where none are configured."`
	Migrate migrateCmd    `cmd:"" help:"Bring the database up to date."`
	Conf    configCmd     `cmd:"" name:"config" help:"Print the commented reference of the configuration, or check a configuration."`
	Scan    scanCmd       `cmd:"" help:"Scan a mail and print the verdict as JSON. Exit code 0: clean, 1: something found, 2: no verdict."`
	Send    sendCmd       `cmd:"" help:"Send mail files over SMTP."`
	Sink    sinkCmd       `cmd:"" help:"Take any mail over SMTP and keep it in a Maildir. For trying things out."`
	User    userCmd       `cmd:"" help:"Manage people who may log in."`
	Token   tokenCmd      `cmd:"" help:"Manage tokens of the HTTP API."`
	Audit   auditCmd      `cmd:"" help:"Read the audit."`
	Quar    quarantineCmd `cmd:"" name:"quarantine" help:"Look after the bytes of held mail and their keys."`
	Evid    evidenceCmd   `cmd:"" name:"evidence" help:"Export held mails as evidence."`
	Receipt receiptCmd    `cmd:"" help:"Check evidence, offline."`
	Inc     incidentCmd   `cmd:"" name:"incident" help:"Calculate the deadlines of an incident that has to be reported."`
	Demo    demoCmd       `cmd:"" help:"Send the mails of a folder, and two that are made on the spot, through the running gateway, and say what became of each."`
	DKIM    dkimCmd       `cmd:"" name:"dkim" help:"Print the DNS records of the keys that mail is signed with, and say whether they are published."`
	Doctor  doctorCmd     `cmd:"" help:"Say what is missing or broken."`
	Version versionCmd    `cmd:"" help:"Print the version."`
}

// exitCode is an error that ends the program with a code of its own. Its cause
// may be nil: then everything has been said.
type exitCode struct {
	code  int
	cause error
}

func (e exitCode) Error() string {
	if e.cause == nil {
		return ""
	}
	return e.cause.Error()
}

func (e exitCode) Unwrap() error { return e.cause }

// run is main without the process: arguments in, exit code out. An error is
// one line on stderr.
func run(ctx context.Context, e env) int {
	var c cli
	stopped := -1
	parser, err := kong.New(&c, kong.Name("mailward"), kong.Description("Mail security gateway."),
		kong.Vars{"config": defaultConfigFile}, incidentVars(), kong.Writers(e.out, e.err), kong.Exit(func(code int) { stopped = code }),
		kong.BindTo(ctx, (*context.Context)(nil)), kong.Bind(&e), kong.ConfigureHelp(kong.HelpOptions{Compact: true}))
	if err != nil {
		fmt.Fprintln(e.err, "mailward:", err)
		return 2
	}
	call, err := parser.Parse(e.args)
	if stopped >= 0 { // --help
		return stopped
	}
	if err != nil {
		fmt.Fprintf(e.err, "mailward: %s; see mailward --help\n", oneLine(err))
		return 2
	}
	if c.Config == "" {
		if _, err := os.Stat(defaultConfigFile); err == nil {
			c.Config = defaultConfigFile
		}
	}
	err = call.Run(&c)
	var code exitCode
	switch {
	case err == nil:
		return 0
	case errors.As(err, &code):
		if code.cause != nil {
			fmt.Fprintln(e.err, "mailward:", oneLine(err))
		}
		return code.code
	}
	fmt.Fprintln(e.err, "mailward:", oneLine(err))
	return 1
}

func oneLine(err error) string { return strings.Join(strings.Fields(err.Error()), " ") }

// load reads the configuration that the command line names.
func (c *cli) load(e *env) (Config, error) { return loadConfig(c.Config, e.environ) }

// logger writes JSON lines for operators. Standard output belongs to the
// stream of audit events.
func logger(w io.Writer) *slog.Logger {
	return slog.New(slog.NewJSONHandler(w, &slog.HandlerOptions{Level: slog.LevelInfo}))
}

// quiet is the logger of commands that are over in a moment: warnings only.
func quiet(w io.Writer) *slog.Logger {
	return slog.New(slog.NewTextHandler(w, &slog.HandlerOptions{Level: slog.LevelError}))
}

type versionCmd struct{}

// Run prints the version.
func (versionCmd) Run(e *env) error {
	_, err := fmt.Fprintln(e.out, version)
	return err
}
