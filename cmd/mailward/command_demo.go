package main

import (
	"bytes"
	"context"
	"encoding/base64"
	"maps"
	"slices"

	"fmt"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"github.com/google/uuid"

	"mailward/gateway/ledger"
)

type demoCmd struct {
	Dir string `arg:"" help:"Folder of mail files (*.eml)."`
	To  string `placeholder:"ADDRESS" help:"Recipient; its domain must be served. Without it: you, at the first domain of relay.domains."`
}

// demoMail is one mail to show.
type demoMail struct {
	name, from string
	raw        []byte
}

var mailIDIn = regexp.MustCompile(`[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}`)

// Run sends the mails and tells what became of each.
func (cmd *demoCmd) Run(ctx context.Context, c *cli, e *env) error {
	conf, err := c.load(e)
	if err != nil {
		return err
	}
	mails, err := cmd.mails(time.Now())
	if err != nil {
		return err
	}
	if cmd.To == "" {
		cmd.To = "you@" + demoDomain
		if ours := slices.Sorted(maps.Keys(conf.Relay.Domains)); len(ours) > 0 {
			cmd.To = "you@" + ours[0]
		}
	}
	addr := dialable(conf.SMTP.Listen[0])
	if conn, err := net.DialTimeout("tcp", addr, 2*time.Second); err != nil {
		return fmt.Errorf("no gateway listens on %s: start it with `make run` first", addr)
	} else {
		conn.Close()
	}
	log := quiet(e.err)
	db, done, err := databaseFor(ctx, conf, log)
	if err != nil {
		return err
	}
	defer done()
	book := ledger.New(db, log)
	defer book.Close()
	base := webAddress(conf)
	for _, m := range mails {
		text, err := sendMail(ctx, addr, m.from, []string{cmd.To}, m.raw)
		if err != nil {
			text = oneLine(err)
		}
		fmt.Fprintf(e.out, "%s\n    reply: %s\n", m.name, text)
		if became, link := becameOf(ctx, book, text); became != "" {
			fmt.Fprintf(e.out, "    %s\n    %s%s\n", became, base, link)
		}
	}
	fmt.Fprintf(e.out, "\nHeld mail: %s/quarantine\nWhat the audit says: %s/audit\n", base, base)
	return nil
}

// mails reads the folder and makes the two mails that no file may hold: EICAR,
// which would set off scanners on the source, and a bare LF, which is broken.
func (cmd *demoCmd) mails(now time.Time) ([]demoMail, error) {
	files, err := filepath.Glob(filepath.Join(cmd.Dir, "*.eml"))
	if err != nil || len(files) == 0 {
		return nil, fmt.Errorf("there is no *.eml in %s", cmd.Dir)
	}
	run := fmt.Sprintf("%x", now.UnixNano())
	var mails []demoMail
	for _, f := range files {
		raw, err := os.ReadFile(f)
		if err != nil {
			return nil, err
		}
		m := demoMail{name: filepath.Base(f), from: "sender@example.com", raw: withID(crlf(raw), run)}
		if strings.Contains(m.name, "bounce") {
			m.from = "" // RFC 5321 §4.5.5
		}
		mails = append(mails, m)
	}
	header := "From: Demo <sender@example.com>\r\nTo: " + cmd.To + "\r\nSubject: %s\r\nDate: " + now.UTC().Format(time.RFC1123Z) + "\r\nMessage-ID: <%s." + run + "@example.com>\r\nMIME-Version: 1.0\r\n"
	eicar := base64.StdEncoding.EncodeToString([]byte(`X5O!P%@AP[4\PZX54(P^)7CC)7}$EICAR` + `-STANDARD-ANTIVIRUS-TEST-FILE!$H+H*`))
	return append(mails,
		demoMail{name: "EICAR test file as attachment (made now)", from: "sender@example.com", raw: fmt.Appendf(nil, header+
			"Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\nContent-Type: text/plain\r\n\r\nThe test file is attached.\r\n--b\r\nContent-Type: application/octet-stream; name=\"eicar.com\"\r\n"+
			"Content-Disposition: attachment; filename=\"eicar.com\"\r\nContent-Transfer-Encoding: base64\r\n\r\n%s\r\n--b--\r\n", "Your parcel", "eicar", eicar)},
		demoMail{name: "mail with a bare LF (made now)", from: "sender@example.com", raw: fmt.Appendf(nil, header+"\r\nThis line ends in LF alone\nand that is refused.\r\n", "Broken line ends", "lf")},
	), nil
}

// withID makes each demo a new mail: the same one again would count as a retry
// of its sender.
func withID(raw []byte, run string) []byte {
	return bytes.Replace(raw, []byte("Message-ID: <sample-"), []byte("Message-ID: <"+run+"-sample-"), 1)
}

// becameOf looks the mail of a reply up in the ledger, and says where its page is.
func becameOf(ctx context.Context, book *ledger.Ledger, text string) (became, link string) {
	all := mailIDIn.FindAllString(text, -1)
	if len(all) == 0 {
		return "", ""
	}
	id, err := uuid.Parse(all[len(all)-1]) // ours stands last
	if err != nil {
		return "", ""
	}
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	for {
		row, outcomes, err := book.Get(ctx, id)
		if err == nil && len(outcomes) > 0 {
			link = "/messages/" + id.String()
			if item, held := strings.CutPrefix(outcomes[0].Text, "held as "); held {
				link = "/quarantine/" + item
			}
			return fmt.Sprintf("%s -> %s: %s", row.Class, outcomes[0].State, strings.Join(row.Reasons, "; ")), link
		}
		select {
		case <-ctx.Done():
			return "", ""
		case <-time.After(50 * time.Millisecond): // outcomes follow the reply
		}
	}
}

// dialable turns an address to listen on into one to connect to.
func dialable(listen string) string {
	host, port, err := net.SplitHostPort(listen)
	if err != nil {
		return listen
	}
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		host = "127.0.0.1"
	}
	return net.JoinHostPort(host, port)
}
