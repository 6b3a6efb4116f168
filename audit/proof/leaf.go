// Package proof is what shows, without any database, that the audit was not
// changed: leaves, checkpoints, proofs, and the bundles that carry them.
//
// It is beside a mail's path. The database makes the leaves, package seal
// signs their tree, and this package checks both, also years later on a machine
// that knows nothing but a bundle and a public key.
//
// The tree is that of RFC 6962 §2.1, checkpoints are signed notes as C2SP
// describes them (c2sp.org/tlog-checkpoint, c2sp.org/signed-note).
package proof

import (
	"crypto/sha256"
	"encoding/binary"
	"time"
)

// Leaf is the leaf of an event in the Merkle tree (RFC 6962 §2.1): the hash
// covers its place, the database's time and its bytes.
func Leaf(seq int64, recordedAt time.Time, event []byte) [sha256.Size]byte {
	sum := sha256.Sum256(event)
	b := append([]byte{0}, "gwa1"...)
	b = binary.BigEndian.AppendUint64(b, uint64(seq))
	b = binary.BigEndian.AppendUint64(b, uint64(recordedAt.UnixMicro()))
	return sha256.Sum256(append(b, sum[:]...))
}
