package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// debianPackages are the rivals and what they need, from Debian itself.
var debianPackages = strings.Fields("postfix clamav-daemon clamav-milter rspamd clamsmtp amavisd-new libdbi-perl libmail-dkim-perl libnet-server-perl file zip binutils cabextract")

// harakaPackages is pinned: later ones ask for a later npm.
const harakaPackages = `{ "name": "bench-haraka", "private": true, "version": "1.0.0", "dependencies": { "Haraka": "3.2.1", "haraka-plugin-clamd": "1.0.3" } }` + "\n"

// noServices keeps Debian's packages from starting what they bring.
const noServices = "/usr/sbin/policy-rc.d"

// install brings the rivals onto this machine: Debian packages, whose services
// are not started, and Haraka from npm into a folder of its own.
func install(ctx context.Context, b *bed) error {
	if os.Getuid() != 0 {
		return fmt.Errorf("-install: %w", errNeedsRoot)
	}
	if _, err := os.Stat(noServices); errors.Is(err, os.ErrNotExist) {
		if err := os.WriteFile(noServices, []byte("#!/bin/sh\nexit 101\n"), 0o755); err != nil {
			return err
		}
		defer os.Remove(noServices)
	}
	if missing := missingPackages(ctx); len(missing) > 0 {
		fmt.Fprintf(b.out, "installing %s ...\n", strings.Join(missing, " "))
		c := exec.CommandContext(ctx, "debconf-set-selections")
		c.Stdin = strings.NewReader("postfix postfix/main_mailer_type select No configuration\n")
		if out, err := c.CombinedOutput(); err != nil {
			return fmt.Errorf("debconf-set-selections: %w\n%s", err, out)
		}
		args := append([]string{"-o", "DPkg::Lock::Timeout=600", "install", "-y", "-q", "--no-install-recommends", "--no-upgrade"}, missing...)
		c = exec.CommandContext(ctx, "apt-get", args...)
		c.Env = append(os.Environ(), "DEBIAN_FRONTEND=noninteractive")
		if out, err := c.CombinedOutput(); err != nil {
			return fmt.Errorf("apt-get: %w\n%s", err, lastLines(out, 20))
		}
	}
	if b.haraka != "" {
		return nil
	}
	dir := filepath.Join(b.dir, "npm")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, "package.json"), []byte(harakaPackages), 0o644); err != nil {
		return err
	}
	fmt.Fprintln(b.out, "installing Haraka ...")
	c := exec.CommandContext(ctx, "npm", "install", "--no-audit", "--no-fund", "--omit=dev", "--ignore-scripts", "--before=2026-06-01")
	c.Dir = dir
	if out, err := c.CombinedOutput(); err != nil {
		return fmt.Errorf("npm install: %w\n%s", err, lastLines(out, 20))
	}
	b.haraka = dir
	return nil
}

func missingPackages(ctx context.Context) (missing []string) {
	for _, p := range debianPackages {
		if packageVersion(ctx, p) == "" {
			missing = append(missing, p)
		}
	}
	return missing
}

// packageVersion is the version of an installed Debian package, or nothing.
func packageVersion(ctx context.Context, name string) string {
	out, err := exec.CommandContext(ctx, "dpkg-query", "-W", "-f", "${db:Status-Status} ${Version}", name).Output()
	if version, ok := strings.CutPrefix(string(out), "installed "); ok && err == nil {
		return version
	}
	return ""
}

func harakaVersion(dir string) string {
	var p struct{ Version string }
	b, err := os.ReadFile(filepath.Join(dir, "node_modules", "Haraka", "package.json"))
	if err != nil || json.Unmarshal(b, &p) != nil {
		return ""
	}
	return p.Version
}

func lastLines(b []byte, n int) string {
	lines := strings.Split(strings.TrimSpace(string(b)), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}
