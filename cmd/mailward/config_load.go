package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// Size is a number of bytes, written 50MiB.
type Size int64

var sizeUnits = []struct {
	name  string
	bytes int64
}{{"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10}, {"GB", 1e9}, {"MB", 1e6}, {"KB", 1e3}, {"B", 1}}

// UnmarshalYAML reads a number with or without a unit.
func (s *Size) UnmarshalYAML(n *yaml.Node) error {
	text, unit := strings.TrimSpace(n.Value), int64(1)
	for _, u := range sizeUnits {
		if rest, ok := strings.CutSuffix(text, u.name); ok {
			text, unit = strings.TrimSpace(rest), u.bytes
			break
		}
	}
	v, err := strconv.ParseInt(text, 10, 64)
	if err != nil || v < 0 || v > (1<<62)/unit {
		return fmt.Errorf("line %d: %q is not a size such as 50MiB", n.Line, n.Value)
	}
	*s = Size(v * unit)
	return nil
}

func (s Size) String() string {
	for _, u := range sizeUnits[:3] {
		if int64(s) >= u.bytes && int64(s)%u.bytes == 0 {
			return strconv.FormatInt(int64(s)/u.bytes, 10) + u.name
		}
	}
	return strconv.FormatInt(int64(s), 10)
}

// Secret is a value that must not be printed. In the file it may be a
// reference: file:/path, env:NAME or, for keys that are no part of a list, bao:PATH#FIELD.
type Secret struct{ reference, value string }

// UnmarshalYAML keeps what stands in the file; [Secret.resolve] looks it up.
func (s *Secret) UnmarshalYAML(n *yaml.Node) error {
	if n.Kind != yaml.ScalarNode {
		return fmt.Errorf("line %d: cannot unmarshal a list or map into a text", n.Line)
	}
	s.reference, s.value = n.Value, ""
	return nil
}

// Value is the secret itself.
func (s Secret) Value() string { return s.value }

// String never shows it, so that a log of the configuration cannot.
func (s Secret) String() string {
	if s.reference == "" {
		return ""
	}
	return "(secret)"
}

// MarshalYAML is String, for a configuration that is shown.
func (s Secret) MarshalYAML() (any, error) { return s.String(), nil }

// GoString is String, for %#v.
func (s Secret) GoString() string { return s.String() }

func (s *Secret) resolve(getenv func(string) (string, bool)) error {
	switch scheme, rest, _ := strings.Cut(s.reference, ":"); scheme {
	case "file":
		b, err := os.ReadFile(rest)
		if err != nil {
			return fmt.Errorf("cannot be read: %w", err)
		}
		s.value = strings.TrimRight(string(b), "\r\n")
		if s.value == "" {
			return fmt.Errorf("the file %s is empty", rest)
		}
	case "env":
		v, ok := getenv(rest)
		if !ok || v == "" {
			return fmt.Errorf("the environment has no %s", rest)
		}
		s.value = v
	case "bao":
		return errors.New("cannot be a reference to OpenBao: use file:/path or env:NAME")
	default:
		s.value = s.reference
	}
	return nil
}

// leaf is one key of the configuration that holds a value.
type leaf struct {
	key   string // smtp.max_message_size
	env   string // MAILWARD_SMTP_MAX_MESSAGE_SIZE
	value reflect.Value
}

// leaves walks the struct: its yaml tags are the only list of the keys.
func leaves(v reflect.Value, prefix string) (list []leaf) {
	for i := range v.NumField() {
		name := v.Type().Field(i).Tag.Get("yaml")
		key := prefix + name
		f := v.Field(i)
		if _, secret := f.Interface().(Secret); f.Kind() == reflect.Struct && !secret {
			list = append(list, leaves(f, key+".")...)
			continue
		}
		list = append(list, leaf{key: key, env: "MAILWARD_" + strings.ToUpper(strings.ReplaceAll(key, ".", "_")), value: f})
	}
	return list
}

// otherEnv are variables of ours that are no configuration keys.
var otherEnv = []string{"MAILWARD_CONFIG", "MAILWARD_ADMIN_URL", "MAILWARD_APP_PASSWORD"}

// loadConfig reads the file (none when path is empty) and the environment over
// the defaults, and reports all mistakes at once.
func loadConfig(path string, environ []string) (Config, error) {
	c := DefaultConfig()
	var errs []error
	if path != "" {
		b, err := os.ReadFile(path)
		if err != nil {
			return c, fmt.Errorf("read configuration: %w", err)
		}
		errs = append(errs, decode(b, &c)...)
	}
	errs = append(errs, overlay(&c, environ)...)
	getenv := func(name string) (string, bool) {
		for _, e := range environ {
			if v, ok := strings.CutPrefix(e, name+"="); ok {
				return v, true
			}
		}
		return "", false
	}
	kept := map[string]*Secret{} // in OpenBao
	for _, l := range leaves(reflect.ValueOf(&c).Elem(), "") {
		if s, ok := l.value.Addr().Interface().(*Secret); ok && strings.HasPrefix(s.reference, "bao:") && !strings.HasPrefix(l.key, "openbao.") {
			kept[l.key] = s
		} else if s, ok := l.value.Addr().Interface().(*Secret); ok {
			if err := s.resolve(getenv); err != nil {
				errs = append(errs, fmt.Errorf("%s: %w", l.key, err))
			}
		}
	}
	errs = append(errs, c.Relay.resolveSecrets(getenv)...)
	errs = append(errs, c.Audit.resolveSecrets(getenv)...)
	errs = append(errs, c.resolveOIDC(getenv)...)
	errs = append(errs, c.Intel.resolveSecrets(getenv)...)
	errs = append(errs, c.Health.resolveSecrets(getenv, kept)...)
	done, wrong := c.Alerts.resolveSecrets(getenv, kept)
	errs = append(errs, wrong...)
	errs = append(errs, c.OpenBao.resolve(kept)...)
	done()
	errs = append(errs, c.Validate())
	if err := errors.Join(errs...); err != nil {
		return c, &configError{path: path, err: err}
	}
	return c, nil
}

// configError is all that is wrong with a configuration.
type configError struct {
	path string
	err  error
}

func (e *configError) Error() string {
	where := "the environment"
	if e.path != "" {
		where = e.path
	}
	return "configuration in " + where + ": " + strings.ReplaceAll(e.err.Error(), "\n", "; ")
}

// Lines are the mistakes, one each.
func (e *configError) Lines() []string { return strings.Split(e.err.Error(), "\n") }

// decode reads YAML strictly: an unknown key is a mistake, not a hint.
func decode(b []byte, c *Config) []error {
	d := yaml.NewDecoder(bytes.NewReader(b))
	d.KnownFields(true)
	err := d.Decode(c)
	if errors.Is(err, io.EOF) {
		return nil // only comments
	}
	if err == nil {
		if d.Decode(&struct{}{}) != io.EOF {
			return []error{errors.New("there is a second YAML document behind ---")}
		}
		return nil
	}
	var te *yaml.TypeError
	if !errors.As(err, &te) {
		return []error{errors.New(strings.TrimPrefix(err.Error(), "yaml: "))}
	}
	var errs []error
	for _, e := range te.Errors {
		errs = append(errs, errors.New(plainYAMLError(e)))
	}
	return errs
}

// plainYAMLError puts the parser's words into those of a person.
func plainYAMLError(e string) string {
	if line, rest, ok := strings.Cut(e, ": field "); ok {
		if name, _, ok := strings.Cut(rest, " not found in type"); ok {
			return line + ": unknown key " + name
		}
	}
	return strings.NewReplacer("cannot unmarshal !!", "does not take ", " into ", " where it wants ", "[]string", "a list", "map[string]string", "a map", "main.", "", "bool", "true or false", "seq", "a list").Replace(e)
}

// overlay sets keys from MAILWARD_... variables. One that names no key is a
// mistake too: it would be a setting that silently does nothing.
func overlay(c *Config, environ []string) (errs []error) {
	known := map[string]leaf{}
	for _, l := range leaves(reflect.ValueOf(c).Elem(), "") {
		known[l.env] = l
	}
	sorted := slices.Sorted(slices.Values(environ))
	for _, e := range sorted {
		name, value, _ := strings.Cut(e, "=")
		if !strings.HasPrefix(name, "MAILWARD_") || slices.Contains(otherEnv, name) || strings.HasPrefix(name, "MAILWARD_TEST_") {
			continue
		}
		l, ok := known[name]
		if !ok {
			errs = append(errs, fmt.Errorf("unknown environment variable %s", name))
			continue
		}
		if err := setLeaf(l.value, value); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", name, err))
		}
	}
	return errs
}

// setLeaf reads a value as YAML would, and a list or map also without brackets:
// "a, b" and "x: y, z: w".
func setLeaf(f reflect.Value, value string) error {
	if s, ok := f.Addr().Interface().(*Secret); ok {
		s.reference = value
		return nil
	}
	switch f.Kind() {
	case reflect.String:
		f.SetString(value)
		return nil
	case reflect.Slice:
		if f.Type().Elem().Kind() == reflect.String && !strings.HasPrefix(strings.TrimSpace(value), "[") {
			var list []string
			for item := range strings.SplitSeq(value, ",") {
				if item = strings.TrimSpace(item); item != "" {
					list = append(list, item)
				}
			}
			f.Set(reflect.ValueOf(list))
			return nil
		}
	case reflect.Map:
		if !strings.HasPrefix(strings.TrimSpace(value), "{") {
			value = "{" + value + "}"
		}
	}
	fresh := reflect.New(f.Type())
	d := yaml.NewDecoder(strings.NewReader(value))
	d.KnownFields(true)
	if err := d.Decode(fresh.Interface()); err != nil {
		return fmt.Errorf("%q does not fit: %s", value, plainYAMLError(strings.TrimPrefix(err.Error(), "yaml: ")))
	}
	f.Set(fresh.Elem())
	return nil
}
