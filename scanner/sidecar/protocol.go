// Package sidecar opens hostile bytes: it takes mails, archives and documents
// apart and matches YARA rules, in processes of their own.
//
// It runs as mailward-scanner, under its own user and without a network. A
// parent that never looks at a mail keeps some workers, each of which serves
// one request at a time from a shared unix socket. A mail comes in as a file
// descriptor and never as bytes, what was found goes out as one frame of CBOR. A
// worker that hangs ends itself, one that dies is replaced; the mail that it
// had in hand is then not scanned, which the gateway knows what to do about.
//
// The package has no cgo: the rules are matched through [Matcher], which
// cmd/mailward-scanner fills with libyara. So its client side and its parser
// are in the static gateway binary and in every test.
package sidecar

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"syscall"
	"time"

	"mailward/policy"
	"mailward/scanner/content"
)

// Operations.
const (
	OpScan = "scan"
	OpView = "view"
	OpPart = "part" // the bytes of one decoded part
	OpPing = "ping"
	// OpCompile checks a rule set: its descriptor is a [Bundle] of one.
	OpCompile = "compile"
	// OpTry matches a rule set that is not in force: a mail, then a [Bundle] of one.
	OpTry = "try"
	// OpRules lists the rules in force.
	OpRules = "rules"
)

// maxFiles is how many descriptors come with a request.
const maxFiles = 2

// Frames are bounded in both directions.
const (
	maxRequest  = 4 << 10
	maxResponse = 24 << 20
)

// Request asks for one operation on the mail whose descriptor comes with it.
type Request struct {
	Op     string `json:"op"`
	SHA256 string `json:"sha256,omitempty"` // of the part, for OpPart
}

// Header is the decoded header, for lists.
type Header struct {
	Subject   string `json:"subject"`
	From      string `json:"from"`
	MessageID string `json:"message_id"`
	Date      string `json:"date"`
}

// Extra is a decoded part that other engines may read in another way.
type Extra struct {
	Path string `json:"path"`
	Name string `json:"name"`
	Data []byte `json:"data"`
}

// HeaderField is one field of the header, decoded.
type HeaderField struct {
	Name  string `json:"name"`
	Value string `json:"value"`
	Raw   string `json:"raw,omitempty"` // of a view: as it came, folds and all
}

// Inline is a picture that the text refers to by its content id.
type Inline struct {
	CID         string `json:"cid"`
	ContentType string `json:"content_type"`
	Data        []byte `json:"data"`
}

// View is the material for looking at a mail. HTML is as it came: whoever
// shows it has to make it safe.
type View struct {
	Headers   []HeaderField `json:"headers"`
	Text      string        `json:"text"`
	HTML      string        `json:"html"`
	Inline    []Inline      `json:"inline"`
	Truncated bool          `json:"truncated"`
	Parts     []policy.Part `json:"parts"`
}

// Response is the answer to any request.
type Response struct {
	Error        string           `json:"error,omitempty"`
	Version      string           `json:"version"` // of libyara
	RulesVersion string           `json:"rules_version"`
	RulesTime    time.Time        `json:"rules_time"`
	Rules        int              `json:"rules"`
	Managed      string           `json:"managed,omitempty"` // fingerprint of the managed sets in force
	Header       Header           `json:"header"`
	Findings     []policy.Finding `json:"findings,omitempty"`
	Parts        []policy.Part    `json:"parts,omitempty"`
	Limits       []string         `json:"limits,omitempty"`
	Extra        []Extra          `json:"extra,omitempty"`
	Content      *content.Content `json:"content,omitempty"` // of a scan: what a recipient would read
	Cuts         []Cut            `json:"cuts,omitempty"`    // none where the mail may be read in more ways than one
	View         *View            `json:"view,omitempty"`
	Part         *PartOut         `json:"part,omitempty"`
	Slow         *SlowRule        `json:"slow,omitempty"` // why it was not scanned
	Compiled     *Compiled        `json:"compiled,omitempty"`
	Trial        *Trial           `json:"trial,omitempty"`
	InForce      []RuleSpace      `json:"in_force,omitempty"`
	Problem      string           `json:"problem,omitempty"` // why the newest rules are not in force
}

// Exchange is the client's side: one request with its descriptors, one answer.
func Exchange(c *net.UnixConn, req Request, files ...*os.File) (Response, error) {
	b, err := encoding.Marshal(req)
	if err != nil {
		return Response{}, err
	}
	if len(files) > maxFiles {
		return Response{}, errFiles
	}
	var fds []int
	for _, f := range files {
		// Our own descriptor can be written to in one case: a spool that is no
		// memory file. The one that goes out is always opened for reading.
		ro, err := os.Open(fmt.Sprintf("/proc/self/fd/%d", f.Fd()))
		if err != nil {
			return Response{}, fmt.Errorf("open mail for the scanner: %w", err)
		}
		defer ro.Close()
		fds = append(fds, int(ro.Fd()))
	}
	var rights []byte
	if len(fds) > 0 {
		rights = syscall.UnixRights(fds...)
	}
	msg := append(binary.BigEndian.AppendUint32(nil, uint32(len(b))), b...)
	if _, _, err := c.WriteMsgUnix(msg, rights, nil); err != nil {
		return Response{}, fmt.Errorf("send request: %w", err)
	}
	var resp Response
	if err := readFrame(c, maxResponse, &resp); err != nil {
		return Response{}, fmt.Errorf("read answer: %w", err)
	}
	return resp, nil
}

// receive is the worker's side of a request. The files are the caller's to close.
func receive(c *net.UnixConn) (req Request, files []*os.File, err error) {
	buf, oob := make([]byte, maxRequest+4), make([]byte, syscall.CmsgSpace(4*maxFiles))
	n, oobn, _, _, err := c.ReadMsgUnix(buf, oob)
	if err != nil {
		return req, nil, err
	}
	files, err = descriptors(oob[:oobn])
	if err == nil {
		err = readFrame(io.MultiReader(bytesReader(buf[:n]), c), maxRequest, &req)
	}
	if err != nil {
		closeAll(files)
		return req, nil, err
	}
	return req, files, nil
}

func closeAll(files []*os.File) {
	for _, f := range files {
		f.Close()
	}
}

// descriptors takes all descriptors that came, also those that are not wanted: what
// is not taken stays open for ever.
func descriptors(oob []byte) (files []*os.File, err error) {
	if len(oob) == 0 {
		return nil, nil
	}
	msgs, err := syscall.ParseSocketControlMessage(oob)
	if err != nil {
		return nil, err
	}
	for _, m := range msgs {
		fds, err := syscall.ParseUnixRights(&m)
		if err != nil {
			return files, err
		}
		for _, fd := range fds {
			syscall.CloseOnExec(fd)
			files = append(files, os.NewFile(uintptr(fd), "mail"))
		}
	}
	return files, nil
}

var errFiles = errors.New("too many files")

type byteReader struct{ b []byte }

func bytesReader(b []byte) *byteReader { return &byteReader{b} }

func (r *byteReader) Read(p []byte) (int, error) {
	if len(r.b) == 0 {
		return 0, io.EOF
	}
	n := copy(p, r.b)
	r.b = r.b[n:]
	return n, nil
}
