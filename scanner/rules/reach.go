package rules

import (
	"bytes"
	"strings"
)

// Reach is as much of a piece as one of [Files] has to be matched with; false:
// none of its rules can match. What a piece says it is decides nothing here: only
// what is in it, or how it came out of its container. A piece that any rule of the
// file could find something in is given to all of them, whole, and a file that is
// not named here gets everything.
//
// libyara goes through all bytes for the texts of all rules, at some 20
// instructions each even where there is nothing to be found. Whoever changes a rule
// looks here, too; TestSidecar_ReachLosesNothing compares what is found with what
// the same rules find when they get everything.
func Reach(file string, data []byte, ext, trueType string) ([]byte, bool) {
	switch file {
	case "attachments.yar":
		if looksFurther(data) {
			return data, true
		}
		return data[:min(len(data), headBytes)], true
	case "html.yar":
		return data, hasTag(data)
	case "macros.yar":
		return data, trueType == "text/x-vba" || ext == ".rels"
	case "proof.yar":
		return data, bytes.Contains(data, []byte(proofMark))
	}
	return data, true
}

// headBytes is what the attachment rules get of a piece in which they look at the
// first few bytes only.
const headBytes = 512

// proofMark is the end of the mark in proof.yar. A search for it is quick, since
// few texts have such a pair of characters as its first two.
const proofMark = "7Qm2vXc9LrT4"

// looksFurther says whether data begins as what the attachment rules look at
// beyond its head: a program, a OneNote file, an ISO image.
func looksFurther(data []byte) bool {
	return bytes.HasPrefix(data, []byte("MZ")) || bytes.HasPrefix(data, []byte{0xE4, 0x52, 0x5C, 0x7B}) ||
		len(data) > 0x8001 && bytes.HasPrefix(data[0x8001:], []byte("CD001"))
}

// hasTag says whether data has one of the tags without which no HTML rule
// matches, in whatever it is. Ordinary pages have none of them.
func hasTag(data []byte) bool {
	for {
		i := bytes.IndexByte(data, '<')
		if i < 0 {
			return false
		}
		data = data[i+1:]
		if len(data) < len("svg") {
			return false
		}
		switch data[0] | 0x20 {
		case 's', 'i':
			if hasPrefixFold(data, "script") || hasPrefixFold(data, "svg") || hasPrefixFold(data, "input") {
				return true
			}
		}
	}
}

func hasPrefixFold(data []byte, prefix string) bool {
	return len(data) >= len(prefix) && strings.EqualFold(string(data[:len(prefix)]), prefix)
}
