package preview

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestParseReceived(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 11, 24, 9, 0, 1, 0, time.UTC)
	for name, tt := range map[string]struct {
		in   string
		want Hop
	}{
		"Postfix": {"from mail.sender.example (mail.sender.example [192.0.2.1]) (using TLSv1.3 with cipher TLS_AES_256_GCM_SHA384 (256/256 bits) (No client certificate requested)) by mx.ours.example (Postfix) with ESMTPS id 4XyZ for <bob@ours.example>; Tue, 24 Nov 2026 10:00:01 +0100 (CET)",
			Hop{From: "mail.sender.example", Name: "mail.sender.example", Address: "192.0.2.1", By: "mx.ours.example", With: "ESMTPS", TLS: true, Time: at}},
		"Exim": {"from [198.51.100.7] (helo=laptop.example) by relay.example with esmtpsa (TLS1.3) tls TLS_AES_128 (Exim 4.96) id 1r for bob@ours.example; Tue, 24 Nov 2026 09:00:01 +0000",
			Hop{From: "laptop.example", Address: "198.51.100.7", By: "relay.example", With: "esmtpsa", TLS: true, Time: at}},
		"Exchange": {"from AM0.example (2001:db8::1) by VI1.example (2001:db8::2) with Microsoft SMTP Server (version=TLS1_2, cipher=X) id 15.20; Tue, 24 Nov 2026 09:00:01 +0000",
			Hop{From: "AM0.example", Address: "2001:db8::1", By: "VI1.example", With: "Microsoft", TLS: true, Time: at}},
		"Gmail": {"by 2002:a05:6402:1234 with SMTP id x1csp; Tue, 24 Nov 2026 01:00:01 -0800 (PST)",
			Hop{By: "2002:a05:6402:1234", With: "SMTP", Time: at}},
		"qmail":          {"(qmail 1234 invoked by uid 0); 24 Nov 2026 09:00:01 -0000", Hop{With: "local", Time: at}},
		"IPv6 literal":   {"from [IPv6:2001:db8::5] by a.example with LMTP; Tue, 24 Nov 2026 09:00:01 GMT", Hop{From: "[IPv6:2001:db8::5]", Address: "2001:db8::5", By: "a.example", With: "LMTP", Time: at}},
		"no date":        {"from a.example by b.example", Hop{From: "a.example", By: "b.example"}},
		"a broken date":  {"from a.example by b.example; yesterday", Hop{From: "a.example", By: "b.example"}},
		"date in quotes": {`from "a;b" (x; y) by b.example; Tue, 24 Nov 2026 09:00:01 +0000`, Hop{From: `"a;b"`, By: "b.example", Time: at}},
		"open brackets":  {"from a.example (((( by b.example", Hop{From: "a.example"}},
		"nothing":        {"", Hop{}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := parseReceived(tt.in)
			got.Raw = ""
			if got.Time.Equal(tt.want.Time) {
				got.Time = tt.want.Time
			}
			if got.From != tt.want.From || got.Name != tt.want.Name || got.Address != tt.want.Address || got.By != tt.want.By || got.With != tt.want.With || got.TLS != tt.want.TLS || got.Time != tt.want.Time {
				t.Errorf("got  %+v\nwant %+v", got, tt.want)
			}
		})
	}
}

func TestPath(t *testing.T) {
	t.Parallel()
	ours := Hop{From: "out.sender.example", Address: "192.0.2.1", By: "mx.ours.example", With: "ESMTPS", Time: time.Date(2026, 11, 24, 9, 0, 10, 0, time.UTC)}
	line := func(from, by, at string) string {
		return "from " + from + " by " + by + " with ESMTP; Tue, 24 Nov 2026 " + at + " +0000"
	}
	signs := func(hops []Hop) string {
		var out []string
		for _, h := range hops {
			out = append(out, strings.Join(h.Signs, ","))
		}
		return strings.Join(out, " | ")
	}
	for name, tt := range map[string]struct {
		received []string // the newest first
		want     string
	}{
		"nothing wrong":      {[]string{line("in.sender.example (x.sender.example [10.0.0.1])", "out.sender.example", "09:00:05"), line("laptop (laptop [10.0.0.9])", "in.sender.example", "09:00:01")}, " |  | "},
		"no lines":           {nil, ""},
		"a slow one":         {[]string{line("a.sender.example", "out.sender.example", "09:00:05"), line("b", "a.sender.example", "08:00:05")}, " | slow | "},
		"clocks disagree":    {[]string{line("a.sender.example", "out.sender.example", "08:52:05"), line("b", "a.sender.example", "08:59:05")}, " | backwards | "},
		"from the future":    {[]string{line("a", "out.sender.example", "09:30:00")}, "future | backwards"},
		"without a time":     {[]string{"from a by out.sender.example"}, "no_time | "},
		"nobody took it":     {[]string{"from a; Tue, 24 Nov 2026 09:00:01 +0000"}, "no_by | "},
		"a gap":              {[]string{line("a.sender.example", "mail.bank.example", "09:00:05")}, "gap | "},
		"our name":           {[]string{line("a", "mx.ours.example", "09:00:05")}, "our_name,gap | "},
		"an address forged":  {[]string{line("[203.0.113.9] (x.y.example [198.51.100.1])", "out.sender.example", "09:00:05")}, "helo | "},
		"the site counts":    {[]string{line("a", "other.sender.example", "09:00:05")}, " | "},
		"we saw the address": {[]string{line("a", "[192.0.2.77]", "09:00:05")}, " | "},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			hops := Path(tt.received, ours)
			if got := signs(hops); got != tt.want {
				t.Errorf("signs %q, want %q", got, tt.want)
			}
			if last := hops[len(hops)-1]; !last.Ours || last.Address != ours.Address || len(hops) != len(tt.received)+1 {
				t.Errorf("hops %+v", hops)
			}
		})
	}
	hops := Path([]string{line("a.sender.example", "out.sender.example", "09:00:05"), "from x by y", line("b", "a.sender.example", "09:00:01")}, ours)
	var delays []int64
	for _, h := range hops {
		if h.DelaySeconds != nil {
			delays = append(delays, *h.DelaySeconds)
		}
	}
	if !slices.Equal(delays, []int64{4, 5}) {
		t.Errorf("delays %v: a line without a time is passed over", delays)
	}
	if n := len(Path(slices.Repeat([]string{"x"}, 1000), ours)); n != maxHops+1 {
		t.Errorf("%d hops", n)
	}
}

func FuzzPath(f *testing.F) {
	f.Add("from a (b [1.2.3.4]) by c with ESMTPS (x (y)) id z for <d@e>; Tue, 24 Nov 2026 09:00:01 +0000 (UTC)")
	f.Add(`from "a\"b;c" (\)) by [::1];;(`)
	f.Fuzz(func(t *testing.T, s string) {
		hops := Path(strings.Split(s, "\x01"), Hop{By: "mx.ours.example", Time: time.Unix(1_800_000_000, 0)})
		for _, h := range hops {
			if len(h.Raw) > 3*maxReceived || len(h.From)+len(h.By)+len(h.With) > 3*maxReceived || len(h.Signs) > 8 {
				t.Errorf("%q gives %+v", s, h)
			}
			if a, err := netip.ParseAddr(h.Address); h.Address != "" && (err != nil || a.String() != h.Address) {
				t.Errorf("%q gives the address %q", s, h.Address)
			}
		}
	})
}
