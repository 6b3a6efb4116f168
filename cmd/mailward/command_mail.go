package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/mail"
	"os"
	"path/filepath"
	"strings"

	"mailward/gateway"
	"mailward/gateway/hop"
)

func readMail(path string, e *env) ([]byte, error) {
	if path != "-" {
		return os.ReadFile(path)
	}
	var b bytes.Buffer
	_, err := b.ReadFrom(e.in)
	return b.Bytes(), err
}

// crlf gives a mail file the line ends of SMTP. One that has them all is left
// as it is, and so is a CR that stands alone: that is no habit of editors.
func crlf(b []byte) []byte {
	if bytes.Count(b, []byte("\n")) == bytes.Count(b, []byte("\r\n")) {
		return b
	}
	return bytes.ReplaceAll(bytes.ReplaceAll(b, []byte("\r\n"), []byte("\n")), []byte("\n"), []byte("\r\n"))
}

type sendCmd struct {
	To    string   `required:"" placeholder:"HOST:PORT" help:"The server to send to."`
	From  *string  `placeholder:"ADDRESS" help:"Envelope sender. Default: the address in From. Empty: the null sender."`
	Rcpt  []string `placeholder:"ADDRESS" help:"Envelope recipient; may be given several times. Default: the addresses in To and Cc."`
	Raw   bool     `help:"Send the bytes as they are, also with line ends that SMTP forbids."`
	Files []string `arg:"" name:"file" help:"Mail files, or - for standard input."`
}

// Run sends each file in a transaction of its own and prints the replies.
func (cmd *sendCmd) Run(ctx context.Context, e *env) error {
	failed := 0
	for _, path := range cmd.Files {
		raw, err := readMail(path, e)
		if err != nil {
			return err
		}
		if !cmd.Raw {
			raw = crlf(raw)
		}
		from, to, err := cmd.envelope(raw)
		if err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		text, err := sendMail(ctx, cmd.To, from, to, raw)
		if err != nil {
			failed++
			text = oneLine(err)
		}
		fmt.Fprintf(e.out, "%s: %s\n", path, text)
	}
	if failed > 0 {
		return exitCode{1, fmt.Errorf("%d of %d mails were not accepted", failed, len(cmd.Files))}
	}
	return nil
}

// sendMail hands one mail over and returns the reply to its final dot.
func sendMail(ctx context.Context, server, from string, to []string, raw []byte) (string, error) {
	eightBit := bytes.ContainsFunc(raw, func(r rune) bool { return r >= 0x80 })
	// What a server makes of line ends that SMTP forbids is what people want to see.
	t := hop.Transfer{From: from, Size: int64(len(raw)), EightBit: eightBit, Raw: true, Body: bytes.NewReader(raw)}
	for _, r := range to {
		t.To = append(t.To, hop.Recipient{Address: r})
	}
	hops := hop.New(hop.Config{Hostname: nodeName()})
	defer hops.Close()
	res := hops.Send(ctx, server, t)
	for addr, no := range res.Refused {
		res.Err = errors.Join(res.Err, fmt.Errorf("recipient %s: %w", addr, no))
	}
	if res.Err != nil {
		// From here the server is no next hop, just the one that was asked.
		return "", errors.New(strings.ReplaceAll(oneLine(res.Err), "next hop replied ", ""))
	}
	return strings.Join(strings.Fields(fmt.Sprintf("%d %s %s", res.Reply.Code, res.Reply.Enhanced, res.Reply.Text)), " "), nil
}

// envelope takes sender and recipients from the flags, or else from the header.
func (cmd *sendCmd) envelope(raw []byte) (from string, to []string, err error) {
	to = cmd.Rcpt
	if cmd.From != nil {
		from = *cmd.From
	}
	if cmd.From != nil && len(to) > 0 {
		return from, to, nil
	}
	m, err := mail.ReadMessage(bytes.NewReader(raw))
	if err != nil {
		return "", nil, fmt.Errorf("it has no readable header, so give --from and --rcpt: %w", err)
	}
	if cmd.From == nil {
		list, err := m.Header.AddressList("From")
		if err != nil {
			return "", nil, fmt.Errorf("its From cannot be read, so give --from: %w", err)
		}
		from = list[0].Address
	}
	for _, field := range []string{"To", "Cc"} {
		if len(cmd.Rcpt) > 0 || m.Header.Get(field) == "" {
			continue
		}
		list, err := m.Header.AddressList(field)
		if err != nil {
			return "", nil, fmt.Errorf("its %s cannot be read, so give --rcpt: %w", field, err)
		}
		for _, a := range list {
			to = append(to, a.Address)
		}
	}
	if len(to) == 0 {
		return "", nil, errors.New("it names no recipient, so give --rcpt")
	}
	return from, to, nil
}

type sinkCmd struct {
	Listen string `required:"" placeholder:"ADDRESS" help:"host:port to listen on."`
	Dir    string `required:"" placeholder:"DIR" help:"Maildir to keep the mail in."`
}

// Run takes mail until it is told to end.
func (cmd *sinkCmd) Run(ctx context.Context, e *env) error {
	dir, err := filepath.Abs(cmd.Dir)
	if err != nil {
		return err
	}
	sink, err := gateway.NewSink(dir, logger(e.err))
	if err != nil {
		return err
	}
	l, err := net.Listen("tcp", cmd.Listen)
	if err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	fmt.Fprintf(e.err, "taking mail on %s, keeping it in %s\n", l.Addr(), dir)
	done := make(chan error, 1)
	go func() { done <- sink.Serve(l) }()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		sink.Close()
		<-done
		return nil
	}
}
