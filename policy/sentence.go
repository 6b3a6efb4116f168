package policy

import (
	"strings"
	"unicode"
	"unicode/utf8"

	"mailward/internal/wording"
)

// sentence is what an explanation can say, in every language that people read it
// in. A record keeps the name of a sentence and its arguments, so that it can be read
// in either.
type sentence struct{ en, de string }

// sentences by name. Each verb stands for one argument of [Line.Args].
var sentences = map[string]sentence{
	"action":        {"%s says %s for %s mail", "%s verlangt für %[3]s: %[2]s"},
	"found":         {"%s found %s, which makes it %s", "%s hat %s gefunden, das macht sie zu: %s"},
	"found.more":    {"%s found %s and %s more, which makes it %s", "%s hat %s und %s weitere gefunden, das macht sie zu: %s"},
	"signs":         {"its signs of %s add up to %s: %s; from %s on it counts as %[1]s; the threshold comes from %[5]s", "Ihre Anzeichen für %s ergeben zusammen %s: %s. Ab %s gilt sie als %[1]s. Die Schwelle bestimmt %[5]s"},
	"signs.more":    {"its signs of %s add up to %s: %s and %s more; from %s on it counts as %[1]s; the threshold comes from %[6]s", "Ihre Anzeichen für %s ergeben zusammen %s: %s und %s weitere. Ab %s gilt sie als %[1]s. Die Schwelle bestimmt %[6]s"},
	"weight":        {"the weight of %s comes from %s", "Das Gewicht von %s bestimmt %s"},
	"dlp.left":      {"%s leaves out what the DLP set %s found", "%s lässt aus, was der DLP-Satz %s gefunden hat"},
	"intel.sign":    {"%s of %s with a confidence of %s is a sign: %s has malware and phishing decide from %s on", "%s von %s mit einer Sicherheit von %s ist ein Anzeichen: %s lässt Malware und Phishing ab %s entscheiden"},
	"intel.decides": {"%s of %s with a confidence of %s decides: %s has malware and phishing decide from %s on", "%s von %s mit einer Sicherheit von %s entscheidet: %s lässt Malware und Phishing ab %s entscheiden"},
	"entry.asks":    {"the %s entry for %s %s (%s; %s answers for it) says %s", "Der %s für %s %s (%s; verantwortlich: %s) verlangt: %s"},
	"entry.idle":    {"the %s entry for %s %s (%s; %s answers for it) asks for %s, which is done anyway", "Der %s für %s %s (%s; verantwortlich: %s) verlangt: %s, was ohnehin geschieht"},
	"entry.proof":   {"the %s entry for %s %s (%s; %s answers for it) does not count: neither SPF nor DKIM shows that the mail is from there", "Der %s für %s %s (%s; verantwortlich: %s) zählt nicht: Weder SPF noch DKIM zeigen, dass die Mail von dort ist"},
	"entry.lifts":   {"the %s entry for %s %s (%s; %s answers for it) sets aside what was found as %s", "Der %s für %s %s (%s; verantwortlich: %s) lässt gelten, was gefunden wurde als: %s"},

	"dmarc.report":     {"the mail fails DMARC for %s, which is only reported for %s", "Die Mail besteht DMARC für %s nicht, was für %s nur gemeldet wird"},
	"dmarc.vouched":    {"the mail fails DMARC for %s, but %s, which is trusted, says that it was in order before it was forwarded", "Die Mail besteht DMARC für %s nicht, aber %s, dem vertraut wird, sagt, dass sie vor der Weiterleitung in Ordnung war"},
	"dmarc.quarantine": {"it fails DMARC for %s, whose policy is %s; %s says quarantine", "Sie besteht DMARC für %s nicht, dessen Vorgabe %s ist; %s verlangt Quarantäne"},
	"dmarc.reject":     {"it fails DMARC for %s, whose policy is reject; %s honours that", "Sie besteht DMARC für %s nicht, dessen Vorgabe reject ist; %s verlangt, sie zu befolgen"},

	"released":       {"a person has let this very mail go to this recipient before (release %s)", "Ein Mensch hat genau diese Mail für diesen Empfänger schon freigegeben (Freigabe %s)"},
	"silent":         {"no answer from %s; %s says %s", "Keine Antwort von %s; %s verlangt: %s"},
	"merge.deferred": {"another recipient's copy is deferred, and a mail has one reply", "Die Kopie für einen anderen Empfänger wird verschoben, und eine Mail hat nur eine Antwort"},
	"merge.reject":   {"quarantined instead of rejected, since other recipients get the mail", "In Quarantäne statt abgewiesen, da andere Empfänger die Mail bekommen"},

	"reaction.lock":          {"a reaction to an alert (%s) quarantines it for now", "Eine Reaktion auf einen Alarm (%s) stellt sie vorerst unter Quarantäne"},
	"reaction.lock.trial":    {"a reaction to an alert (%s), which is only tried, would quarantine it", "Eine Reaktion auf einen Alarm (%s), die nur geprobt wird, würde sie unter Quarantäne stellen"},
	"reaction.sandbox":       {"a reaction to an alert (%s) has the sandbox run every file first", "Eine Reaktion auf einen Alarm (%s) lässt vorerst jede Datei zuerst in der Sandbox laufen"},
	"reaction.sandbox.trial": {"a reaction to an alert (%s), which is only tried, would have the sandbox run every file first", "Eine Reaktion auf einen Alarm (%s), die nur geprobt wird, würde jede Datei zuerst in der Sandbox laufen lassen"},

	"sandbox.absent":     {"no sandbox is set up, so it is quarantined", "Keine Sandbox ist eingerichtet, darum kommt sie in Quarantäne"},
	"sandbox.nothing":    {"nothing in it is a file that a sandbox could run, so it is quarantined", "Nichts darin ist eine Datei, die eine Sandbox ausführen könnte, darum kommt sie in Quarantäne"},
	"sandbox.first":      {"its part %s is of a kind that %s has the sandbox run first", "Ihr Teil %s ist von einer Art, die zuerst in die Sandbox muss; das verlangt %s"},
	"sandbox.bad":        {"the sandbox calls it %s", "Die Sandbox nennt sie: %s"},
	"sandbox.engines":    {"no answer from %s on arrival: the sandbox does not stand in for it", "Keine Antwort von %s bei der Ankunft: Die Sandbox ersetzt das nicht"},
	"sandbox.clean":      {"the sandbox found nothing", "Die Sandbox hat nichts gefunden"},
	"sandbox.policy":     {"the sandbox found nothing, but the policy of now says %s for %s mail", "Die Sandbox hat nichts gefunden, aber die Richtlinie von jetzt verlangt bei %[2]s: %[1]s"},
	"sandbox.keep":       {"the sandbox gave no verdict; %s keeps such mail for a person", "Die Sandbox hat nicht geurteilt; dann verlangt %s, sie für einen Menschen zurückzuhalten"},
	"sandbox.deliver":    {"the sandbox gave no verdict; %s delivers such mail all the same", "Die Sandbox hat nicht geurteilt; dann verlangt %s, sie trotzdem zuzustellen"},
	"sandbox.quarantine": {"the sandbox gave no verdict; %s quarantines such mail", "Die Sandbox hat nicht geurteilt; dann verlangt %s Quarantäne"},
}

// say makes a sentence that rests on a line of a policy, or on none.
func say(o Origin, id string, args ...string) Line {
	l := Line{ID: id, Args: args, PolicyID: o.PolicyID, Version: o.Version, Layer: o.Layer}
	l.Text = cut(l.In("en", english))
	return l
}

// In is the sentence in a language: "de", or English for every other. word names
// a thing of a kind (action, class, classes, origin, entry, match) in it. What
// has no name, as sentences of old records, is as it was written.
func (l Line) In(lang string, word func(kind, value string) string) string {
	s, known := sentences[l.ID]
	if !known {
		return l.Text
	}
	format := s.en
	if lang == "de" {
		format = s.de
	}
	text, ok := wording.Fill(format, l.Args, word)
	if !ok {
		return l.Text
	}
	if first, size := utf8.DecodeRuneInString(text); lang == "de" {
		text = string(unicode.ToUpper(first)) + text[size:]
	}
	return text
}

// Arguments of a sentence: their kind, a colon, their value. What has no kind is
// shown as it is.
func plainArg(s string) string       { return ":" + s }
func actionArg(a Action) string      { return "action:" + string(a) }
func classArg(c Class) string        { return "class:" + string(c) }
func numberArg(f float64) string     { return "number:" + number(f) }
func originArg(o Origin) string      { return "origin:" + o.Layer + ":" + o.Name }
func classesArg(list []Class) string { return "classes:" + joinClasses(list) }

// entryArgs name an allow or block entry.
func entryArgs(e *Entry, rest ...string) []string {
	return append([]string{"entry:" + e.Kind, "match:" + e.Match, plainArg(e.Value), plainArg(e.Reason), plainArg(e.Owner)}, rest...)
}

// english names things in English: as the words of the program.
func english(kind, value string) string {
	switch kind {
	case "origin":
		layer, name, _ := strings.Cut(value, ":")
		return Origin{Layer: layer, Name: name}.String()
	case "match":
		return matchWords[value]
	}
	return value
}
