package document

import "strings"

// outlook takes a mail of Outlook (.msg, MS-OXMSG) apart: its attachments, its
// body and subject. The properties of one attachment stand in one storage; a
// mail that is attached to the mail is a storage in there, with the same names.
func (r *reader) outlook(c *compound, _ []byte) error {
	names := map[string]string{} // of the attachment in a storage
	for n, e := range c.entries {
		switch strings.ToLower(e.Name) {
		case "__substg1.0_3707001f", "__substg1.0_3704001f", "__substg1.0_3707001e", "__substg1.0_3704001e":
			b, _ := c.stream(n)
			name := latin1(b)
			if strings.HasSuffix(strings.ToLower(e.Name), "1f") {
				name = utf16String(b)
			}
			if p := c.path(n); names[p] == "" || strings.HasPrefix(strings.ToLower(e.Name), "__substg1.0_3707") {
				names[p] = clip(name, maxName)
			}
		}
	}
	for n, e := range c.entries {
		if err := r.late(); err != nil {
			return err
		}
		switch strings.ToLower(e.Name) {
		case "__substg1.0_37010102": // the file itself
			b, ok := c.stream(n)
			if !ok {
				return ErrBytes
			}
			if err := r.took(len(b)); err != nil {
				return err
			}
			if err := r.embed(names[c.path(n)], "", b); err != nil {
				return err
			}
		case "__substg1.0_1000001f", "__substg1.0_0037001f":
			b, _ := c.stream(n)
			r.say("\n", utf16String(b))
		case "__substg1.0_1000001e", "__substg1.0_0037001e":
			b, _ := c.stream(n)
			r.say("\n", latin1(b))
		case "__substg1.0_10130102":
			b, _ := c.stream(n)
			if err := r.took(len(b)); err != nil {
				return err
			}
			if err := r.embed("body.html", "text/html", b); err != nil {
				return err
			}
		}
	}
	return nil
}
