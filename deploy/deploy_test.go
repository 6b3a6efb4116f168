package deploy

import (
	"maps"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"

	"mailward/internal/testenv"
)

// exactTag is a tag with at least two numbers or a date: "15.17-bookworm".
var exactTag = regexp.MustCompile(`^[a-z0-9./-]+:([0-9]+\.[0-9]+[a-z0-9.-]*|bookworm-[0-9]{8}-slim)$`)

func TestCompose_Shape(t *testing.T) {
	t.Parallel()
	c := parseCompose(t)
	want := []string{"clamav", "gateway", "migrate", "postgres", "redis", "scanner"}
	if got := slices.Sorted(maps.Keys(c.Services)); !slices.Equal(got, want) {
		t.Fatalf("services %v, want %v", got, want)
	}
	for name, s := range c.Services {
		if s.Build.Target == "" && !exactTag.MatchString(s.Image) {
			t.Errorf("%s: image %q is not pinned to an exact tag", name, s.Image)
		}
		if s.Build.Target != "" {
			if s.Build.Dockerfile != "deploy/Dockerfile" {
				t.Errorf("%s: Dockerfile %q", name, s.Build.Dockerfile)
			}
			stageNamed(t, s.Build.Target)
		}
		if name == "migrate" {
			if !s.Healthcheck.Disable || s.Restart != "no" {
				t.Errorf("migrate runs once: no health check, no restart")
			}
		} else if len(s.Healthcheck.Test) == 0 {
			t.Errorf("%s has no health check", name)
		}
		if !slices.Contains(s.SecurityOpt, "no-new-privileges:true") || !slices.Contains(s.CapDrop, "ALL") || s.Privileged {
			t.Errorf("%s may gain privileges", name)
		}
		if !s.ReadOnly && name != "clamav" {
			t.Errorf("%s may write to its image", name)
		}
		for _, v := range s.Volumes {
			source, _, _ := strings.Cut(v, ":")
			if strings.HasPrefix(source, "./") {
				if _, err := os.Stat(filepath.Join("..", source)); err != nil {
					t.Errorf("%s mounts %s: %v", name, source, err)
				}
			} else if _, ok := c.Volumes[source]; !ok {
				t.Errorf("%s: volume %q is not declared", name, source)
			}
		}
		for _, n := range s.Networks {
			if _, ok := c.Networks[n]; !ok {
				t.Errorf("%s: network %q is not declared", name, n)
			}
		}
		for _, secret := range s.Secrets {
			if _, ok := c.Secrets[secret]; !ok {
				t.Errorf("%s: secret %q is not declared", name, secret)
			}
		}
		for d, how := range s.DependsOn {
			other, ok := c.Services[d]
			if !ok || how.Condition == "service_healthy" && len(other.Healthcheck.Test) == 0 {
				t.Errorf("%s waits for %s (%s), which cannot say so", name, d, how.Condition)
			}
		}
		for key, value := range s.Environment {
			if regexp.MustCompile(`(?i)password|url`).MatchString(key) && !strings.HasPrefix(value, "file:/run/secrets/") && !strings.HasPrefix(value, "/run/secrets/") {
				t.Errorf("%s: %s is not a secret by file", name, key)
			}
		}
	}
}

func TestCompose_Isolation(t *testing.T) {
	t.Parallel()
	c := parseCompose(t)
	if s := c.Services["scanner"]; s.NetworkMode != "none" || len(s.Networks) > 0 || len(s.CapAdd) > 0 {
		t.Error("the scanner must have no network and no capability")
	}
	for _, n := range []string{"stores", "engines"} {
		if !c.Networks[n].Internal {
			t.Errorf("network %s must be internal", n)
		}
	}
	for name, s := range c.Services {
		if name != "gateway" && len(s.Ports) > 0 {
			t.Errorf("%s publishes %v; only the gateway may", name, s.Ports)
		}
		for _, n := range s.Networks {
			shared := map[string][]string{"stores": {"postgres", "redis", "migrate", "gateway"}, "engines": {"clamav", "gateway"}, "updates": {"clamav"}, "mail": {"gateway"}}
			if !slices.Contains(shared[n], name) {
				t.Errorf("%s must not be on network %s", name, n)
			}
		}
	}
	for _, name := range []string{"postgres_password", "database_admin_url"} {
		if slices.Contains(c.Services["gateway"].Secrets, name) {
			t.Errorf("the gateway must not see %s", name)
		}
	}
}

func TestDockerfile(t *testing.T) {
	t.Parallel()
	seen := []string{"scratch"}
	for _, s := range parseDockerfile(t) {
		if s.base != "scratch" && !slices.Contains(seen, s.base) && !exactTag.MatchString(s.base) {
			t.Errorf("stage %s: base %q is not pinned to an exact tag", s.name, s.base)
		}
		for _, from := range s.copiesFrom {
			if !slices.Contains(seen, from) {
				t.Errorf("stage %s copies from %q, which is not there", s.name, from)
			}
		}
		seen = append(seen, s.name)
	}
	c := parseCompose(t)
	for target, services := range map[string][]string{"mailward": {"gateway", "migrate"}, "scanner": {"scanner"}} {
		s := stageNamed(t, target)
		if uid, _, _ := strings.Cut(s.user, ":"); uid == "" || uid == "0" || uid == "root" {
			t.Errorf("%s runs as %q", target, s.user)
		}
		if len(s.health) == 0 || s.health[0] != s.entrypoint[0] {
			t.Errorf("%s: health check %v", target, s.health)
		}
		checkCommand(t, "Dockerfile "+target, append(slices.Clone(s.entrypoint), s.cmd...))
		checkCommand(t, "Dockerfile "+target+" health", s.health)
		for _, name := range services {
			service := c.Services[name]
			if len(service.Command) > 0 {
				checkCommand(t, "compose "+name, append(slices.Clone(s.entrypoint), service.Command...))
			}
			if test := service.Healthcheck.Test; len(test) > 0 && !slices.Equal(test[1:], s.health) {
				t.Errorf("%s: health check %v, the image has %v", name, test[1:], s.health)
			}
		}
	}
}

// The ports that are published are the ones that the configuration listens on,
// and every address in it names a service.
func TestCompose_AgreesWithConfiguration(t *testing.T) {
	t.Parallel()
	c := parseCompose(t)
	var conf struct {
		DataDir string `yaml:"data_dir"`
		SMTP    struct{ Listen []string }
		HTTP    struct{ Listen string }
		Redis   struct{ URL string }
		Clamav  struct{ Address string }
		Scanner struct {
			Socket  string
			Managed string `yaml:"managed_rules"`
		}
		Data struct{ URL string } `yaml:"database"`
	}
	text := read(t, "compose/mailward.yaml")
	if err := yaml.Unmarshal([]byte(text), &conf); err != nil {
		t.Fatal(err)
	}
	gateway, image := c.Services["gateway"], stageNamed(t, "mailward")
	var inner []string
	for _, a := range append(conf.SMTP.Listen, conf.HTTP.Listen) {
		_, port, err := net.SplitHostPort(a)
		if err != nil {
			t.Fatal(err)
		}
		inner = append(inner, port)
	}
	var published []string
	for _, p := range gateway.Ports {
		published = append(published, p[strings.LastIndex(p, ":")+1:])
	}
	if !slices.Equal(inner, published) || !slices.Equal(inner, image.expose) {
		t.Errorf("listens on %v, publishes %v, exposes %v", inner, published, image.expose)
	}
	if !strings.HasPrefix(gateway.Ports[1], "127.0.0.1:") {
		t.Errorf("the web UI without TLS is published as %q", gateway.Ports[1])
	}
	for _, address := range []string{conf.Clamav.Address, strings.TrimPrefix(conf.Redis.URL, "redis://")} {
		host, _, err := net.SplitHostPort(address)
		if err != nil || len(c.Services[host].Healthcheck.Test) == 0 {
			t.Errorf("%q names no service: %v", address, err)
		}
	}
	if !strings.Contains(read(t, "clamav/clamd.conf"), "TCPSocket 3310\n") || !strings.HasSuffix(conf.Clamav.Address, ":3310") {
		t.Error("clamd listens on another port")
	}
	if secret := strings.TrimPrefix(conf.Data.URL, "file:/run/secrets/"); !slices.Contains(gateway.Secrets, secret) {
		t.Errorf("the gateway has no secret %q", secret)
	}
	for _, folder := range []string{conf.DataDir, filepath.Dir(conf.Scanner.Socket), conf.Scanner.Managed} {
		if !slices.ContainsFunc(gateway.Volumes, func(v string) bool { return strings.HasSuffix(v, ":"+folder) }) {
			t.Errorf("the gateway mounts nothing at %s", folder)
		}
	}
	scanner := stageNamed(t, "scanner")
	if !slices.Contains(scanner.cmd, conf.Scanner.Socket) {
		t.Errorf("the scanner is started with %v, the gateway looks for %s", scanner.cmd, conf.Scanner.Socket)
	}
	if i := slices.Index(scanner.cmd, "--managed"); i < 0 || scanner.cmd[i+1] != conf.Scanner.Managed {
		t.Errorf("the scanner is started with %v, the gateway writes rule sets to %s", scanner.cmd, conf.Scanner.Managed)
	}
	if a, b := strings.Split(scanner.user, ":"), strings.Split(image.user, ":"); a[1] != b[1] || a[0] == b[0] {
		t.Errorf("gateway %s and scanner %s must be two users with one group", image.user, scanner.user)
	}
}

// The program itself accepts the configuration, and knows what migrate is told.
func TestConfiguration_IsAccepted(t *testing.T) {
	t.Parallel()
	secret := filepath.Join(t.TempDir(), "database_url")
	if err := os.WriteFile(secret, []byte("postgres://mailward_app:x@postgres:5432/mailward\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	text := strings.ReplaceAll(read(t, "compose/mailward.yaml"), "/run/secrets/database_url", secret)
	good := filepath.Join(t.TempDir(), "mailward.yaml")
	if err := os.WriteFile(good, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command(binary(t, "mailward"), "config", "--check", "--config", good).CombinedOutput(); err != nil {
		t.Errorf("config --check: %v\n%s", err, out)
	}
	bad := filepath.Join(t.TempDir(), "bad.yaml")
	if err := os.WriteFile(bad, []byte(text+"\nno_such_key: 1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command(binary(t, "mailward"), "config", "--check", "--config", bad).CombinedOutput(); err == nil {
		t.Errorf("config --check accepts an unknown key, so the check above shows nothing:\n%s", out)
	}
	help, err := exec.Command(binary(t, "mailward"), "migrate", "--help").CombinedOutput()
	if err != nil {
		t.Fatal(err, string(help))
	}
	for key := range parseCompose(t).Services["migrate"].Environment {
		if !strings.Contains(string(help), key) {
			t.Errorf("mailward migrate does not know %s:\n%s", key, help)
		}
	}
}

func TestUnits(t *testing.T) {
	t.Parallel()
	units := map[string]unit{}
	for _, name := range []string{"mailward", "mailward-scanner"} {
		u := parseUnit(t, "systemd/"+name+".service")
		units[name] = u
		s := u["Service"]
		checkCommand(t, name+".service", strings.Fields(s["ExecStart"][0]))
		for key, value := range map[string]string{
			"NoNewPrivileges": "yes", "ProtectSystem": "strict", "ProtectHome": "yes", "PrivateTmp": "yes", "PrivateDevices": "yes",
			"MemoryDenyWriteExecute": "yes", "RestrictNamespaces": "yes", "LockPersonality": "yes", "Restart": "always",
		} {
			if !slices.Equal(s[key], []string{value}) {
				t.Errorf("%s: %s is %v, want %s", name, key, s[key], value)
			}
		}
		if user := s["User"]; len(user) != 1 || user[0] == "root" || !strings.Contains(read(t, "systemd/mailward.sysusers"), "u "+user[0]+" ") {
			t.Errorf("%s runs as %v, which sysusers does not make", name, user)
		}
	}
	gateway, scanner := units["mailward"]["Service"], units["mailward-scanner"]["Service"]
	if !slices.Equal(scanner["PrivateNetwork"], []string{"yes"}) || !slices.Equal(scanner["CapabilityBoundingSet"], []string{""}) {
		t.Error("the scanner must have no network and no capability")
	}
	if !slices.Contains(gateway["SupplementaryGroups"], scanner["Group"][0]) {
		t.Error("the gateway cannot reach the scanner's socket")
	}
	managed := regexp.MustCompile(`--managed (\S+)`).FindStringSubmatch(scanner["ExecStart"][0])
	if managed == nil || !slices.Contains(gateway["ReadWritePaths"], "-"+managed[1]) || !strings.Contains(read(t, "systemd/mailward.tmpfiles"), "d "+managed[1]+" 0750 "+gateway["User"][0]+" "+scanner["Group"][0]+" ") {
		t.Error("the gateway cannot write rule sets for the scanner")
	}
	if gateway["User"][0] == scanner["User"][0] {
		t.Error("gateway and scanner must be two users")
	}
}

// systemd itself reads the units and the users.
func TestUnits_SystemdVerifies(t *testing.T) {
	t.Parallel()
	testenv.Require(t, "systemd-analyze", "systemd-sysusers")
	dir := t.TempDir()
	ours := strings.NewReplacer("/usr/bin/mailward-scanner", binary(t, "mailward-scanner"), "/usr/bin/mailward", binary(t, "mailward"))
	for _, name := range []string{"mailward.service", "mailward-scanner.service"} {
		text := ours.Replace(read(t, "systemd/"+name))
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		cmd := exec.Command("systemd-analyze", "verify", "--man=no", "--recursive-errors=no", filepath.Join(dir, name))
		if out, err := cmd.CombinedOutput(); err != nil || strings.Contains(string(out), name+":") {
			t.Errorf("systemd-analyze verify %s: %v\n%s", name, err, out)
		}
	}
	abs, err := filepath.Abs("systemd/mailward.sysusers")
	if err != nil {
		t.Fatal(err)
	}
	root := t.TempDir()
	if err := os.MkdirAll(filepath.Join(root, "etc"), 0o755); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("systemd-sysusers", "--root="+root, abs).CombinedOutput(); err != nil {
		t.Errorf("systemd-sysusers: %v\n%s", err, out)
	}
	passwd, group := read(t, filepath.Join(root, "etc/passwd")), read(t, filepath.Join(root, "etc/group"))
	if !strings.Contains(passwd, "mailward-scanner:") || !regexp.MustCompile(`(?m)^mailward-scan:.*:mailward$`).MatchString(group) {
		t.Errorf("users made:\n%s\n%s", passwd, group)
	}
}

// A real clamd takes the configuration, and tells when it gave up on a part.
func TestClamdConf(t *testing.T) {
	t.Parallel()
	testenv.Require(t, "clamd")
	dir, err := os.MkdirTemp("", "mwc")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.WriteFile(filepath.Join(dir, "test.ndb"), []byte("Test:0:*:6d61696c77617264\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := listener.Addr().String()
	listener.Close()
	_, port, _ := net.SplitHostPort(address)
	text := read(t, "clamav/clamd.conf")
	for _, must := range []string{"AlertExceedsMax yes", "AlertEncrypted yes", "ScanMail yes"} {
		if !strings.Contains(text, must+"\n") {
			t.Errorf("clamd.conf lacks %s", must)
		}
	}
	for from, to := range map[string]string{
		"DatabaseDirectory /var/lib/clamav": "DatabaseDirectory " + dir, "LocalSocket /tmp/clamd.sock": "LocalSocket " + dir + "/s",
		"TCPSocket 3310": "TCPSocket " + port, "TCPAddr 0.0.0.0": "TCPAddr 127.0.0.1", "User clamav": "User root",
	} {
		if !strings.Contains(text, from) {
			t.Fatalf("clamd.conf lacks %q", from)
		}
		text = strings.Replace(text, from, to, 1)
	}
	conf := filepath.Join(dir, "clamd.conf")
	if err := os.WriteFile(conf, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	var log strings.Builder
	cmd := exec.Command("clamd", "--config-file", conf)
	cmd.Stdout, cmd.Stderr = &log, &log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() { cmd.Wait(); close(done) }()
	t.Cleanup(func() { cmd.Process.Kill(); <-done })
	for deadline := time.Now().Add(20 * time.Second); ; {
		if conn, err := net.Dial("tcp", address); err == nil {
			conn.Write([]byte("zPING\x00"))
			answer := make([]byte, 16)
			n, _ := conn.Read(answer)
			conn.Close()
			if string(answer[:n]) == "PONG\x00" {
				return
			}
		}
		select {
		case <-done:
			t.Fatalf("clamd refused the configuration:\n%s", log.String())
		case <-time.After(50 * time.Millisecond):
		}
		if time.Now().After(deadline) {
			t.Fatalf("clamd does not answer")
		}
	}
}
