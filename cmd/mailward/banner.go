package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"slices"
	"time"

	"mailward/audit"
	"mailward/identity"
)

// banner tells a person at the terminal where everything is. It goes to
// standard error: standard output belongs to the stream of audit events.
func banner(w io.Writer, conf Config, first identity.BootstrapResult, testSignatures bool) {
	smtp := dialable(conf.SMTP.Listen[0])
	fmt.Fprintf(w, "\nMailward runs.\n\n  Web UI   %s\n", webAddress(conf))
	if first.Created {
		fmt.Fprintf(w, "  Login    %s\n", first.Email)
		if first.OneTimePassword != "" {
			fmt.Fprintf(w, "  Password %s   (one time: you choose your own at the first login; it is shown only now)\n", first.OneTimePassword)
		}
	}
	fmt.Fprintf(w, "  SMTP     %s\n", smtp)
	if conf.embeddedSink() {
		fmt.Fprintf(w, "  Takes    mail for %s; what passes is kept in %s\n", demoDomain, conf.subdir("sink"))
		fmt.Fprintf(w, "\nSend a first mail:  %s send --to %s samples/01-clean-text.eml\nOr a set of them:   make demo\n", os.Args[0], smtp)
	}
	for engine, what := range map[string]string{"yara": "YARA and the look into MIME and archives", "clamav": "ClamAV"} {
		if !conf.Scanner.uses(engine) {
			fmt.Fprintf(w, "\nWARNING: scanner.engines leaves out %s. Mail passes WITHOUT it. This is for measuring only.\n", what)
		}
	}
	if testSignatures {
		fmt.Fprint(w, "\nClamAV knows only the EICAR test file: no signatures were found on this machine.\nFor real protection install clamav-freshclam, let it run, and start again.\n")
	}
	fmt.Fprintln(w)
}

// quietLimit bounds how long a first start waits for its own events.
const quietLimit = 5 * time.Second

// quiet waits until the events of the first start are out on standard output: they
// would push what is shown only once out of the window.
func (p *program) quiet(ctx context.Context) {
	for end := time.Now().Add(quietLimit); time.Now().Before(end) && ctx.Err() == nil; time.Sleep(100 * time.Millisecond) {
		s, err := p.audit.Status(ctx)
		if err != nil {
			return
		}
		sinks, err := p.audit.Sinks(ctx)
		if err != nil {
			return
		}
		out := slices.IndexFunc(sinks, func(k audit.SinkStatus) bool { return k.Name == audit.Writer{}.Name() })
		if s.Waiting == 0 && out >= 0 && sinks[out].Waiting == 0 && s.LastSeq >= 0 {
			return
		}
	}
}
