package sidecar

import (
	"archive/zip"
	"bytes"
	"encoding/base64"
	"fmt"
	"image"
	"image/color"
	"image/draw"
	"image/jpeg"
	"image/png"
	"io"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/makiuchi-d/gozxing"
	"github.com/makiuchi-d/gozxing/qrcode"
	"golang.org/x/image/bmp"

	"mailward/policy"
	"mailward/scanner/content"
)

type noMatcher struct{}

func (noMatcher) Match([]byte, Vars) ([]policy.Finding, error) { return nil, nil }

// read takes a mail apart as a worker does.
func read(t testing.TB, mail string) *content.Content {
	t.Helper()
	resp, err := (&Worker{Matcher: noMatcher{}, Limits: DefaultLimits()}).scan([]byte(strings.ReplaceAll(mail, "\n", "\r\n")))
	if err != nil {
		t.Fatal(err)
	}
	return resp.Content
}

func htmlMail(body string) string {
	return "From: a@b.example\nDate: Thu, 01 Jan 2026 00:00:00 +0000\nContent-Type: text/html; charset=utf-8\n\n" + body
}

func TestContent_Header(t *testing.T) {
	t.Parallel()
	c := read(t, `From: =?utf-8?q?M=C3=BCller?= <Erika@bank.example>, "Chef, der" <chef@x.example>
Reply-To: other@free.example (Erika)
To: Gruppe: a@b.example, "B <b@evil.example>" <b@b.example>;
Cc: undisclosed-recipients
Subject: =?iso-8859-1?q?Gr=FC=DFe?=
X-Odd: =?broken

hello
`)
	want := &content.Content{
		From:    []content.Address{{Name: "Müller", Address: "Erika@bank.example"}, {Name: "Chef, der", Address: "chef@x.example"}},
		ReplyTo: []content.Address{{Name: "Erika", Address: "other@free.example"}},
		To:      []content.Address{{Address: "a@b.example"}, {Name: "B <b@evil.example>", Address: "b@b.example"}, {Name: "undisclosed-recipients"}},
		Subject: "Grüße",
		Texts:   []content.Text{{Part: "1", Kind: "plain", Text: "hello\r\n"}},
	}
	if len(c.Headers) != 6 || c.Headers[4] != (content.Header{Name: "subject", Value: "Grüße"}) {
		t.Errorf("headers %+v", c.Headers)
	}
	c.Headers = nil
	if !reflect.DeepEqual(c, want) {
		t.Errorf("got  %+v\nwant %+v", c, want)
	}
}

func TestContent_Text(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, body   string
		text, hidden string
	}{
		{"tags are gaps", "<html><title>no</title><style>p{}</style><p>One<b>Two</b>\n  three</p>four<br>five<table><tr><td>six<td>seven</table>", "OneTwo three\nfour\nfive\nsix seven\n", ""},
		{"entities", "<p>&Uuml;ber&nbsp;&lt;a&gt;</p>", "Über\u00a0<a>\n", ""},
		{"display", `<p>a<span style="DISPLAY: none !important">no</span>b`, "ab", "no"},
		{"size", `<div style="font-size:0"><p>no<span style="font-size:14px">yes</span></div>end`, "yes\nend", "no"},
		{"colour", `<body bgcolor=#ffffff><font color="#FEFEFE">no</font><span style="color:#fff;background:#000">yes</span>`, "yes", "no"},
		{"colour on a picture is no secret", `<td background="x.png"><font color=white>yes</font>`, "yes", ""},
		{"opacity", `<i style="opacity:0">no</i>yes`, "yes", "no"},
		{"no room", `<div style="max-height:0px;overflow:hidden">no</div>yes`, "yes", "no"},
		{"off the screen", `<div style="position:absolute;left:-9999px">no</div>yes`, "yes", "no"},
		{"hidden", `<div hidden>no</div>yes`, "yes", "no"},
		{"ends with its element", `<table><tr><td style="display:none">no</div></td><td>yes</td></tr></table>yes`, "yes \nyes", "no"},
		{"unclosed paragraph", `<p style="display:none">no<p>yes`, "yes", "no"},
		{"zero width", "<p>Pay\u200bPal f\u00adür Sie</p>", "PayPal für Sie\n", "Pay\u200bPal"},
		{"for Outlook alone", "<!--[if gte mso 9]><xml><o:Dpi>96</o:Dpi></xml><p>yes</p><![endif]--><!-- no --><!--[if !mso]>no<![endif]-->", "yes\n", ""},
		{"no script", "<noscript><p>yes</p></noscript><script>no</script>", "yes\n", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			c := read(t, htmlMail(tt.body))
			var text, hidden string
			for _, x := range c.Texts {
				text, hidden = text+x.Text, hidden+x.Hidden
			}
			if got := strings.TrimSpace(text); got != strings.TrimSpace(tt.text) || strings.TrimSpace(hidden) != tt.hidden {
				t.Errorf("text %q, hidden %q; want %q, %q", text, hidden, tt.text, tt.hidden)
			}
		})
	}
}

func TestContent_Links(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, body string
		want       []string // kind target text
	}{
		{"anchor", `<a href=" https://a.example/x&amp;y ">Click <b>here</b> <img src="cid:1" alt="Now"></a>`, []string{"image cid:1 ", "anchor https://a.example/x&y Click here Now"}},
		{"anchor without an end", `<a href="https://a.example">one<a href="https://b.example">two`, []string{"anchor https://a.example one", "anchor https://b.example two"}},
		{"base", `<base href="https://evil.example/d/"><a href="x">y</a>`, []string{"anchor https://evil.example/d/x y"}},
		{"line ends in it", "<a href=\"https://e\nvil.example\">x</a>", []string{"anchor https://evil.example x"}},
		{"area, form, button", `<area href="https://a.example"><form action="https://f.example"><button formaction="https://g.example">ok</button></form>`, []string{"anchor https://a.example ", "form https://f.example ", "form https://g.example "}},
		{"refresh, frame", `<meta http-equiv=Refresh content="0; URL='https://r.example'"><iframe src="https://i.example"></iframe>`, []string{"refresh https://r.example ", "refresh https://i.example "}},
		{"script", `<script>var x = 1; window.location.href = "https://s.example/"; location.replace('https://t.example/');fetch(atob("aHR0cHM6Ly91LmV4YW1wbGUv"))</script>`, []string{"refresh https://s.example/ ", "refresh https://t.example/ ", "refresh https://u.example/ "}},
		{"on error", `<img src=x onerror="window['location']['href']='https://s.example/'">`, []string{"image x ", "refresh https://s.example/ "}},
		{"on load", `<body onload="location='https://s.example/'">`, []string{"refresh https://s.example/ "}},
		{"text", `<p>see https://a.example/(x), or WWW.b.example.</p>`, []string{"text https://a.example/(x) https://a.example/(x)", "text WWW.b.example WWW.b.example"}},
		{"drawn by Outlook", `<v:roundrect href="https://v.example">x</v:roundrect>`, []string{"anchor https://v.example "}},
		{"for Outlook alone", `<!--[if mso]><v:rect href="https://v.example"></v:rect><a href="https://a.example">x</a><![endif]--><!--[if !mso]><a href="https://no.example">x</a><![endif]--><!-- <a href="https://no.example">x</a> -->`, []string{"anchor https://v.example ", "anchor https://a.example x"}},
		{"page in an attribute", `<iframe srcdoc="&lt;form action='https://f.example'&gt;&lt;a href=https://a.example&gt;x&lt;/a&gt;&lt;/form&gt;"></iframe>`, []string{"form https://f.example ", "anchor https://a.example x"}},
		{"refresh without url=", `<meta http-equiv=refresh content=" 0;https://r.example/"><meta http-equiv=refresh content="5; URL = https://s.example/"><meta http-equiv=refresh content="300">`, []string{"refresh https://r.example/ ", "refresh https://s.example/ "}},
		{"control characters before it", `<a href="&#1;&#31;https://a.example">x</a>`, []string{"anchor https://a.example x"}},
		{"scripts as links", `<a href="javascript:x()">x</a><a href="data:text/html,x">y</a><a href="#top">z</a>`, []string{"anchor javascript:x() x", "anchor data:text/html,x y"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			var got []string
			for _, l := range read(t, htmlMail(tt.body)).Links {
				got = append(got, l.Kind+" "+l.Target+" "+l.Text)
			}
			if !reflect.DeepEqual(got, tt.want) {
				t.Errorf("got  %q\nwant %q", got, tt.want)
			}
		})
	}
}

func TestContent_Forms(t *testing.T) {
	t.Parallel()
	c := read(t, htmlMail(`<form action="https://evil.example/p"><input name=User><input type=PASSWORD name=pw><textarea name=t></textarea></form><input type=email>`))
	want := []content.Form{{Part: "1", Action: "https://evil.example/p", Inputs: []string{"text user", "password pw", "textarea t"}, Password: true}, {Part: "1", Inputs: []string{"email"}}}
	if !reflect.DeepEqual(c.Forms, want) {
		t.Errorf("got %+v", c.Forms)
	}
}

// What an attachment says is heard too: by its name, its type, in an archive,
// in its charset, and from the memory of clean pieces.
func TestContent_Attachments(t *testing.T) {
	t.Parallel()
	page := []byte("<p>Gr\xfc\xdfe <a href='https://evil.example/'>x</a>" + strings.Repeat("<i>filler</i> ", 2000))
	known := newMemory(time.Now)
	scan := func(mail []byte) *content.Content {
		resp, err := (&Worker{Matcher: noMatcher{}, Limits: DefaultLimits(), known: known}).scan(mail)
		if err != nil {
			t.Fatal(err)
		}
		return resp.Content
	}
	for _, mail := range [][]byte{attached("page.htm", page), attached("page.htm", page), attached("a.zip", zippedAs(t, "page.html", page)), attached("a.zip", zippedAs(t, "page.html", page))} {
		c := scan(mail)
		if len(c.Texts) != 2 || !strings.HasPrefix(c.Texts[1].Text, "Grüße xfiller") || len(c.Links) != 1 || c.Links[0].Target != "https://evil.example/" {
			t.Errorf("content %+.200v", c)
		}
		if len(c.Links) == 1 && c.Links[0].Part != c.Texts[1].Part {
			t.Errorf("link in %s, text in %s", c.Links[0].Part, c.Texts[1].Part)
		}
	}
	if known.text == 0 {
		t.Error("the memory does not count what it keeps")
	}
}

// What is text is read whatever the mail calls it.
func TestContent_Kinds(t *testing.T) {
	t.Parallel()
	const link = "https://evil.example/x"
	page := `<html><p><a href="` + link + `">x</a></p></html>`
	part := func(head, body string) string {
		return "From: a@b.example\nDate: Thu, 01 Jan 2026 00:00:00 +0000\n" + head + "\nContent-Transfer-Encoding: base64\n\n" + base64.StdEncoding.EncodeToString([]byte(body))
	}
	for name, mail := range map[string]string{
		"HZ":                          part("Content-Type: text/html; charset=hz-gb-2312", page),
		"ISO 2022 of Korea":           part("Content-Type: text/html; charset=ISO-2022-KR", page),
		"UTF-16 that is none":         part("Content-Type: text/html; charset=utf-16", page),
		"UTF-16 that is said UTF-8":   part("Content-Type: text/html; charset=utf-8", "\xff\xfe"+utf16le(page)),
		"UTF-16":                      part("Content-Type: text/html; charset=utf-16le", utf16le(page)),
		"picture":                     part("Content-Type: image/svg+xml; name=a.svg", `<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="x"><image href="data:image/png;base64,AA"/><a xlink:href="`+link+`"><text>x</text></a></svg>`),
		"table that Outlook names so": part("Content-Type: application/vnd.ms-excel; name=a.csv", "a,b,c\r\n1,2,"+link+"\r\n3,4,5\r\n"),
		"date":                        part("Content-Type: application/ics; name=a.ics", "BEGIN:VCALENDAR\r\nVERSION:2.0\r\nPRODID:x\r\nDESCRIPTION:https://evil.exam\r\n ple/x\r\nEND:VCALENDAR\r\n"),
		"data":                        part("Content-Type: application/octet-stream; name=a.json", `{"a": "`+link+`"}`),
		"behind 128 KB of header":     "X-A: " + strings.Repeat("\n "+strings.Repeat("x", 900), 4) + strings.Repeat("\nX-A: "+strings.Repeat("y", 900), 160) + "\n" + htmlMail("<a href="+link+">x</a>"),
	} {
		c := read(t, mail)
		if len(c.From) != 1 || !slices.ContainsFunc(c.Links, func(l content.Link) bool { return l.Target == link }) || slices.ContainsFunc(c.Links, func(l content.Link) bool { return l.Kind == content.LinkAnchor && l.Target != link }) {
			t.Errorf("%s: from %v, links %v", name, c.From, c.Links)
		}
	}
}

// drawnBig is a code with modules of some size, in two colours.
func drawnBig(matrix *gozxing.BitMatrix, size int, dark, light color.Color) image.Image {
	img := image.NewPaletted(image.Rect(0, 0, matrix.GetWidth()*size, matrix.GetHeight()*size), color.Palette{light, dark})
	for y := range img.Rect.Dy() {
		for x := range img.Rect.Dx() {
			if matrix.Get(x/size, y/size) {
				img.Pix[y*img.Stride+x] = 1
			}
		}
	}
	return img
}

// TestContent_Pictures: a code is found in whatever way a mail client shows it.
func TestContent_Pictures(t *testing.T) {
	t.Parallel()
	const target = "https://evil.example/qr"
	matrix, err := qrcode.NewQRCodeWriter().EncodeWithoutHint(target, gozxing.BarcodeFormat_QR_CODE, 1, 1)
	if err != nil {
		t.Fatal(err)
	}
	encode := func(with func(io.Writer, image.Image) error, img image.Image) []byte {
		var b bytes.Buffer
		if err := with(&b, img); err != nil {
			t.Fatal(err)
		}
		return b.Bytes()
	}
	logo := encode(png.Encode, drawnBig(matrix, 2, color.Gray{Y: 0x60}, color.Gray{Y: 0x90}))
	plain := encode(png.Encode, drawnBig(matrix, 6, color.Black, color.White))
	for name, data := range map[string][]byte{
		"plain":          plain,
		"on transparent": encode(png.Encode, drawnBig(matrix, 6, color.Black, color.Transparent)),
		"light on dark":  encode(png.Encode, drawnBig(matrix, 6, color.White, color.Black)),
		"in a colour":    encode(png.Encode, drawnBig(matrix, 6, color.NRGBA{R: 0x20, B: 0x90, A: 0xff}, color.NRGBA{R: 0xff, G: 0xff, B: 0xc0, A: 0xff})),
		"large":          encode(png.Encode, drawnBig(matrix, 2400/matrix.GetWidth(), color.Black, color.White)),
		"BMP":            encode(bmp.Encode, drawnBig(matrix, 6, color.Black, color.White)),
	} {
		if c := read(t, string(bytes.ReplaceAll(attached("a.bin", data), []byte("\r\n"), []byte("\n")))); !slices.ContainsFunc(c.Links, func(l content.Link) bool { return l.Kind == content.LinkCode && l.Target == target }) {
			t.Errorf("%s: %v", name, c.Links)
		}
	}
	second, err := qrcode.NewQRCodeWriter().EncodeWithoutHint("BEGIN:VCARD\nURL:https://card.example/\nEND:VCARD", gozxing.BarcodeFormat_QR_CODE, 1, 1)
	if err != nil {
		t.Fatal(err)
	}
	both := image.NewGray(image.Rect(0, 0, 700, 350))
	draw.Draw(both, both.Rect, image.White, image.Point{}, draw.Src)
	draw.Draw(both, both.Rect, drawnBig(matrix, 6, color.Black, color.White), image.Point{}, draw.Src)
	draw.Draw(both, image.Rect(350, 0, 700, 350), drawnBig(second, 6, color.Black, color.White), image.Point{}, draw.Src)
	if c := read(t, string(bytes.ReplaceAll(attached("a.bin", encode(png.Encode, both)), []byte("\r\n"), []byte("\n")))); !slices.ContainsFunc(c.Links, func(l content.Link) bool { return l.Target == target }) || !slices.ContainsFunc(c.Links, func(l content.Link) bool { return l.Target == "https://card.example/" }) {
		t.Errorf("two codes: %v", c.Links)
	}
	// Marks of two sizes, each three of which the library would compare.
	full := image.NewGray(image.Rect(0, 0, 1440, 1440))
	for i := range full.Pix {
		full.Pix[i] = 0xff
	}
	for y := 0; y+20 < 1440; y += 20 {
		for x := 0; x+20 < 1440; x += 20 {
			size := 1 + (x/20+y/20)%2
			for i := range 7 * size {
				for j := range 7 * size {
					if ring := min(i/size, j/size, 6-i/size, 6-j/size); ring != 1 {
						full.SetGray(x+i, y+j, color.Gray{})
					}
				}
			}
		}
	}
	begin := time.Now()
	resp, err := (&Worker{Matcher: noMatcher{}, Limits: DefaultLimits()}).scan(attached("a.png", encode(png.Encode, full)))
	if took := time.Since(begin); err != nil || took > 5*time.Second || !slices.ContainsFunc(resp.Findings, func(f policy.Finding) bool { return f.Name == "Mailward.Codes" }) {
		t.Errorf("full of marks: %v, %+v, error %v", took, resp.Findings, err)
	}
	var b strings.Builder
	for i := range 3 * codePictures {
		fmt.Fprintf(&b, "--b\nContent-Type: image/png; name=%d.png\nContent-Transfer-Encoding: base64\n\n%s\n", i, base64.StdEncoding.EncodeToString(logo))
	}
	fmt.Fprintf(&b, "--b\nContent-Type: image/png\nContent-Transfer-Encoding: base64\n\n%s\n--b--\n", base64.StdEncoding.EncodeToString(plain))
	if c := read(t, strings.ReplaceAll(mixed(b.String()), "\r\n", "\n")); len(c.Links) != 1 || c.Links[0].Target != target {
		t.Errorf("behind logos: %v", c.Links)
	}
}

// TestContent_CodesInDocuments: a code in a file is found as one in the mail is.
func TestContent_CodesInDocuments(t *testing.T) {
	t.Parallel()
	const target = "https://evil.example/qr"
	matrix, err := qrcode.NewQRCodeWriter().EncodeWithoutHint(target, gozxing.BarcodeFormat_QR_CODE, 1, 1)
	if err != nil {
		t.Fatal(err)
	}
	var photo, dots bytes.Buffer
	img := drawnBig(matrix, 6, color.Black, color.White)
	if err := jpeg.Encode(&photo, img, nil); err != nil {
		t.Fatal(err)
	}
	if err := png.Encode(&dots, img); err != nil {
		t.Fatal(err)
	}
	n := matrix.GetWidth()
	row := (n + 7) / 8
	bits, three, boxes := make([]byte, row*n), make([]byte, 0, 3*n*n), strings.Builder{}
	boxes.WriteString("q 0 0 612 792 re 1 g f 0 g 2 0 0 2 100 100 cm\n")
	for y := range n {
		for x := range n {
			if matrix.Get(x, y) {
				three = append(three, 0, 0, 40)
				fmt.Fprintf(&boxes, "%d %d 1 1 re f\n", x, n-y)
				continue
			}
			bits[y*row+x/8] |= 0x80 >> (x % 8)
			three = append(three, 255, 255, 255)
		}
	}
	boxes.WriteString("Q BT (Scan me) Tj ET")
	pdf := func(dict string, data []byte) []byte {
		return fmt.Appendf(nil, "%%PDF-1.7\n1 0 obj\n<< %s /Length %d >>\nstream\n%s\nendstream\nendobj\n2 0 obj\n<< /Type /Page /Contents 1 0 R >>\nendobj\n", dict, len(data), data)
	}
	size := fmt.Sprintf("/Subtype /Image /Width %d /Height %d ", n, n)
	for name, mail := range map[string][]byte{
		"JPEG in PDF":         attached("a.pdf", pdf(fmt.Sprintf("/Subtype /Image /Width %d /Height %d /Filter /DCTDecode", 6*n, 6*n), photo.Bytes())),
		"bits in PDF":         attached("a.pdf", pdf(size+"/BitsPerComponent 1 /ColorSpace /DeviceGray", bits)),
		"palette in PDF":      attached("a.pdf", pdf(size+"/BitsPerComponent 1 /ColorSpace [/Indexed /DeviceRGB 1 <000028ffffff>]", bits)),
		"mask in PDF":         attached("a.pdf", pdf(size+"/ImageMask true /Decode [0 1]", bits)),
		"colours in PDF":      attached("a.pdf", pdf(size+"/BitsPerComponent 8 /ColorSpace /DeviceRGB", three)),
		"rectangles in PDF":   attached("a.pdf", pdf("", []byte(boxes.String()))),
		"picture in HTML":     []byte(strings.ReplaceAll(htmlMail(`<img src="data:image/png;base64,`+base64.StdEncoding.EncodeToString(dots.Bytes())+`">`), "\n", "\r\n")),
		"picture in document": attached("a.docx", namedZip(t, "[Content_Types].xml", "<Types/>", "word/media/image1.png", dots.String())),
	} {
		resp, err := (&Worker{Matcher: noMatcher{}, Limits: DefaultLimits()}).scan(mail)
		if err != nil {
			t.Fatal(err)
		}
		if !slices.ContainsFunc(resp.Content.Links, func(l content.Link) bool { return l.Kind == content.LinkCode && l.Target == target }) {
			t.Errorf("%s: links %v", name, resp.Content.Links)
		}
	}
	if resp, err := (&Worker{Matcher: noMatcher{}, Limits: DefaultLimits()}).scan(attached("a.pdf", pdf("", []byte(strings.Repeat("1 1 3 3 re f 9 5 100 1 re f\n", 500))))); err != nil || len(resp.Content.Links) > 0 || len(resp.Findings) > 0 {
		t.Errorf("a drawing: %+v, error %v", resp, err)
	}
}

func TestContent_Codes(t *testing.T) {
	t.Parallel()
	const target = "https://evil.example/qr"
	matrix, err := qrcode.NewQRCodeWriter().EncodeWithoutHint(target, gozxing.BarcodeFormat_QR_CODE, 200, 200)
	if err != nil {
		t.Fatal(err)
	}
	var picture bytes.Buffer
	if err := png.Encode(&picture, image.Image(matrix)); err != nil {
		t.Fatal(err)
	}
	small, err := qrcode.NewQRCodeWriter().EncodeWithoutHint(target, gozxing.BarcodeFormat_QR_CODE, 1, 1)
	if err != nil {
		t.Fatal(err)
	}
	var table, blocks, squares strings.Builder
	for y := range small.GetHeight() {
		for x := range small.GetWidth() {
			squares.WriteString(map[bool]string{true: "⬛", false: "⬜"}[small.Get(x, y)])
		}
		squares.WriteString("\n")
	}
	table.WriteString("<table cellspacing=0>")
	for y := range small.GetHeight() {
		table.WriteString("<tr>")
		for x := range small.GetWidth() {
			table.WriteString(map[bool]string{true: "<td bgcolor=#000000>", false: "<td style='background-color:#fff'>"}[small.Get(x, y)])
		}
	}
	table.WriteString("</table>")
	for y := 0; y < small.GetHeight(); y += 2 {
		for x := range small.GetWidth() {
			up, down := small.Get(x, y), y+1 < small.GetHeight() && small.Get(x, y+1)
			blocks.WriteString(map[[2]bool]string{{true, true}: "█", {true, false}: "▀", {false, true}: "▄", {false, false}: " "}[[2]bool{up, down}])
		}
		blocks.WriteString("\n")
	}
	for name, mail := range map[string]string{
		"picture": string(attached("code.png", picture.Bytes())),
		"inline":  "From: a@b.example\nContent-Type: image/png\nContent-Transfer-Encoding: base64\n\n" + base64.StdEncoding.EncodeToString(picture.Bytes()),
		"table":   htmlMail(table.String()),
		"blocks":  "From: a@b.example\nContent-Type: text/plain; charset=utf-8\n\n" + blocks.String(),
		"squares": "From: a@b.example\nContent-Type: text/plain; charset=utf-8\n\n" + squares.String(),
		"in pre":  htmlMail("<pre>" + strings.ReplaceAll(strings.ReplaceAll(blocks.String(), " ", "&nbsp;"), "\n", "<br>") + "</pre>"),
	} {
		c := read(t, strings.ReplaceAll(mail, "\r\n", "\n"))
		found := false
		for _, l := range c.Links {
			found = found || l.Kind == content.LinkCode && l.Target == target
		}
		if !found {
			t.Errorf("%s: no code found: %+.300v", name, c)
		}
	}
}

func TestContent_IsBounded(t *testing.T) {
	t.Parallel()
	var b strings.Builder
	b.WriteString("<p>")
	for i := range content.MaxLinks + 10 {
		fmt.Fprintf(&b, "<div><a href='https://a%d.example/%s'>%s</a>", i, strings.Repeat("x", i/1990*5000), strings.Repeat("wörter ", 20))
	}
	c := read(t, htmlMail(b.String()))
	if !c.Truncated || len(c.Links) > content.MaxLinks {
		t.Errorf("truncated %v, %d links", c.Truncated, len(c.Links))
	}
	for _, l := range c.Links {
		if len(l.Target) > content.MaxURL || len(l.Text) > content.MaxURL {
			t.Fatalf("a link of %d and %d bytes", len(l.Target), len(l.Text))
		}
	}
	c = read(t, "From: a@b.example\n\n"+strings.Repeat("ü wort ", 400_000))
	if n := len(c.Texts[0].Text); n > content.MaxText || n < content.MaxText/2 {
		t.Errorf("%d bytes of text", n)
	}
}

func zippedAs(t *testing.T, name string, data []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	z := zip.NewWriter(&b)
	w, err := z.Create(name)
	if err == nil {
		_, err = w.Write(data)
	}
	if err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func FuzzReadHTML(f *testing.F) {
	for _, s := range []string{`<a href=x>y</a>`, `<table><tr><td bgcolor=0>`, `<p style="display:none;color:#fff">x`, `<script>location="https://a.example"</script>`, "<noscript><noscript>", "a\u200bb", `<base href="http://[">`, "█▀▄\n"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		begin := time.Now()
		checkContent(t, read(t, htmlMail(s)))
		if took := time.Since(begin); took > 5*time.Second {
			t.Errorf("%d bytes took %v", len(s), took)
		}
	})
}

func FuzzReadHeader(f *testing.F) {
	for _, s := range []string{"a@b.example", `"x, y" <a@b.example>, z (c) <d@e.example>`, "=?utf-8?b?8J+YgA==?= <a@b>", "g: a@b, c@d;", `"\`, "<<a>>"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		checkContent(t, read(t, "From: "+s+"\nTo: "+s+"\n\n"+s))
	})
}

// checkContent holds what package content promises.
func checkContent(t *testing.T, c *content.Content) {
	t.Helper()
	total := 0
	for _, x := range c.Texts {
		total += len(x.Text)
		if !utf8.ValidString(x.Text) || !utf8.ValidString(x.Hidden) {
			t.Error("text is not valid UTF-8")
		}
	}
	for _, l := range c.Links {
		if !utf8.ValidString(l.Target) || !utf8.ValidString(l.Text) || len(l.Target) > content.MaxURL || len(l.Text) > content.MaxURL {
			t.Errorf("bad link %+v", l)
		}
	}
	for _, a := range append(c.From, c.To...) {
		if !utf8.ValidString(a.Name) || !utf8.ValidString(a.Address) {
			t.Errorf("bad address %+v", a)
		}
	}
	if total > content.MaxText || len(c.Links) > content.MaxLinks {
		t.Errorf("%d bytes of text, %d links", total, len(c.Links))
	}
}

func BenchmarkReadHTML(b *testing.B) {
	mail := []byte(htmlMail(strings.Repeat(`<table><tr><td style="color:#333;font-size:14px">Some words of a newsletter, and <a href="https://a.example/x">a link</a></td></tr></table>`+"\r\n", 40)))
	b.SetBytes(int64(len(mail)))
	for b.Loop() {
		if _, err := (&Worker{Matcher: noMatcher{}, Limits: DefaultLimits()}).scan(mail); err != nil {
			b.Fatal(err)
		}
	}
}
