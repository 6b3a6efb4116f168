package e2e

import (
	"bytes"
	"encoding/json"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"mailward/internal/testenv"
)

// found is a class and the findings that led to it, as the ledger and scan say them.
type found struct {
	Class    string
	Findings []string
}

type finding struct {
	Engine string `json:"engine"`
	Name   string `json:"name"`
	Class  string `json:"class"`
	Reason string `json:"reason"`
}

func foundOf(class string, list []finding) found {
	f := found{Class: class}
	for _, x := range list {
		// What the sender's check says needs a client; a file has none. And the
		// gateway counts senders in memory first, so it knows of them sooner.
		if x.Engine != "mailauth" && x.Name != "SENDER_BAD" {
			f.Findings = append(f.Findings, x.Engine+" "+x.Name+" "+x.Class+" "+x.Reason)
		}
	}
	slices.Sort(f.Findings)
	return f
}

// TestScanSaysWhatTheGatewaySays sends a file and has it scanned from the
// command line: class and findings are the same, those of DLP sets too.
func TestScanSaysWhatTheGatewaySays(t *testing.T) {
	hop := testenv.NextHop(t)
	s := startServer(t, hop.Addr, "")
	a := s.api("admin")
	if c := a.do("POST", "dlp/sets", map[string]any{"name": "projects", "enabled": true, "direction": "both",
		"rules": map[string]any{"keywords": []string{"Operation Hedgehog"}}}, nil); c != 201 && c != 200 {
		t.Fatalf("POST dlp/sets: %d", c)
	}
	for name, msg := range map[string][]byte{
		"scan-dlp":   text("scan-dlp", "All about Operation Hedgehog."),
		"scan-yara":  yaraOnly("scan-yara"),
		"scan-eicar": attachment("scan-eicar", "a.com", "application/octet-stream", eicar()),
		"scan-signs": text("scan-signs", "Dear customer, your account is suspended. Verify your password now: http://192.0.2.7/login"),
	} {
		t.Run(name, func(t *testing.T) {
			var sent struct{ Class string }
			var of found
			eventually(t, startLimit, "the set to be in force", func() bool {
				if r := s.sendMail("erika@sender.example", []string{"bob@ours.example"}, msg); code(r) != 250 {
					t.Fatalf("reply %q", r)
				}
				var page struct {
					Items []struct {
						ID       string
						Subject  string
						Class    string
						Findings []finding
					}
				}
				a.do("GET", "messages?limit=200", nil, &page)
				for _, m := range page.Items {
					if m.Subject == name {
						sent.Class, of = m.Class, foundOf(m.Class, m.Findings)
						return name != "scan-dlp" || m.Class == "dlp"
					}
				}
				return false
			})
			cmd := exec.Command(filepath.Join(binDir, "mailward"), "scan", "--config", s.conf, "--from", "erika@sender.example", "--to", "bob@ours.example", "-")
			cmd.Stdin = bytes.NewReader(msg)
			out, err := cmd.Output()
			var v struct {
				Class  string
				Report struct{ Findings []finding }
			}
			if e := json.Unmarshal(out, &v); e != nil {
				t.Fatalf("%v, %v: %s", err, e, out)
			}
			if got := foundOf(v.Class, v.Report.Findings); got.Class != of.Class || !slices.Equal(got.Findings, of.Findings) {
				t.Errorf("scan says %s\n%s\nthe gateway says %s\n%s", got.Class, strings.Join(got.Findings, "\n"), of.Class, strings.Join(of.Findings, "\n"))
			}
			if len(of.Findings) == 0 {
				t.Error("nothing was found, so nothing is compared")
			}
		})
	}
}
