// Package preview makes of a hostile mail what a person can look at.
//
// It stands behind every page and call that shows content of a held mail:
// [HTML] leaves words, tables and harmless looks of a mail's HTML and says what
// it took away; [Links] shows where links lead; [Path] reads the Received lines
// and says what in them does not fit together. Nothing that comes out of it runs,
// loads, sends or leads anywhere.
//
// The sanitiser writes its output anew, token by token: what comes out are only
// elements and attributes that it wrote itself, and text that it escaped. No tree
// is built, so that time and memory grow with the input's length alone, whatever
// its nesting. Bluemonday looks at the result once more. Whoever shows it puts it
// into a frame of opaque origin with a Content-Security-Policy of its own. Each
// of the three would do alone, and is tested alone.
package preview

// Bounds of what is shown. What is beyond them is cut, and the result says so.
const (
	maxSource = 1 << 20 // bytes of HTML that are looked at
	maxOutput = 4 << 20 // bytes that come out, pictures aside
	maxDepth  = 200     // of elements; deeper ones are flattened
	maxImage  = 1 << 20 // of one picture
	maxImages = 6 << 20 // of all pictures
	maxPlaces = 300     // marks where something was; more are counted only
	maxLinks  = 500     // in the list of links
	maxWords  = 300     // of a link's text
	maxTarget = 500     // of an address that is shown
)
