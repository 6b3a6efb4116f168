package proof

import (
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/note"
)

// Checkpoint is the head of the tree.
type Checkpoint struct {
	Origin string
	Size   uint64
	Root   []byte
	// Next hands over to another key (as [Key.VKey] writes it), or is empty. It is
	// part of what is signed: anybody can put a signature of his own under a note
	// that another has signed, so the signature alone hands nothing over.
	Next string
}

const nextPrefix = "mailward-next-key "

// Text is what is signed (c2sp.org/tlog-checkpoint).
func (c Checkpoint) Text() string {
	text := fmt.Sprintf("%s\n%d\n%s\n", c.Origin, c.Size, base64.StdEncoding.EncodeToString(c.Root))
	if c.Next != "" {
		text += nextPrefix + c.Next + "\n"
	}
	return text
}

// ErrNoCheckpoint means that a text is no checkpoint.
var ErrNoCheckpoint = errors.New("proof: not a checkpoint")

// parse reads the signed text. Lines after the third are extensions; we write
// and take no other than that of the next key.
func parse(text string) (Checkpoint, error) {
	lines := strings.Split(text, "\n")
	next := ""
	if len(lines) == 5 {
		var ok bool
		if next, ok = strings.CutPrefix(lines[3], nextPrefix); !ok || next == "" {
			return Checkpoint{}, ErrNoCheckpoint
		}
		lines = append(lines[:3], lines[4])
	}
	if len(lines) != 4 || lines[0] == "" || lines[3] != "" {
		return Checkpoint{}, ErrNoCheckpoint
	}
	size, err := strconv.ParseUint(lines[1], 10, 63)
	if err != nil || strconv.FormatUint(size, 10) != lines[1] {
		return Checkpoint{}, ErrNoCheckpoint
	}
	root, err := base64.StdEncoding.Strict().DecodeString(lines[2])
	if err != nil || len(root) != sha256.Size {
		return Checkpoint{}, ErrNoCheckpoint
	}
	return Checkpoint{Origin: lines[0], Size: size, Root: root, Next: next}, nil
}

// AlgorithmEd25519 is the one way in which checkpoints are signed today. It
// stands beside each key, so that another can follow.
const AlgorithmEd25519 = "ed25519"

// Key is a public key that checkpoints are signed with.
type Key struct {
	Algorithm string
	Public    ed25519.PublicKey
}

// ID names a key wherever it stands: the first 8 bytes of its SHA-256.
func (k Key) ID() string {
	sum := sha256.Sum256(k.Public)
	return hex.EncodeToString(sum[:8])
}

// VKey is the key as C2SP writes it, bound to an origin. Its type byte names the
// algorithm.
func (k Key) VKey(origin string) (string, error) {
	if k.Algorithm != AlgorithmEd25519 || len(k.Public) != ed25519.PublicKeySize {
		return "", fmt.Errorf("proof: algorithm %q is not known", k.Algorithm)
	}
	v, err := note.NewEd25519VerifierKey(origin, k.Public)
	if err != nil {
		return "", fmt.Errorf("proof: write key: %w", err)
	}
	return v, nil
}

// ParseVKey reads a key as C2SP writes it, for whatever origin.
func ParseVKey(s string) (Key, error) {
	if _, err := note.NewVerifier(s); err != nil {
		return Key{}, fmt.Errorf("proof: %q is not the public key of a checkpoint", s)
	}
	// NAME+HASH+BASE64(0x01 || key); the name has no +, base64 may have some.
	parts := strings.SplitN(s, "+", 3)
	raw, err := base64.StdEncoding.DecodeString(parts[2])
	if err != nil || len(raw) != 1+ed25519.PublicKeySize {
		return Key{}, fmt.Errorf("proof: %q is not the public key of a checkpoint", s)
	}
	return Key{Algorithm: AlgorithmEd25519, Public: raw[1:]}, nil
}

func (k Key) verifier(origin string) (note.Verifier, error) {
	v, err := k.VKey(origin)
	if err != nil {
		return nil, err
	}
	return note.NewVerifier(v)
}

// Sign makes the signed note of a checkpoint.
func Sign(c Checkpoint, keys []Key, sign func(Key, []byte) ([]byte, error)) (string, error) {
	signed, err := signNote(c.Origin, c.Text(), keys, sign)
	if err != nil {
		return "", fmt.Errorf("sign checkpoint of %d events: %w", c.Size, err)
	}
	return signed, nil
}

func signNote(name, text string, keys []Key, sign func(Key, []byte) ([]byte, error)) (string, error) {
	var signers []note.Signer
	for _, k := range keys {
		v, err := k.verifier(name)
		if err != nil {
			return "", err
		}
		signers = append(signers, signer{v, func(msg []byte) ([]byte, error) { return sign(k, msg) }})
	}
	b, err := note.Sign(&note.Note{Text: text}, signers...)
	return string(b), err
}

type signer struct {
	note.Verifier
	sign func([]byte) ([]byte, error)
}

func (s signer) Sign(msg []byte) ([]byte, error) { return s.sign(msg) }

// noteLimit bounds what is read as a signed note.
const noteLimit = 64 << 10

// Read reads a checkpoint without believing it.
func Read(signed string) (Checkpoint, error) {
	text, _, ok := strings.Cut(signed, "\n\n")
	if !ok || len(signed) > noteLimit {
		return Checkpoint{}, ErrNoCheckpoint
	}
	return parse(text + "\n")
}

// Open checks a signed note and returns its checkpoint with the keys that have
// signed it. One good signature by a known key is needed, and no bad one.
func Open(signed string, known []Key) (Checkpoint, []Key, error) {
	c, err := Read(signed)
	if err != nil {
		return c, nil, err
	}
	_, by, err := openNote(signed, c.Origin, known)
	if err != nil {
		return c, nil, fmt.Errorf("proof: checkpoint of %d events: %w", c.Size, err)
	}
	return c, by, nil
}

// openNote checks a note that was signed under a name.
func openNote(signed, name string, known []Key) (text string, signedBy []Key, err error) {
	var list []note.Verifier
	by := map[uint32]Key{}
	for _, k := range known {
		v, err := k.verifier(name)
		if err != nil {
			return "", nil, err
		}
		if _, twice := by[v.KeyHash()]; !twice {
			list, by[v.KeyHash()] = append(list, v), k
		}
	}
	n, err := note.Open([]byte(signed), note.VerifierList(list...))
	if err != nil {
		return "", nil, err
	}
	for _, s := range n.Sigs {
		signedBy = append(signedBy, by[s.Hash])
	}
	return n.Text, signedBy, nil
}

// sumsText is what is signed for a whole bundle: its first line is none of a
// checkpoint, so neither can be taken for the other.
func sumsText(origin string, sums []byte) string {
	return fmt.Sprintf("%s\n%s\nsha256:%x\n", BundleSchema, origin, sha256.Sum256(sums))
}

// SignSums makes the signed note over the checksums of a bundle, and with them
// over all that is in it.
func SignSums(origin string, sums []byte, k Key, sign func(Key, []byte) ([]byte, error)) (string, error) {
	signed, err := signNote(origin, sumsText(origin, sums), []Key{k}, sign)
	if err != nil {
		return "", fmt.Errorf("sign bundle: %w", err)
	}
	return signed, nil
}
