package health

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"testing"
	"time"
)

func TestJudgements(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 27, 12, 0, 0, 0, time.UTC)
	silent := errors.New("no answer")
	denied := errors.New("AccessDenied")
	fine := Stamped{Trusted: true, NotAfter: now.AddDate(1, 0, 0)}
	stamp := func(change func(*Stamped)) Stamped { s := fine; change(&s); return s }
	for name, c := range map[string]struct {
		got  Result
		want want
	}{
		"dns":             {judgeDNS([]Resolver{{Address: "10.0.0.1:53", Latency: time.Millisecond}}, Plain("Mail waits.")), want{Up, "", "answers"}},
		"dns, one silent": {judgeDNS([]Resolver{{Address: "10.0.0.1:53", Latency: time.Millisecond}, {Address: "10.0.0.2:53", Err: silent}}, Plain("Mail waits.")), want{Degraded, "some_silent", "10.0.0.2"}},
		"dns, slow":       {judgeDNS([]Resolver{{Address: "10.0.0.1:53", Latency: time.Second}}, Plain("Mail waits.")), want{Degraded, "slow", "1.0 s"}},
		"dns, down":       {judgeDNS([]Resolver{{Address: "10.0.0.1:53", Err: silent}}, Plain("Mail waits.")), want{Down, "unreachable", "Mail waits."}},

		"list":                    {judgeList(List{Zone: "bl.example", Listed: true}, Plain("Mail flows.")), want{Up, "", "test entry"}},
		"list, names the world":   {judgeList(List{Zone: "bl.example", Listed: true, World: true}, Plain("Mail flows.")), want{Down, "lists_all", "127.0.0.1"}},
		"list, no test entry":     {judgeList(List{Zone: "bl.example"}, Plain("Mail flows.")), want{Down, "no_test_entry", "127.0.0.2"}},
		"list, public resolver":   {judgeList(List{Zone: "bl.example", Trouble: "127.255.255.254", Meaning: "it is asked through a public resolver"}, Plain("Mail flows.")), want{NotAuthorised, "unavailable", "127.255.255.254: it is asked"}},
		"list, gone":              {judgeList(List{Zone: "bl.example", Problem: "DNS failure"}, Plain("Mail flows.")), want{Down, "unreachable", "Mail flows."}},
		"list, hangs":             {judgeList(List{Zone: "bl.example", Problem: "no answer in time", TimedOut: true}, Plain("Mail flows.")), want{Down, "timeout", "Mail flows."}},
		"folder":                  {judgeVault(Vault{}, nil, Plain("Mail flows.")), want{Up, "folder", "not WORM"}},
		"folder, unwritable":      {judgeVault(Vault{}, errors.New("permission denied"), Plain("Mail flows.")), want{Down, "unwritable", "evidence.store"}},
		"bucket":                  {judgeVault(Vault{Bucket: "b", Locked: true}, nil, Plain("Mail flows.")), want{Up, "", "Object Lock is on"}},
		"bucket without a lock":   {judgeVault(Vault{Bucket: "b", NoLock: true}, errors.New("no lock"), Plain("Mail flows.")), want{Down, "no_lock", "Object Lock"}},
		"bucket, wrong key":       {judgeVault(Vault{Bucket: "b", Denied: true}, denied, Plain("Mail flows.")), want{NotAuthorised, "refused", "access_key"}},
		"stamp":                   {judgeStamp(fine, nil, now, Plain("Mail flows.")), want{Up, "", "stamp"}},
		"stamp, untrusted":        {judgeStamp(stamp(func(s *Stamped) { s.Trusted = false }), nil, now, Plain("Mail flows.")), want{Degraded, "untrusted", "ca_file"}},
		"stamp, ends soon":        {judgeStamp(stamp(func(s *Stamped) { s.NotAfter = now.AddDate(0, 0, 3) }), nil, now, Plain("Mail flows.")), want{Degraded, "tls_expires", "2026-11-30"}},
		"stamp, another time":     {judgeStamp(stamp(func(s *Stamped) { s.Offset = -2 * time.Hour }), nil, now, Plain("Mail flows.")), want{Degraded, "offset", "2 hours"}},
		"channels":                {judgeChannels([]Told{{Name: "a", Enabled: true, LastSent: now}}, now), want{Up, "", "all 1"}},
		"channels, none":          {judgeChannels([]Told{{Name: "a"}}, now), want{NotConfigured, "none", "their page"}},
		"channels, one fails":     {judgeChannels([]Told{{Name: "a", Enabled: true, LastSent: now}, {Name: "b", Enabled: true, LastError: "401"}}, now), want{Degraded, "failing", "b"}},
		"channels, all fail":      {judgeChannels([]Told{{Name: "b", Enabled: true, LastError: "401"}}, now), want{Down, "all_failing", "nobody"}},
		"database alone":          {judgeReplication(replication{behind: -1}), want{Up, "no_copy", "no copy"}},
		"database copied":         {judgeReplication(replication{copies: 1, slots: 1, behind: 0}), want{Up, "", "1 copies"}},
		"copy far behind":         {judgeReplication(replication{copies: 1, behind: 1 << 30}), want{Degraded, "behind", "1.0 GiB"}},
		"copy gone":               {judgeReplication(replication{slots: 1, idle: 1, kept: 1 << 20}), want{Degraded, "idle", "not connected"}},
		"copy gone for long":      {judgeReplication(replication{slots: 1, idle: 1, kept: 5 << 30}), want{Degraded, "kept", "5.0 GiB"}},
		"copy to be made anew":    {judgeReplication(replication{slots: 1, idle: 1, lost: 1}), want{Down, "lost", "made anew"}},
		"a transaction that idle": {judgeReplication(replication{copies: 1, idleInTransact: 1200}), want{Degraded, "open_transaction", "20 min"}},
	} {
		c.want.check(t, name, c.got)
	}
}

func source(d time.Duration, err error) ClockSource {
	return ClockSource{Name: "ntp.example", Offset: func(context.Context) (time.Duration, error) { return d, err }}
}

func TestClock(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		sources []ClockSource
		want    want
	}{
		"right":      {[]ClockSource{source(3*time.Millisecond, nil)}, want{Up, "", "3 ms"}},
		"off":        {[]ClockSource{source(time.Millisecond, nil), source(-7*time.Second, nil)}, want{Degraded, "offset", "7.0 s"}},
		"far off":    {[]ClockSource{source(10*time.Minute, nil)}, want{Down, "stops", "10 min"}},
		"one silent": {[]ClockSource{source(0, nil), source(0, errors.New("no"))}, want{Degraded, "some_silent", "others"}},
		"all silent": {[]ClockSource{source(0, errors.New("no"))}, want{Unknown, "no_source", "not known"}},
	} {
		c.want.check(t, name, Clock(c.sources).Check(t.Context()))
	}
}

// timeServer answers as a server of NTP whose clock is off by a time.
func timeServer(t *testing.T, off time.Duration, change func(a []byte)) string {
	t.Helper()
	c, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	go func() {
		q := make([]byte, 100)
		for {
			n, from, err := c.ReadFrom(q)
			if err != nil {
				return
			}
			if n < 48 {
				continue
			}
			a := make([]byte, 48)
			a[0], a[1] = 4<<3|4, 2
			copy(a[24:32], q[40:48])
			at := time.Now().Add(off).Sub(ntpEpoch)
			for _, i := range []int{32, 40} {
				binary.BigEndian.PutUint32(a[i:], uint32(at/time.Second))
				binary.BigEndian.PutUint32(a[i+4:], uint32(uint64(at%time.Second)<<32/1e9))
			}
			if change != nil {
				change(a)
			}
			c.WriteTo(a, from)
		}
	}()
	return c.LocalAddr().String()
}

func TestNTP(t *testing.T) {
	t.Parallel()
	for _, off := range []time.Duration{0, 5 * time.Second, -90 * time.Minute} {
		got, err := NTP(timeServer(t, off, nil)).Offset(t.Context())
		if err != nil || (got-off).Abs() > 200*time.Millisecond {
			t.Errorf("offset %v, want %v (%v)", got, off, err)
		}
	}
	for name, change := range map[string]func(a []byte){
		"clock not set":    func(a []byte) { a[0] |= 3 << 6 },
		"kiss of death":    func(a []byte) { a[1] = 0 },
		"another question": func(a []byte) { a[24]++ },
	} {
		ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
		if got, err := NTP(timeServer(t, 0, change)).Offset(ctx); err == nil {
			t.Errorf("%s: offset %v was believed", name, got)
		}
		cancel()
	}
	// The seconds of NTP begin anew in February 2036.
	late := ntpEpoch.Add((1<<32 + 10) * time.Second)
	var b [8]byte
	binary.BigEndian.PutUint32(b[:], 10)
	if got := ntpTime(b[:], late.Add(time.Hour)); !got.Equal(late) {
		t.Errorf("%v, want %v", got, late)
	}
}

func TestPace(t *testing.T) {
	t.Parallel()
	asked, state := 0, Up
	var retry time.Duration
	m := New([]Component{{Name: "far", Title: "Far", Every: time.Hour, Check: func(context.Context) Result {
		asked++
		return Result{State: state, Reason: Plain(fmt.Sprint(asked)), RetryAfter: retry}
	}}}, quiet())
	check := func() Status {
		m.mu.Lock()
		m.current = nil // as if a second had passed
		m.mu.Unlock()
		return m.Check(t.Context()).Components[0]
	}
	age := func(d time.Duration) {
		m.mu.Lock()
		r := m.answers["far"]
		r.at = r.at.Add(-d)
		m.answers["far"] = r
		m.mu.Unlock()
	}
	check()
	age(time.Minute)
	if s := check(); asked != 1 || s.AgeMS < 59_000 || len(m.History("far").Samples) != 1 {
		t.Errorf("asked %d times, age %d ms, %d samples", asked, s.AgeMS, len(m.History("far").Samples))
	}
	age(time.Hour)
	state = Down
	check()
	age(askFailedAgain) // a bad answer does not stand for the hour
	retry = time.Hour
	check()
	age(20 * time.Minute) // but for as long as it says
	check()
	if asked != 3 {
		t.Errorf("asked %d times, want 3", asked)
	}
}
