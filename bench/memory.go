package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
)

const (
	crowd         = 500
	crowdMail     = 20 << 20
	crowdMemory   = 400 << 20        // what the gateway's process may take
	crowdLimit    = 10 * time.Minute // for all of it
	crowdInterval = 100 * time.Millisecond
)

// measureMemory has 500 clients send a mail of 20 MB each at the same time, and
// watches the gateway's own process. A mail that would have to wait too long is
// to get a 4xx; none may hang.
func measureMemory(ctx context.Context, o options, rep *report, out io.Writer) error {
	b, stop, err := startBed(ctx, o, false, out)
	defer stop()
	if err != nil {
		return err
	}
	rep.versions(ctx, b)
	hop, err := newSink()
	if err != nil {
		return err
	}
	defer hop.close()
	whole, err := choose(mailwardWhole)
	if err != nil {
		return err
	}
	r, err := whole[0].begin(ctx, b, hop.addr())
	if err != nil {
		return err
	}
	defer r.stop()
	mails := crowdMails(o.seed)
	hop.expect(mails)
	limited, cancel := context.WithTimeout(ctx, crowdLimit)
	defer cancel()
	profiled := takeProfile(ctx, b, r.gateway, "memory", 2*o.profileFor)
	w := watch(ctx, []tree{{name: "gateway", root: r.gateway.service.pid(), alone: true}}, crowdInterval, true)
	done := run(limited, mails, crowd, smtpTo(r.gateway.smtp, 1))
	hop.wait(shouldArrive(mails, done), stallLimit)
	peak := w.stop()["gateway"]
	profiled()
	held, err := r.held(ctx)
	if err != nil {
		return err
	}
	text, err := crowdText(mails, done, peak, countMails(mails, done, held, hop.got, map[string]int{}))
	rep.sections = append(rep.sections, section{"memory", "Memory: 500 connections with 20 MB each", text})
	return err
}

// crowdMails are 500 mails that share all but their header.
func crowdMails(seed uint64) []mail {
	g := newGenerator(seed, "crowd")
	var b bytes.Buffer
	enc := make([]byte, base64.StdEncoding.EncodedLen(57))
	for b.Len() < crowdMail {
		base64.StdEncoding.Encode(enc, g.random(57))
		b.Write(enc)
		b.WriteString("\r\n")
	}
	body := b.Bytes()
	sum := sha256.Sum256(body)
	mails := make([]mail, crowd)
	for i := range mails {
		token := fmt.Sprintf("tokcrowd%03d", i)
		head := fmt.Sprintf("From: Sender <sender@source.example>\r\nTo: <rcpt@%s>\r\nSubject: Crowd %d\r\nDate: Tue, 03 Mar 2026 09:00:00 +0000\r\nMessage-ID: <%s@source.example>\r\nMIME-Version: 1.0\r\nContent-Type: application/octet-stream; name=data.bin\r\nContent-Transfer-Encoding: base64\r\n\r\n",
			domain, i, token)
		mails[i] = mail{kind: big, token: token, head: []byte(head), raw: body, sum: sum}
	}
	return mails
}

func crowdText(mails []mail, o outcome, peak memory, c counts) (string, error) {
	codes, silent := map[string]int{}, 0
	for _, a := range o.answers {
		if a.reply != "" && a.reply[0] >= '2' && a.reply[0] <= '5' && len(a.reply) >= 3 {
			codes[a.reply[:3]]++
		} else {
			silent++
		}
	}
	var replies []string
	for code, n := range codes {
		replies = append(replies, fmt.Sprintf("%s: %d", code, n))
	}
	slices.Sort(replies)
	text := fmt.Sprintf(`| what | measured | wanted |
|---|---|---|
| peak of the gateway's process, RSS and memory files | %d MiB | under %d |
| the same, PSS alone | %d MiB | |
| its memory files (mails under way) | %d MiB | |
| replies | %s | 250, 451 or 452 |
| without a reply | %d of %d | 0 |
| slowest reply | %.0f s | |
| all of it took | %.0f s | |
| lost, doubled, changed | %d, %d, %d | 0, 0, 0 |
`, peak.sum>>20, crowdMemory>>20, peak.pss>>20, peak.fds>>20, strings.Join(replies, ", "), silent+len(mails)-len(o.answers), len(mails), o.percentile(100).Seconds(), o.took.Seconds(), c.Lost, c.Duplicate, c.Changed)
	switch {
	case c.wrong() > 0:
		return text, fmt.Errorf("mail was lost, doubled or changed: %+v", c)
	case silent > 0 || len(o.answers) < len(mails):
		return text, fmt.Errorf("%d clients got no reply", silent+len(mails)-len(o.answers))
	case peak.sum >= crowdMemory:
		return text, fmt.Errorf("the gateway took %d MiB", peak.sum>>20)
	}
	return text, nil
}
