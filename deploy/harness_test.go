package deploy

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"mailward/internal/testenv"
)

func TestMain(m *testing.M) { os.Exit(testenv.Main(m)) }

func binary(t *testing.T, name string) string {
	t.Helper()
	path, err := testenv.Program(name)
	if err != nil {
		t.Fatal(err)
	}
	return path
}

func read(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// compose is what the tests look at in docker-compose.yml.
type compose struct {
	Services map[string]service
	Networks map[string]struct{ Internal bool }
	Volumes  map[string]any
	Secrets  map[string]struct{ File string }
}

type service struct {
	Image       string
	Build       struct{ Target, Dockerfile string }
	Command     []string
	Environment map[string]string
	Ports       []string
	Volumes     []string
	Secrets     []string
	Networks    []string
	NetworkMode string   `yaml:"network_mode"`
	SecurityOpt []string `yaml:"security_opt"`
	CapDrop     []string `yaml:"cap_drop"`
	CapAdd      []string `yaml:"cap_add"`
	ReadOnly    bool     `yaml:"read_only"`
	Privileged  bool
	Restart     string
	Healthcheck struct {
		Test    []string
		Disable bool
	}
	DependsOn map[string]struct{ Condition string } `yaml:"depends_on"`
}

func parseCompose(t *testing.T) compose {
	t.Helper()
	var c compose
	if err := yaml.Unmarshal([]byte(read(t, "../docker-compose.yml")), &c); err != nil {
		t.Fatal(err)
	}
	return c
}

// stage is one FROM of the Dockerfile.
type stage struct {
	base, name, user string
	expose           []string
	entrypoint, cmd  []string
	health           []string
	copiesFrom       []string
}

var jsonList = regexp.MustCompile(`"((?:[^"\\]|\\.)*)"`)

func list(s string) (words []string) {
	for _, m := range jsonList.FindAllStringSubmatch(s, -1) {
		words = append(words, m[1])
	}
	return words
}

func parseDockerfile(t *testing.T) []stage {
	t.Helper()
	text := strings.ReplaceAll(read(t, "Dockerfile"), "\\\n", " ")
	var stages []stage
	for line := range strings.Lines(text) {
		verb, rest, _ := strings.Cut(strings.TrimSpace(line), " ")
		if verb == "FROM" {
			f := strings.Fields(rest)
			if len(f) != 3 || f[1] != "AS" {
				t.Fatalf("stage without a name: %s", line)
			}
			stages = append(stages, stage{base: f[0], name: f[2]})
			continue
		}
		if len(stages) == 0 {
			continue
		}
		s := &stages[len(stages)-1]
		switch verb {
		case "USER":
			s.user = rest
		case "EXPOSE":
			s.expose = strings.Fields(rest)
		case "ENTRYPOINT":
			s.entrypoint = list(rest)
		case "CMD":
			s.cmd = list(rest)
		case "HEALTHCHECK":
			s.health = list(rest)
		case "COPY":
			if _, from, ok := strings.Cut(rest, "--from="); ok {
				s.copiesFrom = append(s.copiesFrom, strings.Fields(from)[0])
			}
		}
	}
	return stages
}

func stageNamed(t *testing.T, name string) stage {
	t.Helper()
	all := parseDockerfile(t)
	i := slices.IndexFunc(all, func(s stage) bool { return s.name == name })
	if i < 0 {
		t.Fatalf("the Dockerfile has no stage %q", name)
	}
	return all[i]
}

// unit is a systemd unit: section, key, values in order.
type unit map[string]map[string][]string

func parseUnit(t *testing.T, path string) unit {
	t.Helper()
	u, section := unit{}, ""
	for line := range strings.Lines(read(t, path)) {
		line = strings.TrimSpace(line)
		switch {
		case line == "" || strings.HasPrefix(line, "#"):
		case strings.HasPrefix(line, "["):
			section = strings.Trim(line, "[]")
			u[section] = map[string][]string{}
		default:
			key, value, ok := strings.Cut(line, "=")
			if !ok || section == "" {
				t.Fatalf("%s: odd line %q", path, line)
			}
			u[section][key] = append(u[section][key], value)
		}
	}
	return u
}

// checkCommand fails unless the binary knows the subcommand and each flag of a
// command line, by its own help.
func checkCommand(t *testing.T, where string, line []string) {
	t.Helper()
	name := filepath.Base(line[0])
	args := line[1:]
	call := []string{}
	if name == "mailward" {
		if len(args) == 0 || strings.HasPrefix(args[0], "-") {
			t.Errorf("%s: %v has no subcommand", where, line)
			return
		}
		call = append(call, args[0])
		if len(args) > 1 && !strings.HasPrefix(args[1], "-") && slices.Contains([]string{"user", "token", "audit", "receipt"}, args[0]) {
			call = append(call, args[1])
		}
	}
	out, err := exec.Command(binary(t, name), append(call, "--help")...).CombinedOutput()
	if err != nil {
		t.Errorf("%s: %s %s --help: %v\n%s", where, name, strings.Join(call, " "), err, out)
		return
	}
	for _, a := range args {
		flag, _, _ := strings.Cut(a, "=")
		if strings.HasPrefix(flag, "--") && !regexp.MustCompile(regexp.QuoteMeta(flag)+`\b`).Match(out) {
			t.Errorf("%s: %s %s does not know %s:\n%s", where, name, strings.Join(call, " "), flag, out)
		}
	}
}
