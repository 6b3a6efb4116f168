package dlp

// Check digits. All functions take ASCII capital letters and digits of the
// right length; the forms of the detectors see to both.

func number(v string) (n uint64) {
	for i := range len(v) {
		n = n*10 + uint64(v[i]-'0')
	}
	return n
}

func allDigits(v string) bool {
	for i := range len(v) {
		if byteClass[v[i]] != digit {
			return false
		}
	}
	return v != ""
}

// luhn is ISO/IEC 7812-1 annex B.
func luhn(v string) bool {
	sum := 0
	for i := range len(v) {
		d := int(v[len(v)-1-i] - '0')
		if i%2 == 1 {
			if d *= 2; d > 9 {
				d -= 9
			}
		}
		sum += d
	}
	return sum%10 == 0
}

// mod97 is ISO 7064 MOD 97-10 over digits and letters (A is 10), as it stands.
func mod97(v string) int {
	rest := 0
	for i := range len(v) {
		if c := v[i]; byteClass[c] == digit {
			rest = (rest*10 + int(c-'0')) % 97
		} else {
			rest = (rest*100 + int(c-'A') + 10) % 97
		}
	}
	return rest
}

// mod11by10 is ISO 7064 MOD 11,10: the check digit of digits.
func mod11by10(v string) byte {
	product := 10
	for i := range len(v) {
		sum := (int(v[i]-'0') + product) % 10
		if sum == 0 {
			sum = 10
		}
		product = sum * 2 % 11
	}
	return '0' + byte((11-product)%10)
}

// weighted is the sum of digits times weights.
func weighted(v string, weights ...int) (sum int) {
	for i, w := range weights {
		sum += int(v[i]-'0') * w
	}
	return sum
}

// icao is the check digit of ICAO doc 9303: weights 7, 3, 1; a letter counts
// from 10 on, the filler 0.
func icao(v string) byte {
	sum := 0
	for i := range len(v) {
		n := 0
		switch c := v[i]; byteClass[c] {
		case digit:
			n = int(c - '0')
		case letter:
			n = int(c-'A') + 10
		}
		sum += n * [3]int{7, 3, 1}[i%3]
	}
	return '0' + byte(sum%10)
}

// dayMonth says whether there is such a day; what stands for the month may be
// shifted by offsets.
func dayMonth(day, month uint64) bool {
	return day >= 1 && day <= 31 && month >= 1 && month <= 12
}
