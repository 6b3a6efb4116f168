// Package receipt is what shows, without us and without any network, that a
// bundle of evidence is what was exported: the receipt, its signature, its time
// stamp, its place in the sealed audit, and the checksums over all of it.
//
// It is beside a mail's path. Package evidence writes bundles; [Verify] reads
// them, also years later on a machine that knows nothing but the bundle. Nothing
// in one needs this package: VERIFY.txt says how the same is done by sha256sum,
// openssl and the tools of poppler.
package receipt

import (
	"bytes"
	"encoding/json"
	"fmt"
	"time"
)

// Schema names the form of a receipt.
const Schema = "gw-receipt/1"

// The files of a bundle that are always there.
const (
	FileManifest   = "manifest.json"
	FileReport     = "report.pdf"
	FileCore       = "receipt.core.json"
	FileReceipt    = "receipt.json"
	FileSignature  = "receipt.sig"
	FileStamp      = "receipt.tsr"
	FileEvent      = "log/stored.json"
	FileProof      = "log/stored.tlog-proof"
	FileCheckpoint = "log/checkpoint.txt"
	FileSealed     = "log/checkpoint.sig"
	FileKey        = "pki/receipt.pem"
	FileLogKey     = "pki/log.pem"
	FileTSARoot    = "pki/tsa-root.pem"
	FileTSAChain   = "pki/tsa-chain.pem"
	FilePDFRoot    = "pki/pdf-root.pem"
	FileVerify     = "VERIFY.txt"
	FileSums       = "SHA256SUMS"
	FileSumsSigned = "SHA256SUMS.sig"
)

// Core is the part that is signed and stamped. Its exact bytes are a file, so
// that nobody has to agree on how JSON is written.
type Core struct {
	Schema    string     `json:"schema"`
	ID        string     `json:"receipt_id"`
	IssuedAt  time.Time  `json:"issued_at"`
	Issuer    Issuer     `json:"issuer"`
	Case      Case       `json:"case"`
	Original  Original   `json:"original"`
	Originals []Original `json:"originals,omitempty"` // all of them, where there are several
	Artifacts []Artifact `json:"artifacts"`
	Custody   []Custody  `json:"custody"`
	Storage   Storage    `json:"storage"`
	Log       Log        `json:"log"`
	Retention Retention  `json:"retention"`
}

// Issuer is who made it.
type Issuer struct {
	Organisation string `json:"organisation"`
	Installation string `json:"installation"`
	Software     string `json:"software"`
	KeyID        string `json:"key_id"`
}

// Case is what it was made for.
type Case struct {
	ID         string `json:"id"`
	Reference  string `json:"reference"`
	Title      string `json:"title"`
	Purpose    string `json:"purpose"`
	EvidenceID string `json:"evidence_id"`
	Workspace  string `json:"workspace_id"`
	IncidentID string `json:"incident_id,omitempty"`
}

// Original is one mail.
type Original struct {
	File        string    `json:"file"`
	MediaType   string    `json:"media_type"`
	Bytes       int64     `json:"bytes"`
	SHA256      string    `json:"sha256"`
	SHA512      string    `json:"sha512"`
	MailID      string    `json:"mail_id"`
	ItemID      string    `json:"item_id"`
	AcquiredAt  time.Time `json:"acquired_at"`
	AcquiredBy  string    `json:"acquired_by"`
	Method      string    `json:"method"`
	IngestHash  string    `json:"ingest_sha256"`
	Matches     bool      `json:"matches_ingest"`
	Ingest      *Event    `json:"ingest_event,omitempty"` // under which the hash is in the log
	Changes     []string  `json:"unavoidable_changes"`
	EnvelopeRef string    `json:"envelope_file"`
}

// Event is one event of the log, with its proof.
type Event struct {
	ID         string    `json:"event_id"`
	Seq        uint64    `json:"seq"`
	RecordedAt time.Time `json:"recorded_at"`
	File       string    `json:"event_file"`
	Proof      string    `json:"proof_file"`
	HoldsHash  bool      `json:"holds_sha256"` // events of older versions do not
}

// Artifact is one file that was made from the original.
type Artifact struct {
	File      string `json:"file"`
	Bytes     int64  `json:"bytes"`
	SHA256    string `json:"sha256"`
	Profile   string `json:"profile,omitempty"`
	Signature string `json:"signature,omitempty"`
}

// Custody is one step of the chain.
type Custody struct {
	N          int       `json:"n"`
	At         time.Time `json:"at"`
	Event      string    `json:"event"`
	By         string    `json:"by,omitempty"`
	ApprovedBy []string  `json:"approved_by,omitempty"`
	Where      string    `json:"where,omitempty"`
	Reason     string    `json:"reason,omitempty"`
	EventID    string    `json:"audit_event_id,omitempty"`
	Seq        *uint64   `json:"audit_seq,omitempty"`
}

// Storage is where the files were put, and who may still change them there.
type Storage struct {
	URI     string            `json:"uri"`
	Version map[string]string `json:"version_ids,omitempty"`
	WORM    WORM              `json:"worm"`
}

// WORM says it honestly: a local folder is none.
type WORM struct {
	Mode        string     `json:"mode"` // s3-compliance, none
	Note        string     `json:"note,omitempty"`
	RetainUntil *time.Time `json:"retain_until"`
	LegalHold   bool       `json:"legal_hold"`
	ConfirmedAt *time.Time `json:"confirmed_at"`
}

// Log is the place of the export in the sealed audit.
type Log struct {
	Origin string `json:"origin"`
	Event
	LeafHash   string `json:"leaf_hash"`
	TreeSize   uint64 `json:"tree_size"`
	RootHash   string `json:"root_hash"`
	Checkpoint string `json:"checkpoint_file"`
	PublicKey  string `json:"log_public_key_file"`
}

// Retention is how long it is kept.
type Retention struct {
	Class       string    `json:"class"`
	DeleteAfter time.Time `json:"delete_after"`
}

// Stamp is a time stamp over the core.
type Stamp struct {
	Over    string    `json:"over"`
	HashAlg string    `json:"hash_alg"`
	Imprint string    `json:"imprint"`
	Token   string    `json:"token_file"`
	GenTime time.Time `json:"gen_time"`
	TSA     string    `json:"tsa"`
	Note    string    `json:"note,omitempty"`
	Policy  string    `json:"policy_oid"`
	Trusted bool      `json:"trusted_when_issued"`
	BuiltIn bool      `json:"built_in"`
	Chain   string    `json:"chain_file"`
	Root    string    `json:"root_file"`
	Until   time.Time `json:"signer_not_after"`
}

// Signature is the one over the core.
type Signature struct {
	Alg         string `json:"alg"`
	Over        string `json:"over"`
	File        string `json:"file"`
	PublicKey   string `json:"public_key_file"`
	Fingerprint string `json:"fingerprint_sha256"`
}

// Receipt is the core with what was made over it.
type Receipt struct {
	Core
	Stamps    []Stamp   `json:"timestamps"`
	Signature Signature `json:"signature"`
	Verify    []string  `json:"verify"`
}

// All are the mails of a receipt.
func (c Core) All() []Original {
	if len(c.Originals) > 0 {
		return c.Originals
	}
	return []Original{c.Original}
}

// Encode writes JSON as people can read it.
func Encode(v any) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	if err := e.Encode(v); err != nil {
		return nil, fmt.Errorf("encode for the bundle: %w", err)
	}
	return b.Bytes(), nil
}
