package sidecar

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"
	"github.com/ulikunitz/xz"

	"mailward/policy"
)

// hidden is what the tests' rule looks for, in bytes and in names.
const hidden = "MARK-4711-OF-THE-TRICKS"

// markMatcher finds it, and names that end in .bad.
type markMatcher struct{}

func (markMatcher) Match(data []byte, v Vars) ([]policy.Finding, error) {
	if bytes.Contains(data, []byte(hidden)) || v.Ext == ".bad" {
		return []policy.Finding{{Name: "Mark", Class: policy.Malware}}, nil
	}
	return nil, nil
}

func scanMail(tb testing.TB, mail []byte) *Response {
	tb.Helper()
	resp, err := (&Worker{Matcher: markMatcher{}, Limits: DefaultLimits(), known: newMemory(time.Now)}).scan(mail)
	if err != nil {
		tb.Fatal(err)
	}
	return resp
}

func classes(r *Response) (c []policy.Class) {
	for _, f := range r.Findings {
		if f.Class != "" && !slices.Contains(c, f.Class) {
			c = append(c, f.Class)
		}
	}
	return c
}

const mailTop = "From: a@b.example\r\nTo: c@d.example\r\nDate: Thu, 01 Jan 2026 00:00:00 +0000\r\nMIME-Version: 1.0\r\n"

func b64(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) }

// crlf writes a mail with LF as it has to be.
func crlf(s string) string { return strings.ReplaceAll(s, "\n", "\r\n") }

// mixed is a mail of one multipart with boundary b.
func mixed(body string) string {
	return mailTop + crlf("Content-Type: multipart/mixed; boundary=b\n\n"+body)
}

// tricks are mails that hide a payload P in a way that some client undoes. odd
// says whether there is more than one reading, so that the twin is broken.
var tricks = []struct {
	name string
	mail func(p string) string
	odd  bool
}{
	{"plain text", func(p string) string { return mailTop + "\r\n" + p }, false},
	{"base64", func(p string) string {
		return mailTop + "Content-Transfer-Encoding: base64\r\n\r\n" + b64(p)
	}, false},
	{"base64 broken at odd places", func(p string) string {
		return mailTop + "Content-Transfer-Encoding: base64\r\n\r\n" + strings.Join(strings.SplitAfter(b64(p), "")[:], "\r\n ")
	}, false},
	{"base64 with junk", func(p string) string {
		return mailTop + "Content-Transfer-Encoding: base64\r\n\r\n" + strings.Join(strings.SplitAfter(b64(p), ""), "!*")
	}, true},
	{"base64 with padding in the middle", func(p string) string {
		return mailTop + "Content-Transfer-Encoding: base64\r\n\r\n" + b64("a") + b64(p)
	}, true},
	{"base64 with padding that some skip", func(p string) string {
		e := b64("abc" + p)
		return mailTop + "Content-Transfer-Encoding: base64\r\n\r\n" + e[:2] + "==" + e[2:]
	}, true},
	{"base64 without its padding", func(p string) string {
		return mailTop + "Content-Transfer-Encoding: base64\r\n\r\n" + strings.TrimRight(b64(p+"x"), "=")
	}, false},
	{"quoted-printable", func(p string) string {
		return mailTop + "Content-Transfer-Encoding: quoted-printable\r\n\r\n" + strings.Join(strings.SplitAfter(p, ""), "=\r\n")
	}, false},
	{"quoted-printable with blanks behind soft breaks and small hex", func(p string) string {
		return mailTop + "Content-Transfer-Encoding: quoted-printable\r\n\r\n" + strings.ReplaceAll(strings.Join(strings.SplitAfter(p, ""), "= \t\r\n"), "-", "=2d")
	}, false},
	{"two transfer encodings, the second true", func(p string) string {
		return mailTop + "Content-Transfer-Encoding: 7bit\r\nContent-Transfer-Encoding: base64\r\n\r\n" + b64(p)
	}, true},
	{"two transfer encodings, the first true", func(p string) string {
		return mailTop + "Content-Transfer-Encoding: base64\r\nContent-Transfer-Encoding: 7bit\r\n\r\n" + b64(p)
	}, true},
	{"transfer encoding with a comment", func(p string) string {
		return mailTop + "Content-Transfer-Encoding: base64 (really)\r\n\r\n" + b64(p)
	}, true},
	{"transfer encoding in quotes with blanks", func(p string) string {
		return mailTop + "Content-Transfer-Encoding: \"base 64\"\r\n\r\n" + b64(p)
	}, true},
	{"unknown transfer encoding", func(p string) string {
		return mailTop + "Content-Transfer-Encoding: x-secret\r\n\r\n" + b64(p)
	}, true},
	{"transfer encoding missing", func(p string) string {
		return mixed("--b\nContent-Type: application/zip\n\n" + b64(p) + "\n--b--\n")
	}, true},
	{"transfer encoding folded", func(p string) string {
		return mailTop + "Content-Transfer-Encoding:\r\n base64\r\n\r\n" + b64(p)
	}, false},
	{"transfer encoding with a blank before its colon", func(p string) string {
		return mailTop + "Content-Transfer-Encoding : base64\r\n\r\n" + b64(p)
	}, false},
	{"transfer encoding behind NUL", func(p string) string {
		return mailTop + "Content-Transfer-Enc\x00oding: base64\r\n\r\n" + b64(p)
	}, true},
	{"transfer encoding behind a bare CR", func(p string) string {
		return mailTop + "X-A: b\rContent-Transfer-Encoding: base64\r\n\r\n" + b64(p)
	}, true},
	{"header that ends at a line of blanks", func(p string) string {
		return mailTop + "Content-Type: multipart/mixed; boundary=b\r\n \r\n" + crlf("--b\nContent-Transfer-Encoding: base64\n\n"+b64(p)+"\n--b--\n")
	}, true},
	{"header that ends at a line without colon", func(p string) string {
		return mailTop + "Content-Transfer-Encoding: base64\r\n" + b64(p) + "\r\n\r\n"
	}, true},
	{"two types with two boundaries, first", func(p string) string {
		return mailTop + crlf("Content-Type: multipart/mixed; boundary=b\nContent-Type: multipart/mixed; boundary=c\n\n--b\nContent-Transfer-Encoding: base64\n\n"+b64(p)+"\n--b--\n--c\n\nhello\n--c--\n")
	}, true},
	{"two types with two boundaries, second", func(p string) string {
		return mailTop + crlf("Content-Type: multipart/mixed; boundary=b\nContent-Type: multipart/mixed; boundary=c\n\n--b\n\nhello\n--b--\n--c\nContent-Transfer-Encoding: base64\n\n"+b64(p)+"\n--c--\n")
	}, true},
	{"two types, one of them a multipart", func(p string) string {
		return mailTop + crlf("Content-Type: text/plain\nContent-Type: multipart/mixed; boundary=c\n\n--c\nContent-Transfer-Encoding: base64\n\n"+b64(p)+"\n--c--\n")
	}, true},
	{"two boundaries in one type, first", func(p string) string {
		return mailTop + crlf("Content-Type: multipart/mixed; boundary=b; boundary=c\n\n--b\nContent-Transfer-Encoding: base64\n\n"+b64(p)+"\n--b--\n--c\n\nhello\n--c--\n")
	}, true},
	{"two boundaries in one type, second", func(p string) string {
		return mailTop + crlf("Content-Type: multipart/mixed; boundary=b; boundary=c\n\n--b\n\nhello\n--b--\n--c\nContent-Transfer-Encoding: base64\n\n"+b64(p)+"\n--c--\n")
	}, true},
	{"boundary by RFC 2231 beside a plain one", func(p string) string {
		return mailTop + crlf("Content-Type: multipart/mixed; boundary=b; boundary*=us-ascii''c\n\n--b\nContent-Transfer-Encoding: base64\n\n"+b64(p)+"\n--b--\n--c\n\nhello\n--c--\n")
	}, true},
	{"boundary by RFC 2231 in pieces", func(p string) string {
		return mailTop + crlf("Content-Type: multipart/mixed; boundary*0=one; boundary*1=two\n\n--onetwo\nContent-Transfer-Encoding: base64\n\n"+b64(p)+"\n--onetwo--\n")
	}, false},
	{"boundary with blanks at its end", func(p string) string {
		return mailTop + crlf("Content-Type: multipart/mixed; boundary=\"b  \"\n\n--b  \nContent-Transfer-Encoding: base64\n\n"+b64(p)+"\n--b--\n")
	}, false},
	{"boundary without its closing quote", func(p string) string {
		return mailTop + crlf("Content-Type: multipart/mixed; boundary=\"b\n\n--b\nContent-Transfer-Encoding: base64\n\n"+b64(p)+"\n--b--\n")
	}, false},
	{"boundary with an escape", func(p string) string {
		return mailTop + crlf("Content-Type: multipart/mixed; boundary=\"b\\c\"\n\n--b\\c\nContent-Transfer-Encoding: base64\n\n"+b64(p)+"\n--b\\c--\n--bc\n\nhello\n--bc--\n")
	}, true},
	{"boundary that is missing", func(p string) string {
		return mailTop + crlf("Content-Type: multipart/mixed\n\n--some\nContent-Transfer-Encoding: base64\n\n"+b64(p)+"\n--some--\n")
	}, true},
	{"boundary without end", func(p string) string {
		return mixed("--b\nContent-Transfer-Encoding: base64\n\n" + b64(p) + "\n")
	}, true},
	{"same boundary inside", func(p string) string {
		return mixed("--b\nContent-Type: multipart/mixed; boundary=b\n\n--b\nContent-Transfer-Encoding: base64\n\n" + b64(p) + "\n--b--\n--b--\n")
	}, true},
	{"line that only starts like the boundary", func(p string) string {
		return mixed("--b\n\nhello\n--bxyz\nContent-Transfer-Encoding: base64\n\n" + b64(p) + "\n--b--\n")
	}, true},
	{"part behind the end", func(p string) string {
		return mixed("--b\n\nhello\n--b--\n--b\nContent-Transfer-Encoding: base64\n\n" + b64(p) + "\n--b--\n")
	}, true},
	{"file before the first part", func(p string) string {
		return mixed("Content-Transfer-Encoding: base64\n\n" + b64(p+strings.Repeat("x", 60)) + "\n--b\n\nhello\n--b--\n")
	}, true},
	{"uuencode behind the last part", func(p string) string {
		return mixed("--b\n\nhello\n--b--\n" + uuencode("a.txt", p))
	}, true},
	{"multipart that is itself base64", func(p string) string {
		return mailTop + "Content-Type: multipart/mixed; boundary=b\r\nContent-Transfer-Encoding: base64\r\n\r\n" + b64("--b\r\nContent-Transfer-Encoding: base64\r\n\r\n"+b64(p)+"\r\n--b--\r\n")
	}, true},
	{"attachment in multipart/alternative", func(p string) string {
		return mailTop + crlf("Content-Type: multipart/alternative; boundary=b\n\n--b\n\nhello\n--b\nContent-Type: application/x\nContent-Transfer-Encoding: base64\n\n"+b64(p)+"\n--b--\n")
	}, false},
	{"mail in a mail", func(p string) string {
		return mixed("--b\nContent-Type: message/rfc822\n\nSubject: x\nContent-Transfer-Encoding: base64\n\n" + b64(p) + "\n--b--\n")
	}, false},
	{"mail in a mail in base64", func(p string) string {
		return mixed("--b\nContent-Type: message/rfc822\nContent-Transfer-Encoding: base64\n\n" + b64("Subject: x\r\nContent-Transfer-Encoding: base64\r\n\r\n"+b64(p)) + "\n--b--\n")
	}, false},
	{"mail as a file", func(p string) string {
		return mixed("--b\nContent-Type: application/octet-stream; name=x.eml\nContent-Transfer-Encoding: base64\n\n" + b64("Subject: x\r\nContent-Transfer-Encoding: base64\r\n\r\n"+b64(p)) + "\n--b--\n")
	}, false},
	{"uuencode in text", func(p string) string { return mailTop + "\r\nhello\r\n" + crlf(uuencode("a.txt", p)) }, false},
	{"base64 of uuencode's kin in text", func(p string) string {
		return mailTop + crlf("\nhello\nbegin-base64 644 a.txt\n"+b64(p)+"\n====\n")
	}, false},
	{"uuencode as transfer encoding", func(p string) string {
		return mailTop + "Content-Transfer-Encoding: x-uuencode\r\n\r\n" + crlf(uuencode("a.txt", p))
	}, false},
	{"yEnc in text", func(p string) string {
		return mailTop + crlf("\nhello\n=ybegin line=128 size=23 name=a.txt\n") + yencode(p) + "\r\n=yend size=23\r\n"
	}, false},
	{"UTF-16 text", func(p string) string {
		return mailTop + "Content-Type: text/plain; charset=utf-16le\r\nContent-Transfer-Encoding: base64\r\n\r\n" + b64(utf16le(p))
	}, false},
	{"UTF-7 text", func(p string) string {
		return mailTop + "Content-Type: text/plain; charset=utf-7\r\n\r\n" + strings.ReplaceAll(p, "-", "+AC0-")
	}, false},
	{"TNEF attachment", func(p string) string { return string(attached("winmail.dat", tnef("a.zip", zipText(p)))) }, false},
	{"opaque S/MIME", func(p string) string {
		return mailTop + "Content-Type: application/pkcs7-mime; smime-type=signed-data; name=smime.p7m\r\nContent-Transfer-Encoding: base64\r\n\r\n" + b64(string(signed("Content-Transfer-Encoding: base64\r\n\r\n"+b64(p), false)))
	}, false},
	{"opaque S/MIME in pieces without lengths", func(p string) string {
		return mailTop + "Content-Type: application/pkcs7-mime; name=smime.p7m\r\nContent-Transfer-Encoding: base64\r\n\r\n" + b64(string(signed("Content-Transfer-Encoding: base64\r\n\r\n"+b64(p), true)))
	}, false},
	{"zip", func(p string) string { return string(attached("a.zip", []byte(zipText(p)))) }, false},
	{"zip behind other bytes", func(p string) string { return string(attached("a.jpg", append(junk(3, 100), zipText(p)...))) }, false},
	{"zip whose directory lists another file", func(p string) string {
		return string(attached("a.zip", hiddenZip(p)))
	}, true},
	{"zip whose directory is gone", func(p string) string {
		z := zipText(p)
		return string(attached("a.zip", []byte(z[:strings.Index(z, zipDirectory)])))
	}, false},
	{"zip with Zstandard", func(p string) string {
		return string(attached("a.zip", zipBy(zipZstd, p, func(w io.Writer) io.WriteCloser { z, _ := zstd.NewWriter(w); return z })))
	}, false},
	{"zip with xz", func(p string) string {
		return string(attached("a.zip", zipBy(zipXZ, p, func(w io.Writer) io.WriteCloser { z, _ := xz.NewWriter(w); return z })))
	}, false},
	{"gzip", func(p string) string { return string(attached("a.gz", gzipped(p))) }, false},
	{"gzip of two members", func(p string) string { return string(attached("a.gz", append(gzipped("x"), gzipped(p)...))) }, false},
	{"tar in gzip", func(p string) string { return string(attached("a.tgz", gzipped(string(tarred(zipText(p)))))) }, false},
	{"Zstandard", func(p string) string {
		z, _ := zstd.NewWriter(nil)
		return string(attached("a.zst", z.EncodeAll([]byte(p+strings.Repeat("x", 999)), nil)))
	}, false},
	{"LZ4", func(p string) string {
		var b bytes.Buffer
		w := lz4.NewWriter(&b)
		io.WriteString(w, strings.Repeat("x", 999)+zipText(p))
		w.Close()
		return string(attached("a.lz4", b.Bytes()))
	}, false},
	{"xz", func(p string) string {
		var b bytes.Buffer
		w, _ := xz.NewWriter(&b)
		io.WriteString(w, p)
		w.Close()
		return string(attached("a.xz", b.Bytes()))
	}, false},
	{"cabinet", func(p string) string { return string(attached("a.cab", cabinet(zipText(p)))) }, false},
	{"disk image", func(p string) string { return string(attached("a.iso", isoOf("A.ZIP;1", zipText(p)))) }, false},
	{"disk image whose two trees have the same files", func(p string) string { return string(attached("a.iso", jolietOf(p, true))) }, false},
	{"disk image whose two trees differ", func(p string) string { return string(attached("a.iso", jolietOf(p, false))) }, true},
	{"BinHex", func(p string) string { return string(attached("a.hqx", []byte(binhex("a.zip", zipText(p))))) }, false},
	{"BinHex in text", func(p string) string { return mailTop + "\r\nhello\r\n" + binhex("a.txt", p) }, false},
	{"MacBinary", func(p string) string { return string(attached("a.bin", macBinary(false, "a.zip", zipText(p)))) }, false},
	{"MacBinary II", func(p string) string { return string(attached("a.bin", macBinary(true, "a.zip", zipText(p)))) }, false},
	{"AppleSingle", func(p string) string { return string(attached("a.as", appleSingle(0x51600, 1, "a.zip", zipText(p)))) }, false},
	{"type behind 5,000 other fields", func(p string) string {
		return mailTop + strings.Repeat("X-A: b\r\n c\r\n", maxFields) + crlf("Content-Type: multipart/mixed;\n boundary=b\n\n--b\nContent-Transfer-Encoding: base64\n\n"+b64(p)+"\n--b--\n")
	}, false},
	{"mail in a digest", func(p string) string {
		return mailTop + crlf("Content-Type: multipart/digest; boundary=b\n\n--b\n\nSubject: x\nContent-Transfer-Encoding: base64\n\n"+b64(p)+"\n--b--\n")
	}, false},
	{"mail in a mail behind empty lines", func(p string) string {
		return mixed("--b\nContent-Type: message/rfc822\n\n\n\nSubject: x\nContent-Transfer-Encoding: base64\n\n" + b64(p) + "\n--b--\n")
	}, false},
	{"zip that is said to be a mail", func(p string) string {
		return mixed("--b\nContent-Type: message/rfc822\nContent-Disposition: attachment; filename=a.zip\nContent-Transfer-Encoding: base64\n\n" + b64(zipText(p)) + "\n--b--\n")
	}, true},
	{"page that is said to be a mail", func(p string) string {
		return mixed("--b\nContent-Type: message/rfc822\nContent-Disposition: attachment; filename=a.html\n\n<p>" + p + "\n--b--\n")
	}, true},
	{"script that is said to be a mail, and begins as one", func(p string) string {
		return mixed("--b\nContent-Type: message/rfc822\nContent-Disposition: attachment; filename=a.txt\n\nx:" + p + "\n--b--\n")
	}, false},
	{"uuencode with a long name", func(p string) string {
		return mailTop + crlf("\nhello\n"+uuencode(strings.Repeat("n", 300)+".txt", p))
	}, false},
	{"web archive that Word opens", func(p string) string {
		return string(attached("a.doc", []byte("%PDF-1.4\n%x\n\nMIME-Version: 1.0\nContent-Transfer-Encoding: base64\n\n"+b64(p))))
	}, false},
	{"zip with bytes before and behind it", func(p string) string {
		return string(attached("a.zip", append(append(junk(3, 100), zipText(p)...), "some bytes"...)))
	}, false},
	{"zip in which the next file begins before the directory says so", func(p string) string { return string(attached("a.zip", lyingZip(p))) }, true},
	{"rar", func(p string) string { return string(attached("a.rar", []byte(rarOf("a.gz", string(gzipped(p)))))) }, false},
	{"rar behind other bytes", func(p string) string {
		return string(attached("a.rar", []byte("GIF89a"+rarOf("a.gz", string(gzipped(p))))))
	}, false},
	{"rar before a zip", func(p string) string {
		return string(attached("a.rar", []byte(rarOf("a.gz", string(gzipped(p)))+zipText("harmless"))))
	}, false},
	{"disk image before a zip", func(p string) string {
		return string(attached("a.iso", append(isoOf("A.GZ;1", string(gzipped(p))), zipText("harmless")...)))
	}, false},
	{"tar with a file of a kind that nobody knows", func(p string) string { return string(attached("a.tar", tarOf('Z', zipText(p)))) }, false},
	{"cabinet with a reserved field", func(p string) string {
		c := cabinet(zipText(p))
		c[4] = 1
		return string(attached("a.cab", c))
	}, false},
	{"TNEF in TNEF", func(p string) string {
		return string(attached("winmail.dat", tnef("x", "", mapiProp(0x3701, mapiObject, strings.Repeat("\x00", 16)+string(tnef("a.zip", zipText(p)))))))
	}, false},
	{"TNEF attachment that is a property", func(p string) string {
		return string(attached("winmail.dat", tnef("x", "", mapiProp(0x3701, mapiBinary, zipText(p)))))
	}, false},
	{"file in a calendar", func(p string) string {
		z := b64(zipText(p))
		return string(attached("a.ics", []byte("BEGIN:VCALENDAR\r\nATTACH;FMTTYPE=x/y;ENCO\r\n DING=BASE64;VALUE=BINARY;FILENAME=a.zip:"+z[:40]+"\r\n "+z[40:]+"\r\nEND:VCALENDAR\r\n")))
	}, false},
	{"resource fork in AppleDouble", func(p string) string { return string(attached("a", appleSingle(0x51607, 2, "a.zip", zipText(p)))) }, false},
}

// TestZip_InOthers: a zip archive in the middle of another file is that one's affair.
func TestZip_InOthers(t *testing.T) {
	t.Parallel()
	if r := scanMail(t, attached("a.ppt", append(append(junk(3, 100), zipText("x")...), "some bytes"...))); len(classes(r)) > 0 {
		t.Errorf("%+v", r.Findings)
	}
}

func TestTricks(t *testing.T) {
	t.Parallel()
	for _, tt := range tricks {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if r := scanMail(t, []byte(tt.mail(hidden))); !slices.Contains(classes(r), policy.Malware) {
				t.Errorf("not found; findings %+v, parts %+v", r.Findings, r.Parts)
			}
			want := []policy.Class(nil)
			if tt.odd {
				want = []policy.Class{policy.Broken}
			}
			if tt.name == "zip whose directory is gone" {
				want = []policy.Class{policy.Unscannable}
			}
			harmless := strings.Repeat("~harmless~twin~", 3)[:len(hidden)]
			if r := scanMail(t, []byte(tt.mail(harmless))); !slices.Equal(classes(r), want) {
				t.Errorf("its twin is %v, want %v: %+v", classes(r), want, r.Findings)
			}
		})
	}
}

// TestTricks_ForOtherEngines: what they do not take apart comes to them decoded.
func TestTricks_ForOtherEngines(t *testing.T) {
	t.Parallel()
	want := map[string]bool{"type behind 5,000 other fields": true, "mail in a digest": true, "web archive that Word opens": true, "file in a calendar": true, "TNEF in TNEF": true, "TNEF attachment that is a property": true, "base64": false, "zip": false, "TNEF attachment": false}
	for _, tt := range tricks {
		if want, ok := want[tt.name]; ok {
			if r := scanMail(t, []byte(tt.mail(hidden))); len(r.Extra) > 0 != want {
				t.Errorf("%s: %+v", tt.name, r.Extra)
			}
		}
	}
}

// TestNames: a name is looked at in each way that a client may read it.
func TestNames(t *testing.T) {
	t.Parallel()
	for name, head := range map[string]string{
		"plain":                          `Content-Disposition: attachment; filename="x.bad"`,
		"name beside filename":           "Content-Disposition: attachment; filename=x.txt\nContent-Type: text/plain; name=x.bad",
		"filename beside name":           "Content-Disposition: attachment; filename=x.bad\nContent-Type: text/plain; name=x.txt",
		"two dispositions":               "Content-Disposition: attachment; filename=x.txt\nContent-Disposition: attachment; filename=x.bad",
		"RFC 2231":                       "Content-Disposition: attachment; filename*=utf-8''x%2Ebad",
		"RFC 2231 in pieces":             "Content-Disposition: attachment; filename*0=x.; filename*1=bad",
		"RFC 2231 with a charset":        "Content-Disposition: attachment; filename*=utf-16le''x%00.%00b%00a%00d%00",
		"RFC 2047":                       "Content-Disposition: attachment; filename=\"=?utf-8?B?eC5iYWQ=?=\"",
		"RFC 2047 without its padding":   "Content-Disposition: attachment; filename=\"=?utf-8?B?eC5iYWQ?=\"",
		"RFC 2047 split":                 "Content-Disposition: attachment; filename=\"=?utf-8?Q?x=2Eb?= =?utf-8?Q?ad?=\"",
		"RFC 2047 in pieces of RFC 2231": "Content-Disposition: attachment; filename*0=\"=?utf-8?B?eC5i\"; filename*1=\"YWQ=?=\"",
		"dots and blanks at the end":     `Content-Disposition: attachment; filename="x.bad. . ."`,
		"NUL, what is before it":         "Content-Disposition: attachment; filename*=utf-8''x.bad%00.txt",
		"NUL, what is behind it":         "Content-Disposition: attachment; filename*=utf-8''x.txt%00.bad",
		"in a folder":                    `Content-Disposition: attachment; filename="..\\..\\x.bad"`,
		"twice, the first":               `Content-Disposition: attachment; filename=x.bad; filename=x.txt`,
		"twice, the second":              `Content-Disposition: attachment; filename=x.txt; filename=x.bad`,
		"plain beside RFC 2231":          `Content-Disposition: attachment; filename=x.bad; filename*=utf-8''x.txt`,
		"RFC 2231 beside plain":          `Content-Disposition: attachment; filename=x.txt; filename*=utf-8''x.bad`,
	} {
		mail := mixed("--b\n" + head + "\n\nhello\n--b--\n")
		if r := scanMail(t, []byte(mail)); !slices.Contains(classes(r), policy.Malware) {
			t.Errorf("%s: %+v", name, r.Parts)
		}
		if r := scanMail(t, []byte(strings.NewReplacer("bad", "odt", "YWQ=", "ZHQ=", "eC5iYWQ", "eC5vZHQ", "b%00a%00d", "o%00d%00t", "x=2Eb", "x=2Eo", "eC5i", "eC5v").Replace(mail))); slices.Contains(classes(r), policy.Malware) || slices.Contains(classes(r), policy.Unscannable) {
			t.Errorf("%s: its twin is %+v", name, r.Findings)
		}
	}
}

// TestNames_InContainers: the same for names in archives and in TNEF.
func TestNames_InContainers(t *testing.T) {
	t.Parallel()
	for name, build := range map[string]func(ext string) []byte{
		"zip":                    func(ext string) []byte { return namedOdd("x"+ext, "") },
		"dots and blanks":        func(ext string) []byte { return namedOdd("x"+ext+" . ", "") },
		"in a folder of Windows": func(ext string) []byte { return namedOdd(`a\x`+ext, "") },
		"NUL, what is before it": func(ext string) []byte { return namedOdd("x"+ext+"\x00.txt", "") },
		"NUL, what is behind it": func(ext string) []byte { return namedOdd("x.txt\x00"+ext, "") },
		"name in gzip":           func(ext string) []byte { return gzippedAs("x"+ext, "hello") },
		"Unicode name":           func(ext string) []byte { return namedOdd("x.txt", "x"+ext) },
		"long name in TNEF":      func(ext string) []byte { return tnef("X.TXT", "hello", mapiProp(0x3707, mapiString8, "x"+ext+"\x00")) },
		"long wide name in TNEF": func(ext string) []byte {
			return tnef("X.TXT", "hello", mapiProp(0x3707, mapiUnicode, utf16le("x"+ext+"\x00")))
		},
	} {
		if r := scanMail(t, attached("a.dat", build(".bad"))); !slices.Contains(classes(r), policy.Malware) {
			t.Errorf("%s: %+v", name, r.Parts)
		}
		if r := scanMail(t, attached("a.dat", build(".odt"))); slices.Contains(classes(r), policy.Malware) || slices.Contains(classes(r), policy.Unscannable) {
			t.Errorf("%s: its twin is %+v", name, r.Findings)
		}
	}
}

// TestDeclared: what is not in the mail, or not for us to read, is named.
func TestDeclared(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, mail, finding string
		class               policy.Class
	}{
		{"a piece of a mail", mailTop + "Content-Type: message/partial; id=1; number=1; total=2\r\n\r\nSubject: x\r\n", "Mailward.Partial", policy.Unscannable},
		{"a body elsewhere", mailTop + "Content-Type: message/external-body; access-type=URL; URL=\"http://x.example\"\r\n\r\n", "Mailward.ExternalBody", ""},
		{"PGP/MIME", mailTop + crlf("Content-Type: multipart/encrypted; boundary=b\n\n--b\nContent-Type: application/pgp-encrypted\n\nVersion: 1\n--b--\n"), "Mailward.PGP", policy.Encrypted},
		{"PGP in the text", mailTop + "\r\n-----BEGIN PGP MESSAGE-----\r\n\r\nhQEM\r\n-----END PGP MESSAGE-----\r\n", "Mailward.PGP", policy.Encrypted},
		{"PGP in a file", string(attached("a.pdf.gpg", append([]byte{0x8c, 0x0d}, junk(1, 200)...))), "Mailward.PGP", policy.Encrypted},
		{"S/MIME", mailTop + "Content-Type: application/pkcs7-mime; smime-type=enveloped-data\r\nContent-Transfer-Encoding: base64\r\n\r\n" + b64(string(ber(0x30, append(ber(6, oidEnvelopedData), ber(0xa0, nil)...)))), "Mailward.SMIME", policy.Encrypted},
		{"ARJ", string(attached("x.arj", append([]byte{0x60, 0xea}, junk(1, 200)...))), "Mailward.Locked", policy.Unscannable},
		{"an archive that begins as none", string(attached("x.zip", junk(1, 200))), "Mailward.Locked", policy.Unscannable},
		{"a piece of an archive", string(attached("x.zip.002", junk(1, 200))), "Mailward.Locked", policy.Unscannable},
		{"a package of Debian", string(attached("x", append([]byte("!<arch>\n"), junk(1, 200)...))), "Mailward.Locked", policy.Unscannable},
		{"a zip archive before a disk", string(attached("x", []byte(zipText("x")+strings.Repeat("\x00", 512)+"conectix"+strings.Repeat("\x00", 504)))), "Mailward.Locked", policy.Unscannable},
		{"a mail of Outlook with a reminder from afar", string(attached("winmail.dat", tnefMail(mapiProp(0x8000, mapiUnicode, utf16le(`\\bad.example\x.wav`+"\x00"))))), "Outlook.Share", policy.Suspicious},
		{"a frame from a share", htmlTop + `<img src="file://bad.example/x.png">`, "HTML.Share", policy.Suspicious},
		{"a picture from a share", htmlTop + `<img src="\\192.0.2.1\x\y.png">`, "HTML.Share", policy.Suspicious},
		{"a link that Outlook follows", htmlTop + `<a href="file:///\\192.0.2.1\x\y.rtf!z">x</a>`, "HTML.ShareLink", policy.Suspicious},
		{"LHA", string(attached("x.lzh", append([]byte("\x20\x00-lh5-"), junk(1, 200)...))), "Mailward.Locked", policy.Unscannable},
	} {
		r := scanMail(t, []byte(tt.mail))
		if !slices.ContainsFunc(r.Findings, func(f policy.Finding) bool { return f.Name == tt.finding && f.Class == tt.class }) {
			t.Errorf("%s: %+v", tt.name, r.Findings)
		}
	}
	for _, mail := range []string{htmlTop + `<a href="file://server/x/y.docx">x</a><img src="file:///C:/x.png"><img src="//cdn.example/x.png">`, string(attached("winmail.dat", tnef("a.txt", "hello", mapiProp(0x370d, mapiUnicode, utf16le(`\\server\x.txt`+"\x00")))))} {
		if r := scanMail(t, []byte(mail)); len(classes(r)) > 0 {
			t.Errorf("what colleagues send: %+v", r.Findings)
		}
	}
}

const htmlTop = mailTop + "Content-Type: text/html\r\n\r\n"

// tnefMail has properties of the mail itself.
func tnefMail(props string) []byte {
	b := append([]byte(tnefMagic+"\x01\x00"), 1, 0x03, 0x90, 6, 0)
	b = binary.LittleEndian.AppendUint32(b, uint32(len(props)))
	return append(append(b, props...), 0, 0)
}
