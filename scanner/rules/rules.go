// Package rules holds the starter set of YARA rules: our own, for what comes by
// mail. Each rule says in its meta data what it finds, how grave that is (class,
// score), and has a mail that it hits and one that it must not in
// scanner/testdata/mails. On a mail's path the sidecar matches them with each piece of a
// mail that they can find something in (reach.go).
package rules

import "embed"

// Files are the rules.
//
//go:embed *.yar
var Files embed.FS
