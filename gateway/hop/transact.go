package hop

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"mailward/internal/message"
)

// groupMost is how many recipients are sent before their replies are read, so
// that neither side's buffers fill up (RFC 2920 §3.1).
const groupMost = 100

// transact sends one mail over the connection.
func (c *conn) transact(ctx context.Context, t *Transfer) (Result, stage) {
	res := Result{Verified: c.verified, DSN: c.has("DSN")}
	if c.tls != nil {
		res.TLS = describeTLS(c.tls)
	}
	if res.Err = c.canCarry(t); res.Err != nil {
		return res, open // Another host may be able to.
	}
	c.clean = false
	if res.Err = c.introduce(ctx, t); res.Err != nil {
		return res, untouched
	}
	var how stage
	if res.Refused, how, res.Err = c.envelope(ctx, t); res.Err != nil {
		var no *Reply
		if errors.As(res.Err, &no) && no.Code != 421 {
			c.settle(ctx)
		}
		return res, how
	}
	c.deliver(ctx, t, &res)
	return res, final
}

// canCarry says what the hop would not take, before anything is sent to it.
func (c *conn) canCarry(t *Transfer) error {
	limit := featuresOf(c.features).Size
	switch {
	case len(t.To) == 0:
		return errNobody
	case t.EightBit && !c.has("8BITMIME"):
		return ErrEightBit
	case t.needsUTF8() && !c.has("SMTPUTF8"):
		return ErrUTF8
	case limit > 0 && t.Size > limit: // RFC 1870 §6.1
		return errSize
	}
	for _, to := range t.To {
		if !fits(to.Address) {
			return errAddress
		}
	}
	if !fits(t.From) {
		return errAddress
	}
	return nil
}

// fits says whether an address can stand in a command as it is. Addresses come
// from parsed paths; this is the second wall against one that ends its command.
func fits(address string) bool {
	if strings.ContainsFunc(address, func(r rune) bool { return r < ' ' || r == 0x7f }) || len(address) > 1000 {
		return false
	}
	rest := address
	if strings.HasPrefix(address, `"`) {
		end := 1
		for ; end < len(address) && address[end] != '"'; end++ {
			if address[end] == '\\' {
				end++
			}
		}
		rest = address[min(end+1, len(address)):]
		if !strings.HasPrefix(rest, "@") {
			return false
		}
	}
	return !strings.ContainsAny(rest, " \"<>")
}

// needsUTF8: a header outside of ASCII has bytes above 127, so a mail without
// such bytes, to and from ASCII addresses, is not internationalised.
func (t *Transfer) needsUTF8() bool {
	if t.UTF8 && t.EightBit || !message.IsASCII(t.From) {
		return true
	}
	for _, to := range t.To {
		if !message.IsASCII(to.Address) {
			return true
		}
	}
	return false
}

// envelope gives sender, recipients and DATA, in as few groups as the hop
// allows (RFC 2920). Without an error, the hop waits for the mail.
func (c *conn) envelope(ctx context.Context, t *Transfer) (refused map[string]*Reply, how stage, err error) {
	c.mail(t)
	pipelined := c.has("PIPELINING")
	group := 1
	if pipelined {
		group = groupMost
	} else if err := c.sender(ctx, &how); err != nil {
		return nil, how, err
	}
	var worst *Reply
	taken := 0
	for rest := t.To; len(rest) > 0; rest = rest[min(group, len(rest)):] {
		these := rest[:min(group, len(rest))]
		for _, to := range these {
			c.rcpt(to)
		}
		if pipelined && len(these) == len(rest) {
			c.command("DATA")
		}
		if pipelined && len(rest) == len(t.To) {
			if err := c.sender(ctx, &how); err != nil {
				return nil, how, err
			}
		}
		for _, to := range these {
			_, err := c.expect(ctx, 250, 251, 252)
			var no *Reply
			switch {
			case err == nil:
				taken++
			case errors.As(err, &no) && no.Code == 421:
				// It ends the session, whoever the recipient is (RFC 5321 §3.8). One that
				// was kept may have been used enough; a new one tells.
				if c.mails > 0 {
					return nil, untouched, err
				}
				return nil, open, err
			case no != nil:
				if taken > 0 && tooMany(no) {
					no.Code, no.Enhanced = 452, "4.5.3"
				}
				if refused == nil {
					refused = map[string]*Reply{}
				}
				refused[to.Address] = no
				if worst == nil || no.Temporary() {
					worst = no
				}
			default:
				return nil, open, err
			}
		}
	}
	if taken == 0 {
		return refused, final, worst // The caller takes back what is open.
	}
	if !pipelined {
		c.command("DATA")
	}
	c.limit = c.times.data
	if _, err = c.expect(ctx, 354); err != nil {
		return nil, stageOf(err), err
	}
	return refused, final, nil
}

// tooMany says whether a hop refuses a recipient as one too many in the way of RFC
// 821, which is to be taken for temporary (RFC 5321 §4.5.3.1.10). Else 552 is a
// mailbox that is full.
func tooMany(no *Reply) bool {
	return no.Code == 552 && (no.Enhanced == "5.5.3" || no.Enhanced == "" && strings.Contains(strings.ToLower(no.Text), "recipients"))
}

// sender reads the reply to MAIL.
func (c *conn) sender(ctx context.Context, how *stage) error {
	_, err := c.expect(ctx, 250)
	var no *Reply
	switch {
	case err == nil:
		*how = open
	case errors.As(err, &no) && no.Code != 421:
		*how = stageOf(err)
	default:
		*how = untouched
	}
	return err
}

// stageOf says what a failure at MAIL or DATA leaves open.
func stageOf(err error) stage {
	var no *Reply
	if errors.As(err, &no) && no.Code/100 == 5 {
		return final
	}
	return open
}

// settle reads the replies that are still to come after a refusal, and ends the
// transaction. A hop that waits for a mail all the same gets none: the
// connection is closed.
func (c *conn) settle(ctx context.Context) {
	c.limit = c.times.command
	for c.owed > 0 {
		code, _, err := c.readReply()
		if err != nil || code == 354 || code == 421 {
			return
		}
		if code/100 != 2 {
			c.refusals++
		}
	}
	c.command("RSET")
	_, err := c.expect(ctx, 250)
	c.clean = err == nil
}

func (c *conn) mail(t *Transfer) {
	p := []string{"MAIL FROM:<", t.From, ">"}
	if t.Size > 0 && c.has("SIZE") {
		p = append(p, " SIZE=", strconv.FormatInt(t.Size, 10))
	}
	if t.EightBit {
		p = append(p, " BODY=8BITMIME")
	}
	if t.UTF8 && c.has("SMTPUTF8") || t.needsUTF8() {
		p = append(p, " SMTPUTF8")
	}
	if c.has("DSN") {
		p = append(p, param(" RET=", t.Ret), param(" ENVID=", t.EnvID))
	}
	c.command(p...)
}

func (c *conn) rcpt(to Recipient) {
	if c.has("DSN") {
		c.command("RCPT TO:<", to.Address, ">", param(" NOTIFY=", to.Notify), param(" ORCPT=", to.ORCPT))
		return
	}
	c.command("RCPT TO:<", to.Address, ">")
}

// param writes a parameter that has a value, and none that would end it (RFC
// 5321 §4.1.2, esmtp-value; with UTF-8 in ORCPT, RFC 6533 §3).
func param(name, value string) string {
	bad := func(r rune) bool { return r <= ' ' || r == 0x7f }
	if value == "" || len(value) > 500 || strings.ContainsFunc(value, bad) {
		return ""
	}
	return name + value
}

// deliver sends the mail itself and hears whether it was taken.
func (c *conn) deliver(ctx context.Context, t *Transfer, res *Result) {
	b := newBody(c, t.Raw)
	defer b.free()
	c.limit = c.times.block
	if err := b.fill(ctx, t); err != nil {
		if !errors.Is(err, errLocal) {
			err, res.ReplyLost = c.interruption(err)
		}
		res.Err = fmt.Errorf("send mail to next hop: %w", err)
		return
	}
	if t.BeforeDot != nil {
		if res.Err = t.BeforeDot(res.Refused); res.Err != nil {
			return // The connection is closed without the dot.
		}
	}
	if !c.isSilent() {
		res.Err, res.ReplyLost = c.interruption(errUnasked)
		return
	}
	if ctx.Err() != nil || t.onTime != nil && !t.onTime() {
		res.Err = fmt.Errorf("no time left to end the mail to the next hop: %w", context.DeadlineExceeded)
		return
	}
	c.owed++
	if err := b.end(ctx); err != nil {
		res.Err, res.ReplyLost = fmt.Errorf("end mail to next hop: %w", err), true
		return
	}
	b.free() // the wait may be long
	c.within(ctx, t.patience(c.times.final))
	code, lines, err := c.readReply()
	if err == nil && code/100 == 3 {
		err = errNonsense
	}
	if err != nil {
		res.Err, res.ReplyLost = fmt.Errorf("last reply of next hop: %w", err), true
		return
	}
	c.clean = code != 421
	h := newReply(code, lines)
	if code/100 != 2 {
		c.refusals++
		res.Err = &h
		return
	}
	c.refusals = 0
	res.Reply = h
}

// isSilent says whether the hop waits for the mail's end in silence. Below TLS,
// bytes may be of TLS itself.
func (c *conn) isSilent() bool { return c.r.Buffered() == 0 && (c.tls != nil || c.isQuiet()) }

// interruption reads what a hop says before the mail is whole: that it will not
// take it, or that it breaks off, or that it has taken something, since it saw
// an end where there is none.
func (c *conn) interruption(trouble error) (err error, taken bool) {
	c.owed++
	c.within(context.Background(), lastWordsLimit)
	code, lines, err := c.readReply()
	if err != nil {
		return trouble, errors.Is(err, errNonsense)
	}
	if err := refusal(code, lines); !errors.Is(err, errNonsense) {
		return err, false
	}
	return trouble, code/100 == 2
}
