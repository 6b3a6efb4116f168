package main

import (
	"fmt"
	"io"
	"os"

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
