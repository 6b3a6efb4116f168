package mailauth

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	miekg "github.com/miekg/dns"
	"go.yaml.in/yaml/v3"

	"mailward/internal/dns"
	"mailward/internal/testenv"
)

// The cases of the openspf project come with the SPF library's module; they are
// run through our Checker and our resolver, against a DNS server with their zones.

type spfSuite struct {
	Description string
	Tests       map[string]spfCase
	ZoneData    map[string][]map[string]yaml.Node `yaml:"zonedata"`
}

type spfCase struct {
	Helo, Host, MailFrom string
	Result               oneOrMore
	Skip                 string
}

type oneOrMore []string

func (o *oneOrMore) UnmarshalYAML(n *yaml.Node) error {
	var list []string
	if n.Decode(&list) == nil {
		*o = list
		return nil
	}
	var s string
	if err := n.Decode(&s); err != nil {
		return err
	}
	*o = oneOrMore{s}
	return nil
}

// spfDeviations are the cases that we answer otherwise, with what we say.
// docs/standards.md says why.
var spfDeviations = map[string]string{
	"a-colon-domain":            PermError, // a slash in a domain
	"a-colon-domain-ip4mapped":  PermError,
	"mx-colon-domain":           PermError,
	"mx-colon-domain-ip4mapped": PermError,
	"p-macro-multiple":          Neutral, // %{p} is "unknown", as RFC 7208 §7.3 lets it be
	"default-modifier":          Neutral, // default= is of the time before RFC 4408
	"default-modifier-harsh":    Neutral,
}

func TestSPF_OpenspfSuite(t *testing.T) {
	t.Parallel()
	out, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "blitiri.com.ar/go/spf").Output()
	if err != nil {
		t.Fatalf("where is the suite: %v", err)
	}
	for _, name := range []string{"rfc7208-tests.yml", "rfc4408-tests.yml", "pyspf-tests.yml"} {
		f, err := os.Open(filepath.Join(strings.TrimSpace(string(out)), "testdata", name))
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		cases := 0
		for dec := yaml.NewDecoder(f); ; {
			var s spfSuite
			if err := dec.Decode(&s); errors.Is(err, io.EOF) {
				break
			} else if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			cases += len(s.Tests)
			t.Run(name+"/"+s.Description, func(t *testing.T) { t.Parallel(); runSPFSuite(t, s) })
		}
		if cases < 10 {
			t.Errorf("%s: only %d cases", name, cases)
		}
	}
}

func runSPFSuite(t *testing.T, s spfSuite) {
	server := testenv.DNS(t, "")
	loadSuite(t, server, s)
	r, err := dns.New(dns.Config{Servers: []string{server.Addr}, Try: 300 * time.Millisecond}, nil)
	if err != nil {
		t.Fatal(err)
	}
	c := New(r)
	var wg sync.WaitGroup
	for name, tt := range s.Tests {
		wg.Go(func() {
			identity, sender := "mailfrom", tt.MailFrom
			if !strings.Contains(sender, "@") {
				identity, sender = "helo", ""
			}
			got := c.spf(t.Context(), netip.MustParseAddr(tt.Host), tt.Helo, sender, identity)
			want := []string(tt.Result)
			if d, ok := spfDeviations[name]; ok {
				want = []string{d}
			}
			if !slices.Contains(want, got.Result) {
				t.Errorf("%s: %+v, want %v (skip %q)", name, got, tt.Result, tt.Skip)
			}
			if _, err := json.Marshal(got); err != nil || strings.ContainsAny(got.Reason+got.Domain, "\r\n\"") {
				t.Errorf("%s: not fit for a header: %+v", name, got)
			}
		})
	}
	wg.Wait()
}

// loadSuite puts a suite's zones and faults into the server. Records of type SPF
// stand for TXT where there is no TXT, as the suite's readme asks drivers to do.
func loadSuite(t *testing.T, server *testenv.DNSServer, s spfSuite) {
	t.Helper()
	var rrs []miekg.RR
	for name, records := range s.ZoneData {
		hdr := func(kind uint16) miekg.RR_Header {
			return miekg.RR_Header{Name: miekg.Fqdn(name), Rrtype: kind, Class: miekg.ClassINET, Ttl: 300}
		}
		has := func(kind string) bool {
			return slices.ContainsFunc(records, func(r map[string]yaml.Node) bool { _, ok := r[kind]; return ok })
		}
		hasTXT := has("TXT")
		if has("TIMEOUT") && hasTXT && !slices.ContainsFunc(records, func(r map[string]yaml.Node) bool { return r["TXT"].Value == "NONE" }) {
			server.Fail("TXT "+name, testenv.DNSAnswer)
		}
		if has("TIMEOUT") && has("SPF") && !hasTXT {
			records = slices.DeleteFunc(records, func(r map[string]yaml.Node) bool { _, ok := r["SPF"]; return ok })
		}
		for _, r := range records {
			for kind, node := range r {
				rr, err := suiteRecord(server, name, kind, node, hasTXT, hdr)
				if err != nil {
					t.Fatalf("%s %s: %v", name, kind, err)
				}
				rrs = append(rrs, rr...)
			}
		}
	}
	server.SetRecords(rrs)
}

func suiteRecord(server *testenv.DNSServer, name, kind string, node yaml.Node, hasTXT bool, hdr func(uint16) miekg.RR_Header) (out []miekg.RR, err error) {
	if strings.EqualFold(node.Value, "NONE") || kind == "SPF" && hasTXT {
		return nil, nil
	}
	var list oneOrMore
	if kind != "MX" {
		if err := node.Decode(&list); err != nil {
			return nil, err
		}
	}
	switch kind {
	case "TIMEOUT": // of whatever is not there besides it
		server.Fail(name, testenv.DNSSilent)
	case "SERVFAIL", "CNAMELOOP":
		server.Fail(name, testenv.DNSServFail)
	case "A", "AAAA":
		for _, v := range list {
			rr, err := miekg.NewRR(". 300 IN " + kind + " " + v)
			if err != nil {
				return nil, err
			}
			rr.Header().Name = miekg.Fqdn(name)
			out = append(out, rr)
		}
	case "TXT", "SPF":
		// The parts of one record.
		var parts []string
		for _, p := range list {
			for len(p) > 255 {
				parts, p = append(parts, escaped(p[:255])), p[255:]
			}
			parts = append(parts, escaped(p))
		}
		out = append(out, &miekg.TXT{Hdr: hdr(miekg.TypeTXT), Txt: parts})
	case "MX":
		var mx []any
		if err := node.Decode(&mx); err != nil {
			return nil, err
		}
		out = append(out, &miekg.MX{Hdr: hdr(miekg.TypeMX), Preference: uint16(mx[0].(int)), Mx: miekg.Fqdn(fmt.Sprint(mx[1]))})
	case "PTR":
		out = append(out, &miekg.PTR{Hdr: hdr(miekg.TypePTR), Ptr: miekg.Fqdn(list[0])})
	case "CNAME":
		out = append(out, &miekg.CNAME{Hdr: hdr(miekg.TypeCNAME), Target: miekg.Fqdn(list[0])})
	default:
		return nil, fmt.Errorf("unknown kind %s", kind)
	}
	return out, nil
}

// escaped is a string as miekg keeps it.
func escaped(s string) string {
	var b strings.Builder
	for _, c := range []byte(s) {
		if c == '"' || c == '\\' || c < ' ' || c > '~' {
			fmt.Fprintf(&b, "\\%03d", c)
		} else {
			b.WriteByte(c)
		}
	}
	return b.String()
}
