package dlp

import "strings"

// machineReadable finds the lines at the foot of passports, ID cards and visas
// (ICAO doc 9303). They have several check digits, so one is never a chance.
func (n *numberScan) machineReadable() {
	i := detectorIndex("mrz")
	if !n.want.has(i) {
		return
	}
	s := n.text
	for at := 0; ; {
		next := strings.Index(s[at:], "<<")
		if next < 0 {
			return
		}
		start, end := lineAround(s, at+next)
		value, to, ok := readMRZ(s, start, end)
		if ok && !n.found(hit{detector: i, value: value, start: start, end: to, confidence: High}) {
			return
		}
		at = max(end, to)
		if at+1 >= len(s) {
			return
		}
	}
}

// mrzLongest bounds a line of it, with blanks around.
const mrzLongest = 64

// lineAround is the line that a position is in, without blanks; no more than
// could be a line of an MRZ is looked at.
func lineAround(s string, at int) (start, end int) {
	start, end = at, at
	for start > 0 && at-start < mrzLongest && !strings.ContainsRune(" \t\r\n", rune(s[start-1])) {
		start--
	}
	for end < len(s) && end-at < mrzLongest && !strings.ContainsRune(" \t\r\n", rune(s[end])) {
		end++
	}
	return start, end
}

// readMRZ reads what begins in a line: the second line of a passport (44
// characters) or of a large card (36), or the first two of a small card (30).
func readMRZ(s string, start, end int) (value string, to int, ok bool) {
	line := s[start:end]
	if !mrzAlphabet(line) {
		return "", end, false
	}
	switch len(line) {
	case 44:
		ok = icao(line[:9]) == line[9] && icao(line[13:19]) == line[19] && icao(line[21:27]) == line[27] &&
			icao(line[:10]+line[13:20]+line[21:43]) == line[43]
	case 36:
		ok = icao(line[:9]) == line[9] && icao(line[13:19]) == line[19] && icao(line[21:27]) == line[27] &&
			icao(line[:10]+line[13:20]+line[21:35]) == line[35]
	case 30:
		at := end
		for at < len(s) && at-end < 4 && strings.ContainsRune(" \t\r\n", rune(s[at])) {
			at++
		}
		if at+30 > len(s) || !mrzAlphabet(s[at:at+30]) {
			return "", end, false
		}
		second := s[at : at+30]
		ok = icao(line[5:14]) == line[14] && icao(second[:6]) == second[6] && icao(second[8:14]) == second[14] &&
			icao(line[5:30]+second[:7]+second[8:15]+second[18:29]) == second[29]
		if ok {
			return line + second, at + 30, true
		}
	}
	return line, end, ok
}

func mrzAlphabet(s string) bool {
	for i := range len(s) {
		if c := s[i]; c != '<' && byteClass[c] != digit && (c < 'A' || c > 'Z') {
			return false
		}
	}
	return true
}
