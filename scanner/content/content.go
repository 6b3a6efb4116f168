// Package content has the words for what a recipient would read and click in a
// mail: addresses, text, links, forms and codes.
//
// On a mail's path the sidecar fills a [Content] while it takes the mail apart,
// and the engines that judge meaning (phishing, DLP) read it outside of the
// sidecar. All strings are valid UTF-8 and bounded; nothing in them may be
// believed, fetched or rendered.
package content

// Bounds of what leaves the sidecar, for one mail. What lies behind them is
// still matched by YARA and clamd, and Truncated says that it was cut off.
const (
	MaxText  = 1 << 20 // bytes of all texts
	MaxLinks = 2000
	MaxURL   = 4096 // bytes of one link's target or text
)

// Content is what a recipient would see of one mail.
type Content struct {
	From      []Address `json:"from,omitempty"`
	Sender    []Address `json:"sender,omitempty"`
	ReplyTo   []Address `json:"reply_to,omitempty"`
	To        []Address `json:"to,omitempty"` // To and Cc
	Subject   string    `json:"subject,omitempty"`
	Texts     []Text    `json:"texts,omitempty"`
	Links     []Link    `json:"links,omitempty"`
	Forms     []Form    `json:"forms,omitempty"`
	Headers   []Header  `json:"headers,omitempty"` // names in lower case, in the mail's order, for header rules
	Truncated bool      `json:"truncated,omitempty"`
}

// Header is one field, decoded.
type Header struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

// Address is one mailbox of a header field, as a mail client shows it.
type Address struct {
	Name    string `json:"name,omitempty"`
	Address string `json:"address"` // as written; may be no address at all
}

// Text is what one part says.
type Text struct {
	Part string `json:"part"`           // path, 1.2.1
	Name string `json:"name,omitempty"` // file name of an attachment
	Kind string `json:"kind"`           // plain, html (tags taken away), document
	Text string `json:"text"`
	// Hidden is text that HTML keeps from the reader's eye: zero size, the colour
	// of its ground, display:none.
	Hidden string `json:"hidden,omitempty"`
}

// Where a link was found.
const (
	LinkAnchor   = "anchor"   // <a href>, <area>
	LinkForm     = "form"     // <form action>, formaction
	LinkText     = "text"     // an address in plain text
	LinkImage    = "image"    // what a picture is loaded from
	LinkMeta     = "refresh"  // <meta http-equiv=refresh>
	LinkCode     = "qr"       // a QR code in a picture or document
	LinkDocument = "document" // a link of a PDF or an office document
)

// Link is something that a reader can follow, or a client follows by itself.
type Link struct {
	Part   string `json:"part"`
	Kind   string `json:"kind"`
	Target string `json:"target"`         // as written
	Text   string `json:"text,omitempty"` // what the reader sees in its place
}

// Form is an HTML form.
type Form struct {
	Part     string   `json:"part"`
	Action   string   `json:"action"`
	Inputs   []string `json:"inputs,omitempty"` // "type name", in lower case
	Password bool     `json:"password,omitempty"`
}
