package document

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/md5"
	"crypto/rc4"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/binary"
)

// pdfPad fills a password (ISO 32000-1 §7.6.3.3).
var pdfPad = []byte("\x28\xBF\x4E\x5E\x4E\x75\x8A\x41\x64\x00\x4E\x56\xFF\xFA\x01\x08\x2E\x2E\x00\xB6\xD0\x68\x3E\x80\x2F\x0C\xA9\xFE\x64\x53\x69\x7A")

// pdfCrypt is the encryption of a file, with its key.
type pdfCrypt struct {
	key  []byte
	aes  bool
	v5   bool
	none bool // the streams are in clear
}

// unlock finds the key: of the empty password, with which every reader opens a
// file without a question, or of one that the mail names; nil: none of them.
func (p *pdf) unlock(enc pdfDict, id []byte) *pdfCrypt {
	for _, password := range append([]string{""}, p.r.passwords()...) {
		if c := p.try(enc, id, []byte(password)); c != nil {
			if password != "" {
				p.r.sign("PDF.Password", 2, "it is encrypted, and its password is in the mail")
			}
			return c
		}
	}
	return nil
}

func (p *pdf) try(enc pdfDict, id, password []byte) *pdfCrypt {
	v, rev := p.int(enc["V"]), p.int(enc["R"])
	o, u := p.str(enc["O"]), p.str(enc["U"])
	c := &pdfCrypt{}
	size := p.int(enc["Length"]) / 8
	switch v {
	case 1:
		size = 5
	case 4, 5:
		cf, _ := p.resolve(enc["CF"]).(pdfDict)
		name, _ := p.resolve(enc["StmF"]).(pdfName)
		std, _ := p.resolve(cf[string(name)]).(pdfDict)
		method, _ := p.resolve(std["CFM"]).(pdfName)
		c.aes, c.v5, c.none = method == "AESV2" || method == "AESV3", v == 5, name == "Identity" || name == ""
		size = 16
	}
	if size < 5 || size > 16 {
		size = 5
	}
	if v == 5 {
		c.key = key5(p.str(enc["UE"]), u, password, rev)
		if c.key == nil {
			return nil
		}
		return c
	}
	if len(o) < 32 || len(u) < 16 {
		return nil
	}
	h := md5.New()
	h.Write(append(bytes.Clone(password), pdfPad...)[:32])
	h.Write(o[:32])
	h.Write(binary.LittleEndian.AppendUint32(nil, uint32(p.int(enc["P"]))))
	h.Write(id)
	if m, ok := p.resolve(enc["EncryptMetadata"]).(bool); ok && !m && rev >= 4 {
		h.Write([]byte{0xff, 0xff, 0xff, 0xff})
	}
	key := h.Sum(nil)
	if rev >= 3 {
		for range 50 {
			sum := md5.Sum(key[:size])
			key = sum[:]
		}
	}
	c.key = key[:size]
	if !rightKey(c.key, u, id, rev) {
		return nil
	}
	return c
}

// rightKey compares what a key gives with what the file says (algorithms 4, 5).
func rightKey(key, u, id []byte, rev int) bool {
	if rev < 3 {
		return bytes.Equal(rc4ed(key, pdfPad), u[:min(32, len(u))])
	}
	sum := md5.Sum(append(bytes.Clone(pdfPad), id...))
	b := rc4ed(key, sum[:])
	for i := 1; i < 20; i++ {
		k := bytes.Clone(key)
		for j := range k {
			k[j] ^= byte(i)
		}
		b = rc4ed(k, b)
	}
	return bytes.Equal(b, u[:16])
}

func rc4ed(key, b []byte) []byte {
	c, err := rc4.NewCipher(key)
	if err != nil {
		return nil
	}
	out := make([]byte, len(b))
	c.XORKeyStream(out, b)
	return out
}

// key5 is the key of AES-256 (ISO 32000-2 §7.6.4.3.3).
func key5(ue, u, password []byte, rev int) []byte {
	if len(u) < 48 || len(ue) < 32 {
		return nil
	}
	sum := func(salt []byte) []byte {
		if rev == 5 {
			s := sha256.Sum256(append(bytes.Clone(password), salt...))
			return s[:]
		}
		return hash2B(password, salt)
	}
	if !bytes.Equal(sum(u[32:40]), u[:32]) {
		return nil
	}
	return aesCBC(sum(u[40:48]), make([]byte, 16), ue[:32])
}

// hash2B is algorithm 2.B of ISO 32000-2. It ends by chance, mostly after some
// 70 rounds; the bound is far from what can happen.
func hash2B(password, salt []byte) []byte {
	first := sha256.Sum256(append(bytes.Clone(password), salt...))
	k := first[:]
	for i := 0; i < 2000; i++ {
		k1 := bytes.Repeat(append(bytes.Clone(password), k...), 64)
		block, err := aes.NewCipher(k[:16])
		if err != nil {
			return nil
		}
		e := make([]byte, len(k1))
		cipher.NewCBCEncrypter(block, k[16:32]).CryptBlocks(e, k1[:len(k1)&^15])
		mod := 0
		for _, c := range e[:16] {
			mod += int(c)
		}
		switch mod % 3 {
		case 0:
			s := sha256.Sum256(e)
			k = s[:]
		case 1:
			s := sha512.Sum384(e)
			k = s[:]
		default:
			s := sha512.Sum512(e)
			k = s[:]
		}
		if i >= 63 && int(e[len(e)-1]) <= i-31 {
			break
		}
	}
	return k[:32]
}

// decrypted is the stream of an object in clear, before its filters.
func (p *pdf) decrypted(o *pdfObject) []byte {
	if p.crypt == nil || p.crypt.none || o.packed || o.dict()["Type"] == pdfName("XRef") {
		return o.stream
	}
	return p.crypt.open(o, o.stream)
}

// open decrypts bytes of an object.
func (c *pdfCrypt) open(o *pdfObject, b []byte) []byte {
	key := c.key
	if !c.v5 {
		k := append(bytes.Clone(c.key), byte(o.num), byte(o.num>>8), byte(o.num>>16), byte(o.gen), byte(o.gen>>8))
		if c.aes {
			k = append(k, "sAlT"...)
		}
		sum := md5.Sum(k)
		key = sum[:min(16, len(c.key)+5)]
	}
	if !c.aes {
		return rc4ed(key, b)
	}
	if len(b) < 32 {
		return nil
	}
	out := aesCBC(key, b[:16], b[16:len(b)&^15])
	if n := len(out); n > 0 && int(out[n-1]) <= 16 && int(out[n-1]) <= n {
		out = out[:n-int(out[n-1])]
	}
	return out
}

// openStrings decrypts the strings of an object, in place.
func (c *pdfCrypt) openStrings(o *pdfObject, v any) any {
	switch v := v.(type) {
	case pdfString:
		return pdfString(c.open(o, v))
	case pdfArray:
		for i := range v {
			v[i] = c.openStrings(o, v[i])
		}
	case pdfDict:
		for k := range v {
			v[k] = c.openStrings(o, v[k])
		}
	}
	return v
}
