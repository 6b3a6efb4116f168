package main

import (
	_ "embed"
	"errors"
	"fmt"
	"strings"
)

//go:embed reference.yaml
var referenceYAML string

type configCmd struct {
	Check    bool `help:"Check the configuration (file and environment) and print every mistake."`
	Markdown bool `help:"Print the reference as a page of the documentation." hidden:""`
}

// Run prints the reference, or checks a configuration.
func (cmd *configCmd) Run(c *cli, e *env) error {
	switch {
	case cmd.Check:
		_, err := c.load(e)
		var bad *configError
		if errors.As(err, &bad) {
			for _, line := range bad.Lines() {
				fmt.Fprintln(e.err, line)
			}
			return exitCode{1, fmt.Errorf("mistakes in the configuration: %d", len(bad.Lines()))}
		}
		if err == nil {
			_, err = fmt.Fprintln(e.out, "The configuration is good.")
		}
		return err
	case cmd.Markdown:
		_, err := fmt.Fprint(e.out, referenceMarkdown())
		return err
	}
	_, err := fmt.Fprint(e.out, referenceYAML)
	return err
}

// referenceMarkdown is docs/config.md.
func referenceMarkdown() string {
	return "# Configuration\n\nThis page is made from what `mailward config` prints; `make generate` writes it anew.\n\n```yaml\n" + strings.TrimSpace(referenceYAML) + "\n```\n"
}
