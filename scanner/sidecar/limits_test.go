package sidecar

import (
	"archive/zip"
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"testing"
	"time"

	"mailward/policy"
)

// hostileTime is what a hostile mail may take in a test, and hostileMemory what
// it may hold. Machines that run tests are slow, and do other things as well.
const (
	hostileTime   = 10 * time.Second
	hostileMemory = 700 << 20
)

// hostile are mails that want more than their limits.
var hostile = []struct {
	name string
	mail func() []byte
	want policy.Class // the gravest; "" is clean
}{
	{"100,000 parts", func() []byte { return []byte(mixed(strings.Repeat("--b\n\nx\n", 100_000) + "--b--\n")) }, policy.Unscannable},
	{"10,000 nestings of multiparts", func() []byte {
		var b strings.Builder
		for i := range 10_000 {
			fmt.Fprintf(&b, "Content-Type: multipart/mixed; boundary=b%d\n\n--b%d\n", i, i)
		}
		return []byte(mailTop + crlf(b.String()))
	}, policy.Unscannable},
	{"10,000 mails in mails", func() []byte {
		return []byte(mailTop + strings.Repeat("Content-Type: message/rfc822\r\n\r\n", 10_000))
	}, policy.Unscannable},
	{"a header line of 100 MB", func() []byte { return []byte(mailTop + "X: " + strings.Repeat("x", 100<<20) + "\r\n\r\nhello") }, policy.Unscannable},
	{"a header of 100 MB in folds", func() []byte { return []byte(mailTop + "X: " + strings.Repeat("\r\n x", 25<<20) + "\r\n\r\nhello") }, policy.Unscannable},
	{"a header of nearly 1 MB in folds", func() []byte { return []byte(mailTop + "X: " + strings.Repeat("\r\n x", 240_000) + "\r\n\r\nhello") }, ""},
	{"a type of nearly 1 MB of parameters", func() []byte {
		return []byte(mailTop + "Content-Type: text/plain" + strings.Repeat("; a=b", 190_000) + "\r\n\r\nhello")
	}, ""},
	{"a subject of encoded words without end", func() []byte {
		return []byte(mailTop + "Subject: " + strings.Repeat("=?a?b?", 160_000) + "\r\n\r\nhello")
	}, ""},
	{"a name of encoded words without end", func() []byte {
		return []byte(mailTop + "Content-Disposition: attachment; filename=\"" + strings.Repeat("=?a?b?", 160_000) + "\"\r\n\r\nhello")
	}, ""},
	{"20 types with 20 boundaries", func() []byte {
		var head, body strings.Builder
		for i := range 20 {
			fmt.Fprintf(&head, "Content-Type: multipart/mixed; boundary=b%d\n", i)
			fmt.Fprintf(&body, "--b%d\n\nx\n--b%d--\n", i, i)
		}
		return []byte(mailTop + crlf(head.String()+"\n"+body.String()))
	}, policy.Unscannable},
	{"readings of readings", func() []byte {
		part := "x"
		for i := range 30 {
			part = fmt.Sprintf("Content-Type: multipart/mixed; boundary=b%d\nContent-Type: multipart/mixed; boundary=c%d\n\n--b%d\n--c%d\n%s", i, i, i, i, part)
		}
		return []byte(mailTop + crlf(part))
	}, policy.Unscannable},
	{"an endless line of base64", func() []byte {
		return []byte(mailTop + "Content-Transfer-Encoding: base64\r\n\r\n" + strings.Repeat("QUJD", 12<<20))
	}, ""},
	{"padding all over", func() []byte {
		return []byte(mailTop + "Content-Transfer-Encoding: base64\r\n\r\n" + strings.Repeat("QQ==", 1<<20))
	}, policy.Broken},
	{"lines that all may be boundaries", func() []byte { return []byte(mixed("--b\n\nx\n" + strings.Repeat("--bb\n", 1<<20) + "--b--\n")) }, policy.Unscannable},
	{"uuencode without end", func() []byte { return []byte(mailTop + "\r\n" + strings.Repeat("begin 644 a\r\n#86)C\r\n", 1<<20)) }, policy.Unscannable},
	{"a zip bomb", func() []byte { return attached("a.zip", zipOf(make([]byte, 64<<20))) }, policy.Unscannable},
	{"a bomb of zip in zip", func() []byte {
		inner := zipOf(make([]byte, 4<<20))
		for range 4 {
			inner = zipOf(slices.Repeat([][]byte{inner}, 16)...)
		}
		return attached("a.zip", inner)
	}, policy.Unscannable},
	{"a zip of overlapping files", func() []byte { return attached("a.zip", overlapping(1<<20, 5000)) }, policy.Unscannable},
	{"a zip of 100,000 files", func() []byte { return attached("a.zip", manyFiles(100_000)) }, policy.Unscannable},
	{"a zip that holds itself", func() []byte { return attached("a.zip", quine()) }, policy.Unscannable},
	{"a gzip bomb", func() []byte { return attached("a.gz", gzipBomb(200<<20)) }, policy.Unscannable},
	{"gzip 30 deep", func() []byte {
		data := []byte("x")
		for range 30 {
			data = gzipped(string(data))
		}
		return attached("a.gz", data)
	}, policy.Unscannable},
	{"a tar whose file is larger than it", func() []byte {
		data := tarred("x")
		copy(data[124:136], "77777777777\x00")
		sum := 0
		copy(data[148:156], "        ")
		for _, c := range data[:512] {
			sum += int(c)
		}
		copy(data[148:156], fmt.Sprintf("%06o\x00 ", sum))
		return attached("a.tar", data)
	}, policy.Unscannable},
	{"xz with a dictionary of 4 GB", func() []byte { return attached("a.xz", xzDictionary(40)) }, policy.Unscannable},
	{"7z with a dictionary of 4 GB", func() []byte { return attached("a.7z", sevenzipDictionary(40)) }, policy.Unscannable},
	{"a disk image of folders in a ring", func() []byte {
		im := isoOf("A;1", "x")
		im[18*isoSector+34+34+25] = 2
		binary.LittleEndian.PutUint32(im[18*isoSector+34+34+2:], 18)
		return attached("a.iso", im)
	}, ""},
	{"a cabinet of folders that claim much", func() []byte {
		c := cabinet("x")
		binary.LittleEndian.PutUint32(c[44:], 0xfffffff0)
		return attached("a.cab", c)
	}, ""},
}

// TestHostile: no mail costs more than its limits, in time or memory.
func TestHostile(t *testing.T) {
	if testing.Short() {
		t.Skip("builds large mails")
	}
	for _, tt := range hostile {
		t.Run(tt.name, func(t *testing.T) {
			mail := tt.mail()
			debug.FreeOSMemory()
			peak, stop := watchMemory()
			begin := time.Now()
			r := scanMail(t, mail)
			took := time.Since(begin)
			stop()
			got := policy.Class("")
			for _, c := range policy.Classes() {
				if slices.Contains(classes(r), c) {
					got = c
					break
				}
			}
			t.Logf("%v, %d MB held, %v", took.Round(time.Millisecond), *peak>>20, r.Limits)
			if got != tt.want {
				t.Errorf("class %q, want %q: %v", got, tt.want, r.Limits)
			}
			if took > hostileTime || *peak > hostileMemory {
				t.Errorf("took %v and %d MB", took, *peak>>20)
			}
		})
	}
}

// watchMemory samples the heap until it is told to stop.
func watchMemory() (peak *uint64, stop func()) {
	peak = new(uint64)
	quit, done := make(chan struct{}), make(chan struct{})
	var before runtime.MemStats
	runtime.ReadMemStats(&before)
	go func() {
		defer close(done)
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		for {
			var m runtime.MemStats
			runtime.ReadMemStats(&m)
			if m.HeapInuse > before.HeapInuse {
				*peak = max(*peak, m.HeapInuse-before.HeapInuse)
			}
			select {
			case <-quit:
				return
			case <-tick.C:
			}
		}
	}()
	return peak, func() { close(quit); <-done }
}

// zipRecords writes an archive by hand: headers and bytes first, then a directory
// in which each file starts where it is told to.
func zipRecords(local []byte, n int, packed, size int, sum uint32, start func(i int) int) []byte {
	le := binary.LittleEndian
	b := bytes.Clone(local)
	at := len(b)
	for i := range n {
		h := make([]byte, 46)
		copy(h, zipDirectory)
		h[4], h[6] = 20, 20
		le.PutUint16(h[10:], zip.Deflate)
		le.PutUint32(h[16:], sum)
		le.PutUint32(h[20:], uint32(packed))
		le.PutUint32(h[24:], uint32(size))
		le.PutUint16(h[28:], 1)
		le.PutUint32(h[42:], uint32(start(i)))
		b = append(append(b, h...), 'a')
	}
	end := make([]byte, 22)
	copy(end, "PK\x05\x06")
	le.PutUint16(end[8:], uint16(n))
	le.PutUint16(end[10:], uint16(n))
	le.PutUint32(end[12:], uint32(len(b)-at))
	le.PutUint32(end[16:], uint32(at))
	return append(b, end...)
}

func localHeader(packed []byte, size int, sum uint32) []byte {
	h := make([]byte, 30)
	copy(h, zipLocal)
	h[4] = 20
	binary.LittleEndian.PutUint16(h[8:], zip.Deflate)
	binary.LittleEndian.PutUint32(h[14:], sum)
	binary.LittleEndian.PutUint32(h[18:], uint32(len(packed)))
	binary.LittleEndian.PutUint32(h[22:], uint32(size))
	binary.LittleEndian.PutUint16(h[26:], 1)
	return append(append(h, 'a'), packed...)
}

// overlapping is an archive whose n files are all the same bytes.
func overlapping(size, n int) []byte {
	data := make([]byte, size)
	packed, sum := deflated(string(data), nil), crc32.ChecksumIEEE(data)
	return zipRecords(localHeader(packed, size, sum), n, len(packed), size, sum, func(int) int { return 0 })
}

func manyFiles(n int) []byte {
	packed, sum := deflated("x", nil), crc32.ChecksumIEEE([]byte("x"))
	one := localHeader(packed, 1, sum)
	return zipRecords(bytes.Repeat(one, n), n, len(packed), 1, sum, func(i int) int { return i * len(one) })
}

// quine is an archive with a file that is the archive itself, by a directory that
// says that the whole of it is stored in it.
func quine() []byte {
	var b bytes.Buffer
	z := zip.NewWriter(&b)
	w, _ := z.CreateHeader(&zip.FileHeader{Name: "a.zip", Method: zip.Store})
	io.WriteString(w, "PK\x03\x04")
	z.Close()
	data := b.Bytes()
	// The file starts in front of its own header and goes to the end.
	i := bytes.Index(data, []byte(zipDirectory))
	binary.LittleEndian.PutUint32(data[i+20:], uint32(len(data)-39))
	binary.LittleEndian.PutUint32(data[i+24:], uint32(len(data)-39))
	inner := zipOf(data)
	for range 12 {
		inner = zipOf(inner)
	}
	return inner
}

func gzipBomb(size int) []byte {
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	zero := make([]byte, 1<<20)
	for range size >> 20 {
		w.Write(zero)
	}
	w.Close()
	return b.Bytes()
}

// xzDictionary is the start of a stream whose block asks for a dictionary.
func xzDictionary(prop byte) []byte {
	b := []byte("\xfd7zXZ\x00\x00\x01")
	b = binary.LittleEndian.AppendUint32(b, crc32.ChecksumIEEE(b[6:8]))
	block := []byte{2, 0, 0x21, 1, prop, 0, 0, 0}
	block = binary.LittleEndian.AppendUint32(block, crc32.ChecksumIEEE(block))
	return append(append(b, block...), make([]byte, 64)...)
}

// sevenzipDictionary is an archive of one file, packed with LZMA2 that asks for a
// dictionary.
func sevenzipDictionary(prop byte) []byte {
	le := binary.LittleEndian
	packed := []byte{1, 0, 0, 'x', 0}
	header := []byte{1, 4, // header, streams
		6, 0, 1, 9, byte(len(packed)), 0, // one packed stream
		7, 11, 1, 0, 1, 0x21, 0x21, 1, prop, 12, 1, 0, // one folder with one coder
		8, 0, 0, // no more about streams
		5, 1, 17, 5, 0, 'a', 0, 0, 0, 0, 0} // one file: a
	b := []byte("7z\xbc\xaf\x27\x1c\x00\x04")
	next := le.AppendUint64(nil, uint64(len(packed)))
	next = le.AppendUint64(next, uint64(len(header)))
	next = le.AppendUint32(next, crc32.ChecksumIEEE(header))
	b = le.AppendUint32(b, crc32.ChecksumIEEE(next))
	return slices.Concat(b, next, packed, header)
}

func zipOf(files ...[]byte) []byte {
	var b bytes.Buffer
	z := zip.NewWriter(&b)
	for i, f := range files {
		w, _ := z.Create(fmt.Sprintf("f%d.zip", i))
		w.Write(f)
	}
	z.Close()
	return b.Bytes()
}
