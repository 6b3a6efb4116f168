package pdf

import (
	"regexp"
	"strings"
)

// Defang makes an address one that nothing turns into a link: hxxps://evil[.]example.
func Defang(s string) string {
	scheme, rest, ok := strings.Cut(s, "://")
	if !ok {
		return strings.NewReplacer(".", "[.]", "@", "[at]").Replace(s)
	}
	host, path, slash := strings.Cut(rest, "/")
	host = strings.ReplaceAll(host, ".", "[.]")
	scheme = strings.NewReplacer("http", "hxxp", "HTTP", "HXXP", "ftp", "fxp").Replace(scheme)
	if slash {
		host += "/" + strings.ReplaceAll(path, "://", "[://]")
	}
	return scheme + "://" + host
}

var linkLike = regexp.MustCompile(`(?i)\b(?:https?|ftp)://[^\s<>"']+|\bwww\.[^\s<>"']+`)

// DefangText does it to all addresses in a text: readers of PDF make links of those
// that look like one.
func DefangText(s string) string { return linkLike.ReplaceAllStringFunc(s, Defang) }
