// Package samples holds the mails that `make demo` sends. The harmless ones are
// in the program too, where a trial of YARA rules looks for false alarms.
package samples

import (
	"embed"
	"fmt"
)

//go:embed 01-clean-text.eml 02-newsletter-8bit.eml 03-umlauts.eml 04-attachment.eml 10-bounce.eml
var files embed.FS

// Mail is one sample.
type Mail struct {
	Name string
	Data []byte
}

// Harmless returns the samples in which nothing is to be found.
func Harmless() ([]Mail, error) {
	list, err := files.ReadDir(".")
	if err != nil {
		return nil, fmt.Errorf("read samples: %w", err)
	}
	var out []Mail
	for _, f := range list {
		b, err := files.ReadFile(f.Name())
		if err != nil {
			return nil, fmt.Errorf("read sample: %w", err)
		}
		out = append(out, Mail{f.Name(), b})
	}
	return out, nil
}
