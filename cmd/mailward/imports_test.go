package main

import (
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// mayImport is what each package may import of the others: only from layers
// below its own. What is not listed here may import nothing of ours.
var mayImport = map[string][]string{
	"cmd/mailward":             {"alerting", "alerting/channel", "alerting/meter", "approval", "audit", "audit/proof", "audit/seal", "audit/sink", "evidence", "evidence/receipt", "evidence/store", "evidence/tsa", "gateway", "gateway/facts", "gateway/history", "gateway/hop", "gateway/ledger", "gateway/limit", "gateway/queue", "health", "identity", "identity/sso", "incident", "intel", "internal/bao", "internal/dns", "internal/durable", "internal/message", "internal/pg", "internal/standalone", "internal/timerslack", "internal/worm", "mailauth", "mailcow", "policy", "quarantine", "quarantine/digest", "quarantine/rescan", "quarantine/sandbox", "scanner", "scanner/cape", "scanner/dlp", "scanner/phishing", "scanner/ruleset", "webui"},
	"cmd/mailward-scanner":     {"internal/timerslack", "policy", "scanner/rules", "scanner/sidecar"},
	"webui":                    {"alerting", "alerting/channel", "alerting/rule", "approval", "audit", "audit/proof", "audit/seal", "evidence", "gateway/facts", "gateway/ledger", "gateway/queue", "gateway/whatif", "health", "identity", "identity/sso", "incident", "intel", "internal/aezip", "internal/message", "internal/pg", "mailcow", "policy", "quarantine", "quarantine/digest", "quarantine/preview", "scanner", "scanner/dlp", "scanner/phishing", "scanner/ruleset"},
	"gateway":                  {"audit", "gateway/facts", "gateway/history", "gateway/hop", "gateway/ledger", "gateway/limit", "gateway/queue", "internal/message", "internal/pg", "mailauth", "policy", "quarantine", "scanner", "scanner/content"},
	"alerting":                 {"alerting/channel", "alerting/meter", "alerting/rule", "audit", "internal/pg", "policy"},
	"alerting/channel":         {"alerting/rule"},
	"alerting/meter":           {"alerting/rule", "internal/pg"},
	"alerting/rule":            {},
	"gateway/facts":            {"gateway/ledger", "mailauth", "policy", "scanner/content"},
	"gateway/whatif":           {"gateway/facts", "gateway/ledger", "policy"},
	"gateway/history":          {"internal/pg", "scanner"},
	"gateway/hop":              {"internal/message"},
	"gateway/limit":            {},
	"gateway/queue":            {"audit", "gateway/hop", "gateway/ledger", "internal/message", "internal/pg", "policy", "quarantine"},
	"gateway/ledger":           {"internal/message", "internal/pg", "policy"},
	"evidence":                 {"approval", "audit", "audit/proof", "audit/seal", "evidence/pdf", "evidence/receipt", "evidence/store", "evidence/tsa", "gateway/ledger", "internal/aezip", "internal/pg", "internal/worm", "policy", "quarantine"},
	"evidence/pdf":             {"policy"},
	"evidence/receipt":         {"audit/proof"},
	"evidence/store":           {"internal/worm"},
	"evidence/tsa":             {"audit/proof"},
	"health":                   {"internal/pg", "internal/wording"},
	"docs/examples/copyaudit":  {},
	"mailcow":                  {"audit", "internal/pg"},
	"mailauth":                 {"internal/dns", "internal/message"},
	"quarantine":               {"approval", "audit", "internal/durable", "internal/message", "internal/pg", "internal/worm", "policy"},
	"quarantine/digest":        {"audit", "internal/pg", "policy", "quarantine"},
	"quarantine/rescan":        {"internal/message", "policy", "scanner", "scanner/content"},
	"quarantine/preview":       {},
	"quarantine/sandbox":       {"audit", "internal/pg", "policy", "quarantine", "scanner/cape"},
	"identity":                 {"approval", "audit", "identity/sso", "internal/durable", "internal/pg"},
	"identity/sso":             {},
	"incident":                 {"audit", "internal/pg"},
	"intel":                    {"audit", "internal/pg", "policy", "scanner"},
	"scanner":                  {"internal/message", "policy", "scanner/content", "scanner/sidecar"},
	"scanner/ruleset":          {"audit", "internal/durable", "internal/pg", "policy", "quarantine", "samples", "scanner"},
	"scanner/sidecar":          {"policy", "scanner/content", "scanner/rules", "scanner/sidecar/document"},
	"scanner/sidecar/document": {"policy"},
	"scanner/cape":             {},
	"scanner/content":          {},
	"scanner/dlp":              {"internal/pg", "policy", "scanner", "scanner/content"},
	"scanner/phishing":         {"policy", "scanner", "scanner/content"},
	"scanner/rules":            {},
	"policy":                   {"internal/pg", "internal/wording"},
	"approval":                 {"audit", "internal/pg"},
	"audit":                    {"audit/proof", "internal/pg"},
	"audit/proof":              {},
	"audit/seal":               {"audit", "audit/proof", "internal/bao", "internal/durable", "internal/pg", "internal/worm"},
	"audit/sink":               {"audit", "internal/durable"},
	"internal/aezip":           {},
	"internal/wording":         {},
	"internal/bao":             {},
	"internal/dns":             {},
	"internal/message":         {},
	"internal/durable":         {},
	"internal/pg":              {"migrations"},
	"internal/standalone":      {},
	"internal/timerslack":      {},
	"internal/worm":            {},
	"internal/testenv":         {"internal/pg", "internal/standalone"},
	"migrations":               {},
	"bench":                    {"audit", "internal/message", "internal/pg", "internal/standalone", "policy", "scanner", "scanner/phishing"},
	"deploy":                   {},
	"docs":                     {},
	"e2e":                      {},
	"samples":                  {},
}

const module = "mailward/"

func TestImports_OnlyGoDown(t *testing.T) {
	t.Parallel()
	out, err := exec.Command("go", "list", "-f", "{{.ImportPath}}: {{join .Imports \" \"}}", module+"...").Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	seen := map[string]bool{}
	for line := range strings.Lines(string(out)) {
		name, imports, _ := strings.Cut(strings.TrimSpace(line), ":")
		name = strings.TrimPrefix(name, module)
		allowed, known := mayImport[name]
		if !known {
			t.Errorf("package %s is not in the table", name)
		}
		seen[name] = true
		for _, i := range strings.Fields(imports) {
			ours, is := strings.CutPrefix(i, module)
			if is && !slices.Contains(allowed, ours) {
				t.Errorf("%s must not import %s", name, ours)
			}
		}
	}
	for name := range mayImport {
		if !seen[name] {
			t.Errorf("package %s is in the table and nowhere else", name)
		}
	}
}

// One way out: only the gateway speaks SMTP as a client, and only webui knows
// pages.
func TestImports_OfOthersPackages(t *testing.T) {
	t.Parallel()
	only := map[string][]string{
		"github.com/emersion/go-smtp":              {"gateway"},
		"github.com/minio/minio-go/v7":             {"internal/worm"},
		"codeberg.org/go-pdf/fpdf":                 {"evidence/pdf"},
		"net/smtp":                                 {},
		"github.com/a-h/templ":                     {"webui"},
		"github.com/labstack/echo/v4":              {"webui"},
		"github.com/danielgtaylor/huma/v2":         {"webui"},
		"github.com/hillu/go-yara/v4":              {"scanner/sidecar", "cmd/mailward-scanner"},
		"github.com/jhillyerd/enmime/v2":           {"scanner/sidecar"},
		"github.com/baruwa-enterprise/clamd":       {"scanner"},
		"github.com/coreos/go-oidc/v3/oidc":        {"identity/sso"},
		"github.com/go-webauthn/webauthn/webauthn": {"identity"},
		"github.com/microcosm-cc/bluemonday":       {"quarantine/preview"},
		"github.com/pressly/goose/v3":              {"internal/pg"},
		"github.com/riverqueue/river/rivermigrate": {"internal/pg"},
	}
	out, err := exec.Command("go", "list", "-f", "{{.ImportPath}}: {{join .Imports \" \"}}", module+"...").Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	for line := range strings.Lines(string(out)) {
		name, imports, _ := strings.Cut(strings.TrimSpace(line), ":")
		name = strings.TrimPrefix(name, module)
		for _, i := range strings.Fields(imports) {
			if who, limited := only[i]; limited && !slices.Contains(who, name) {
				t.Errorf("%s must not import %s", name, i)
			}
		}
	}
}

// mailward is one static binary: cgo belongs to the scanner.
func TestImports_NoCgoInTheGateway(t *testing.T) {
	t.Parallel()
	out, err := exec.Command("go", "list", "-deps", "-f", "{{if .CgoFiles}}{{if not .Standard}}{{.ImportPath}}{{end}}{{end}}", module+"cmd/mailward").Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	if s := strings.TrimSpace(string(out)); s != "" {
		t.Errorf("cgo in mailward: %s", s)
	}
}

// The image has no zone files: names of zones are known because the program brings
// them.
func TestImports_ZonesAreBuiltIn(t *testing.T) {
	t.Parallel()
	out, err := exec.Command("go", "list", "-deps", module+"cmd/mailward").Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	if !slices.Contains(strings.Fields(string(out)), "time/tzdata") {
		t.Error("mailward does not bring time/tzdata")
	}
}
