package main

import (
	"archive/zip"
	"bytes"
	"compress/zlib"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"math/rand/v2"
	"net"
	"strings"
)

// kind is one sort of mail in the load.
type kind string

const (
	text       kind = "text"       // 4 KB of plain text
	html       kind = "html"       // 30 KB of HTML
	attachment kind = "attachment" // 300 KB, a PDF
	archive    kind = "archive"    // 1 MB, a zip
	big        kind = "big"        // 5 MB, an office document
	eicar      kind = "eicar"      // the EICAR test file, plain or in a zip
)

// mail is one message to send.
type mail struct {
	kind  kind
	token string
	head  []byte // stands before raw, where many mails share the rest
	raw   []byte // as a mail file, CRLF
	sum   [32]byte
}

// wire is the mail as it goes over the wire after DATA, with the final dot (RFC
// 5321 §4.5.2). Few mails have a line that starts with a dot; those are copied.
func (m mail) wire() net.Buffers {
	b := m.raw
	if bytes.HasPrefix(b, []byte(".")) || bytes.Contains(b, []byte("\r\n.")) {
		b = bytes.ReplaceAll(b, []byte("\r\n."), []byte("\r\n.."))
		if b[0] == '.' {
			b = append([]byte("."), b...)
		}
	}
	return net.Buffers{m.head, b, []byte(".\r\n")}
}

// The EICAR string is put together when it is needed: in one piece in a file it
// would set off scanners on this source.
func eicarFile() []byte {
	return []byte(`X5O!P%@AP[4\PZX54(P^)7CC)7}$EICAR` + `-STANDARD-ANTIVIRUS-TEST-FILE!$H+H*`)
}

// generator makes mails from a seed. No two of one generator are alike in any
// part: a cache that answers by content never can. With repeat, that share of the
// mails with an attachment have one of a few that are all alike.
type generator struct {
	rng    *rand.Rand
	bytes  *rand.ChaCha8
	words  []string
	run    string
	next   int
	repeat float64
	shared map[kind][][]byte
}

// sharedFiles is how many different files the repeated attachments are.
var sharedFiles = map[kind]int{attachment: 6, archive: 4, big: 2}

func newGenerator(seed uint64, run string) *generator {
	var key [32]byte
	copy(key[:], fmt.Sprintf("%d %s", seed, run))
	source := rand.NewChaCha8(key)
	g := &generator{rng: rand.New(source), bytes: source, run: run, shared: map[kind][][]byte{}}
	const consonants, vowels = "bcdfghjklmnprstvwz", "aeiou"
	for range 3000 {
		var w strings.Builder
		for range 1 + g.rng.IntN(4) {
			w.WriteByte(consonants[g.rng.IntN(len(consonants))])
			w.WriteByte(vowels[g.rng.IntN(len(vowels))])
		}
		g.words = append(g.words, w.String())
	}
	return g
}

// batch makes n mails in the mix of the issue, in random order: 40 % text, 35 %
// HTML, 15 % attachments, 8 % archives, 2 % big ones; one in a hundred of all,
// at least one, is EICAR in place of an attachment.
func (g *generator) batch(n int) []mail {
	var kinds []kind
	for _, share := range []struct {
		kind    kind
		percent int
	}{{html, 35}, {attachment, 15}, {archive, 8}, {big, 2}} {
		for range n * share.percent / 100 {
			kinds = append(kinds, share.kind)
		}
	}
	for len(kinds) < n {
		kinds = append(kinds, text)
	}
	for i, infected := 0, max(1, n/100); i < n && infected > 0; i++ {
		if kinds[i] == attachment || n < 10 && i == n-1 {
			kinds[i] = eicar
			infected--
		}
	}
	g.rng.Shuffle(len(kinds), func(i, j int) { kinds[i], kinds[j] = kinds[j], kinds[i] })
	mails := make([]mail, n)
	for i, k := range kinds {
		mails[i] = g.mail(k)
	}
	return mails
}

func (g *generator) mail(k kind) mail {
	g.next++
	m := mail{kind: k, token: fmt.Sprintf("tok%s%06d%08x", g.run, g.next, g.rng.Uint32())}
	var b bytes.Buffer
	fmt.Fprintf(&b, "Received: from mail.source.example (mail.source.example [192.0.2.7])\r\n\tby mx.source.example with ESMTPS id %s\r\n\tfor <rcpt@%s>; Tue, 03 Mar 2026 09:00:00 +0000\r\n", m.token, domain)
	fmt.Fprintf(&b, "From: Sender <sender@source.example>\r\nTo: <rcpt@%s>\r\nSubject: Load %s %s\r\nDate: Tue, 03 Mar 2026 09:00:00 +0000\r\nMessage-ID: <%s@source.example>\r\nMIME-Version: 1.0\r\n", domain, k, g.word(), m.token)
	switch k {
	case text:
		fmt.Fprintf(&b, "Content-Type: text/plain; charset=us-ascii\r\n\r\n%s\r\n%s", m.token, g.prose(3800))
	case html:
		g.alternative(&b, m.token)
	case attachment:
		g.mixed(&b, m.token, "report.pdf", "application/pdf", g.file(k, m.token))
	case archive:
		g.mixed(&b, m.token, "files.zip", "application/zip", g.file(k, m.token))
	case big:
		g.mixed(&b, m.token, "slides.pptx", "application/vnd.openxmlformats-officedocument.presentationml.presentation", g.file(k, m.token))
	case eicar:
		file, name, mime := eicarFile(), "test.com", "application/octet-stream"
		if g.rng.IntN(2) == 0 {
			file, name, mime = zipOf("test.com", file), "test.zip", "application/zip"
		}
		g.mixed(&b, m.token, name, mime, file)
	}
	m.raw = b.Bytes()
	m.sum = sha256.Sum256(m.raw)
	return m
}

// file is an attachment of its own, or one of the shared ones.
func (g *generator) file(k kind, token string) []byte {
	if g.repeat == 0 || g.rng.Float64() >= g.repeat {
		return g.newFile(k, token)
	}
	for len(g.shared[k]) < sharedFiles[k] {
		g.shared[k] = append(g.shared[k], g.newFile(k, fmt.Sprintf("shared%s%d", g.run, len(g.shared[k]))))
	}
	return g.shared[k][g.rng.IntN(sharedFiles[k])]
}

func (g *generator) newFile(k kind, token string) []byte {
	switch k {
	case attachment:
		return g.pdf(token, 215_000)
	case archive:
		return g.zip(token, 3, 740_000)
	default:
		return g.zip(token, 12, 3_700_000)
	}
}

// alternative is a newsletter: the text, and the same in HTML.
func (g *generator) alternative(b *bytes.Buffer, token string) {
	boundary := "b" + token
	fmt.Fprintf(b, "Content-Type: multipart/alternative; boundary=%q\r\n\r\n--%s\r\nContent-Type: text/plain; charset=us-ascii\r\n\r\n%s\r\n%s\r\n--%s\r\n", boundary, boundary, token, g.prose(2500), boundary)
	fmt.Fprintf(b, "Content-Type: text/html; charset=utf-8\r\n\r\n%s\r\n--%s--\r\n", g.page(token, 27_000), boundary)
}

func (g *generator) word() string { return g.words[g.rng.IntN(len(g.words))] }

// prose is about n bytes of lines of words.
func (g *generator) prose(n int) []byte {
	var b bytes.Buffer
	for b.Len() < n {
		line := 0
		for line < 66 {
			w := g.word()
			b.WriteString(w)
			b.WriteByte(' ')
			line += len(w) + 1
		}
		b.WriteString("\r\n")
	}
	return b.Bytes()
}

func (g *generator) page(token string, n int) []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "<!doctype html>\r\n<html><head><title>%s</title><style>td { padding: 4px } a { color: #06c }</style></head>\r\n<body><!-- %s -->\r\n<table>\r\n", g.word(), token)
	for b.Len() < n {
		fmt.Fprintf(&b, "<tr><td style=\"border: 1px solid #%06x\"><a href=\"https://www.source.example/%s/%s?id=%d\">%s %s</a></td>\r\n<td><p>%s</p></td></tr>\r\n",
			g.rng.IntN(1<<24), g.word(), g.word(), g.rng.IntN(1e6), g.word(), g.word(), bytes.TrimSpace(g.prose(120)))
	}
	b.WriteString("</table></body></html>\r\n")
	return b.Bytes()
}

// pdf is a document with compressed pages of text and an image.
func (g *generator) pdf(token string, n int) []byte {
	var b bytes.Buffer
	var offsets []int
	object := func(head string, stream []byte) {
		offsets = append(offsets, b.Len())
		fmt.Fprintf(&b, "%d 0 obj\n", len(offsets))
		if stream == nil {
			fmt.Fprintf(&b, "%s\nendobj\n", head)
			return
		}
		fmt.Fprintf(&b, "<< %s /Length %d >>\nstream\n%s\nendstream\nendobj\n", head, len(stream), stream)
	}
	b.WriteString("%PDF-1.5\n%\xe2\xe3\xcf\xd3\n")
	object("<< /Type /Catalog /Pages 2 0 R >>", nil)
	object("<< /Type /Pages /Kids [] /Count 0 >>", nil)
	object("<< /Title ("+token+") >>", nil)
	for b.Len() < n/2 {
		var z bytes.Buffer
		w, _ := zlib.NewWriterLevel(&z, zlib.BestSpeed)
		fmt.Fprintf(w, "BT /F1 11 Tf 72 760 Td (%s) Tj ET\n", token)
		w.Write(g.prose(12_000))
		w.Close()
		object("/Filter /FlateDecode", z.Bytes())
	}
	object("/Type /XObject /Subtype /Image /Filter /DCTDecode", append([]byte("\xff\xd8\xff\xe0"), g.random(n-b.Len())...))
	start := b.Len()
	fmt.Fprintf(&b, "xref\n0 %d\n0000000000 65535 f \n", len(offsets)+1)
	for _, o := range offsets {
		fmt.Fprintf(&b, "%010d 00000 n \n", o)
	}
	fmt.Fprintf(&b, "trailer\n<< /Size %d /Root 1 0 R /Info 3 0 R >>\nstartxref\n%d\n%%%%EOF\n", len(offsets)+1, start)
	return b.Bytes()
}

// zip is an archive of about n bytes: half text, half what does not compress.
func (g *generator) zip(token string, files, n int) []byte {
	var b bytes.Buffer
	z := zip.NewWriter(&b)
	for i := range files {
		w, _ := z.Create(fmt.Sprintf("%s/%s%d.xml", g.word(), g.word(), i))
		fmt.Fprintf(w, "<?xml version=\"1.0\"?>\n<text id=%q>\n", token)
		w.Write(g.prose(n / files)) // compresses to a third or so
		fmt.Fprintf(w, "</text>\n")
		w, _ = z.CreateHeader(&zip.FileHeader{Name: fmt.Sprintf("media/image%d.jpeg", i), Method: zip.Store})
		w.Write([]byte("\xff\xd8\xff\xe0" + token))
		w.Write(g.random(n * 2 / 3 / files))
	}
	z.Close()
	return b.Bytes()
}

func zipOf(name string, content []byte) []byte {
	var b bytes.Buffer
	z := zip.NewWriter(&b)
	w, _ := z.Create(name)
	w.Write(content)
	z.Close()
	return b.Bytes()
}

func (g *generator) random(n int) []byte {
	b := make([]byte, max(0, n))
	g.bytes.Read(b)
	return b
}

func (g *generator) mixed(b *bytes.Buffer, token, name, mime string, file []byte) {
	boundary := "b" + token
	fmt.Fprintf(b, "Content-Type: multipart/mixed; boundary=%q\r\n\r\n--%s\r\nContent-Type: text/plain; charset=us-ascii\r\n\r\n%s\r\n%s\r\n--%s\r\n", boundary, boundary, token, g.prose(700), boundary)
	fmt.Fprintf(b, "Content-Type: %s; name=%q\r\nContent-Disposition: attachment; filename=%q\r\nContent-Transfer-Encoding: base64\r\n\r\n", mime, name, name)
	line := make([]byte, 76)
	for len(file) > 0 {
		n := min(57, len(file))
		l := base64.StdEncoding.EncodedLen(n)
		base64.StdEncoding.Encode(line[:l], file[:n])
		b.Write(line[:l])
		b.WriteString("\r\n")
		file = file[n:]
	}
	fmt.Fprintf(b, "--%s--\r\n", boundary)
}
