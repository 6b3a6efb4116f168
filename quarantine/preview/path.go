package preview

import (
	"net/mail"
	"net/netip"
	"regexp"
	"strings"
	"time"
)

// Hop is one station of a mail's way, as its Received line tells it. Only the
// last one is ours: what stands in the others was written by strangers, and who
// sent the mail may have made up any of them.
type Hop struct {
	From    string    `json:"from,omitempty"`    // as it called itself
	Name    string    `json:"name,omitempty"`    // as the taker looked it up
	Address string    `json:"address,omitempty"` // as the taker saw it
	By      string    `json:"by,omitempty"`
	With    string    `json:"with,omitempty"`
	TLS     bool      `json:"tls"`
	Time    time.Time `json:"time,omitzero"`
	// DelaySeconds is the time since the station before that has one; below
	// zero where clocks disagree.
	DelaySeconds *int64   `json:"delay_seconds,omitempty"`
	Ours         bool     `json:"ours"`
	Signs        []string `json:"signs,omitempty"` // what does not fit: the Sign constants
	Raw          string   `json:"raw,omitempty"`
}

// What does not fit in a hop. None proves a forgery; a chain with several is
// worth a second look.
const (
	SignNoTime    = "no_time"   // without a date that can be read (RFC 5321 §4.4 asks for one)
	SignFuture    = "future"    // after we had the mail already
	SignBackwards = "backwards" // before the station before it
	SignSlow      = "slow"      // longer than most retries take
	SignNoTaker   = "no_by"     // does not say who took it
	SignGap       = "gap"       // the next one had it from somebody else
	SignOurName   = "our_name"  // we are named, and did not write it
	SignHelo      = "helo"      // called itself by an address that it has not
)

// Bounds of what is read.
const (
	maxHops     = 100
	maxReceived = 4000
	// skew is how far apart clocks may be before it is said.
	skew = time.Minute
	slow = 10 * time.Minute
)

// Path reads Received lines, the newest first as they stand in the mail, and
// returns the stations from the first to ours. ours is what we saw ourselves.
func Path(received []string, ours Hop) []Hop {
	received = received[:min(len(received), maxHops)]
	hops := make([]Hop, 0, len(received)+1)
	for i := len(received) - 1; i >= 0; i-- {
		hops = append(hops, parseReceived(received[i]))
	}
	ours.Ours = true
	hops = append(hops, ours)
	var last *time.Time
	for i := range hops {
		last = hops[i].judge(last, ours)
		if i > 0 {
			hops[i-1].follows(hops[i])
		}
	}
	return hops
}

// judge compares a station's clock with those around it. It returns the time
// that the next one is compared with.
func (h *Hop) judge(before *time.Time, ours Hop) *time.Time {
	sign := func(is bool, s string) {
		if is {
			h.Signs = append(h.Signs, s)
		}
	}
	if !h.Ours {
		sign(h.By == "" && h.With != "local", SignNoTaker)
		sign(h.By != "" && strings.EqualFold(strings.TrimSuffix(h.By, "."), ours.By), SignOurName)
		literal := addressIn(h.From)
		sign(literal != "" && h.Address != "" && literal != h.Address, SignHelo)
	}
	if h.Time.IsZero() {
		sign(true, SignNoTime)
		return before
	}
	sign(!h.Ours && h.Time.After(ours.Time.Add(5*skew)), SignFuture)
	if before != nil {
		d := h.Time.Sub(*before)
		s := int64(d / time.Second)
		h.DelaySeconds = &s
		sign(d < -skew, SignBackwards)
		sign(d > slow, SignSlow)
	}
	return &h.Time
}

// follows says whether the next station had the mail from this one. Names of a
// site differ inside and outside of it, so sites are compared.
func (h *Hop) follows(next Hop) {
	if h.By == "" || !strings.Contains(h.By, ".") || addressIn(h.By) != "" {
		return
	}
	known := false
	for _, name := range []string{next.From, next.Name} {
		if name == "" || !strings.Contains(name, ".") || addressIn(name) != "" {
			continue
		}
		known = true
		if site(ascii(name)) == site(ascii(h.By)) {
			return
		}
	}
	if known {
		h.Signs = append(h.Signs, SignGap)
	}
}

// parseReceived reads one line as RFC 5321 §4.4 has it, and as forgivingly as
// the many programs need that do not.
func parseReceived(value string) Hop {
	value = strings.ToValidUTF8(value[:min(len(value), maxReceived)], "\uFFFD")
	h := Hop{Raw: value}
	clauses, date := cutReceived(value)
	if t, err := mail.ParseDate(strings.Join(strings.Fields(date), " ")); err == nil && t.Year() > 1970 && t.Year() < 9999 {
		h.Time = t.UTC()
	}
	key := ""
	for _, tok := range clauses {
		low := strings.ToLower(tok)
		switch {
		case strings.HasPrefix(tok, "("):
			h.comment(key, tok)
			continue
		case low == "from" || low == "by" || low == "via" || low == "with" || low == "id" || low == "for":
			key = low
			continue
		}
		switch {
		case key == "from" && h.From == "":
			h.From = tok
		case key == "by" && h.By == "":
			h.By = tok
		case key == "with" && h.With == "":
			h.With = tok
		}
	}
	if h.Address == "" {
		h.Address = addressIn(h.From)
	}
	// RFC 3848: ESMTPS, ESMTPSA, LMTPS, UTF8SMTPS, ...
	w := strings.TrimSuffix(strings.ToUpper(h.With), "A")
	h.TLS = h.TLS || strings.HasSuffix(w, "SMTPS") || strings.HasSuffix(w, "LMTPS") || w == "HTTPS"
	return h
}

var (
	literal  = regexp.MustCompile(`(?i)\[(?:ipv6:)?([0-9a-f.:]{3,45})\]`)
	bare     = regexp.MustCompile(`(?i)^[0-9a-f.:]{3,45}$`)
	heloEq   = regexp.MustCompile(`(?i)\bhelo[= ]([^\s()]+)`)
	tlsWords = regexp.MustCompile(`(?i)\b(?:tls|tlsv?1[._][0-9]|version=tls|ssl|cipher)`)
)

func addressIn(s string) string {
	text := strings.Trim(s, "()")
	if m := literal.FindStringSubmatch(s); m != nil {
		text = m[1]
	} else if !bare.MatchString(text) {
		return ""
	}
	if a, err := netip.ParseAddr(text); err == nil {
		return a.Unmap().String()
	}
	return ""
}

// comment reads what programs write in brackets: the address and the name that
// they looked up, the cipher, qmail's local hand-over.
func (h *Hop) comment(key, text string) {
	if tlsWords.MatchString(text) {
		h.TLS = true
	}
	switch key {
	case "from":
		if a := addressIn(text); a != "" && h.Address == "" {
			h.Address = a
		}
		if m := heloEq.FindStringSubmatch(text); m != nil && addressIn(h.From) != "" { // Exim: the address stands outside
			if h.Address == "" {
				h.Address = addressIn(h.From)
			}
			h.From = m[1]
			return
		}
		name, _, _ := strings.Cut(strings.TrimSpace(strings.Trim(text, "()")), " ")
		if strings.Contains(name, ".") && !strings.ContainsAny(name, "[=]") && addressIn(name) == "" && h.Name == "" {
			h.Name = name
		}
	case "":
		if strings.Contains(text, "invoked") || strings.Contains(text, "from userid") {
			h.With = "local"
		}
	}
}

// cutReceived cuts a line into words and comments, and its date off.
func cutReceived(v string) (words []string, date string) {
	start, depth, quoted := -1, 0, false
	end := func(i int) {
		if start >= 0 {
			words = append(words, v[start:i])
		}
		start = -1
	}
	last := -1 // of the semicolon before the date
	for i := 0; i < len(v) && len(words) < 200; i++ {
		c := v[i]
		switch {
		case c == '\\' && (quoted || depth > 0):
			i++
		case depth == 0 && c == '"':
			quoted = !quoted
			if start < 0 {
				start = i
			}
		case quoted:
		case c == '(':
			if depth == 0 {
				end(i)
				start = i
			}
			depth++
		case c == ')' && depth > 0:
			if depth--; depth == 0 {
				end(i + 1)
			}
		case depth > 0:
		case c == ';':
			end(i)
			last = i
		case c == ' ' || c == '\t' || c == '\r' || c == '\n':
			end(i)
		case start < 0:
			start = i
		}
	}
	end(len(v))
	if last >= 0 {
		date = v[last+1:]
	}
	return words, date
}
