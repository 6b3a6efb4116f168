package mailauth

import (
	"context"
	"crypto"
	"crypto/rsa"
	"encoding/base64"
	"fmt"
	"io"
	"math/big"
	"slices"
	"strings"
	"testing"
	"time"
)

// forge makes ARC sets with any tags and signs what it made: a case then tests
// the rule it is about, and not only that a signature broke.
type forge struct {
	t   testing.TB
	dns *txt
	key *signKey
}

func newForge(t testing.TB, key crypto.Signer) *forge {
	dns := newTXT()
	dns.set("s._domainkey.sealer.example", record(t, key))
	k, err := fileKey("sealer.example", KeyConfig{Selector: "s", Source: keyFile(t, key)})
	if err != nil {
		t.Fatal(err)
	}
	return &forge{t, dns, k}
}

// set is how one set differs from a good one.
type set struct {
	aar       string                  // the whole field
	ams, seal func([]string) []string // the tags, before they are signed
	instance  int                     // another number than the next
}

// tag changes one tag; an empty value takes it away.
func tag(name, value string) func([]string) []string {
	return func(tags []string) []string {
		for i, t := range tags {
			if strings.HasPrefix(t, name+"=") {
				if value == "" {
					return slices.Delete(tags, i, i+1)
				}
				tags[i] = name + "=" + value
				return tags
			}
		}
		return append(tags, name+"="+value)
	}
}

func same(tags []string) []string { return tags }

// add puts a set on top of a mail.
func (f *forge) add(mail string, s set) string {
	f.t.Helper()
	header, body := split(mail)
	have := splitFields(header)
	c := readChain(have)
	n := c.highest + 1
	if s.instance > 0 {
		n = s.instance
	}
	if s.ams == nil {
		s.ams = same
	}
	if s.seal == nil {
		s.seal = same
	}
	if s.aar == "" {
		s.aar = fmt.Sprintf("ARC-Authentication-Results: i=%d; mx.example; dmarc=pass\r\n", n)
	}
	cv := Pass
	if n == 1 {
		cv = None
	}
	i := fmt.Sprintf("i=%d", n)
	ams := s.ams([]string{i, "a=" + f.key.alg, "c=relaxed/relaxed", "d=sealer.example", "s=s", "t=1700000000", "h=From:To:Subject:Date", "bh="})
	var h, b = "simple", "simple"
	if at := slices.IndexFunc(ams, func(s string) bool { return strings.HasPrefix(s, "c=") }); at >= 0 {
		h, b, _ = strings.Cut(ams[at][2:], "/")
		if b == "" {
			b = "simple"
		}
	}
	sum := newBodyHash(b == "relaxed")
	if err := hashBody(context.Background(), body(), sum); err != nil {
		f.t.Fatal(err)
	}
	if at := slices.Index(ams, "bh="); at >= 0 {
		ams[at] += base64.StdEncoding.EncodeToString(sum.sum())
	}
	var names []string
	for _, t := range ams {
		if v, ok := strings.CutPrefix(t, "h="); ok {
			names = colonList(strings.ToLower(v))
		}
	}
	canon := relaxedHeader
	if h == "simple" {
		canon = simpleHeader
	}
	next := arcSet{aar: []byte(s.aar)}
	next.ams = f.sign(signatureField("ARC-Message-Signature", ams), have.pick(names, nil), canon)
	seal := s.seal([]string{i, "a=" + f.key.alg, "cv=" + cv, "d=sealer.example", "s=s", "t=1700000000"})
	next.seal = f.sign(signatureField("ARC-Seal", seal), sealed(append(slices.Clone(c.sets), next)), relaxedHeader)
	return string(next.seal) + string(next.ams) + string(next.aar) + mail
}

func (f *forge) sign(field string, signed []field, canon func([]byte) []byte) []byte {
	sig, err := f.key.sign(context.Background(), hashFields(canon, signed, []byte(field)))
	if err != nil {
		f.t.Fatal(err)
	}
	return []byte(field + base64.StdEncoding.EncodeToString(sig) + "\r\n")
}

func (f *forge) chain(n int) string {
	m := plainMail
	for range n {
		m = f.add(m, set{})
	}
	return m
}

// verifyARC checks the chain of a mail, and nothing else of it.
func verifyARC(ctx context.Context, dns Resolver, header []byte, body func() io.Reader, now time.Time) ARC {
	f := splitFields(header)
	v := newVerifier(ctx, dns, f, now)
	defer v.close()
	c := readChain(f)
	v.wantARC(c)
	return v.arc(c, v.readBody(body))
}

func (f *forge) verify(mail string) ARC {
	h, b := split(mail)
	return verifyARC(context.Background(), f.dns, h, b, time.Unix(1_800_000_000, 0))
}

func TestARC_GoodChains(t *testing.T) {
	t.Parallel()
	for name, key := range map[string]crypto.Signer{"rsa": rsaKey(t), "ed25519": edKey(t)} {
		f := newForge(t, key)
		for _, n := range []int{0, 1, 2, 3, 10, 50} {
			got := f.verify(f.chain(n))
			want := Pass
			if n == 0 {
				want = None
			}
			if got.Result != want || got.Instances != n || len(got.Sealers) != n || len(got.AAR) != n || got.OldestPass != 0 {
				t.Errorf("%s, %d sets: %+v", name, n, got)
			}
		}
		if f.dns.asked > 5 { // one key a mail
			t.Errorf("%s: asked DNS %d times", name, f.dns.asked)
		}
	}
	f := newForge(t, edKey(t))
	m := f.add(f.chain(1), set{aar: "ARC-Authentication-Results:\r\n\ti=2 ; two.example;\r\n\tspf=pass\r\n"})
	if got := f.verify(m); got.Result != Pass || got.AAR[0] != "mx.example; dmarc=pass" || got.AAR[1] != "two.example;\r\n\tspf=pass" {
		t.Errorf("%+v", got)
	}
}

// TestARC_Tags: one set, or the second of two, differs in one point and is
// otherwise rightly signed.
func TestARC_Tags(t *testing.T) {
	t.Parallel()
	f := newForge(t, rsaKey(t))
	pass, fail := Pass, Fail
	both := func(name, value string) set { return set{ams: tag(name, value), seal: tag(name, value)} }
	for name, tt := range map[string]struct {
		set  set
		want string
	}{
		"c= simple/simple":          {set{ams: tag("c", "simple/simple")}, pass},
		"c= simple/relaxed":         {set{ams: tag("c", "simple/relaxed")}, pass},
		"c= relaxed/simple":         {set{ams: tag("c", "relaxed/simple")}, pass},
		"c= relaxed: simple body":   {set{ams: tag("c", "relaxed")}, pass},
		"c= missing: simple":        {set{ams: tag("c", "")}, pass},
		"c= unknown":                {set{ams: tag("c", "loose/relaxed")}, fail},
		"c= empty":                  {set{ams: tag("c", " ")}, fail},
		"unknown tag":               {both("zz9", "anything at all"), pass},
		"t= missing":                {both("t", ""), pass},
		"message t= no number":      {set{ams: tag("t", "now")}, fail},
		"seal t= negative":          {set{seal: tag("t", "-1")}, fail},
		"t= huge":                   {both("t", strings.Repeat("9", 30)), fail},
		"x= past":                   {set{ams: tag("x", "1700000001")}, fail},
		"x= to come":                {set{ams: tag("x", "1900000000")}, pass},
		"x= no number":              {set{ams: tag("x", "never")}, fail},
		"l=":                        {set{ams: tag("l", "5")}, fail},
		"message a= missing":        {set{ams: tag("a", "")}, fail},
		"message a= sha1":           {set{ams: tag("a", "rsa-sha1")}, fail},
		"message a= unknown":        {set{ams: tag("a", "rsa-sha512")}, fail},
		"message a= of another key": {set{ams: tag("a", "ed25519-sha256")}, fail},
		"seal a= missing":           {set{seal: tag("a", "")}, fail},
		"seal a= sha1":              {set{seal: tag("a", "rsa-sha1")}, fail},
		"message d= missing":        {set{ams: tag("d", "")}, fail},
		"message d= another":        {set{ams: tag("d", "other.example")}, fail},
		"message d= no domain":      {set{ams: tag("d", "sealer..example")}, fail},
		"message d= not ASCII":      {set{ams: tag("d", "s\xc3\xa9aler.example")}, fail},
		"message d= other case":     {set{ams: tag("d", "SEALER.example")}, pass},
		"seal d= missing":           {set{seal: tag("d", "")}, fail},
		"seal d= one label":         {set{seal: tag("d", "example")}, fail},
		"message s= missing":        {set{ams: tag("s", "")}, fail},
		"message s= another":        {set{ams: tag("s", "t")}, fail},
		"seal s= missing":           {set{seal: tag("s", "")}, fail},
		"seal s= another":           {set{seal: tag("s", "t")}, fail},
		"seal with h=":              {set{seal: tag("h", "From")}, fail},
		"cv= missing":               {set{seal: tag("cv", "")}, fail},
		"cv= unknown":               {set{seal: tag("cv", "maybe")}, fail},
		"cv= fail":                  {set{seal: tag("cv", "fail")}, fail},
		"seal i= missing":           {set{seal: tag("i", "")}, fail},
		"seal i=0":                  {set{seal: tag("i", "0")}, fail},
		"seal i=51":                 {set{seal: tag("i", "51")}, fail},
		"seal i= no number":         {set{seal: tag("i", "one")}, fail},
		"message i= missing":        {set{ams: tag("i", "")}, fail},
		"message i= another":        {set{ams: tag("i", "3")}, fail},
		"h= missing":                {set{ams: tag("h", "")}, fail},
		"h= empty":                  {set{ams: tag("h", " ")}, fail},
		"h= without From":           {set{ams: tag("h", "To:Subject")}, fail},
		"h= names a seal":           {set{ams: tag("h", "From:ARC-Seal")}, fail},
		"h= empty name":             {set{ams: tag("h", "From::To")}, fail},
		"h= other case":             {set{ams: tag("h", "FROM:tO:sUBJECT")}, pass},
		"h= white space":            {set{ams: tag("h", "From :\r\n\tTo : Subject")}, pass},
		"h= not there":              {set{ams: tag("h", "From:X-Nothing:X-Nothing")}, pass},
		"h= doubled":                {set{ams: tag("h", "From:From:To:To:Received:Received:Received")}, pass},
		"h= too many":               {set{ams: tag("h", "From"+strings.Repeat(":X", 600))}, fail},
		"bh= missing":               {set{ams: tag("bh", "")}, fail},
		"bh= empty":                 {set{ams: tag("bh", " ")}, fail},
		"bh= no base64":             {set{ams: tag("bh", "!!!")}, fail},
		"bh= another":               {set{ams: tag("bh", "AAAA")}, fail},
		"doubled tag":               {set{ams: func(t []string) []string { return append(t, "d=sealer.example") }}, fail},
		"seal doubled tag":          {set{seal: func(t []string) []string { return append(t, "s=s") }}, fail},
		"empty tag":                 {set{seal: func(t []string) []string { return append(t, "") }}, fail},
		"tag without value":         {set{seal: func(t []string) []string { return append(t, "x") }}, fail},
		"bad tag name":              {set{ams: func(t []string) []string { return append(t, "9x=1") }}, fail},
		"tag name's case":           {set{ams: func(t []string) []string { return append(t, "D=other.example") }}, pass},
	} {
		for n := range 2 {
			if got := f.verify(f.add(f.chain(n), tt.set)); got.Result != tt.want {
				t.Errorf("%s, i=%d: %s (%s), want %s", name, n+1, got.Result, got.Reason, tt.want)
			}
		}
	}
}

// TestARC_Structure: what is in a set, which sets there are, and what their seals say.
func TestARC_Structure(t *testing.T) {
	t.Parallel()
	f := newForge(t, edKey(t))
	two := f.chain(2)
	lines := func(mail string, drop func(name string, i int) bool) string {
		h, b := split(mail)
		seen := map[string]int{}
		var out strings.Builder
		for _, fd := range splitFields(h).list {
			seen[fd.name]++
			if !drop(fd.name, seen[fd.name]) {
				out.Write(fd.raw)
			}
		}
		body, _ := io.ReadAll(b())
		return out.String() + "\r\n" + string(body)
	}
	field := func(mail, name string, n int) string {
		h, _ := split(mail)
		fs := splitFields(h)
		return string(fs.list[fs.byName[name][n]].raw)
	}
	reversed := func() string {
		h, b := split(two)
		l := splitFields(h).list
		slices.Reverse(l[:6])
		var out strings.Builder
		for _, fd := range l {
			out.Write(fd.raw)
		}
		body, _ := io.ReadAll(b())
		return out.String() + "\r\n" + string(body)
	}
	for name, tt := range map[string]struct{ mail, want string }{
		"order of fields":       {reversed(), Pass},
		"no newest seal":        {lines(two, func(n string, i int) bool { return n == nameAS && i == 1 }), Fail},
		"no first seal":         {lines(two, func(n string, i int) bool { return n == nameAS && i == 2 }), Fail},
		"no newest message":     {lines(two, func(n string, i int) bool { return n == nameAMS && i == 1 }), Fail},
		"no first message":      {lines(two, func(n string, i int) bool { return n == nameAMS && i == 2 }), Fail},
		"no newest results":     {lines(two, func(n string, i int) bool { return n == nameAAR && i == 1 }), Fail},
		"no first results":      {lines(two, func(n string, i int) bool { return n == nameAAR && i == 2 }), Fail},
		"no first set":          {lines(two, func(n string, i int) bool { return strings.HasPrefix(n, "arc-") && i == 2 }), Fail},
		"no second set":         {lines(two, func(n string, i int) bool { return strings.HasPrefix(n, "arc-") && i == 1 }), Pass},
		"only results":          {"ARC-Authentication-Results: i=1; x\r\n" + plainMail, Fail},
		"a seal twice":          {field(two, nameAS, 0) + two, Fail},
		"a message twice":       {field(two, nameAMS, 1) + two, Fail},
		"results twice":         {field(two, nameAAR, 0) + two, Fail},
		"a gap":                 {f.add(f.chain(1), set{instance: 3}), Fail},
		"starts at two":         {f.add(plainMail, set{instance: 2}), Fail},
		"first says pass":       {f.add(f.add(plainMail, set{seal: tag("cv", "pass")}), set{}), Fail},
		"first says fail":       {f.add(f.add(plainMail, set{seal: tag("cv", "fail")}), set{}), Fail},
		"second says none":      {f.add(f.chain(1), set{seal: tag("cv", "none")}), Fail},
		"results, comments":     {f.add(plainMail, set{aar: "ARC-Authentication-Results: (a;b) i (c) = (d) 1 (e) ; mx.example; dmarc=pass\r\n"}), Pass},
		"results without i=":    {f.add(plainMail, set{aar: "ARC-Authentication-Results: mx.example; spf=pass\r\n"}), Fail},
		"results, i= later":     {f.add(plainMail, set{aar: "ARC-Authentication-Results: mx.example; i=1; spf=pass\r\n"}), Fail},
		"results, no semicolon": {f.add(plainMail, set{aar: "ARC-Authentication-Results: i=1 mx.example\r\n"}), Fail},
		"results of another":    {f.add(plainMail, set{aar: "ARC-Authentication-Results: i=2; mx.example\r\n"}), Fail},
		"151 fields":            {strings.Repeat("ARC-Seal: i=1\r\n", 151) + plainMail, Fail},
		"nonsense":              {"ARC-Seal: \x00\r\nARC-Seal:\r\nARC-Seal\r\n" + plainMail, Fail},
	} {
		if got := f.verify(tt.mail); got.Result != tt.want || (got.Result == Fail) == (got.Reason == "") {
			t.Errorf("%s: %s (%s), want %s", name, got.Result, got.Reason, tt.want)
		}
	}
}

// TestARC_Changed: what the chain's signatures cover, and white space they do not.
func TestARC_Changed(t *testing.T) {
	t.Parallel()
	f := newForge(t, rsaKey(t))
	m := f.chain(3)
	rep := func(old, new string) string {
		if !strings.Contains(m, old) {
			t.Fatalf("no %q", old)
		}
		return strings.Replace(m, old, new, 1)
	}
	for name, tt := range map[string]struct{ mail, want string }{
		"body":              {rep("hello", "hullo"), Fail},
		"body white space":  {rep("hello  \t you \r\n", "hello you\r\n"), Pass},
		"more empty lines":  {m + "\r\n\r\n", Pass},
		"signed field":      {rep("b@example.net", "c@example.net"), Fail},
		"field unfolded":    {rep("?=\r\n folded", "?= folded"), Pass},
		"unsigned field":    {rep("Received: one", "Received: three"), Pass},
		"field on top":      {"X-New: 1\r\n" + m, Pass},
		"newest results":    {rep("i=3; mx.example; dmarc=pass", "i=3; mx.example; dmarc=fail"), Fail},
		"first results":     {rep("i=1; mx.example; dmarc=pass", "i=1; mx.example; dmarc=fail"), Fail},
		"results' spaces":   {rep("i=1; mx.example; dmarc=pass", "i=1;   mx.example;\r\n\tdmarc=pass"), Pass},
		"case of the name":  {rep("ARC-Seal: i=2", "arc-SEAL: i=2"), Pass},
		"space before name": {rep("ARC-Seal: i=2", "ARC-Seal : i=2"), Pass},
		"seal's tag":        {rep("ARC-Seal: i=2;", "ARC-Seal: i=2; zz=1;"), Fail},
		"first cv":          {rep("cv=none", "cv=NONE"), Fail},
	} {
		if got := f.verify(tt.mail); got.Result != tt.want {
			t.Errorf("%s: %s (%s), want %s", name, got.Result, got.Reason, tt.want)
		}
	}
	// White space in b= counts for nothing in its own signature, but a later
	// seal covers it: only the newest may be folded anew.
	at := strings.Index(m, "b=") + 20
	if got := f.verify(m[:at] + "\r\n\t " + m[at:]); got.Result != Pass {
		t.Errorf("newest seal folded anew: %+v", got)
	}
	if got := f.verify(m[:at] + "!" + m[at:]); got.Result != Fail {
		t.Errorf("no base64: %+v", got)
	}
}

// TestARC_OldestPass: a sealer in the middle changed the mail and sealed that.
func TestARC_OldestPass(t *testing.T) {
	t.Parallel()
	f := newForge(t, edKey(t))
	m := strings.Replace(f.chain(2), "hello", "hello [list]", 1)
	m = f.add(f.add(m, set{}), set{})
	if got := f.verify(m); got.Result != Pass || got.OldestPass != 3 {
		t.Errorf("%+v", got)
	}
}

// shortKey is the public half of a key that RFC 8301 calls none.
type shortKey struct{ crypto.Signer }

func (shortKey) Public() crypto.PublicKey {
	n := new(big.Int).Lsh(big.NewInt(1), 1000)
	return &rsa.PublicKey{N: n.Add(n, big.NewInt(297)), E: 65537}
}

func TestARC_Keys(t *testing.T) {
	t.Parallel()
	k := rsaKey(t)
	f := newForge(t, k)
	m := f.chain(2)
	good := record(t, k)
	p := good[strings.Index(good, "p="):]
	for name, tt := range map[string]struct {
		records []string
		want    string
	}{
		"good":           {[]string{good}, Pass},
		"without v=":     {[]string{p}, Pass},
		"spaces in it":   {[]string{"v = DKIM1 ;k= rsa; h=sha1 : sha256; s=email ; n=a note;" + p + " ;"}, Pass},
		"testing":        {[]string{"v=DKIM1; t=y:s; " + p}, Pass},
		"none":           {nil, Fail},
		"several":        {[]string{good, good}, Fail},
		"revoked":        {[]string{"v=DKIM1; k=rsa; p="}, Fail},
		"no p=":          {[]string{"v=DKIM1; k=rsa"}, Fail},
		"no base64":      {[]string{"v=DKIM1; p=%%%"}, Fail},
		"no key":         {[]string{"v=DKIM1; p=AAAA"}, Fail},
		"another":        {[]string{record(t, rsaKey(t))}, Fail},
		"ed25519":        {[]string{record(t, edKey(t))}, Fail},
		"unknown kind":   {[]string{"v=DKIM1; k=dsa; " + p}, Fail},
		"version":        {[]string{"v=DKIM2; " + p}, Fail},
		"v= not first":   {[]string{p + "; v=DKIM1"}, Fail},
		"only sha1":      {[]string{"v=DKIM1; h=sha1; " + p}, Fail},
		"another use":    {[]string{"v=DKIM1; s=tlsrpt; " + p}, Fail},
		"1001 bits":      {[]string{record(t, shortKey{})}, Fail},
		"doubled tag":    {[]string{good + "; k=rsa"}, Fail},
		"endless record": {[]string{"n=" + strings.Repeat("x", 10_000) + "; " + p}, Fail},
	} {
		f.dns.set("s._domainkey.sealer.example", tt.records...)
		got := f.verify(m)
		if got.Result != tt.want || name == "1001 bits" && !strings.Contains(got.Reason, "1024") {
			t.Errorf("%s: %s (%s), want %s", name, got.Result, got.Reason, tt.want)
		}
	}
	f.dns.set("s._domainkey.sealer.example", good)
	f.dns.broken = true
	if got := f.verify(m); got.Result != TempError || got.AAR != nil {
		t.Errorf("DNS trouble is %+v", got)
	}
	f.dns.broken = false
	h, b := split(m)
	if got := verifyARC(context.Background(), f.dns, h, func() io.Reader { return failing{b()} }, time.Now()); got.Result != TempError {
		t.Errorf("an unreadable mail is %+v", got)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if got := verifyARC(ctx, f.dns, h, b, time.Now()); got.Result != TempError {
		t.Errorf("no time is %+v", got)
	}
}

// TestARC_Bounds: a hostile chain costs few questions and no reading of the body.
func TestARC_Bounds(t *testing.T) {
	t.Parallel()
	f := newForge(t, edKey(t))
	m := plainMail
	for i := range 40 {
		sel := fmt.Sprintf("s%d", i)
		f.dns.set(sel+"._domainkey.sealer.example", f.key.record)
		m = f.add(m, set{ams: tag("s", sel), seal: tag("s", sel)})
	}
	if got := f.verify(m); got.Result != Fail || f.dns.asked > maxKeys {
		t.Errorf("%s after %d questions", got.Result, f.dns.asked)
	}
	h, _ := split("ARC-Seal: i=1; a=x\r\n" + f.chain(3))
	got := verifyARC(context.Background(), f.dns, h, func() io.Reader { t.Error("the body was read"); return strings.NewReader("") }, time.Now())
	if got.Result != Fail {
		t.Error(got)
	}
}

// FuzzVerifyARC: no header makes it panic, pass or ask without end.
func FuzzVerifyARC(f *testing.F) {
	fo := newForge(f, edKey(f))
	good := fo.chain(2)
	f.Add(good)
	f.Add("ARC-Seal: i=1; cv=none\r\nARC-Message-Signature: i=1\r\nARC-Authentication-Results: i=1; x\r\n\r\n")
	f.Add("arc-seal: i=50; b=;b=\r\n\r\n")
	f.Fuzz(func(t *testing.T, mail string) {
		fo.dns.asked = 0
		got := fo.verify(mail)
		if fo.dns.asked > maxKeys {
			t.Fatalf("asked %d times", fo.dns.asked)
		}
		switch got.Result {
		case Pass:
			if got.Instances < 1 || len(got.AAR) != got.Instances || len(got.Sealers) != got.Instances {
				t.Fatalf("%+v", got)
			}
		case None, Fail:
		default:
			t.Fatalf("%+v", got)
		}
		if strings.ContainsAny(got.Reason+strings.Join(got.Sealers, ""), "\r\n()\"") {
			t.Fatalf("%+v", got)
		}
	})
}
