package cape

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"runtime"
	"strings"
	"testing"
	"time"

	"mailward/internal/testenv"
)

var ctx = context.Background()

func newClient(t testing.TB, d *testenv.Cape) *Client {
	t.Helper()
	c, err := New(Config{URL: d.URL, CallTimeout: 10 * time.Second, RetryPause: time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func submit(t testing.TB, c *Client, data string) []int64 {
	t.Helper()
	ids, err := c.Submit(ctx, File{"a.js", []byte(data)}, "x")
	if err != nil {
		t.Fatal(err)
	}
	return ids
}

// finish looks at a task until it is where it ends.
func finish(t testing.TB, c *Client, id int64) State {
	t.Helper()
	for range 10 {
		s, err := c.State(ctx, id)
		if err != nil {
			t.Fatal(err)
		}
		if s != Running {
			return s
		}
	}
	t.Fatal("the task does not end")
	return ""
}

func hash(s string) string { b := sha256.Sum256([]byte(s)); return hex.EncodeToString(b[:]) }

func TestSubmitToReport(t *testing.T) {
	t.Parallel()
	d := testenv.NewCape(t)
	d.Token("secret")
	d.PerFile(3)
	d.Result([]byte("bad"), testenv.CapeResult{Score: 8.5, Family: "Emotet", Signature: "ransomware_files"})
	c, err := New(Config{URL: d.URL + "/", Token: "secret"})
	if err != nil {
		t.Fatal(err)
	}
	if s, err := c.Server(ctx); err != nil || s.Version != "2.5" || s.Machines != 4 || s.Free != 2 {
		t.Errorf("%+v, %v", s, err)
	}
	ids := submit(t, c, "bad")
	if len(ids) != 3 {
		t.Fatalf("one file became %v", ids)
	}
	if _, err := c.Report(ctx, ids[0]); !errors.Is(err, ErrNotReady) {
		t.Errorf("report of a task that has not begun: %v", err)
	}
	// The second look finds it completed, which is no report yet.
	for range 2 {
		if s, err := c.State(ctx, ids[0]); s != Running || err != nil {
			t.Errorf("%s, %v", s, err)
		}
	}
	if s := finish(t, c, ids[0]); s != Done {
		t.Errorf("state %s", s)
	}
	r, err := c.Report(ctx, ids[0])
	if err != nil || r.Score != 8.5 || r.Version != "2.5" || len(r.Families) != 1 || r.Families[0] != "Emotet" || !r.Processes || r.Status != "" {
		t.Errorf("%+v, %v", r, err)
	}
	if len(r.Signatures) != 2 || r.Signatures[0].Name != "ransomware_files" || r.Verdict() != Malicious {
		t.Errorf("%+v is %s", r.Signatures, r.Verdict())
	}
	if found, err := c.Search(ctx, hash("bad")); err != nil || len(found) != 3 || found[0] != ids[2] {
		t.Errorf("%v, %v", found, err)
	}
	if found, err := c.Search(ctx, hash("other")); err != nil || len(found) != 0 {
		t.Errorf("%v, %v", found, err)
	}
	if _, err := c.Search(ctx, "../../cuckoo"); err == nil {
		t.Error("what is no hash was asked for")
	}
}

func TestTraps(t *testing.T) {
	t.Parallel()
	all := []func(*Client) error{
		func(c *Client) error { _, err := c.Server(ctx); return err },
		func(c *Client) error { _, err := c.Submit(ctx, File{"a", []byte("x")}, ""); return err },
		func(c *Client) error { _, err := c.State(ctx, 1); return err },
		func(c *Client) error { _, err := c.Search(ctx, hash("x")); return err },
		func(c *Client) error { _, err := c.Report(ctx, 1); return err },
	}
	for name, fault := range map[string]testenv.CapeFault{"down": testenv.CapeDown, "500": testenv.Cape500, "a page with 200": testenv.CapePage,
		"throttled": testenv.CapeThrottled, "disabled": testenv.CapeDisabled, "nonsense": testenv.CapeNonsense, "redirect": testenv.CapeRedirect} {
		t.Run(name, func(t *testing.T) {
			d := testenv.NewCape(t)
			c := newClient(t, d)
			d.Fail(fault)
			for i, call := range all {
				if err := call(c); !errors.Is(err, ErrUnavailable) {
					t.Errorf("call %d: %v is not temporary", i, err)
				}
			}
		})
	}
	t.Run("throttled says until when", func(t *testing.T) {
		d := testenv.NewCape(t)
		d.Fail(testenv.CapeThrottled)
		_, err := newClient(t, d).State(ctx, 1)
		var slow *ThrottledError
		if !errors.As(err, &slow) || slow.After != 7*time.Second {
			t.Errorf("%v", err)
		}
		// Such a wait is the caller's to plan: no second try.
		if n := d.Calls("state"); n != 0 {
			t.Errorf("%d calls", n)
		}
	})
	t.Run("a wrong token", func(t *testing.T) {
		d := testenv.NewCape(t)
		d.Token("right")
		for i, call := range all {
			if err := call(newClient(t, d)); !errors.Is(err, ErrUnauthorized) || errors.Is(err, ErrUnavailable) {
				t.Errorf("call %d: %v", i, err)
			}
		}
	})
	t.Run("known already", func(t *testing.T) {
		d := testenv.NewCape(t)
		d.Fail(testenv.CapeDuplicate)
		if _, err := newClient(t, d).Submit(ctx, File{"a", []byte("x")}, ""); !errors.Is(err, ErrDuplicate) {
			t.Errorf("%v", err)
		}
	})
	t.Run("too big, said in an object", func(t *testing.T) {
		d := testenv.NewCape(t)
		d.Fail(testenv.CapeTooBig)
		if _, err := newClient(t, d).Submit(ctx, File{"a", []byte("x")}, ""); !errors.Is(err, ErrRefused) {
			t.Errorf("%v", err)
		}
	})
	t.Run("empty", func(t *testing.T) {
		if _, err := newClient(t, testenv.NewCape(t)).Submit(ctx, File{"a", nil}, ""); !errors.Is(err, ErrRefused) {
			t.Errorf("%v", err)
		}
	})
	t.Run("stored, but the answer is lost", func(t *testing.T) {
		d := testenv.NewCape(t)
		d.Fail(testenv.CapeStoresFails)
		c := newClient(t, d)
		if _, err := c.Submit(ctx, File{"a", []byte("x")}, ""); !errors.Is(err, ErrUnavailable) {
			t.Errorf("%v", err)
		}
		if n := d.Calls("create"); n != 1 {
			t.Errorf("submitted %d times", n)
		}
		d.Fail(testenv.CapeFine)
		if ids, err := c.Search(ctx, hash("x")); err != nil || len(ids) != 1 {
			t.Errorf("%v, %v", ids, err)
		}
	})
	t.Run("a file that failed before is none", func(t *testing.T) {
		d := testenv.NewCape(t)
		c := newClient(t, d)
		submit(t, c, "x")
		d.Stick("failed_analysis")
		if ids, err := c.Search(ctx, hash("x")); err != nil || len(ids) != 0 {
			t.Errorf("%v, %v", ids, err)
		}
	})
	t.Run("no such task", func(t *testing.T) {
		if _, err := newClient(t, testenv.NewCape(t)).State(ctx, 99); !errors.Is(err, ErrNotFound) {
			t.Errorf("%v", err)
		}
	})
}

func TestStates(t *testing.T) {
	t.Parallel()
	for status, want := range map[string]State{"pending": Running, "running": Running, "distributed": Running, "completed": Running, "distributed_completed": Running, "something new": Running,
		"reported": Done, "failed_analysis": Failed, "failed_processing": Failed, "failed_reporting": Failed, "banned": Failed} {
		d := testenv.NewCape(t)
		c := newClient(t, d)
		id := submit(t, c, "x")[0]
		d.Stick(status)
		if got, err := c.State(ctx, id); err != nil || got != want {
			t.Errorf("%s: %s, %v; want %s", status, got, err, want)
		}
	}
	d := testenv.NewCape(t)
	c := newClient(t, d)
	first := submit(t, c, "x")[0]
	second := submit(t, c, "x")[0]
	finish(t, c, second)
	d.Stick("recovered")
	if got, err := c.State(ctx, first); err != nil || got != Done {
		t.Errorf("a task that was started anew: %s, %v", got, err)
	}
}

func TestReport_NotThere(t *testing.T) {
	t.Parallel()
	d := testenv.NewCape(t)
	c := newClient(t, d)
	id := submit(t, c, "x")[0]
	finish(t, c, id)
	for fault, want := range map[testenv.CapeFault]error{testenv.CapeNoReport: ErrNotReady, testenv.CapeCutReport: ErrUnavailable} {
		d.Fail(fault)
		if r, err := c.Report(ctx, id); !errors.Is(err, want) {
			t.Errorf("fault %d: %+v, %v", fault, r, err)
		}
	}
	d.Fail(testenv.CapeFine)
	d.Result(nil, testenv.CapeResult{NoScore: true})
	if r, err := c.Report(ctx, id); !errors.Is(err, ErrNoReport) {
		t.Errorf("%+v, %v", r, err)
	}
	d.Stick("failed_analysis")
	if _, err := c.Report(ctx, id); !errors.Is(err, ErrNoReport) {
		t.Errorf("%v", err)
	}
}

func TestReport_Huge(t *testing.T) {
	t.Parallel()
	d := testenv.NewCape(t)
	d.Result(nil, testenv.CapeResult{Score: 9, Padding: 64 << 20})
	c := newClient(t, d)
	id := submit(t, c, "x")[0]
	finish(t, c, id)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	r, err := c.Report(ctx, id)
	runtime.ReadMemStats(&after)
	if err != nil || r.Score != 9 {
		t.Fatalf("%+v, %v", r, err)
	}
	// The double writes in this process too: it is the order that counts.
	if n := after.TotalAlloc - before.TotalAlloc; n > 256<<20 {
		t.Errorf("%d MiB for a report of 64 MiB", n>>20)
	}
	small, err := New(Config{URL: d.URL, MaxReport: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := small.Report(ctx, id); !errors.Is(err, ErrUnavailable) {
		t.Errorf("a report over the limit: %v", err)
	}
}

func TestVerdict(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		r    Report
		want Verdict
	}{
		"a program that is malicious":  {Report{Status: "Malicious", Score: 10}, Malicious},
		"one that did not run":         {Report{Status: "Failed"}, None},
		"a clean one":                  {Report{Status: "Clean", Score: 1, Processes: true}, Clean},
		"a suspicious one":             {Report{Status: "Suspicious", Score: 5}, Suspicious},
		"a document with a high score": {Report{Score: 7.1, Processes: true}, Malicious},
		"one with a middling score":    {Report{Score: 4, Processes: true}, Suspicious},
		"one with a low score":         {Report{Score: 1, Processes: true}, Clean},
		"one where nothing ran":        {Report{Score: 0}, None},
		"a family":                     {Report{Score: 0, Families: []string{"Qakbot"}}, Malicious},
		"a status that we do not know": {Report{Status: "Fluffy", Processes: true}, None},
		"Undetected is for addresses":  {Report{Status: "Undetected", Processes: true}, None},
	} {
		if got := tt.r.Verdict(); got != tt.want {
			t.Errorf("%s: %s, want %s", name, got, tt.want)
		}
	}
}

func TestNew_BadAddress(t *testing.T) {
	t.Parallel()
	for _, u := range []string{"", "cape", "ftp://cape", "https://user:pw@cape", "https://cape/?x=1", "https://"} {
		if _, err := New(Config{URL: u}); err == nil {
			t.Errorf("%q is taken", u)
		}
	}
	if _, err := New(Config{URL: "https://cape", CAFile: "/nowhere"}); err == nil {
		t.Error("certificates that are not there are taken")
	}
}

func TestFileName(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{"Invoice for Bob.DOCM": "0123456789abcdef.docm", "x": "0123456789abcdef", "a.b/c": "0123456789abcdef", "a.exe\r\nx": "0123456789abcdef", "a.7z": "0123456789abcdef.7z"} {
		if got := FileName("0123456789abcdef0123", in); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
}

// FuzzReport reads whatever comes.
func FuzzReport(f *testing.F) {
	for _, s := range []string{`{}`, `{"malscore": 1.5, "behavior": {"processes": [{"a": ["]}"]}]}, "signatures": [{"name": "x", "severity": 3}]}`,
		`{"error": true, "error_value": "Task failed"}`, `{"error":[],"malscore":10,"malstatus":null,"detections":"Emotet","malfamily":null,"info":{"version":"2.5"}}`, `{"a":"\u00`, `[[[[`, `{"behavior":{"processes":null},"malscore":0}`} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		r, err := readReport(strings.NewReader(s))
		if err == nil && (len(r.Signatures) > maxSignatures || len(r.Families) > maxFamilies) {
			t.Errorf("%+v", r)
		}
	})
}

func TestReadReport_Pieces(t *testing.T) {
	t.Parallel()
	for s, want := range map[string]bool{
		`{"malscore": 1, "behavior": {"processes": [ ]}}`:                    false,
		`{"malscore": 1, "behavior": {"processes": null}}`:                   false,
		`{"malscore": 1, "behavior": null}`:                                  false,
		`{"malscore": 1, "behavior": {"x": {"processes": [1]}}}`:             false,
		` { "malscore" : 1 , "behavior" : { "a": 1, "processes" : [ {} ] }}`: true,
	} {
		if r, err := readReport(strings.NewReader(s)); err != nil || r.Processes != want || r.Score != 1 {
			t.Errorf("%s: %+v, %v", s, r, err)
		}
	}
	for _, s := range []string{``, `{`, `{"malscore": 1`, `{"malscore": 1,}`, `{"malscore" 1}`, `[]`, `{"malscore": }`, `{"malscore": "x"}`, `{"malscore": 1, "signatures": 5}`} {
		if r, err := readReport(strings.NewReader(s)); err == nil {
			t.Errorf("%s: %+v", s, r)
		}
	}
}
