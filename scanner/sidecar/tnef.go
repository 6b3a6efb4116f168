package sidecar

import (
	"bytes"
	"encoding/binary"
	"errors"
)

// TNEF (MS-OXTNEF) is how Outlook packs attachments into winmail.dat: a list of
// attributes, in which an attachment is its title and its data.
const (
	tnefMagic       = "\x78\x9f\x3e\x22"
	tnefTitle       = 0x8010
	tnefData        = 0x800f
	tnefRendData    = 0x9002 // starts an attachment
	tnefAttachment  = 0x9005 // its MAPI properties
	tnefBody        = 0x800c
	tnefMessageMAPI = 0x9003
)

var errTNEF = errors.New("TNEF is cut short")

// openTNEF looks at the attachments, and at the text, each under its name.
func openTNEF(c *container) error {
	data := c.data[min(6, len(c.data)):]
	name := ""
	var body []byte
	flush := func() error {
		if body == nil {
			return nil
		}
		b, n := body, name
		body, name = nil, ""
		return c.file(n, int64(len(b)), int64(len(b)), bytes.NewReader(b))
	}
	for len(data) > 0 {
		if len(data) < 11 {
			return errors.Join(flush(), errTNEF)
		}
		id, size := binary.LittleEndian.Uint16(data[1:]), int64(binary.LittleEndian.Uint32(data[5:]))
		if size > int64(len(data)-9) {
			// Readers take what there is.
			size = int64(len(data) - 9)
		}
		value := data[9 : 9+size]
		data = data[min(int64(len(data)), 9+size+2):]
		switch id {
		case tnefRendData:
			if err := flush(); err != nil {
				return err
			}
		case tnefTitle:
			name = string(bytes.TrimRight(value, "\x00"))
		case tnefData:
			if err := flush(); err != nil {
				return err
			}
			body = value
		case tnefAttachment, tnefMessageMAPI, tnefBody:
			// Long values in them (embedded messages, HTML) stand there as they are.
			if err := c.file("", int64(len(value)), int64(len(value)), bytes.NewReader(value)); err != nil {
				return err
			}
		}
	}
	return flush()
}
