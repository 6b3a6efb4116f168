package phishing

// phrase is one entry of a list of words, as it is looked for in a text.
type phrase struct {
	list string
	at   int // in its list
	text string
}

// phrases is all lists by the first word of each entry: a text is gone through
// once, however many there are.
type phrases struct {
	byWord map[string][]phrase
	others []phrase // that begin with no letter or digit
	// firsts has a bit for each length of the first words that begin with two
	// letters, so that most words of a text need no look into the map.
	firsts [1 << 12]uint32
}

// maybe says whether a word may be the first of a phrase.
func (p *phrases) maybe(word string) bool {
	at, length := firstsOf(word)
	return p.firsts[at]&length != 0
}

func firstsOf(word string) (at int, length uint32) {
	at = int(word[0]&63) << 6
	if len(word) > 1 {
		at |= int(word[1] & 63)
	}
	return at, 1 << min(len(word), 31)
}

func newPhrases(lists map[string][]string) *phrases {
	p := &phrases{byWord: map[string][]phrase{}}
	for list, words := range lists {
		for i, w := range words {
			one := phrase{list, i, w}
			if first := w[:wordEnd(w, 0)]; first != "" {
				p.byWord[first] = append(p.byWord[first], one)
				at, length := firstsOf(first)
				p.firsts[at] |= length
			} else {
				p.others = append(p.others, one)
			}
		}
	}
	return p
}

// wordEnd is where the letters and digits from a place on end.
func wordEnd(s string, at int) int {
	for at < len(s) && alnum(s[at]) {
		at++
	}
	return at
}

// in finds the phrases of a text: for each list, which of its entries.
func (p *phrases) in(text string) map[string]map[int]bool {
	found := map[string]map[int]bool{}
	put := func(one phrase) {
		if found[one.list] == nil {
			found[one.list] = map[int]bool{}
		}
		found[one.list][one.at] = true
	}
	for at := 0; at < len(text); {
		end := wordEnd(text, at)
		if end == at {
			at++
			continue
		}
		word := text[at:end]
		if !p.maybe(word) {
			at = end
			continue
		}
		for _, one := range p.byWord[word] {
			if stop := at + len(one.text); stop <= len(text) && text[at:stop] == one.text && (stop == len(text) || !alnum(text[stop]) || !alnum(text[stop-1])) {
				put(one)
			}
		}
		at = end
	}
	for _, one := range p.others {
		if hasWord(text, one.text) {
			put(one)
		}
	}
	return found
}
