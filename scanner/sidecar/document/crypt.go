package document

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/md5"
	"crypto/rc4"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"encoding/binary"
	"encoding/xml"
	"hash"
	"slices"
	"strings"
	"unicode/utf16"
)

// excelPassword is the one that Excel tries by itself on everything that is
// encrypted: such a file opens without a question.
const excelPassword = "VelvetSweatshop"

// maxPasswords bounds how many are tried; each costs some 100,000 hashes.
const maxPasswords = 12

// maxSpin bounds the hashes for one password. Office writes 100,000.
const maxSpin = 1_000_000

func (r *reader) passwords() []string {
	var known []string
	if r.lim.Passwords != nil {
		known = r.lim.Passwords()
	}
	return append([]string{excelPassword}, known[:min(len(known), maxPasswords)]...)
}

// encryptedPackage opens a new document that is encrypted (MS-OFFCRYPTO §2.3):
// with a password it is known by, it is looked at, else it does not open.
func (r *reader) encryptedPackage(c *compound) error {
	info, _ := c.stream(max(c.find("EncryptionInfo"), 0))
	pack, _ := c.stream(c.find("EncryptedPackage"))
	if len(info) > 8 && len(pack) > 8 {
		for _, p := range r.passwords() {
			if err := r.late(); err != nil {
				return err
			}
			plain := decryptPackage(info, pack, p)
			if plain == nil {
				continue
			}
			if p == excelPassword {
				r.suspect("Document.DefaultPassword", 6, "it is encrypted with a password that Excel knows by itself: that serves only to hide it from scanners")
			} else {
				r.sign("Document.Password", 2, "it is encrypted, and its password is in the mail")
			}
			if err := r.took(len(plain)); err != nil {
				return err
			}
			return r.embed(r.file.Name, "", plain)
		}
	}
	r.locked("a document in it is encrypted: %s", r.file.Name)
	return nil
}

// decryptPackage decrypts with one password; nil: it is not the right one, or
// the file is encrypted in a way that Office does not write.
func decryptPackage(info, pack []byte, password string) []byte {
	size := binary.LittleEndian.Uint64(pack)
	var plain []byte
	switch binary.LittleEndian.Uint16(info[2:]) { // the minor version
	case 4:
		plain = decryptAgile(info[8:], pack[8:], password)
	case 2:
		plain = decryptStandard(info, pack[8:], password)
	}
	if plain == nil {
		return nil
	}
	return plain[:min(size, uint64(len(plain)))]
}

// agile is the XML of MS-OFFCRYPTO §2.3.4.10, as far as it is needed.
type agile struct {
	Data agileKey `xml:"keyData"`
	Keys []struct {
		Key agileKey `xml:"encryptedKey"`
	} `xml:"keyEncryptors>keyEncryptor"`
}

type agileKey struct {
	Salt        string `xml:"saltValue,attr"`
	BlockSize   int    `xml:"blockSize,attr"`
	KeyBits     int    `xml:"keyBits,attr"`
	Hash        string `xml:"hashAlgorithm,attr"`
	Cipher      string `xml:"cipherAlgorithm,attr"`
	Spin        int    `xml:"spinCount,attr"`
	VerifyIn    string `xml:"encryptedVerifierHashInput,attr"`
	VerifyValue string `xml:"encryptedVerifierHashValue,attr"`
	KeyValue    string `xml:"encryptedKeyValue,attr"`
}

func (k agileKey) bytes(s string) []byte { b, _ := base64.StdEncoding.DecodeString(s); return b }

func (k agileKey) hash() hash.Hash {
	switch strings.ToUpper(k.Hash) {
	case "SHA1", "SHA-1":
		return sha1.New()
	case "SHA256", "SHA-256":
		return sha256.New()
	case "SHA384", "SHA-384":
		return sha512.New384()
	case "SHA512", "SHA-512":
		return sha512.New()
	}
	return nil
}

func digest(h hash.Hash, parts ...[]byte) []byte {
	h.Reset()
	for _, p := range parts {
		h.Write(p)
	}
	return h.Sum(nil)
}

// sized cuts or fills a key, as MS-OFFCRYPTO §2.3.4.11 says.
func sized(b []byte, n int) []byte {
	for len(b) < n {
		b = append(b, 0x36)
	}
	return b[:n]
}

func decryptAgile(info, pack []byte, password string) []byte {
	var a agile
	if xml.NewDecoder(bytes.NewReader(info[:min(len(info), 64<<10)])).Decode(&a) != nil || len(a.Keys) == 0 {
		return nil
	}
	k := a.Keys[0].Key
	h, size := k.hash(), k.KeyBits/8
	if h == nil || !slices.Contains([]int{16, 24, 32}, size) || k.Cipher != "AES" || k.Spin > maxSpin || k.BlockSize != 16 || a.Data.hash() == nil {
		return nil
	}
	spun := spin(h, k.bytes(k.Salt), password, k.Spin)
	open := func(block []byte, s string) []byte {
		return aesCBC(sized(digest(h, spun, block), size), sized(k.bytes(k.Salt), 16), k.bytes(s))
	}
	input := open([]byte{0xfe, 0xa7, 0xd2, 0x76, 0x3b, 0x4b, 0x9e, 0x79}, k.VerifyIn)
	value := open([]byte{0xd7, 0xaa, 0x0f, 0x6d, 0x30, 0x61, 0x34, 0x4e}, k.VerifyValue)
	if input == nil || !bytes.HasPrefix(value, digest(h, input)) {
		return nil
	}
	key := open([]byte{0x14, 0x6e, 0x0b, 0xe7, 0xab, 0xac, 0xd0, 0xd6}, k.KeyValue)
	if len(key) < size {
		return nil
	}
	dh, salt := a.Data.hash(), a.Data.bytes(a.Data.Salt)
	out := make([]byte, 0, len(pack))
	for n := uint32(0); len(pack) >= 16; n++ {
		seg := pack[:min(4096, len(pack))]
		pack = pack[len(seg):]
		iv := sized(digest(dh, salt, binary.LittleEndian.AppendUint32(nil, n)), 16)
		out = append(out, aesCBC(key[:size], iv, seg[:len(seg)&^15])...)
	}
	return out
}

// spin hashes a password as often as the file asks.
func spin(h hash.Hash, salt []byte, password string, n int) []byte {
	sum := digest(h, salt, utf16Bytes(password))
	var count [4]byte
	for i := range n {
		binary.LittleEndian.PutUint32(count[:], uint32(i))
		h.Reset()
		h.Write(count[:])
		h.Write(sum)
		sum = h.Sum(sum[:0])
	}
	return sum
}

func utf16Bytes(s string) (b []byte) {
	for _, u := range utf16.Encode([]rune(s)) {
		b = binary.LittleEndian.AppendUint16(b, u)
	}
	return b
}

func aesCBC(key, iv, data []byte) []byte {
	block, err := aes.NewCipher(key)
	if err != nil || len(data)%16 != 0 || len(iv) != 16 {
		return nil
	}
	out := make([]byte, len(data))
	cipher.NewCBCDecrypter(block, iv).CryptBlocks(out, data)
	return out
}

func aesECB(key, data []byte) []byte {
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil
	}
	out := make([]byte, len(data)&^15)
	for i := 0; i < len(out); i += 16 {
		block.Decrypt(out[i:], data[i:])
	}
	return out
}

// decryptStandard is MS-OFFCRYPTO §2.3.4.7: AES in ECB mode under a key of SHA-1.
func decryptStandard(info, pack []byte, password string) []byte {
	if len(info) < 12 {
		return nil
	}
	head := int(binary.LittleEndian.Uint32(info[8:]))
	if head < 32 || head > len(info)-12 {
		return nil
	}
	size := int(binary.LittleEndian.Uint32(info[12+16:])) / 8
	verifier := info[12+head:]
	if !slices.Contains([]int{16, 24, 32}, size) || len(verifier) < 4+16+16+4+32 {
		return nil
	}
	salt, check, sum := verifier[4:20], verifier[20:36], verifier[40:72]
	h := sha1.New()
	spun := spin(h, salt, password, 50_000)
	base := digest(h, spun, make([]byte, 4))
	pad := func(c byte) []byte {
		b := bytes.Repeat([]byte{c}, 64)
		for i := range base {
			b[i] ^= base[i]
		}
		return digest(h, b)
	}
	key := append(pad(0x36), pad(0x5c)...)[:size]
	if !bytes.HasPrefix(aesECB(key, sum), digest(h, aesECB(key, check))) {
		return nil
	}
	return aesECB(key, pack)
}

// decryptBIFF decrypts the records of a workbook of old (MS-XLS §2.2.10); nil:
// it does not open, which is noted.
func (r *reader) decryptBIFF(b, pass []byte) ([]byte, error) {
	for _, p := range r.passwords() {
		if err := r.late(); err != nil {
			return nil, err
		}
		key := biffKey(pass, p)
		if key == nil {
			continue
		}
		if p == excelPassword {
			r.sign("Document.DefaultPassword", 2, "it is encrypted with a password that Excel knows by itself")
		}
		if err := r.took(len(b)); err != nil {
			return nil, err
		}
		return rc4Records(b, key), nil
	}
	r.locked("a workbook in it is encrypted: %s", r.file.Name)
	return nil, nil
}

// biffKey gives the key of each block of 1,024 bytes; nil: the password is wrong,
// or the kind of encryption is not RC4.
func biffKey(pass []byte, password string) func(block uint32) []byte {
	if len(pass) < 6 || binary.LittleEndian.Uint16(pass) != 1 {
		return nil
	}
	if binary.LittleEndian.Uint16(pass[2:]) == 1 {
		return rc4Key40(pass[6:], password)
	}
	return rc4KeyAPI(pass[2:], password)
}

// rc4Key40 is the encryption of Excel 97 (MS-OFFCRYPTO §2.3.6).
func rc4Key40(b []byte, password string) func(uint32) []byte {
	if len(b) < 48 {
		return nil
	}
	first := md5.Sum(utf16Bytes(password))
	second := md5.Sum(bytes.Repeat(append(bytes.Clone(first[:5]), b[:16]...), 16))
	key := func(n uint32) []byte {
		sum := md5.Sum(binary.LittleEndian.AppendUint32(bytes.Clone(second[:5]), n))
		return sum[:]
	}
	c, err := rc4.NewCipher(key(0))
	if err != nil {
		return nil
	}
	plain := make([]byte, 32)
	c.XORKeyStream(plain, b[16:48])
	if sum := md5.Sum(plain[:16]); !bytes.Equal(sum[:], plain[16:]) {
		return nil
	}
	return key
}

// rc4KeyAPI is the encryption of Excel 2002 (MS-OFFCRYPTO §2.3.5).
func rc4KeyAPI(b []byte, password string) func(uint32) []byte {
	if len(b) < 12 {
		return nil
	}
	head := int(binary.LittleEndian.Uint32(b[8:]))
	if head < 32 || head > len(b)-12 {
		return nil
	}
	bits := int(binary.LittleEndian.Uint32(b[12+16:]))
	v := b[12+head:]
	if bits == 0 {
		bits = 40
	}
	if len(v) < 4+16+16+4+20 || bits < 40 || bits > 128 {
		return nil
	}
	h := sha1.New()
	base := digest(h, v[4:20], utf16Bytes(password))
	key := func(n uint32) []byte {
		k := digest(h, base, binary.LittleEndian.AppendUint32(nil, n))[:bits/8]
		if bits == 40 {
			k = append(k, make([]byte, 11)...)
		}
		return k
	}
	c, err := rc4.NewCipher(key(0))
	if err != nil {
		return nil
	}
	check, sum := make([]byte, 16), make([]byte, 20)
	c.XORKeyStream(check, v[20:36])
	c.XORKeyStream(sum, v[40:60])
	if !bytes.Equal(digest(h, check), sum) {
		return nil
	}
	return key
}

// rc4Records decrypts the bodies of records. Their heads, and some records that
// must be found without the key, are in clear, but count for the place in the
// stream of the cipher.
func rc4Records(b []byte, key func(uint32) []byte) []byte {
	stream := make([]byte, len(b))
	for i := 0; i < len(stream); i += 1024 {
		if c, err := rc4.NewCipher(key(uint32(i / 1024))); err == nil {
			s := stream[i:min(i+1024, len(stream))]
			c.XORKeyStream(s, s)
		}
	}
	out := bytes.Clone(b)
	for at := 0; at+4 <= len(b); {
		kind, size := binary.LittleEndian.Uint16(b[at:]), int(binary.LittleEndian.Uint16(b[at+2:]))
		from, to := at+4, min(at+4+size, len(b))
		at = to
		switch kind {
		case recBegin, recFilePass, 0x00e1, 0x00e2, 0x0194, 0x0195, 0x0196, 0x01a1:
			continue
		case recSheet:
			from = min(from+4, to) // where the sheet begins is in clear
		}
		for i := from; i < to; i++ {
			out[i] ^= stream[i]
		}
	}
	return out
}
