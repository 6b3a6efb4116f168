package document

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"strings"
)

// Windows Script Encoder, as screnc.exe writes .jse and .vbe, and wscript reads
// them. Each character below 128 is replaced by that of one of three alphabets,
// which take turns; there is no key. A block is
//
//	#@~^ LENGTH == code CHECKSUM == ^#~@
//
// with both numbers of 32 bits in base64. Microsoft has published no text on it.

var (
	scriptStart = []byte("#@~^")
	scriptEnd   = []byte("^#~@")
)

// scriptTurns says which alphabet is used for a character, by its place.
const scriptTurns = "1201202002021020" + "1020112002102002" + "1102020101120102" + "1020112001120102"

// scriptAlphabets has, for TAB and then for each character from the blank on,
// what stands for it in the three alphabets. What is escaped is 3f3f3f.
const scriptAlphabets = "643769" +
	"507e2c 225a65 4a4572 613a5b 5e7966 5d5975 5b274c 427645 606376 23622a 654d43 5f5133 7e5342 4f5220 522063 7a264a" +
	"21545a 467138 202b79 266632 632a57 2a586c 767f2b 477b46 253052 2c314f 296c3d 694970 3f3f3f 27787b 3f3f3f 675f51" +
	"3f3f3f 62297a 41247e 5a2f3b 663947 323341 736f77 4d2156 43755f 712826 394278 7c466e 534a64 485c74 314867 72367d" +
	"6e4b68 707d35 495d22 3f6a55 4b503a 6a6960 2e236a 7f0971 28706f 356549 7d745c 242c5d 2d7727 544459 373f25 7b6d7c" +
	"3d7c23 6c436d 343828 6d5e31 4e5b39 2b6e7f 305736 6f4c54 743434 6b7262 4c254e 335630 56735e 3a6873 785509 57474b" +
	"773261 3b3524 442e4d 2f646b 594f44 453b21 5c2d37 684153 366158 587a48 79222e 096050 756b2d 384e29 553d3f 51672f"

// scriptEscapes follow an @.
var scriptEscapes = map[byte]byte{'#': '\r', '&': '\n', '!': '<', '*': '>', '$': '@'}

// scriptLetters is what each character of each alphabet stands for.
var scriptLetters = func() (letters [3][128]byte) {
	for i := range 128 {
		for a := range letters {
			letters[a][i] = byte(i)
		}
	}
	raw, _ := hex.DecodeString(strings.ReplaceAll(scriptAlphabets, " ", ""))
	for i, c := range raw {
		if plain := byte(i/3) + 31; plain == 31 {
			letters[i%3][c] = '\t'
		} else if plain != '<' && plain != '>' && plain != '@' {
			letters[i%3][c] = plain
		}
	}
	return letters
}()

// decodeScript decodes every block in b, and leaves what is between them as it
// is.
func decodeScript(b []byte) (plain []byte) {
	for {
		before, block, found := bytes.Cut(b, scriptStart)
		plain = append(plain, before...)
		if !found {
			return plain
		}
		code, rest := scriptBlock(block)
		plain = decodeBlock(plain, code)
		b = rest
	}
}

// scriptBlock finds where a block ends: where its length says, or, where that is
// not true, at the first end that there is.
func scriptBlock(b []byte) (code, rest []byte) {
	size := -1
	if len(b) >= 8 {
		if n, err := base64.StdEncoding.DecodeString(string(b[:8])); err == nil && len(n) == 4 {
			size = int(binary.LittleEndian.Uint32(n))
		}
		b = b[8:]
	}
	const sum = 8
	if size >= 0 && size <= len(b)-sum && bytes.HasPrefix(b[size+sum:], scriptEnd) {
		return b[:size], b[size+sum+len(scriptEnd):]
	}
	code, rest, _ = bytes.Cut(b, scriptEnd)
	return code[:max(0, len(code)-sum)], rest
}

func decodeBlock(plain, code []byte) []byte {
	turn := 0
	for i := 0; i < len(code); i++ {
		c := code[i]
		if c >= 128 {
			plain = append(plain, c)
			continue
		}
		if c == '@' && i+1 < len(code) {
			if e, ok := scriptEscapes[code[i+1]]; ok {
				plain = append(plain, e)
				turn++
				i++
				continue
			}
		}
		plain = append(plain, scriptLetters[scriptTurns[turn%64]-'0'][c])
		turn++
	}
	return plain
}
