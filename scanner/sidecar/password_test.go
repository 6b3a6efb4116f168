package sidecar

import (
	"archive/zip"
	"bytes"
	"crypto/aes"
	"crypto/hmac"
	"crypto/pbkdf2"
	"crypto/sha1"
	"encoding/base64"
	"fmt"
	"hash/crc32"
	"slices"
	"strings"
	"testing"

	"mailward/policy"
)

// Archives of 7-Zip with the password geheim99, whose file a.txt has the mark:
// one with names that can be read, one without.
const (
	sevenzipLocked = "N3q8ryccAAQhbA31IAAAAAAAAABiAAAAAAAAAEotZmf5sK2TZh6FD3jxxZQt5WTegTO2i9t0PNzEOGCZJaz9DAEEBgABCSAABwsBAAIkBvEHARJTD0W/ixKVTyfDzGjWZCrvrlshIQEAAQAMGxcACAoBX1AL/wAABQEZAQARDQBhAC4AdAB4AHQAAAAUCgEAKPpWXdl93QEVBgEAIICkgQAA"
	sevenzipHidden = "N3q8ryccAAQQ9mVHkAAAAAAAAAAuAAAAAAAAAKFwrdi6P0nh4WOytL3+UOsCphdAbDucxVdzPK30/toRsiOa5iIOIM1/2l4iMLeU/EQQ2sa7bMMye441XpHh6FZpFGvqJmIi3DVV3OJ3ullA1joujlZnnz48FbNTaAWVK3pajvxOiKqpv1DSccKfiUwxx/RN3muYDvWWkxTlRS1PPcXeY2kFDphpNVRmRzImKTp+xUwXBiABCXAABwsBAAEkBvEHARJTD0XTBWgyhKp1LFpeO8gtdsMMYgoBkpkW8QAA"
)

func lockedSevenzip() []byte {
	b, _ := base64.StdEncoding.DecodeString(sevenzipLocked)
	return b
}

// lockedZip is an archive with one encrypted file, by the old way or by AES.
func lockedZip(data, password string, byAES bool) []byte {
	h := &zip.FileHeader{Name: "a.txt", Method: zip.Store, Flags: 1, CRC32: crc32.ChecksumIEEE([]byte(data)), UncompressedSize64: uint64(len(data))}
	packed := zipEncrypt(data, password, byte(h.CRC32>>24))
	if byAES {
		h.Method, h.Extra = zipAES, []byte{1, 0x99, 7, 0, 2, 0, 'A', 'E', 3, 0, 0}
		packed = zipEncryptAES(data, password)
	}
	h.CompressedSize64 = uint64(len(packed))
	var b bytes.Buffer
	z := zip.NewWriter(&b)
	w, _ := z.CreateRaw(h)
	w.Write(packed)
	z.Close()
	return b.Bytes()
}

func zipEncrypt(data, password string, check byte) []byte {
	k := [3]uint32{0x12345678, 0x23456789, 0x34567890}
	update := func(c byte) {
		k[0] = crc32.IEEETable[byte(k[0])^c] ^ k[0]>>8
		k[1] = (k[1]+k[0]&0xff)*134775813 + 1
		k[2] = crc32.IEEETable[byte(k[2])^byte(k[1]>>24)] ^ k[2]>>8
	}
	for _, c := range []byte(password) {
		update(c)
	}
	var out []byte
	for _, c := range append(append(make([]byte, 11), check), data...) {
		t := k[2]&0xffff | 2
		out = append(out, c^byte(t*(t^1)>>8))
		update(c)
	}
	return out
}

func zipEncryptAES(data, password string) []byte {
	salt := []byte("sixteen bytes ok")
	keys, _ := pbkdf2.Key(sha1.New, password, salt, 1000, 66)
	block, _ := aes.NewCipher(keys[:32])
	body := littleEndianCTR(block, []byte(data))
	mac := hmac.New(sha1.New, keys[32:64])
	mac.Write(body)
	return slices.Concat(salt, keys[64:], body, mac.Sum(nil)[:10])
}

// TestPasswords: what the mail's text says opens what is locked in it, and that
// it does so is a sign.
func TestPasswords(t *testing.T) {
	t.Parallel()
	hiddenNames, _ := base64.StdEncoding.DecodeString(sevenzipHidden)
	archives := map[string][]byte{"old.zip": lockedZip(hidden, "geheim99", false), "aes.zip": lockedZip(hidden, "geheim99", true), "names.7z": lockedSevenzip(), "hidden.7z": hiddenNames}
	for text, opens := range map[string]bool{
		"Das Passwort lautet: geheim99":     true,
		"Password:geheim99":                 true,
		"Kennwort = \"geheim99\".":          true,
		"the PIN for the file is geheim99.": true,
		"open it with 'geheim99'":           true,
		"code geheim99":                     true,
		"geheim99":                          false,
		"the password comes by phone":       false,
	} {
		for name, data := range archives {
			mail := bytes.Replace(attached(name, data), []byte("hello"), []byte(text), 1)
			r := scanMail(t, mail)
			found := slices.Contains(classes(r), policy.Malware)
			said := slices.ContainsFunc(r.Findings, func(f policy.Finding) bool { return f.Name == "Mailward.PasswordInMail" && f.Class == "" })
			locked := slices.Contains(classes(r), policy.Unscannable)
			if found != opens || said != opens || locked == opens {
				t.Errorf("%q, %s: found %v, said %v, locked %v: %+v", text, name, found, said, locked, r.Findings)
			}
		}
	}
	html := fmt.Appendf(nil, "%sContent-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\nContent-Type: application/zip; name=a.zip\r\nContent-Transfer-Encoding: base64\r\n\r\n%s\r\n--b\r\nContent-Type: text/html\r\n\r\n<p>Passwort:</p><b>geheim<i>99</i></b>\r\n--b--\r\n", mailTop, base64.StdEncoding.EncodeToString(archives["aes.zip"]))
	if r := scanMail(t, html); !slices.Contains(classes(r), policy.Malware) {
		t.Errorf("HTML behind the archive: %+v", r.Findings)
	}
}

func TestCandidates_AreBounded(t *testing.T) {
	t.Parallel()
	var b strings.Builder
	for i := range 100_000 {
		fmt.Fprintf(&b, "password w%d ", i)
	}
	if n := len(candidates(b.String())); n > passwordMost+8 {
		t.Errorf("%d words", n)
	}
	if !slices.Contains(candidates(""), "infected") {
		t.Error("the words that everybody uses are not tried")
	}
}
