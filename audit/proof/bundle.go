package proof

import (
	"encoding/json"
	"fmt"
	"time"
)

// BundleSchema names the form of a bundle.
const BundleSchema = "mailward-bundle/2"

// Files of a bundle.
const (
	FileManifest    = "manifest.json"
	FileEvents      = "events.ndjson"
	FileLeaves      = "leaves.bin"
	FileCheckpoints = "checkpoints.ndjson"
	FileOrigins     = "origins.json"
	FileKeys        = "keys.json"
	FileAnchors     = "anchors.ndjson"
	FilePurged      = "purged.ndjson"
	FileReadme      = "README.txt"
	FileSums        = "SHA256SUMS"
	FileSigned      = "SHA256SUMS.note"
)

// Manifest says what a bundle holds.
type Manifest struct {
	Schema    string    `json:"schema"`
	Origin    string    `json:"origin"`
	Size      uint64    `json:"size"`      // leaves
	FirstSeq  uint64    `json:"first_seq"` // events are from here
	EndSeq    uint64    `json:"end_seq"`   // to before here
	Workspace string    `json:"workspace"` // "": all
	From      string    `json:"from"`      // as it was asked for
	To        string    `json:"to"`
	Events    uint64    `json:"events"`
	Personal  bool      `json:"personal_values"` // they are in the bundle, as far as they are not erased
	MadeAt    time.Time `json:"made_at"`
	Version   string    `json:"version"`
}

// BundleEvent is one line of the events.
type BundleEvent struct {
	Seq        uint64    `json:"seq"`
	ID         string    `json:"id"`
	RecordedAt time.Time `json:"recorded_at"`
	Retention  string    `json:"retention"`
	Event      string    `json:"event"` // exactly the bytes that the leaf covers
	PII        []PII     `json:"pii,omitempty"`
}

// PII is a personal value and the salt of the commitment to it.
type PII struct {
	Path  string `json:"path"`
	Value string `json:"value"`
	Salt  string `json:"salt"` // hex
}

// BundleCheckpoint is one line of the checkpoints, in the order of signing.
type BundleCheckpoint struct {
	Number   int       `json:"number"` // of the origin
	SignedAt time.Time `json:"signed_at"`
	Note     string    `json:"note"`
}

// BundleOrigin is a name that checkpoints were signed under.
type BundleOrigin struct {
	Number   int       `json:"number"`
	Name     string    `json:"name"`
	OldNote  string    `json:"old_note"`
	Reason   string    `json:"reason"`
	OpenedAt time.Time `json:"opened_at"`
}

// BundleKey is a public key, also as C2SP writes it for each origin.
type BundleKey struct {
	ID        string    `json:"id"`
	Algorithm string    `json:"algorithm"`
	Public    []byte    `json:"public"`
	VKeys     []string  `json:"vkeys"`
	AddedAt   time.Time `json:"added_at"`
}

// BundleAnchor is one receipt.
type BundleAnchor struct {
	Origin  string    `json:"origin"`
	Size    uint64    `json:"size"`
	Name    string    `json:"name"`
	Kind    string    `json:"kind"`
	Target  string    `json:"target"`
	Receipt []byte    `json:"receipt"`
	Detail  string    `json:"detail"`
	At      time.Time `json:"at"`
}

// BundlePurge names events that were deleted when their time was over. Event is
// the protocol of it, whose bytes hold the digest over their numbers and leaves, and
// Number its number: it is an event too, and goes when its own time is over. A deletion
// of many events has several lines.
type BundlePurge struct {
	Event  string   `json:"event"`
	Seqs   []uint64 `json:"seqs"`
	Number *uint64  `json:"number,omitempty"`
}

// Readme tells people what they hold, and how to check it without us.
const Readme = `What this is
============
An extract of the audit of a Mailward installation, with what is needed to check that it was not changed since it was
sealed. manifest.json says which part it is.

  events.ndjson       one event a line. "event" is the exact text that was recorded; "pii" are personal values that the
                      text only commits to: SHA-256(salt || value).
  leaves.bin          the leaf of every event of the record, 32 bytes each, in order: also of those that are not in here.
  checkpoints.ndjson  signed heads of the Merkle tree over these leaves (C2SP signed notes).
  keys.json           the public keys. COMPARE THEM with what was told to you on another way: who can make a bundle can
                      also put keys in it.
  origins.json        names that were signed under. A second one means that the database was restored; it says why.
  anchors.ndjson      receipts of others who were given checkpoints: time stamps (RFC 3161), mails, webhooks, buckets.
  purged.ndjson       which events were deleted when their time was over, and the event that is the protocol of it.
  SHA256SUMS          of all these files.
  SHA256SUMS.note     signed note over SHA256SUMS, by the key of the newest checkpoint: it covers everything in here, also
                      what no leaf does (manifest, receipts, this text).

How to check it
===============
    mailward audit verify BUNDLE.zip [--key VKEY] [--checkpoint FILE] [--tsa-ca FILE]

exits with 0: all fits; 1: something was changed (the first event is named), or it is not signed by the key that you
trust; 2: it could not be checked (a file is missing or cannot be read, a mistake in the call). It needs no network and no
database. --key is the public key that you trust; --checkpoint is one that you have kept from earlier. Unpack nothing else
than what was checked: the file must be exactly these files, one behind the other.

By hand
=======
leaf      = SHA-256(0x00 || "gwa1" || number (8 bytes, big endian) || time of recording in microseconds since 1970
            (8 bytes, big endian) || SHA-256(event))
node      = SHA-256(0x01 || left || right), RFC 6962 section 2.1
signature   the note's text up to the empty line is what is signed (Ed25519); the last line is "— NAME BASE64", of which
            the first 4 bytes are the id of the key and the rest is the signature. With the text in note.txt, the
            signature in note.sig and the key in key.pem:
            openssl pkeyutl -verify -pubin -inkey key.pem -rawin -in note.txt -sigfile note.sig
time stamp  with the whole note in note.txt and the receipt in note.p7:
            openssl ts -verify -data note.txt -in note.p7 -token_in -CAfile ca.pem
new key     a checkpoint with a fourth line "mailward-next-key VKEY" hands over to that key. A second signature alone
            hands nothing over: anybody can add one.

What it cannot show
===================
- That an event tells the truth: only that it is what was recorded then.
- Anything about the minute before the last checkpoint.
- In a bundle of one workspace: that none of its events was left out. A bundle of the whole record shows that.
- A change by somebody who had the signing key before anybody outside held a checkpoint: receipts of others (anchors),
  and a checkpoint that you have kept yourself, are what shows it.
`

// ActionPurged is the event that is the protocol of a deletion. Its change has
// SHA-256 over number and leaf of each deleted event, in order.
const ActionPurged = "audit.partition.purged"

// line decodes one line of a file.
func line[T any](file string, n int, b []byte) (v T, err error) {
	if err := json.Unmarshal(b, &v); err != nil {
		return v, fmt.Errorf("line %d of %s cannot be read: %w", n, file, err)
	}
	return v, nil
}
