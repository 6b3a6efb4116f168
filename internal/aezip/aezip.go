// Package aezip packs a file into an encrypted zip: the form in which a dangerous
// mail is handed out, by package evidence and by the pages, so that neither a
// mail filter nor a double click opens it by mistake.
package aezip

import (
	"bytes"
	"compress/flate"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/sha1"
	"encoding/binary"
	"fmt"
	"time"
)

// Password is the one that people who handle malware expect. It keeps nothing
// secret: it keeps mail filters and virus scanners from opening the file.
const Password = "infected"

// The form is that of WinZip's AE-2 with AES-256, which Debian's 7z reads.
const (
	zipRounds  = 1000
	zipSalt    = 16
	zipAuth    = 10
	zipMethod  = 99
	zipVersion = 51
)

// Pack packs one file.
func Pack(name string, data []byte, at time.Time) ([]byte, error) {
	var packed bytes.Buffer
	w, err := flate.NewWriter(&packed, flate.BestCompression)
	if err != nil {
		return nil, fmt.Errorf("pack %s: %w", name, err)
	}
	if _, err := w.Write(data); err != nil {
		return nil, fmt.Errorf("pack %s: %w", name, err)
	}
	if err := w.Close(); err != nil {
		return nil, fmt.Errorf("pack %s: %w", name, err)
	}
	body, err := seal(packed.Bytes())
	if err != nil {
		return nil, fmt.Errorf("encrypt %s: %w", name, err)
	}
	return container(name, body, len(data), at), nil
}

// seal is salt, two bytes to check the password by, the text under AES in counter
// mode (little-endian, from 1), and the start of its HMAC-SHA1.
func seal(plain []byte) ([]byte, error) {
	salt := make([]byte, zipSalt)
	rand.Read(salt)
	keys, err := pbkdf2.Key(sha1.New, Password, salt, zipRounds, 2*32+2)
	if err != nil {
		return nil, err
	}
	block, err := aes.NewCipher(keys[:32])
	if err != nil {
		return nil, err
	}
	text := bytes.Clone(plain)
	littleCounter(block, text)
	mac := hmac.New(sha1.New, keys[32:64])
	mac.Write(text)
	return append(append(append(salt, keys[64:]...), text...), mac.Sum(nil)[:zipAuth]...), nil
}

// littleCounter is not [cipher.NewCTR], which counts from the other end.
func littleCounter(b cipher.Block, text []byte) {
	var counter, key [aes.BlockSize]byte
	for n := uint64(1); len(text) > 0; n++ {
		binary.LittleEndian.PutUint64(counter[:], n)
		b.Encrypt(key[:], counter[:])
		for i := range min(len(text), len(key)) {
			text[i] ^= key[i]
		}
		text = text[min(len(text), len(key)):]
	}
}

func container(name string, body []byte, size int, at time.Time) []byte {
	at = at.UTC()
	day := uint16(at.Year()-1980)<<9 | uint16(at.Month())<<5 | uint16(at.Day())
	clock := uint16(at.Hour())<<11 | uint16(at.Minute())<<5 | uint16(at.Second()/2)
	le := binary.LittleEndian
	common := func(b []byte) []byte {
		b = le.AppendUint16(b, zipVersion)
		b = le.AppendUint16(b, 1|1<<11) // encrypted, name in UTF-8
		b = le.AppendUint16(b, zipMethod)
		b = le.AppendUint16(b, clock)
		b = le.AppendUint16(b, day)
		b = le.AppendUint32(b, 0) // AE-2 has no CRC: it would tell of the text
		b = le.AppendUint32(b, uint32(len(body)))
		b = le.AppendUint32(b, uint32(size))
		b = le.AppendUint16(b, uint16(len(name)))
		return le.AppendUint16(b, 11)
	}
	extra := []byte{0x01, 0x99, 7, 0, 2, 0, 'A', 'E', 3, 8, 0} // AE-2, AES-256, deflate
	out := common(le.AppendUint32(nil, 0x04034b50))
	out = append(append(append(out, name...), extra...), body...)
	directory := len(out)
	out = le.AppendUint32(out, 0x02014b50)
	out = common(le.AppendUint16(out, zipVersion))
	out = append(out, make([]byte, 2+2+2+4+4)...) // comment, disk, attributes, offset 0
	out = append(append(out, name...), extra...)
	end := len(out)
	out = le.AppendUint32(out, 0x06054b50)
	out = append(out, 0, 0, 0, 0, 1, 0, 1, 0)
	out = le.AppendUint32(out, uint32(end-directory))
	out = le.AppendUint32(out, uint32(directory))
	return append(out, 0, 0)
}
