package testenv

import (
	"net"
	"strings"
	"sync"
	"testing"

	"github.com/miekg/dns"
)

// DNSFault is a way for a DNS server to misbehave.
type DNSFault int

// The faults of a DNS server.
const (
	DNSFine          DNSFault = iota
	DNSServFail               // answers SERVFAIL
	DNSRefused                // answers REFUSED
	DNSFormErr                // answers FORMERR to questions with EDNS
	DNSSilent                 // never answers
	DNSTruncate               // answers over UDP are cut off; TCP has them whole
	DNSTruncateAll            // also over TCP
	DNSWrongID                // answers with another ID
	DNSWrongQuestion          // answers another question
	DNSGarbage                // answers with bytes that are no message
	DNSStray                  // sends an answer with another ID first, then the right one
	DNSAnswer                 // answers for this type whatever is set for the name
	DNSReferral               // names other servers in place of an answer, as one that does not resolve
)

// DNSServer is a DNS server on loopback, over UDP and TCP, that a test fills
// with zones and can break. It answers as a recursive resolver does.
type DNSServer struct {
	Addr string

	mu        sync.Mutex // guards all below
	records   map[string][]dns.RR
	faults    map[string]DNSFault
	secure    bool
	questions []string
}

// DNS starts a server with the records of zone (the text of a zone file; names
// are absolute) that lives as long as the test.
func DNS(t testing.TB, zone string) *DNSServer {
	t.Helper()
	s := &DNSServer{faults: map[string]DNSFault{}}
	s.SetZone(t, zone)
	var pc net.PacketConn
	var l net.Listener
	for range 20 { // both protocols on one port
		var err error
		if pc, err = net.ListenPacket("udp", "127.0.0.1:0"); err != nil {
			t.Fatal(err)
		}
		if l, err = net.Listen("tcp", pc.LocalAddr().String()); err == nil {
			break
		}
		pc.Close()
	}
	if l == nil {
		t.Fatal("no port that is free for UDP and TCP")
	}
	s.Addr = pc.LocalAddr().String()
	for _, srv := range []*dns.Server{{PacketConn: pc, Handler: s}, {Listener: l, Handler: s}} {
		started := make(chan struct{})
		srv.NotifyStartedFunc = func() { close(started) }
		var done sync.WaitGroup
		done.Go(func() { srv.ActivateAndServe() })
		<-started
		t.Cleanup(func() { srv.Shutdown(); done.Wait() })
	}
	return s
}

// SetZone puts other records in place of all that were there.
func (s *DNSServer) SetZone(t testing.TB, zone string) {
	t.Helper()
	records := map[string][]dns.RR{}
	p := dns.NewZoneParser(strings.NewReader(zone), ".", "")
	p.SetDefaultTTL(300)
	for rr, ok := p.Next(); ok; rr, ok = p.Next() {
		records[wireName(rr.Header().Name)] = append(records[wireName(rr.Header().Name)], rr)
	}
	if err := p.Err(); err != nil {
		t.Fatal(err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.records = records
}

// SetRecords is SetZone for records that a zone file cannot express.
func (s *DNSServer) SetRecords(rrs []dns.RR) {
	records := map[string][]dns.RR{}
	for _, rr := range rrs {
		records[wireName(rr.Header().Name)] = append(records[wireName(rr.Header().Name)], rr)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.records = records
}

// wireName is a name as it stands in a question, odd bytes escaped.
func wireName(name string) string {
	var wire [256]byte
	if _, err := dns.PackDomainName(name, wire[:], 0, nil, false); err != nil {
		return name
	}
	name, _, err := dns.UnpackDomainName(wire[:], 0)
	if err != nil {
		return name
	}
	return strings.ToLower(name)
}

// Fail breaks the answers for a name, "" for all names. "txt name" breaks one type.
func (s *DNSServer) Fail(name string, f DNSFault) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if kind, rest, ok := strings.Cut(name, " "); ok {
		s.faults[strings.ToUpper(kind)+" "+strings.ToLower(dns.Fqdn(rest))] = f
		return
	}
	if name != "" {
		name = strings.ToLower(dns.Fqdn(name))
	}
	s.faults[name] = f
}

// SetAD sets whether answers claim to be validated by DNSSEC.
func (s *DNSServer) SetAD(on bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.secure = on
}

// Questions is what was asked so far: "TXT example.org.".
func (s *DNSServer) Questions() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]string(nil), s.questions...)
}

// ServeDNS answers one question.
func (s *DNSServer) ServeDNS(w dns.ResponseWriter, q *dns.Msg) {
	s.mu.Lock()
	m, fault := s.answer(q)
	s.mu.Unlock()
	_, udp := w.RemoteAddr().(*net.UDPAddr)
	switch fault {
	case DNSSilent:
		return
	case DNSServFail:
		m = new(dns.Msg).SetRcode(q, dns.RcodeServerFailure)
	case DNSRefused:
		m = new(dns.Msg).SetRcode(q, dns.RcodeRefused)
	case DNSFormErr:
		if q.IsEdns0() != nil {
			m = new(dns.Msg).SetRcode(q, dns.RcodeFormatError)
		}
	case DNSTruncate, DNSTruncateAll:
		if udp || fault == DNSTruncateAll {
			m.Answer, m.Truncated = nil, true
		}
	case DNSReferral:
		m = new(dns.Msg).SetReply(q)
		m.Ns = []dns.RR{&dns.NS{Hdr: dns.RR_Header{Name: ".", Rrtype: dns.TypeNS, Class: dns.ClassINET, Ttl: 300}, Ns: "a.root.example."}}
	case DNSWrongID:
		m.Id++
	case DNSWrongQuestion:
		m.Question[0].Name = "other." + m.Question[0].Name
	case DNSGarbage:
		w.Write([]byte{byte(q.Id >> 8), byte(q.Id), 0x81, 0x80, 0, 1, 0, 9, 0, 0, 0, 0, 0xc0})
		return
	case DNSStray:
		stray := m.Copy()
		stray.Id++
		stray.Answer = nil
		w.WriteMsg(stray)
	}
	if udp {
		size := dns.MinMsgSize
		if o := q.IsEdns0(); o != nil {
			size = int(o.UDPSize())
		}
		m.Truncate(size)
	}
	w.WriteMsg(m)
}

// answer makes the right answer, and says how it is to be broken. The caller
// holds the lock.
func (s *DNSServer) answer(q *dns.Msg) (*dns.Msg, DNSFault) {
	question := q.Question[0]
	name, kind := strings.ToLower(question.Name), dns.TypeToString[question.Qtype]
	s.questions = append(s.questions, kind+" "+name)
	fault := s.faults[kind+" "+name]
	for _, key := range []string{name, ""} {
		if fault == DNSFine {
			fault = s.faults[key]
		}
	}
	m := new(dns.Msg).SetReply(q)
	m.RecursionAvailable, m.AuthenticatedData = true, s.secure
	for range 10 {
		var alias string
		for _, rr := range s.records[name] {
			if rr.Header().Rrtype == question.Qtype {
				m.Answer = append(m.Answer, rr)
			} else if c, ok := rr.(*dns.CNAME); ok {
				m.Answer, alias = append(m.Answer, rr), strings.ToLower(c.Target)
			}
		}
		if alias == "" {
			break
		}
		name = alias
	}
	if !s.exists(name) {
		m.Rcode = dns.RcodeNameError
	}
	if len(m.Answer) == 0 || m.Answer[len(m.Answer)-1].Header().Rrtype != question.Qtype {
		m.Ns = s.authority(name)
	}
	return m, fault
}

// exists is true for names and for what names are below of (RFC 8020).
func (s *DNSServer) exists(name string) bool {
	if name == "." {
		return true
	}
	for have := range s.records {
		if have == name || strings.HasSuffix(have, "."+name) {
			return true
		}
	}
	return false
}

// authority is the SOA of the zone around a name, where the test gave one.
func (s *DNSServer) authority(name string) []dns.RR {
	for off, end := 0, false; !end; off, end = dns.NextLabel(name, off) {
		for _, rr := range s.records[name[off:]] {
			if rr.Header().Rrtype == dns.TypeSOA {
				return []dns.RR{rr}
			}
		}
	}
	return nil
}
