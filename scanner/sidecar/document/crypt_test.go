package document

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rc4"
	"crypto/sha1"
	"crypto/sha512"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"strings"
	"testing"
)

func encryptCBC(key, iv, data []byte) []byte {
	block, err := aes.NewCipher(key)
	if err != nil {
		panic(err)
	}
	data = append(bytes.Clone(data), make([]byte, (16-len(data)%16)%16)...)
	out := make([]byte, len(data))
	cipher.NewCBCEncrypter(block, iv).CryptBlocks(out, data)
	return out
}

// agileDocument encrypts as MS-OFFCRYPTO §2.3.4.11 to §2.3.4.15 say, with 1,000
// rounds.
func agileDocument(plain []byte, password string) []byte {
	salt, keySalt, key, input := bytes.Repeat([]byte{1}, 16), bytes.Repeat([]byte{2}, 16), bytes.Repeat([]byte{3}, 32), bytes.Repeat([]byte{4}, 16)
	h := sha512.New()
	sum := digest(h, salt, utf16Bytes(password))
	for i := range 1000 {
		sum = digest(h, binary.LittleEndian.AppendUint32(nil, uint32(i)), sum)
	}
	seal := func(block string, data []byte) string {
		return base64.StdEncoding.EncodeToString(encryptCBC(digest(h, sum, []byte(block))[:32], salt, data))
	}
	b64 := base64.StdEncoding.EncodeToString
	info := fmt.Sprintf(`<?xml version="1.0"?><encryption xmlns="http://schemas.microsoft.com/office/2006/encryption" xmlns:p="http://schemas.microsoft.com/office/2006/keyEncryptor/password"><keyData saltSize="16" blockSize="16" keyBits="256" hashSize="64" cipherAlgorithm="AES" hashAlgorithm="SHA512" saltValue="%s"/><keyEncryptors><keyEncryptor uri="p"><p:encryptedKey spinCount="1000" saltSize="16" blockSize="16" keyBits="256" hashSize="64" cipherAlgorithm="AES" hashAlgorithm="SHA512" saltValue="%s" encryptedVerifierHashInput="%s" encryptedVerifierHashValue="%s" encryptedKeyValue="%s"/></keyEncryptor></keyEncryptors></encryption>`,
		b64(keySalt), b64(salt), seal("\xfe\xa7\xd2\x76\x3b\x4b\x9e\x79", input), seal("\xd7\xaa\x0f\x6d\x30\x61\x34\x4e", digest(h, input)), seal("\x14\x6e\x0b\xe7\xab\xac\xd0\xd6", key))
	pack := binary.LittleEndian.AppendUint64(nil, uint64(len(plain)))
	for n := 0; n*4096 < len(plain); n++ {
		iv := digest(h, keySalt, binary.LittleEndian.AppendUint32(nil, uint32(n)))[:16]
		pack = append(pack, encryptCBC(key, iv, plain[n*4096:min(len(plain), n*4096+4096)])...)
	}
	return buildCFB("", stream{"", "EncryptionInfo", append([]byte{4, 0, 4, 0, 0x40, 0, 0, 0}, info...)}, stream{"", "EncryptedPackage", pack})
}

// rc4Workbook encrypts a workbook as MS-OFFCRYPTO §2.3.5 says, with 128 bits.
func rc4Workbook(password string) []byte {
	h := sha1.New()
	salt, check := bytes.Repeat([]byte{5}, 16), bytes.Repeat([]byte{6}, 16)
	base := digest(h, salt, utf16Bytes(password))
	key := func(n uint32) []byte { return digest(h, base, binary.LittleEndian.AppendUint32(nil, n))[:16] }
	c, err := rc4.NewCipher(key(0))
	if err != nil {
		panic(err)
	}
	ev, eh := make([]byte, 16), make([]byte, 20)
	c.XORKeyStream(ev, check)
	c.XORKeyStream(eh, digest(h, check))
	head := make([]byte, 34)
	binary.LittleEndian.PutUint32(head[16:], 128)
	pass := []byte{1, 0, 4, 0, 2, 0, 0, 0, 0, 0}
	pass = append(binary.LittleEndian.AppendUint32(pass, uint32(len(head))), head...)
	pass = append(append(append(append(append(pass, 16, 0, 0, 0), salt...), ev...), 20, 0, 0, 0), eh...)
	b := append(record(recBegin, 0, 6, 5, 0, 0, 0, 0, 0), record(recFilePass, pass...)...)
	b = append(b, record(recLabel, append([]byte{0, 0, 0, 0, 0, 0, 11, 0, 0}, "secret text"...)...)...)
	b = append(b, record(0x000a)...)
	return buildCFB("", stream{"", "Workbook", rc4Records(b, key)})
}

// TestEncrypted: what Excel opens by itself, or the mail has a password for, is
// looked at; the rest says that it does not open.
func TestEncrypted(t *testing.T) {
	t.Parallel()
	inner := []byte("PK\x03\x04" + strings.Repeat("inside ", 1000))
	for _, password := range []string{excelPassword, "s3cret"} {
		f, err := Open(File{Name: "a.xlsx", Data: agileDocument(inner, password)}, Limits{Bytes: 1 << 20, Passwords: func() []string { return []string{"wrong", "s3cret"} }})
		if err != nil || len(f.Embedded) != 1 || !bytes.Equal(f.Embedded[0].Data, inner) || f.Embedded[0].Name != "a.xlsx" || f.Locked != "" {
			t.Errorf("%s: %v, %q, %d files", password, err, f.Locked, len(f.Embedded))
		}
		if has(f, "Document.DefaultPassword") != (password == excelPassword) {
			t.Errorf("%s: %+v", password, f.Findings)
		}
		f = open(t, "a.xls", "", rc4Workbook(password))
		if got := strings.Contains(f.Text, "secret text"); got != (password == excelPassword) || got == (f.Locked != "") {
			t.Errorf("workbook, %s: %q, %q", password, f.Text, f.Locked)
		}
	}
	if f := open(t, "a.xlsx", "", agileDocument(inner, "nobody knows")); f.Locked == "" || len(f.Embedded) > 0 {
		t.Errorf("%q, %d files", f.Locked, len(f.Embedded))
	}
	word := make([]byte, 0x400)
	binary.LittleEndian.PutUint16(word, 0xa5ec)
	word[11] = 1
	if f := open(t, "a.doc", "", buildCFB("", stream{"", "WordDocument", word})); f.Locked == "" {
		t.Error("an encrypted Word document opens")
	}
}
