package sidecar

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"errors"
	"strings"

	"mailward/policy"
	"mailward/scanner/sidecar/document"
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
			// Long values in them stand there as they are.
			if err := c.bytes("", value); err != nil {
				return err
			}
			if id == tnefBody {
				break
			}
			if err := c.mapi(value); err != nil {
				return err
			}
			if target := mapiShare(value); id == tnefMessageMAPI && target != "" {
				c.w.report("Outlook.Share", policy.Suspicious, 9, c.path, c.name, "a mail of Outlook in it names a file of a network share, which Outlook may fetch by itself: "+target)
			}
			if id == tnefAttachment {
				name = cmp.Or(mapiText(value, 0x3707), name)
				if data := mapiValue(value, 0x3701, mapiBinary); body == nil && len(data) > 0 {
					body = data
					c.w.hand(c.path+".o", name, data)
				}
			}
		}
	}
	return flush()
}

// bytes looks at a file whose bytes are there already.
func (c *container) bytes(name string, b []byte) error {
	return c.file(name, int64(len(b)), int64(len(b)), bytes.NewReader(b))
}

// Types of properties (MS-OXCDATA §2.11.1).
const (
	mapiObject  = 0x000d
	mapiString8 = 0x001e
	mapiUnicode = 0x001f
	mapiBinary  = 0x0102
)

// mapi looks at what properties hold that is packed or a file: a mail or an object
// that is attached, and the body.
func (c *container) mapi(props []byte) error {
	if object := mapiValue(props, 0x3701, mapiObject); len(object) > 16 { // behind what class it is of
		c.w.hand(c.path+".o", c.name, object[16:])
		if err := c.bytes("", object[16:]); err != nil {
			return err
		}
	}
	if html := mapiValue(props, 0x1013, mapiBinary); len(html) > 0 {
		if err := c.bytes("body.html", html); err != nil {
			return err
		}
	}
	if rtf := document.UnpackRTF(mapiValue(props, 0x1009, mapiBinary)); len(rtf) > 0 {
		return c.bytes("body.rtf", rtf)
	}
	return nil
}

// mapiValue is a property in a list of them (MS-OXTNEF §2.1.3.4). It is found by its
// tag, and not by going through the list, which lies easily.
func mapiValue(props []byte, id, kind uint16) []byte {
	tag := binary.LittleEndian.AppendUint16(binary.LittleEndian.AppendUint16(nil, kind), id)
	_, rest, ok := bytes.Cut(props, tag)
	if !ok || len(rest) < 8 { // how many values, how long the first one is
		return nil
	}
	return rest[8:min(8+int64(binary.LittleEndian.Uint32(rest[4:])), int64(len(rest)))]
}

// mapiText is a text among the properties.
func mapiText(props []byte, id uint16) string {
	if b := mapiValue(props, id, mapiUnicode); b != nil {
		return strings.TrimRight(convert(b, "utf-16le", 1024), "\x00")
	}
	b := mapiValue(props, id, mapiString8)
	return string(bytes.TrimRight(b[:min(len(b), 1024)], "\x00"))
}

// mapiShare is a text that is the path of a network share, as the sound of a reminder
// may be (CVE-2023-23397); which property that is differs from mail to mail.
func mapiShare(props []byte) string {
	mark := []byte("\\\x00\\\x00")
	for at := 0; ; {
		i := bytes.Index(props[at:], mark)
		if i < 0 {
			return ""
		}
		i += at
		at = i + len(mark)
		if i < 8 || binary.LittleEndian.Uint32(props[i-8:]) != 1 { // how many values
			continue
		}
		size := min(int64(binary.LittleEndian.Uint32(props[i-4:])), 1024, int64(len(props)-i))
		if text := strings.TrimRight(convert(props[i:int64(i)+size], "utf-16le", 1024), "\x00"); document.IsShare(text) {
			return text
		}
	}
}
