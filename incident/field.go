package incident

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// Need says whether a report asks for a field.
type Need string

// The needs; "" where a report does not ask for it.
const (
	Required Need = "required"
	Optional Need = "optional"
)

// FieldKind is how the value of a field is written.
type FieldKind string

// The kinds.
const (
	Line   FieldKind = "line"   // a short text
	Text   FieldKind = "text"   // a long one
	Choice FieldKind = "choice" // one of Values
	Many   FieldKind = "many"   // some of Values, in their order, with a space between
	Number FieldKind = "number" // a whole number, not below zero
	Money  FieldKind = "money"  // EUR, with a point and up to two decimals
	Moment FieldKind = "moment" // RFC 3339
)

// Field is one thing that reports say. The names are those of the open "NIS 2
// Incident Notification Schema" 0.3.0, the names of screens its mapping to the BSI's
// portal: a third party's, not the BSI's own words. What GDPR33 asks for is Art. 33(3)
// GDPR.
type Field struct {
	Name   string
	Kind   FieldKind
	Values []string
	Screen string // of the portal, in German as there
	needs  map[StageName]Need
	// from gives the value of what the incident itself knows; nil: people write it.
	from func(Incident) string
}

// Derived says whether the incident itself knows the value.
func (f Field) Derived() bool { return f.from != nil }

// Need says whether a report asks for it.
func (f Field) Need(s StageName) Need { return f.needs[s] }

// nis are the needs in early warning, notification, intermediate and progress report,
// and the final ones: R required, o optional, - not asked for.
func nis(pattern string) map[StageName]Need {
	need := func(c byte) Need { return map[byte]Need{'R': Required, 'o': Optional}[c] }
	return map[StageName]Need{EarlyWarning: need(pattern[0]), Notification: need(pattern[1]), Intermediate: need(pattern[2]), Progress: need(pattern[2]), Final: need(pattern[3]), FinalAfterProgress: need(pattern[3])}
}

// gdpr is for what Art. 33(3) GDPR asks for.
func gdpr(n Need) map[StageName]Need { return map[StageName]Need{GDPR33: n} }

// both adds what the notice under the GDPR needs.
func both(pattern string, n Need) map[StageName]Need {
	m := nis(pattern)
	m[GDPR33] = n
	return m
}

func rfc3339(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format(time.RFC3339)
}

var yesNo = []string{"yes", "no", "unknown"}

// fields are all of them, in the order of the portal's screens.
var fields = []Field{
	{Name: "reporterName", Kind: Line, Screen: "Melder-Kontakt", needs: both("RRoR", Required)},
	{Name: "reporterEmail", Kind: Line, Screen: "Melder-Kontakt", needs: both("RRoR", Required)},
	{Name: "reporterPhone", Kind: Line, Screen: "Melder-Kontakt", needs: both("oooo", Optional)},
	{Name: "reportingReason", Kind: Choice, Screen: "Vorfallsklassifikation / Meldegrund", needs: nis("RRoR"), from: func(i Incident) string {
		return map[Significance]string{Significant: "significantIncident", NotSignificant: "incident"}[i.Significant]
	}},
	{Name: "severityLevel", Kind: Choice, Screen: "Vorfallsklassifikation / Lageeinschätzung", needs: nis("oRoR"), from: func(i Incident) string { return i.Severity }},
	{Name: "incidentSummary", Kind: Text, Screen: "Vorfallsbeschreibung / Störungsbeschreibung", needs: both("RRoR", Required)},
	{Name: "detailedDescription", Kind: Text, Screen: "Vorfallsbeschreibung / Detaillierte Beschreibung", needs: nis("-ooR")},
	{Name: "suspectedUnlawfulOrMalicious", Kind: Choice, Values: []string{"suspected", "confirmed", "ruledOut", "unknown"}, Screen: "Ursache / Vermutung böswilliger Handlung", needs: nis("RRoR")},
	{Name: "incidentOccurredAt", Kind: Moment, Screen: "Zeitlinie / Vorfallseintritt", needs: nis("oooR")},
	{Name: "incidentDetectedAt", Kind: Moment, Screen: "Zeitlinie / Erkennung", needs: nis("RRoR"), from: func(i Incident) string { return rfc3339(i.Aware()) }},
	{Name: "incidentResolvedAt", Kind: Moment, Screen: "Zeitlinie / Aktuelle Statusmeldung", needs: nis("--oR"), from: func(i Incident) string { return rfc3339(i.ClosedAt) }},
	{Name: "rootCauseType", Kind: Choice, Values: []string{"malware", "ransomware", "phishing", "ddos", "exploit", "insiderAction", "supplyChainCompromise", "configurationError", "physicalIncident", "humanError", "unknown"}, Screen: "Ursache / Primärursache", needs: nis("-ooR")},
	{Name: "rootCauseDetail", Kind: Text, Screen: "Ursache / Detailursache", needs: nis("--oR")},
	{Name: "isTargeted", Kind: Choice, Values: []string{"targeted", "untargeted", "unknown"}, Screen: "Ursache / Zielrichtung", needs: nis("oRoR")},
	{Name: "ciaImpact", Kind: Many, Values: []string{"confidentiality", "integrity", "availability"}, Screen: "Detaillierte Ursache / CIA-Auswirkungen", needs: nis("oRoR")},
	{Name: "indicatorsOfCompromise", Kind: Text, Screen: "Detaillierte Ursache / Indikatoren", needs: nis("-ooo")},
	{Name: "containmentMeasuresTaken", Kind: Text, Screen: "Gegenmaßnahmen / Technische-organisatorische Maßnahmen", needs: both("oRoR", Required)},
	{Name: "appliedAndOngoingMitigation", Kind: Text, Screen: "Gegenmaßnahmen / Angewandte und laufende", needs: nis("--oR")},
	{Name: "detectionMethod", Kind: Many, Values: []string{"siem", "edr", "userReport", "supplierAlert", "csirtAdvisory", "externalParty", "internalAudit", "other"}, Screen: "Gegenmaßnahmen / Erkennungsmethode", needs: nis("oRoR")},
	{Name: "internalCaseReference", Kind: Line, Screen: "Gegenmaßnahmen / Internes Aktenzeichen", needs: both("oooo", Optional), from: func(i Incident) string { return i.Number }},
	{Name: "preventiveMeasuresPlanned", Kind: Text, Screen: "Vorfalls-Korrelationen / Präventionsmaßnahmen", needs: nis("--oR")},
	{Name: "hasCrossBorderImpact", Kind: Choice, Values: yesNo, Screen: "Geografische & Sektorale Verbreitung / Grenzüberschreitende Auswirkung", needs: nis("RRoR")},
	{Name: "affectedCountries", Kind: Line, Screen: "Geografische & Sektorale Verbreitung / Geografische Verbreitung", needs: nis("oooo")},
	{Name: "affectedSectors", Kind: Line, Screen: "Geografische & Sektorale Verbreitung / Betroffene Sektoren", needs: nis("oRoR")},
	{Name: "affectedUsersCount", Kind: Number, Screen: "Servicestörung / Betroffene Nutzer", needs: nis("oRoR")},
	{Name: "serviceDisruptionDescription", Kind: Text, Screen: "Servicestörung / Beschreibung der Dienstausfälle", needs: nis("oRoR")},
	{Name: "estimatedFinancialDamage", Kind: Money, Screen: "Servicestörung / Finanzieller Schaden", needs: nis("oooo")},
	{Name: "hasReputationalHarm", Kind: Choice, Values: yesNo, Screen: "Servicestörung / Reputationsschaden", needs: nis("oRoR")},
	{Name: "criticalPlant", Kind: Text, Screen: "§ 32(3) BSIG", needs: nis("RRRR")},
	{Name: "breachNature", Kind: Text, needs: gdpr(Required)},
	{Name: "breachAwareAt", Kind: Moment, needs: gdpr(Required), from: func(i Incident) string { return rfc3339(i.BreachAwareAt) }},
	{Name: "dataCategories", Kind: Text, needs: gdpr(Required)},
	{Name: "personsAffected", Kind: Number, needs: gdpr(Required)},
	{Name: "recordsAffected", Kind: Number, needs: gdpr(Required)},
	{Name: "likelyConsequences", Kind: Text, needs: gdpr(Required)},
}

// Fields are what reports under a regime say, in the order of the portal's screens.
func Fields(r Regime) []Field {
	return slices.DeleteFunc(slices.Clone(fields), func(f Field) bool { return f.Name == "criticalPlant" && r != KRITIS })
}

// FieldsOf are the fields that one report asks for.
func FieldsOf(r Regime, s StageName) []Field {
	return slices.DeleteFunc(Fields(r), func(f Field) bool { return f.Need(s) == "" })
}

// What people may write, in bytes.
const (
	maxLine = 300
	maxText = 10_000
)

// check says what is wrong with a value that people wrote; "" is no value.
func (f Field) check(v string) string {
	limit := maxLine
	if f.Kind == Text {
		limit = maxText
	}
	switch {
	case len(v) > limit || !utf8.ValidString(v) || strings.ContainsRune(v, 0):
		return fmt.Sprintf("must be text of at most %d bytes", limit)
	case f.Kind == Choice && !slices.Contains(f.Values, v):
		return "must be one of " + strings.Join(f.Values, ", ")
	case f.Kind == Many && slices.ContainsFunc(strings.Fields(v), func(x string) bool { return !slices.Contains(f.Values, x) }):
		return "must be some of " + strings.Join(f.Values, ", ") + ", with a space between"
	case f.Kind == Number && !wholeNumber(v):
		return "must be a whole number"
	case f.Kind == Money && !amount(v):
		return "must be an amount in EUR, as 1200.50"
	}
	if f.Kind == Moment {
		if _, err := time.Parse(time.RFC3339, v); err != nil {
			return "must be a time, as 2026-10-24T09:30:00+02:00"
		}
	}
	return ""
}

func wholeNumber(v string) bool {
	n, err := strconv.ParseInt(v, 10, 64)
	return err == nil && n >= 0 && strconv.FormatInt(n, 10) == v
}

func amount(v string) bool {
	whole, cents, some := strings.Cut(v, ".")
	return wholeNumber(whole) && (!some || len(cents) > 0 && len(cents) <= 2 && strings.Trim(cents, "0123456789") == "")
}

// Facts are what people wrote into fields, by their names.
type Facts map[string]string

// check refuses what is no field, or no value of one, and puts values of several
// into their order. Empty values are dropped.
func (facts Facts) check() (Facts, error) {
	out, wrong := Facts{}, Mistakes(nil)
	for _, name := range slices.Sorted(maps.Keys(facts)) {
		v := strings.TrimSpace(facts[name])
		i := slices.IndexFunc(fields, func(f Field) bool { return f.Name == name })
		if i < 0 || fields[i].Derived() {
			wrong = append(wrong, fmt.Sprintf("%.50q is no field that can be written", name))
			continue
		}
		f := fields[i]
		if v == "" {
			continue
		}
		if problem := f.check(v); problem != "" {
			wrong = append(wrong, name+" "+problem)
			continue
		}
		if f.Kind == Many {
			picked := strings.Fields(v)
			v = strings.Join(slices.DeleteFunc(slices.Clone(f.Values), func(x string) bool { return !slices.Contains(picked, x) }), " ")
		}
		out[name] = v
	}
	if wrong != nil {
		return nil, wrong
	}
	return out, nil
}

// Value is what a report says in a field; "" is nothing.
func (i Incident) Value(f Field) string {
	if f.from != nil {
		return f.from(i)
	}
	return i.Facts[f.Name]
}

// Missing are the fields that a report wants and that nobody has filled in.
func (i Incident) Missing(s StageName) (names []string) {
	for _, f := range FieldsOf(i.Regime, s) {
		if f.Need(s) == Required && i.Value(f) == "" {
			names = append(names, f.Name)
		}
	}
	return names
}
