package dlp

import "strings"

// allDetectors is the table of everything that can be found. The order is part
// of nothing that is kept: sets name detectors by name.
func allDetectors() []Detector {
	return []Detector{
		{Name: "card", Label: "card number", Many: "card numbers", begins: digit, valid: validCard, context: []string{"card", "karte", "kreditkarte", "credit", "visa", "mastercard", "amex",
			"american express", "maestro", "diners", "jcb", "discover", "cvv", "cvc", "pan", "kartennummer", "expiry", "exp", "gueltig", "carte bancaire", "carta di credito", "tarjeta", "karta"},
			forms: []form{grouped(High, 4, 4, 4, 4), grouped(High, 4, 4, 4, 4, 3), grouped(High, 4, 6, 5), grouped(High, 4, 6, 4), bare(14, Low), bare(15, Low), bare(16, Low), bare(17, Low), bare(18, Low), bare(19, Low)}},
		{Name: "iban", Label: "IBAN", Many: "IBANs", begins: letter, valid: validIBAN, forms: ibanForms(), context: []string{"iban"}},
		{Name: "de.tax_id", Label: "German tax id", Many: "German tax ids", begins: digit, valid: validTaxID, forms: []form{bare(11, Low), grouped(Medium, 2, 3, 3, 3)},
			context: []string{"steuer", "idnr", "id-nr", "identifikationsnummer", "tin", "tax id", "tax identification", "taxpayer"}},
		{Name: "de.social_security", Label: "German social security number", Many: "German social security numbers", begins: digit, valid: validVSNR,
			forms:   []form{bare(12, Medium), grouped(High, 2, 6, 1, 3), grouped(High, 2, 2, 2, 2, 1, 3)},
			context: []string{"versicherungsnummer", "sozialversicherung", "rentenversicherung", "sv-nummer", "svnr", "sv-nr", "rvnr", "vsnr", "social security", "krankenkasse"}},
		{Name: "de.id_card", Label: "German ID card number", Many: "German ID card numbers", begins: letter, valid: validIDCard, forms: []form{bare(10, Low)},
			context: []string{"ausweis", "personalausweis", "id card", "identity card", "id-nummer", "perso"}},
		{Name: "de.passport", Label: "German passport number", Many: "German passport numbers", begins: letter, valid: validPassport, forms: []form{bare(10, Low)},
			context: []string{"pass", "reisepass", "passnummer", "passport"}},
		{Name: "mrz", Label: "machine readable zone", Many: "machine readable zones", lines: true},
		{Name: "at.svnr", Label: "Austrian social security number", Many: "Austrian social security numbers", begins: digit, valid: validSVNR, forms: []form{bare(10, Low), grouped(Medium, 4, 6)},
			context: []string{"svnr", "sv-nr", "sv-nummer", "sozialversicherung", "versicherungsnummer", "e-card"}},
		{Name: "nl.bsn", Label: "Dutch BSN", Many: "Dutch BSNs", begins: digit, valid: validBSN, forms: []form{bare(9, Low), grouped(Low, 3, 3, 3), grouped(Low, 4, 2, 3)},
			context: []string{"bsn", "burgerservicenummer", "sofinummer", "sofi"}},
		{Name: "fr.insee", Label: "French INSEE number", Many: "French INSEE numbers", begins: digit, valid: validINSEE, forms: []form{bare(15, Medium), grouped(High, 1, 2, 2, 2, 3, 3, 2), grouped(Medium, 13, 2)},
			context: []string{"insee", "nir", "securite sociale", "sécurité sociale", "secu", "sécu", "sociale"}},
		{Name: "it.codice_fiscale", Label: "Italian codice fiscale", Many: "Italian codici fiscali", begins: letter, valid: validCodiceFiscale, forms: []form{bare(16, High)}},
		{Name: "es.nif", Label: "Spanish NIF or NIE", Many: "Spanish NIFs or NIEs", valid: validNIF, forms: []form{bare(9, Low), grouped(Low, 8, 1), grouped(Medium, 1, 7, 1)},
			context: []string{"dni", "nif", "nie", "identidad", "documento nacional"}},
		{Name: "pl.pesel", Label: "Polish PESEL", Many: "Polish PESELs", begins: digit, valid: validPESEL, forms: []form{bare(11, Low)}, context: []string{"pesel"}},
	}
}

// iins are the ranges of first digits that issuers of cards have today, with
// the lengths of their numbers. Old Visa numbers of 13 digits are left out:
// every thirteenth German article number would be one.
var iins = []struct {
	from, to   string
	short, far int // shortest, longest
}{
	{"4", "4", 16, 16}, {"4", "4", 19, 19}, // Visa
	{"51", "55", 16, 16}, {"2221", "2720", 16, 16}, // Mastercard
	{"34", "34", 15, 15}, {"37", "37", 15, 15}, // American Express
	{"300", "305", 14, 19}, {"3095", "3095", 14, 19}, {"36", "36", 14, 19}, {"38", "39", 14, 19}, // Diners Club
	{"6011", "6011", 16, 19}, {"644", "649", 16, 19}, {"65", "65", 16, 19}, // Discover
	{"3528", "3589", 16, 19},                       // JCB
	{"62", "62", 16, 19}, {"8100", "8171", 16, 19}, // UnionPay
	{"5018", "5018", 16, 19}, {"5020", "5020", 16, 19}, {"5038", "5038", 16, 19}, {"5893", "5893", 16, 19}, {"6304", "6304", 16, 19},
	{"6759", "6759", 16, 19}, {"6761", "6763", 16, 19}, // Maestro
	{"2200", "2204", 16, 19}, // Mir
}

func validCard(v string) bool {
	if !allDigits(v) || strings.Count(v, v[:1]) == len(v) {
		return false
	}
	for _, r := range iins {
		if n := len(r.from); len(v) >= r.short && len(v) <= r.far && v[:n] >= r.from && v[:n] <= r.to {
			return luhn(v)
		}
	}
	return false
}

// ibanLengths are the lengths in the SWIFT IBAN registry, release 99.
var ibanLengths = map[string]int{
	"AD": 24, "AE": 23, "AL": 28, "AT": 20, "AZ": 28, "BA": 20, "BE": 16, "BG": 22, "BH": 22, "BI": 27, "BR": 29, "BY": 28, "CH": 21, "CR": 22, "CY": 28, "CZ": 24, "DE": 22,
	"DJ": 27, "DK": 18, "DO": 28, "EE": 20, "EG": 29, "ES": 24, "FI": 18, "FK": 18, "FO": 18, "FR": 27, "GB": 22, "GE": 22, "GI": 23, "GL": 18, "GR": 27, "GT": 28, "HN": 28, "HR": 21,
	"HU": 28, "IE": 22, "IL": 23, "IQ": 23, "IS": 26, "IT": 27, "JO": 30, "KW": 30, "KZ": 20, "LB": 28, "LC": 32, "LI": 21, "LT": 20, "LU": 20, "LV": 21, "LY": 25, "MC": 27,
	"MD": 24, "ME": 22, "MK": 19, "MN": 20, "MR": 27, "MT": 31, "MU": 30, "NI": 28, "NL": 18, "NO": 15, "OM": 23, "PK": 24, "PL": 28, "PS": 29, "PT": 25, "QA": 29, "RO": 24, "RS": 22,
	"RU": 33, "SA": 24, "SC": 31, "SD": 18, "SE": 24, "SI": 19, "SK": 24, "SM": 27, "SO": 23, "ST": 25, "SV": 28, "TL": 23, "TN": 24, "TR": 26, "UA": 29, "VA": 22, "VG": 24, "XK": 20, "YE": 30,
}

// ibanForms are all lengths, in one piece and in groups of four.
func ibanForms() (list []form) {
	for n := 15; n <= 33; n++ {
		list = append(list, bare(n, High))
		groups := []int{}
		for left := n; left > 0; left -= 4 {
			groups = append(groups, min(4, left))
		}
		list = append(list, form{groups, High})
	}
	return list
}

func validIBAN(v string) bool {
	return len(v) > 4 && ibanLengths[v[:2]] == len(v) && allDigits(v[2:4]) && mod97(v[4:]+v[:4]) == 1
}

// validTaxID: steuerliche Identifikationsnummer, § 139b AO. Of the first ten
// digits one occurs twice or three times, and the others once at most; three of
// a kind are never in a row.
func validTaxID(v string) bool {
	if !allDigits(v) || v[0] == '0' || mod11by10(v[:10]) != v[10] {
		return false
	}
	var count [10]int
	for i := range 10 {
		count[v[i]-'0']++
		if i > 1 && v[i] == v[i-1] && v[i] == v[i-2] {
			return false
		}
	}
	repeated := 0
	for _, n := range count {
		if n > 3 {
			return false
		}
		if n > 1 {
			repeated++
		}
	}
	return repeated == 1
}

// validVSNR: Versicherungsnummer of the German pension insurance, § 147 SGB VI
// and VKVV § 4: area, date of birth, letter of the name at birth, serial, check.
func validVSNR(v string) bool {
	if len(v) != 12 || !allDigits(v[:8]) || byteClass[v[8]] != letter || !allDigits(v[9:]) {
		return false
	}
	area, day, month := number(v[:2]), number(v[2:4]), number(v[4:6])
	if area < 2 || area > 99 || day > 31 || month > 12 { // unknown dates of birth are 0
		return false
	}
	l := int(v[8]-'A') + 1
	digits := v[:8] + string([]byte{'0' + byte(l/10), '0' + byte(l%10)}) + v[9:11]
	sum := 0
	for i, w := range []int{2, 1, 2, 5, 7, 1, 2, 1, 2, 1, 2, 1} {
		p := int(digits[i]-'0') * w
		sum += p/10 + p%10
	}
	return byte('0'+sum%10) == v[11]
}

// documentAlphabet are the characters of German serial numbers: no vowels and
// nothing that looks like something else (PAuswV annex 3).
const documentAlphabet = "0123456789CFGHJKLMNPRTVWXYZ"

func validDocument(v, first string) bool {
	if len(v) != 10 || !strings.Contains(first, v[:1]) || byteClass[v[9]] != digit {
		return false
	}
	for _, c := range v[:9] {
		if !strings.ContainsRune(documentAlphabet, c) {
			return false
		}
	}
	return icao(v[:9]) == v[9]
}

func validIDCard(v string) bool { return validDocument(v, "LMNPRTVWXYZ") }

func validPassport(v string) bool { return validDocument(v, "CFGHJK") }

// validSVNR: Austria, § 460d ASVG. Months over 12 are for those whose day of
// birth has run out of numbers, or is not known.
func validSVNR(v string) bool {
	if !allDigits(v) || v[0] == '0' {
		return false
	}
	if day, month := number(v[4:6]), number(v[6:8]); day < 1 || day > 31 || month < 1 || month > 15 {
		return false
	}
	return weighted(v, 3, 7, 9, 0, 5, 8, 4, 2, 1, 6)%11 == int(v[3]-'0')
}

// validBSN is the eleven test of the Dutch burgerservicenummer.
func validBSN(v string) bool {
	return allDigits(v) && v[:3] != "000" && strings.Count(v, v[:1]) != len(v) && weighted(v, 9, 8, 7, 6, 5, 4, 3, 2, -1)%11 == 0
}

// validINSEE: the French NIR with its key. Corsica's 2A and 2B count as 19 and 18.
func validINSEE(v string) bool {
	if len(v) != 15 || !strings.Contains("123478", v[:1]) {
		return false
	}
	body := v[:13]
	switch body[5:7] {
	case "2A":
		body = body[:5] + "19" + body[7:]
	case "2B":
		body = body[:5] + "18" + body[7:]
	}
	if !allDigits(body) || !allDigits(v[13:]) {
		return false
	}
	month := number(body[3:5])
	if month < 1 || month > 12 && month < 20 || month > 42 && month < 50 {
		return false
	}
	return 97-number(body)%97 == number(v[13:])
}

// validCodiceFiscale: DM 23 December 1976. Digits may be replaced by letters
// where two people would have the same (omocodia).
func validCodiceFiscale(v string) bool {
	const shape, months = "LLLLLLDDMDDLDDDL", "ABCDEHLMPRST"
	const even, odd = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ", "BAKPLCQDREVOSFTGUHMINJWZYX"
	if len(v) != 16 {
		return false
	}
	sum := 0
	for i := range 16 {
		c, is := v[i], byteClass[v[i]]
		switch shape[i] {
		case 'L':
			if is != letter {
				return false
			}
		case 'D':
			if is != digit && !strings.ContainsRune("LMNPQRSTUV", rune(c)) {
				return false
			}
		case 'M':
			if !strings.ContainsRune(months, rune(c)) {
				return false
			}
		}
		if i == 15 {
			break
		}
		n := strings.IndexByte(even, c)
		if is == letter {
			n -= 10
		}
		if i%2 == 0 { // the first counts as odd
			n = strings.IndexByte(odd, byte('A'+n))
		}
		sum += n
	}
	return byte('A'+sum%26) == v[15]
}

// validNIF: Spain, DNI with its letter, and the NIE of foreigners.
func validNIF(v string) bool {
	if len(v) != 9 || byteClass[v[8]] != letter {
		return false
	}
	body := v[:8]
	if i := strings.IndexByte("XYZ", v[0]); i >= 0 {
		body = string([]byte{'0' + byte(i)}) + v[1:8]
	}
	return allDigits(body) && "TRWAGMYFPDXBNJZSQVHLCKE"[number(body)%23] == v[8]
}

// validPESEL: Poland. The century is added to the month.
func validPESEL(v string) bool {
	if !allDigits(v) || !dayMonth(number(v[4:6]), number(v[2:4])%20) {
		return false
	}
	return (10-weighted(v, 1, 3, 7, 9, 1, 3, 7, 9, 1, 3)%10)%10 == int(v[10]-'0')
}
