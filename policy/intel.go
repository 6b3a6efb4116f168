package policy

import (
	"slices"
	"strconv"
)

// IntelEngine is the engine whose findings name an indicator of threat
// intelligence, with its class and confidence.
const IntelEngine = "intel"

// LineIntel is the confidence from which an indicator decides by itself.
const LineIntel = LineThreshold + "intel"

// intelClass is the class that an indicator gives a mail by itself for a
// recipient. Malware and phishing do from a confidence on; below it, and of the
// milder classes, it is a sign. An override decides always.
func (p Policy) intelClass(f Finding) Class {
	c := Class(f.Meta["class"])
	if f.Meta["override"] != "" {
		return c
	}
	confidence, err := strconv.Atoi(f.Meta["confidence"])
	if err != nil || c != Malware && c != Phishing || float64(confidence) < p.intelFrom() {
		return ""
	}
	return c
}

func (p Policy) intelFrom() float64 {
	if p.Thresholds.Intel != 0 {
		return p.Thresholds.Intel
	}
	return DefaultThresholds().Intel
}

// weighIntel gives each indicator that a mail names the class that it has for a
// recipient, and says why.
func (p Policy) weighIntel(findings []Finding) (weighed []Finding, lines []Line) {
	for i, f := range findings {
		if f.Engine != IntelEngine || f.Meta["class"] == "" {
			continue
		}
		if weighed == nil {
			weighed = slices.Clone(findings)
		}
		weighed[i].Class = p.intelClass(f)
		if f.Meta["override"] == "" {
			from, id := p.Origin(LineIntel), "intel.sign"
			if weighed[i].Class != "" {
				id = "intel.decides"
			}
			lines = append(lines, say(from, id, plainArg(f.Name), plainArg(f.Meta["source"]), plainArg(f.Meta["confidence"]), originArg(from), numberArg(p.intelFrom())))
		}
	}
	if weighed == nil {
		return findings, nil
	}
	return weighed, lines
}

// recordIntel notes the class of each indicator as the strictest of the
// recipients' policies has it.
func (in Input) recordIntel(d *Decision) {
	for i, f := range d.Findings {
		if f.Engine != IntelEngine || len(in.Recipients) == 0 {
			continue
		}
		d.Findings[i].Class = ""
		for _, r := range in.Recipients {
			if c := r.Policy.intelClass(f); c != "" {
				d.Findings[i].Class = c
			}
		}
	}
}
