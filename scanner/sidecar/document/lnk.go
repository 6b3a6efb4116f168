package document

import (
	"encoding/binary"
	"fmt"
	"regexp"
	"strings"
)

// lnkMagic starts a shortcut: the size of its head and its class (MS-SHLLINK §2.1).
var lnkMagic = []byte("\x4c\x00\x00\x00\x01\x14\x02\x00\x00\x00\x00\x00\xc0\x00\x00\x00\x00\x00\x00\x46")

// shortcut is what a shortcut says.
type shortcut struct {
	target, name, relative, dir, args, icon string
}

var documentIcon = regexp.MustCompile(`(?i)(\.(?:pdf|docx?|xlsx?|pptx?|txt|jpe?g|png|zip|html?)\b|acrord|acrobat|winword|excel|powerpnt|msedge|chrome|firefox|notepad|wordpad|imageres\.dll|shell32\.dll)`)

// lnk judges a shortcut. One that comes by mail starts what its sender likes.
func (r *reader) lnk() error {
	s := parseShortcut(r.file.Data)
	line := strings.TrimSpace(strings.Join([]string{s.target, s.relative, s.args}, " "))
	if IsShare(s.target) || IsShare(s.relative) || IsShare(s.icon) {
		r.suspect("LNK.Share", 8, "it is a shortcut to a foreign network share: "+clip(line, 150), "target", line, "icon", s.icon)
	}
	if commands.MatchString(line) {
		r.suspect("LNK.Command", 10, "it is a shortcut that starts a program: "+clip(line, 150), "command", line, "name", s.name)
		if documentIcon.MatchString(s.icon) {
			r.suspect("LNK.Icon", 8, "it is a shortcut to a program that looks like a document", "icon", s.icon)
		}
	} else if line != "" {
		r.sign("LNK", 2, "it is a shortcut: "+clip(line, 150), "target", line)
	}
	if len(s.args) > 260 || strings.Contains(s.args, strings.Repeat(" ", 50)) {
		r.suspect("LNK.HiddenArguments", 8, "its arguments are too long to be seen in the properties of a shortcut", "length", fmt.Sprint(len(s.args)))
	}
	return r.appended()
}

// appended finds files that are hidden behind the shortcut itself.
func (r *reader) appended() error {
	if len(r.file.Data) < 64<<10 {
		return nil
	}
	r.suspect("LNK.Large", 6, "it is a shortcut that is far too large for one: something is hidden in it", "bytes", fmt.Sprint(len(r.file.Data)))
	return nil
}

// parseShortcut reads target, strings and the environment block.
func parseShortcut(b []byte) (s shortcut) {
	if len(b) < 0x4c {
		return s
	}
	flags := binary.LittleEndian.Uint32(b[20:])
	at := 0x4c
	u16 := func() int {
		if at+2 > len(b) {
			return 0
		}
		return int(binary.LittleEndian.Uint16(b[at:]))
	}
	if flags&1 != 0 { // LinkTargetIDList
		end := min(len(b), at+2+u16())
		s.target = idList(b[min(at+2, end):end])
		at = end
	}
	if flags&2 != 0 && at+28 <= len(b) { // LinkInfo
		size := int(min(uint64(binary.LittleEndian.Uint32(b[at:])), uint64(len(b)-at)))
		if t := linkInfo(b[at : at+size]); t != "" {
			s.target = t
		}
		at += max(size, 4)
	}
	for i, to := range []*string{&s.name, &s.relative, &s.dir, &s.args, &s.icon} {
		if flags&(4<<i) == 0 {
			continue
		}
		n := u16()
		at += 2
		if flags&0x80 != 0 {
			*to = utf16String(part(b, uint64(at), uint64(2*n)))
			at += 2 * n
		} else {
			*to = latin1(part(b, uint64(at), uint64(n)))
			at += n
		}
	}
	for n := 0; at+8 <= len(b) && n < 50; n++ { // ExtraData
		size, sig := int(binary.LittleEndian.Uint32(b[at:])), binary.LittleEndian.Uint32(b[at+4:])
		if size < 8 || size > len(b)-at {
			break
		}
		if (sig == 0xa0000001 || sig == 0xa0000007) && size >= 0x314 {
			v, _, _ := strings.Cut(utf16String(b[at+8+260:at+size]), "\x00")
			if sig == 0xa0000001 && v != "" {
				s.target += " " + v
			} else if v != "" {
				s.icon += " " + v
			}
		}
		at += size
	}
	return s
}

// idList gathers the names in the items that make up the target.
func idList(b []byte) string {
	var names []string
	for len(b) > 2 && len(names) < 50 {
		n := int(binary.LittleEndian.Uint16(b))
		if n < 3 || n > len(b) {
			break
		}
		item := b[2:n]
		b = b[n:]
		if item[0]&0x70 == 0x30 && len(item) > 12 { // a file or folder
			if item[0]&4 != 0 {
				names = append(names, strings.SplitN(utf16String(item[12:]), "\x00", 2)[0])
			} else {
				names = append(names, strings.SplitN(latin1(item[12:]), "\x00", 2)[0])
			}
		} else if item[0]&0x70 == 0x20 || item[0]&0x70 == 0x40 || item[0] == 0x61 {
			names = append(names, strings.SplitN(latin1(item[1:]), "\x00", 2)[0])
		}
	}
	return clip(strings.Join(names, `\`), 2000)
}

// linkInfo is the path in the structure of that name.
func linkInfo(b []byte) string {
	if len(b) < 28 {
		return ""
	}
	text := func(at uint32) string {
		if at == 0 || uint64(at) >= uint64(len(b)) {
			return ""
		}
		return latin1([]byte(strings.SplitN(string(b[at:min(uint64(len(b)), uint64(at)+2000)]), "\x00", 2)[0]))
	}
	flags := binary.LittleEndian.Uint32(b[8:])
	out := ""
	if flags&1 != 0 {
		out = text(binary.LittleEndian.Uint32(b[16:]))
	}
	if net := binary.LittleEndian.Uint32(b[20:]); flags&2 != 0 && uint64(net)+20 <= uint64(len(b)) {
		out = text(net+binary.LittleEndian.Uint32(b[net+8:])) + `\`
	}
	return strings.TrimSpace(out + text(binary.LittleEndian.Uint32(b[24:])))
}
