package dlp

import (
	"fmt"
	"strings"
	"testing"
)

// findAll is what one text holds: "detector confidence value".
func findAll(text string) (list []string) {
	scan := numberScan{text: normalise(text), want: allMask, found: func(h hit) bool {
		list = append(list, fmt.Sprint(detectors[h.detector].Name, " ", h.confidence, " ", h.value))
		return true
	}}
	scan.run()
	return list
}

// TestNumbers: vectors that issuers and standards publish, or that stand in the
// documentation of other implementations (test cards of Stripe and PayPal,
// SWIFT IBAN registry, python-stdnum, ICAO 9303, specimens of the
// Bundesdruckerei), each with near misses.
func TestNumbers(t *testing.T) {
	t.Parallel()
	tests := []struct{ text, want string }{
		// Cards.
		{"4111 1111 1111 1111", "card high 4111111111111111"},
		{"4111-1111-1111-1111", "card high 4111111111111111"},
		{"4111.1111.1111.1111.", "card high 4111111111111111"},
		{"5555555555554444", "card low 5555555555554444"},
		{"Kreditkarte: 5555555555554444", "card high 5555555555554444"},
		{"5555555555554444 (Mastercard)", "card high 5555555555554444"},
		{"2223 0031 2200 3222", "card high 2223003122003222"},
		{"3782 822463 10005", "card high 378282246310005"},
		{"371449635398431", "card low 371449635398431"},
		{"3056 930902 5904", "card high 30569309025904"},
		{"6011 1111 1111 1117", "card high 6011111111111117"},
		{"3566 0020 2036 0505", "card high 3566002020360505"},
		{"6200 0000 0000 0005", "card high 6200000000000005"},
		{"PAN,4242424242424242,12/27,123", "card high 4242424242424242"},
		{"4242 4242 4242 4242 12/27 123", "card high 4242424242424242"},
		{"4242 4242 4242 4242 5555 5555 5555 4444", "card high 4242424242424242 card high 5555555555554444"},
		{"4111\u00a01111\u20091111\u202f1111", "card high 4111111111111111"},
		{"41\u200b11 1111\u2060 1111 1111", "card high 4111111111111111"},
		{"4111\u20131111\u20131111\u20131111", "card high 4111111111111111"},
		{"４１１１ １１１１ １１１１ １１１１", "card high 4111111111111111"},
		{"4111 1111 1111 1112", ""},             // check digit
		{"4111 1111-1111 1111", ""},             // two kinds of separator
		{"4111  1111  1111  1111", ""},          // two blanks
		{"41111111111111110", ""},               // longer
		{"X4111111111111111", ""},               // within a word
		{"9999 9999 9999 9995", ""},             // no issuer
		{"0.4111111111111111", ""},              // a fraction
		{"4012 4013 4014 4013 4016", ""},        // a row of numbers
		{"1234 4111 1111 1111 1111", ""},        // a row of numbers
		{"1234-4111-1111-1111-1111", ""},        // a serial number
		{"4111-1111-1111-1111-1234", ""},        // a serial number
		{"+4111111111111111", ""},               // a phone number
		{"<4111111111111111@mail.example>", ""}, // Message-ID
		{"https://shop.example/o/4111111111111111?x=1", ""},
		{"www.example.org/4111111111111111", ""},
		{"4006381333931", ""}, // EAN-13 of a pen
		// IBAN.
		{"DE89 3704 0044 0532 0130 00", "iban high DE89370400440532013000"},
		{"de89370400440532013000", "iban high DE89370400440532013000"},
		{"GB82 WEST 1234 5698 7654 32", "iban high GB82WEST12345698765432"},
		{"AT611904300234573201", "iban high AT611904300234573201"},
		{"CH93 0076 2011 6238 5295 7", "iban high CH9300762011623852957"},
		{"MT84 MALT 0110 0001 2345 MTLC AST0 01S", "iban high MT84MALT011000012345MTLCAST001S"},
		{"NO93 8601 1117 947", "iban high NO9386011117947"},
		{"FR14 2004 1010 0505 0001 3M02 606", "iban high FR1420041010050500013M02606"},
		{"DE88 3704 0044 0532 0130 00", ""},
		{"DE89 3704 0044 0532 0130 0", ""},
		{"ZZ89 3704 0044 0532 0130 00", ""},
		// Germany.
		{"86095742719", "de.tax_id low 86095742719"},
		{"Steuer-ID 86 095 742 719", "de.tax_id high 86095742719"},
		{"47 036 892 816", "de.tax_id medium 47036892816"},
		{"65929970489", "de.tax_id low 65929970489"},
		{"57549285017", "de.tax_id low 57549285017"},
		{"36574261809", "de.tax_id low 36574261809"},
		{"36574261890", ""}, // check digit
		{"36554266806", ""}, // two digits twice
		{"01234567890", ""}, // begins with 0
		{"15070649C103", "de.social_security medium 15070649C103"},
		{"65 170839 J 003", "de.social_security high 65170839J003"},
		{"65 170839 J 004", ""},
		{"65 171339 J 003", ""}, // month
		{"T220001293", "de.id_card low T220001293"},
		{"Personalausweis L01X00T471", "de.id_card high L01X00T471"},
		{"L01X00T472", ""},
		{"A220001293", ""}, // no such first letter
		{"Reisepass Nr. C01X00T478", "de.passport high C01X00T478"},
		{"C01X00T479", ""},
		{"P<UTOERIKSSON<<ANNA<MARIA<<<<<<<<<<<<<<<<<<<\nL898902C36UTO7408122F1204159ZE184226B<<<<<10", "mrz high L898902C36UTO7408122F1204159ZE184226B<<<<<10"},
		{"I<UTOD231458907<<<<<<<<<<<<<<<\r\n7408122F1204159UTO<<<<<<<<<<<6\r\nERIKSSON<<ANNA<MARIA<<<<<<<<<<", "mrz high I<UTOD231458907<<<<<<<<<<<<<<<7408122F1204159UTO<<<<<<<<<<<6"},
		{"I<UTOERIKSSON<<ANNA<MARIA<<<<<<<<<<<\nD231458907UTO7408122F1204159<<<<<<<6", "mrz high D231458907UTO7408122F1204159<<<<<<<6"},
		{"L898902C36UTO7408122F1204159ZE184226B<<<<<11", ""},
		{"D231458907UTO7408122F1204159<<<<<<<5", ""},
		// Elsewhere.
		{"1237 010180", "at.svnr medium 1237010180"},
		{"SVNR 1237010180", "at.svnr high 1237010180"},
		{"2237 010180", ""},
		{"1237 321380", ""}, // day
		{"BSN 111222333", "nl.bsn high 111222333"},
		{"1112.22.333", "nl.bsn low 111222333"},
		{"111252333", ""},
		{"000000000", ""},
		{"2 95 10 99 126 111 93", "fr.insee high 295109912611193"},
		{"2 55 08 14 168 025 38", "fr.insee high 255081416802538"},
		{"295109912611199", ""},
		{"RSSMRA85T10A562S", "it.codice_fiscale high RSSMRA85T10A562S"},
		{"rccmnl83s18d969h", "it.codice_fiscale high RCCMNL83S18D969H"},
		{"RCCMNL83S18D969", ""},
		{"RCCMNL83S18D969I", ""},
		{"54362315-K", "es.nif low 54362315K"},
		{"NIE X-2482300-W", "es.nif high X2482300W"},
		{"12345678Z", "es.nif low 12345678Z"},
		{"12345678A", ""},
		{"PESEL 44051401359", "pl.pesel high 44051401359"},
		{"44051401358", ""},
		{"44951401359", ""}, // month
	}
	for _, tt := range tests {
		if got := strings.Join(findAll(tt.text), " "); got != tt.want {
			t.Errorf("%q: %q, want %q", tt.text, got, tt.want)
		}
	}
}

func TestEveryDetectorHasAVector(t *testing.T) {
	t.Parallel()
	if len(detectors) > 32 {
		t.Fatal("a mask has 32 bits")
	}
	for _, d := range detectors {
		if d.Label == "" || d.Many == "" || (d.valid == nil) != d.lines {
			t.Errorf("%s lacks something", d.Name)
		}
		for _, f := range d.forms {
			if f.groups[0] > longest {
				t.Errorf("%s: a form begins with %d characters", d.Name, f.groups[0])
			}
		}
	}
}

func TestMask(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"4111 1111 1111 1111":         "4111 **** **** **11",
		"DE89 3704 0044 0532 0130 00": "DE89 **** **** **** **** 00",
		"86095742719":                 "86********9",
		"111222333":                   "11******3",
		"secret":                      "s*****",
		"abc":                         "***",
		"Müller & Söhne":              "Mü**** & ****e",
		"":                            "",
	} {
		if got := mask(in); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
	if got := maskSpans("a 4111111111111111 b 1234567890 c", []span{{21, 31}, {2, 18}, {4, 10}}); got != "a 4111**********11 b 12*******0 c" {
		t.Errorf("%q", got)
	}
}

func TestWords_FoldCaseAndUmlauts(t *testing.T) {
	t.Parallel()
	hashes := func(s string) string {
		var out []string
		for _, w := range words(normalise(s)) {
			out = append(out, fmt.Sprint(w.hash))
		}
		return strings.Join(out, " ")
	}
	for _, same := range [][]string{
		{"Müller Straße", "mueller strasse", "MÜLLER STRASSE", "Mu\u0308ller stra\u00dfe", "Müller, Straße!", "MÜLLER STRAẞE"},
		{"vs nfd", "VS-NfD", "vs\u2013nfd"},
	} {
		for _, s := range same[1:] {
			if hashes(s) != hashes(same[0]) {
				t.Errorf("%q and %q differ", s, same[0])
			}
		}
	}
	if hashes("Muller") == hashes("Müller") || hashes("ab c") == hashes("a bc") {
		t.Error("different words are one")
	}
}

func FuzzNumbers(f *testing.F) {
	for _, s := range []string{"4111 1111 1111 1111", "DE89 3704 0044 0532 0130 00", "I<UTOD231458907<<<<<<<<<<<<<<<\n7408122F1204159UTO<<<<<<<<<<<6", "65 170839 J 003", "X-2482300-W", "M\u0308u\xff\xc3"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		text := normalise(s)
		scan := numberScan{text: text, want: allMask, found: func(h hit) bool {
			if h.start < 0 || h.end > len(text) || h.start >= h.end || h.confidence < Low || h.confidence > High {
				t.Fatalf("%+v of %d bytes", h, len(text))
			}
			if h.value != "" && strings.Contains(mask(text[h.start:h.end]), h.value) {
				t.Fatalf("%q is not masked", h.value)
			}
			return true
		}}
		scan.run()
		for _, w := range words(text) {
			if w.start < 0 || w.end > len(text) || w.start >= w.end {
				t.Fatalf("%+v", w)
			}
		}
	})
}
