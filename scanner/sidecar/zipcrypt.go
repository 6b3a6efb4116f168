package sidecar

import (
	"archive/zip"
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/pbkdf2"
	"crypto/sha1"
	"encoding/binary"
	"hash/crc32"
)

// zipDecrypt undoes the encryption of one file, and says by which method it is
// packed. False: the password is not the right one, as far as can be seen.
func zipDecrypt(f *zip.File, packed []byte, password string) (plain []byte, method uint16, ok bool) {
	if f.Method == zipAES {
		return zipDecryptAES(f, packed, password)
	}
	plain, ok = zipDecryptOld(f, packed, password)
	return plain, f.Method, ok
}

// zipDecryptOld is the encryption of APPNOTE 6.1.
func zipDecryptOld(f *zip.File, packed []byte, password string) ([]byte, bool) {
	if len(packed) < 12 {
		return nil, false
	}
	k := [3]uint32{0x12345678, 0x23456789, 0x34567890}
	update := func(c byte) {
		k[0] = crc32.IEEETable[byte(k[0])^c] ^ k[0]>>8
		k[1] = (k[1]+k[0]&0xff)*134775813 + 1
		k[2] = crc32.IEEETable[byte(k[2])^byte(k[1]>>24)] ^ k[2]>>8
	}
	for i := range len(password) {
		update(password[i])
	}
	decrypt := func(c byte) byte {
		t := k[2]&0xffff | 2
		c ^= byte(t * (t ^ 1) >> 8)
		update(c)
		return c
	}
	var last byte
	for _, c := range packed[:12] {
		last = decrypt(c)
	}
	// The check byte is of the checksum, or of the time where that comes later.
	if last != byte(f.CRC32>>24) && last != byte(f.ModifiedTime>>8) {
		return nil, false
	}
	plain := make([]byte, len(packed)-12)
	for i, c := range packed[12:] {
		plain[i] = decrypt(c)
	}
	return plain, true
}

// zipDecryptAES is the encryption of WinZip, versions AE-1 and AE-2.
func zipDecryptAES(f *zip.File, packed []byte, password string) (plain []byte, method uint16, ok bool) {
	strength := byte(0)
	for extra := f.Extra; len(extra) >= 4; {
		id, size := binary.LittleEndian.Uint16(extra), int(binary.LittleEndian.Uint16(extra[2:]))
		if size > len(extra)-4 {
			break
		}
		if id == 0x9901 && size >= 7 {
			strength, method = extra[8], binary.LittleEndian.Uint16(extra[9:])
		}
		extra = extra[4+size:]
	}
	if strength < 1 || strength > 3 {
		return nil, 0, false
	}
	saltLen, keyLen := 4+4*int(strength), 8+8*int(strength)
	if len(packed) < saltLen+2+10 {
		return nil, 0, false
	}
	keys, err := pbkdf2.Key(sha1.New, password, packed[:saltLen], 1000, 2*keyLen+2)
	if err != nil || !bytes.Equal(keys[2*keyLen:], packed[saltLen:saltLen+2]) {
		return nil, 0, false
	}
	body, sum := packed[saltLen+2:len(packed)-10], packed[len(packed)-10:]
	mac := hmac.New(sha1.New, keys[keyLen:2*keyLen])
	mac.Write(body)
	if !hmac.Equal(mac.Sum(nil)[:10], sum) {
		return nil, 0, false
	}
	block, err := aes.NewCipher(keys[:keyLen])
	if err != nil {
		return nil, 0, false
	}
	return littleEndianCTR(block, body), method, true
}

// littleEndianCTR is counter mode with a counter that starts at 1 and is little
// endian, unlike the standard library's.
func littleEndianCTR(block cipher.Block, body []byte) []byte {
	out := make([]byte, len(body))
	var counter, stream [aes.BlockSize]byte
	for at, n := 0, uint64(1); at < len(body); at, n = at+aes.BlockSize, n+1 {
		binary.LittleEndian.PutUint64(counter[:], n)
		block.Encrypt(stream[:], counter[:])
		for i := at; i < min(at+aes.BlockSize, len(body)); i++ {
			out[i] = body[i] ^ stream[i-at]
		}
	}
	return out
}
