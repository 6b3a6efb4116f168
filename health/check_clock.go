package health

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"

	"mailward/internal/pg"
)

// ClockSource is a clock that ours is held against.
type ClockSource struct {
	Name   string
	Offset func(ctx context.Context) (time.Duration, error) // of that clock against ours
}

const (
	// clockStops is near the 5 minutes from which on the record refuses ids.
	clockStops = 4 * time.Minute
	clockPace  = time.Minute
)

// Clock checks our clock against others. The time of an event, a deadline, a
// one-time code and a certificate all depend on it.
func Clock(sources []ClockSource) Component {
	meaning := say("m.clock")
	return Component{
		Name: "clock", Title: "Clock", Group: "host", Effect: Weakens, Meaning: meaning, Every: clockPace,
		Check: func(ctx context.Context) Result { return checkClock(ctx, sources, meaning) },
	}
}

func checkClock(ctx context.Context, sources []ClockSource, meaning Text) Result {
	type answer struct {
		offset time.Duration
		err    error
	}
	answers := make([]chan answer, len(sources))
	for i, s := range sources {
		answers[i] = make(chan answer, 1)
		go func() {
			d, err := s.Offset(ctx)
			answers[i] <- answer{d, err}
		}()
	}
	r := Result{State: Up, Facts: map[string]string{}}
	var worst time.Duration
	var from string
	good := 0
	for i, s := range sources {
		a := <-answers[i]
		if a.err != nil {
			r.Facts[s.Name] = "no answer"
			r.Detail += s.Name + ": " + harmless(a.err) + "; "
			continue
		}
		r.Facts[s.Name] = fmt.Sprintf("%+d ms", a.offset.Milliseconds())
		if good++; from == "" || a.offset.Abs() > worst.Abs() {
			worst, from = a.offset, s.Name
		}
	}
	r.Detail = strings.TrimSuffix(r.Detail, "; ")
	switch off := worst.Abs(); {
	case good == 0:
		r.State, r.Code, r.Reason = Unknown, "no_source", say("clock.no_source")
	case off >= clockStops:
		r.State, r.Code = Down, "stops"
		r.Reason = say("clock.stops", span(off), plain(from))
	case off >= clockOff:
		r.State, r.Code = Degraded, "offset"
		r.Reason = say("clock.offset", span(off), plain(from)).with(meaning)
	case good < len(sources):
		r.State, r.Code, r.Reason = Degraded, "some_silent", say("clock.some")
	default:
		r.Reason = say("clock.ok", millis(max(time.Millisecond, off)))
	}
	return r
}

// DatabaseClock is the clock of the database: the only one that is always there,
// and the one by which the record is dated. On the same machine it is the same.
func DatabaseClock(db Database) ClockSource {
	query := pg.Query(queries, "check_clock")
	return ClockSource{Name: "PostgreSQL", Offset: func(ctx context.Context) (time.Duration, error) {
		var theirs time.Time
		began := time.Now()
		if err := db.QueryRow(ctx, query).Scan(&theirs); err != nil {
			return 0, fmt.Errorf("ask PostgreSQL for the time: %w", err)
		}
		return theirs.Sub(began.Add(time.Since(began) / 2)), nil
	}}
}

// ntpEpoch is where the time stamps of NTP begin (RFC 5905 §6).
var ntpEpoch = time.Date(1900, 1, 1, 0, 0, 0, 0, time.UTC)

// NTP asks a time server, as a client of SNTP does (RFC 5905 §14).
func NTP(address string) ClockSource {
	if _, _, err := net.SplitHostPort(address); err != nil {
		address = net.JoinHostPort(address, "123")
	}
	return ClockSource{Name: address, Offset: func(ctx context.Context) (time.Duration, error) {
		var d net.Dialer
		c, err := d.DialContext(ctx, "udp", address)
		if err != nil {
			return 0, fmt.Errorf("ask %s for the time: %w", address, err)
		}
		defer c.Close()
		if deadline, ok := ctx.Deadline(); ok {
			c.SetDeadline(deadline)
		}
		off, err := sntp(c)
		if err != nil {
			return 0, fmt.Errorf("ask %s for the time: %w", address, err)
		}
		return off, nil
	}}
}

// sntp sends a random number in the place of our time: an answer that bears it
// comes from who has seen our question (RFC 5905 §8, RFC 9769 for the idea).
func sntp(c net.Conn) (time.Duration, error) {
	q := make([]byte, 48)
	q[0] = 4<<3 | 3 // version 4, client
	rand.Read(q[40:48])
	began := time.Now()
	if _, err := c.Write(q); err != nil {
		return 0, err
	}
	a := make([]byte, 48)
	for {
		n, err := c.Read(a)
		if err != nil {
			return 0, err
		}
		if n == len(a) && string(a[24:32]) == string(q[40:48]) {
			break
		}
	}
	ended := began.Add(time.Since(began))
	if leap, mode, stratum := a[0]>>6, a[0]&7, a[1]; leap == 3 || mode != 4 || stratum == 0 || stratum > 15 {
		return 0, errors.New("the server says that its own clock is not set")
	}
	received, sent := ntpTime(a[32:40], began), ntpTime(a[40:48], began)
	return (received.Sub(began) + sent.Sub(ended)) / 2, nil
}

// ntpTime reads a time stamp of the era that is nearest to ours.
func ntpTime(b []byte, near time.Time) time.Time {
	const era = 1 << 32
	sec := int64(binary.BigEndian.Uint32(b))
	nanos := int64(uint64(binary.BigEndian.Uint32(b[4:])) * 1e9 >> 32)
	now := int64(near.Sub(ntpEpoch) / time.Second)
	sec += (now - sec + era/2) / era * era
	return ntpEpoch.Add(time.Duration(sec) * time.Second).Add(time.Duration(nanos))
}
