package sidecar

import (
	"bytes"
	"compress/zlib"
	"errors"
	"io"
	"strconv"
)

// CMS (RFC 5652) wraps a mail that is signed and readable by anybody. What is in
// it is found without a look at signatures, and as forgivingly as clients do, in
// BER with and without lengths.

var (
	oidSignedData     = []byte{0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x07, 0x02}
	oidEnvelopedData  = []byte{0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x07, 0x03}
	oidAuthEnveloped  = []byte{0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x09, 0x10, 0x01, 0x17}
	oidCompressedData = []byte{0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x09, 0x10, 0x01, 0x09}

	errCMS = errors.New("CMS that does not open")
)

// berDepth bounds constructed values in constructed values.
const berDepth = 30

// berValue is one value. A value without length goes on to the end marker.
type berValue struct {
	tag         byte
	constructed bool
	content     []byte
}

// readBER reads one value and returns what follows it.
func readBER(b []byte, depth int) (v berValue, rest []byte, err error) {
	if len(b) < 2 || depth > berDepth || b[0]&0x1f == 0x1f {
		return v, nil, errCMS
	}
	v.tag, v.constructed = b[0], b[0]&0x20 != 0
	size, b := int(b[1]), b[2:]
	if size == 0x80 {
		for at := b; ; {
			if bytes.HasPrefix(at, []byte{0, 0}) {
				v.content = b[:len(b)-len(at)]
				return v, at[2:], nil
			}
			if _, at, err = readBER(at, depth+1); err != nil {
				return v, nil, err
			}
		}
	}
	if size > 0x80 {
		n := size & 0x7f
		if n > 4 || n > len(b) {
			return v, nil, errCMS
		}
		size = 0
		for _, c := range b[:n] {
			size = size<<8 | int(c)
		}
		b = b[n:]
	}
	if size > len(b) {
		return v, nil, errCMS
	}
	v.content = b[:size]
	return v, b[size:], nil
}

// berChildren reads up to n values.
func berChildren(b []byte, n int) (out []berValue, err error) {
	for len(b) > 0 && len(out) < n {
		var v berValue
		if v, b, err = readBER(b, 0); err != nil {
			return out, err
		}
		out = append(out, v)
	}
	return out, nil
}

// berOctets joins the pieces of an octet string.
func berOctets(v berValue, depth int) ([]byte, error) {
	if !v.constructed {
		return v.content, nil
	}
	var out []byte
	for b := v.content; len(b) > 0; {
		piece, rest, err := readBER(b, depth)
		if err != nil {
			return out, err
		}
		data, err := berOctets(piece, depth+1)
		if out = append(out, data...); err != nil {
			return out, err
		}
		b = rest
	}
	return out, nil
}

// cmsContent is what a CMS structure wraps, and of which type the wrapper is.
func cmsContent(data []byte) (oid, content []byte, err error) {
	outer, _, err := readBER(data, 0)
	if err != nil || outer.tag != 0x30 {
		return nil, nil, errCMS
	}
	top, err := berChildren(outer.content, 2)
	if len(top) < 2 || top[0].tag != 0x06 {
		return nil, nil, errors.Join(err, errCMS)
	}
	oid = top[0].content
	if !bytes.Equal(oid, oidSignedData) && !bytes.Equal(oid, oidCompressedData) {
		return oid, nil, nil
	}
	body, err := berChildren(top[1].content, 1)
	if len(body) < 1 {
		return oid, nil, errors.Join(err, errCMS)
	}
	fields, err := berChildren(body[0].content, 3)
	if len(fields) < 3 {
		return oid, nil, errors.Join(err, errCMS)
	}
	info, err := berChildren(fields[2].content, 2)
	if len(info) < 2 {
		return oid, nil, err // a signature apart from what it signs
	}
	octets, err := berChildren(info[1].content, 1)
	if len(octets) < 1 {
		return oid, nil, err
	}
	content, err = berOctets(octets[0], 0)
	return oid, content, err
}

// looksCMS says whether data starts like a CMS structure.
func looksCMS(data []byte) bool {
	return len(data) > 20 && data[0] == 0x30 && (bytes.Contains(data[:20], oidSignedData[:8]) || bytes.Contains(data[:20], oidCompressedData[:8]))
}

// openCMS looks at the mail inside, which a client shows in place of the wrapper.
func openCMS(c *container) error {
	oid, content, err := cmsContent(c.data)
	switch {
	case bytes.Equal(oid, oidEnvelopedData), bytes.Equal(oid, oidAuthEnveloped):
		return nil // for its recipient, see declared
	case err != nil && len(content) == 0 && extension(c.name) == ".p7m":
		return err
	case len(content) == 0:
		return nil // a signature apart from what it signs, or a certificate
	}
	if bytes.Equal(oid, oidCompressedData) {
		r, err := zlib.NewReader(bytes.NewReader(content))
		if err != nil {
			return err
		}
		if content, err = io.ReadAll(&timedReader{r: io.LimitReader(r, c.w.lim.TotalBytes-c.w.total+1), w: c.w}); err != nil {
			return err
		}
	}
	if err := c.w.reading(content); err != nil {
		return err
	}
	return c.mail(content)
}

// mail looks at a mail that is in a container.
func (c *container) mail(data []byte) error {
	c.n++
	err := c.w.entity(c.path+".m"+strconv.Itoa(c.n), data, c.depth+c.archives+1, false)
	if err != nil && !isLimit(err) {
		return errors.Join(errMatch, err)
	}
	return err
}
