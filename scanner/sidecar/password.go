package sidecar

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"golang.org/x/net/html"

	"mailward/policy"
)

// Bounds of what is tried as passwords: words of a mail, and the time that all
// tries of a mail may take. Some archives make each try cost half a second.
const (
	passwordMost = 24
	passwordTime = 2 * time.Second
)

var (
	passwordNear  = regexp.MustCompile(`(?i)(?:pass[ -]?w(?:or[dt]|d)|passphrase|passcode|pwd|kennwort|passwort|pin|code|mot de passe|contrase(?:ñ|n)a)[^\s]{0,12}`)
	passwordQuote = regexp.MustCompile(`["'«»„“”‘’‚]([^\s"'«»„“”‘’‚]{3,64})["'«»„“”‘’‚]`)
)

// passwords are the words of the mail that may open what is locked in it: those
// near a word like "password", and those in quotes.
func (w *walker) passwords() []string {
	if w.words == nil {
		v := Look(w.mail, w.lim)
		w.words = candidates(w.resp.Header.Subject + "\n" + v.Text + "\n" + htmlText(v.HTML))
	}
	return w.words
}

// candidates finds what may be a password in text, the likeliest first.
func candidates(text string) []string {
	found := []string{}
	put := func(word string) {
		if len(found) < passwordMost && len(word) >= 2 && len(word) <= 64 && !slices.Contains(found, word) {
			found = append(found, word)
		}
	}
	for _, m := range passwordNear.FindAllStringIndex(text, passwordMost) {
		// "the password is: abc", "PIN = 1234", "code 99".
		if _, glued, ok := strings.Cut(text[m[0]:m[1]], ":"); ok {
			put(strings.Trim(glued, `"'«»„“”‘’‚.,;`))
		}
		words := strings.Fields(text[m[1]:min(len(text), m[1]+120)])
		for _, word := range words[:min(len(words), 6)] {
			put(strings.Trim(word, `"'«»„“”‘’‚.,;:=()[]<>`))
			put(strings.Trim(word, `"'«»„“”‘’‚`))
		}
	}
	for _, m := range passwordQuote.FindAllStringSubmatch(text, passwordMost) {
		put(m[1])
	}
	for _, word := range []string{"infected", "1234", "12345", "123456", "password"} {
		found = add(found, word)
	}
	return found
}

// htmlText is the text of HTML without its tags.
func htmlText(s string) string {
	var b strings.Builder
	z := html.NewTokenizer(strings.NewReader(s))
	for {
		switch z.Next() {
		case html.ErrorToken:
			return b.String()
		case html.TextToken:
			b.Write(z.Text())
		case html.StartTagToken, html.EndTagToken, html.SelfClosingTagToken:
			switch name, _ := z.TagName(); string(name) {
			case "b", "i", "u", "em", "strong", "span", "font", "a", "code":
			default:
				b.WriteByte(' ')
			}
		}
	}
}

// withPasswords opens an archive as it is, and then with the words of the mail.
func (c *container) withPasswords(try func(password string) error) error {
	files, n := c.w.files, c.n
	err := try("")
	if !errors.Is(err, errPassword) {
		return err
	}
	for _, word := range c.w.passwords() {
		if c.w.guessed > passwordTime {
			break
		}
		if err := c.w.late(); err != nil {
			return err
		}
		c.w.files, c.n = files, n
		begin := time.Now()
		err := guard(func() error { return try(word) })
		c.w.guessed += time.Since(begin)
		if isLimit(err) || errors.Is(err, errMatch) {
			return err
		}
		if err == nil {
			c.opened()
			return nil
		}
	}
	return errPassword
}

// opened notes that what is in the mail's text opened an archive in it.
func (c *container) opened() {
	const name = "Mailward.PasswordInMail"
	if !slices.ContainsFunc(c.w.resp.Findings, func(f policy.Finding) bool { return f.Name == name && f.Part == c.path }) {
		c.w.report(name, "", 4, c.path, c.name, fmt.Sprintf("an archive in it is encrypted, and its password stands in the mail: %s", c.name))
	}
}
