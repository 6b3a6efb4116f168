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
		r.namedProperty(c, n)
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
		case "__substg1.0_10090102":
			b, _ := c.stream(n)
			b = UnpackRTF(b)
			if err := r.took(len(b)); err != nil {
				return err
			}
			if err := r.embed("body.rtf", "text/rtf", b); err != nil {
				return err
			}
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

// namedProperty looks for a share in a property of no fixed meaning. The sound of a
// reminder is one: Outlook fetches it by itself, also from afar (CVE-2023-23397).
func (r *reader) namedProperty(c *compound, n int) {
	name := strings.ToLower(c.entries[n].Name)
	kind, ok := strings.CutPrefix(name, "__substg1.0_8")
	if !ok || !strings.HasSuffix(kind, "001f") && !strings.HasSuffix(kind, "001e") {
		return
	}
	b, _ := c.stream(n)
	text := latin1(b[:min(len(b), 1024)])
	if strings.HasSuffix(kind, "f") {
		text = utf16String(b[:min(len(b), 1024)])
	}
	if strings.HasPrefix(text, `\\`) && IsShare(text) {
		r.suspect("Outlook.Share", 9, "a mail of Outlook in it names a file of a network share, which Outlook may fetch by itself", "target", text)
	}
}
