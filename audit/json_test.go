package audit

import (
	"bytes"
	"encoding/json"
	"math"
	"testing"
	"time"
)

// oldJSON is what the bytes of events were made with: they may not change.
func oldJSON(t testing.TB, v any) string {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		t.Fatal(err)
	}
	return string(bytes.TrimSuffix(b.Bytes(), []byte("\n")))
}

func TestAppendJSON_SameBytesAsBefore(t *testing.T) {
	t.Parallel()
	for name, v := range map[string]any{
		"nothing": nil, "no map": map[string]any(nil), "no list": []any(nil), "no texts": []string(nil), "empty": map[string]any{"a": map[string]any{}, "b": []any{}, "c": []string{}, "d": ""},
		"keys in order": map[string]any{"b": 1, "a": 2, "B": 3, "": 4, "a.b": 5, "\u00e9": 6, "a\"": 7},
		"text":          []any{"<a href='x'>&amp;</a>", "\"\\/", "tab\t nl\n cr\r \x01\x7f", "\u2028\u2029", "\u00e4\U0001F600", "\xff bad", "~ !"},
		"numbers":       []any{0, -1, int64(math.MaxInt64), int64(math.MinInt64), 1.5, 1e21, uint8(7), float32(0.1), json.Number("12")},
		"others":        map[string]any{"t": time.Date(2026, 1, 2, 3, 4, 5, 6, time.UTC), "d": time.Second, "m": map[string]string{"b": "<", "a": ">"}, "s": struct{ A, B any }{1, "x"}, "r": json.RawMessage(`{"z": 1}`), "p": Personal("p"), "l": []int{1}, "ms": []map[string]any{{"q": 1}}},
		"bools":         []any{true, false, []string{"a", "\""}},
	} {
		got, err := appendJSON([]byte("before"), v)
		if want := "before" + oldJSON(t, v); err != nil || string(got) != want {
			t.Errorf("%s: %s, %v, want %s", name, got, err, want)
		}
	}
	if _, err := appendJSON(nil, map[string]any{"a": []any{make(chan int)}}); err == nil {
		t.Error("a channel became JSON")
	}
}

func FuzzAppendJSON(f *testing.F) {
	f.Add("a", "b\u2028<")
	f.Fuzz(func(t *testing.T, k, s string) {
		v := map[string]any{k: s, "x": []any{s, map[string]any{s: k}}, "y": []string{s, k}}
		if got, err := appendJSON(nil, v); err != nil || string(got) != oldJSON(t, v) {
			t.Errorf("%s, %v, want %s", got, err, oldJSON(t, v))
		}
	})
}
