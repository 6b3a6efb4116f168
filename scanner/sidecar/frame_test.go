package sidecar

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math"
	"reflect"
	"strings"
	"testing"
	"time"

	"mailward/policy"
	"mailward/scanner/content"
)

func answered() Response {
	return Response{Version: "libyara 4.5", RulesTime: time.Date(2026, 3, 1, 2, 3, 4, 5e6, time.UTC), Rules: 7, Header: Header{Subject: "Grüße"},
		Findings: []policy.Finding{{Engine: "yara", Name: "X", Class: policy.Malware, Score: 1.5, Meta: map[string]string{"a": "b"}}},
		Parts:    []policy.Part{{Path: "1.2", Name: "a.txt", Size: 1 << 40}},
		Extra:    []Extra{{Path: "1", Data: []byte{0, 0xff, 0x80}}},
		Content:  &content.Content{Texts: []content.Text{{Part: "1", Kind: "plain", Text: strings.Repeat("text ", 10000)}}, Links: []content.Link{{Target: "https://a.example/\x00"}}}}
}

// TestFrame: an answer arrives as it was sent, and with strings that are text.
func TestFrame(t *testing.T) {
	t.Parallel()
	through := func(in Response) (out Response) {
		t.Helper()
		var b bytes.Buffer
		if err := writeFrame(&b, in); err != nil {
			t.Fatal(err)
		}
		if err := readFrame(&b, maxResponse, &out); err != nil {
			t.Fatal(err)
		}
		return out
	}
	if got := through(answered()); !reflect.DeepEqual(got, answered()) {
		t.Errorf("got  %+v\nwant %+v", got, answered())
	}
	if got := through(Response{}); !reflect.DeepEqual(got, Response{}) {
		t.Errorf("got %+v for nothing", got)
	}
	bad := answered()
	bad.Findings[0].Meta["\xfe"] = "key"
	bad.Parts[0].Name, bad.Content.Texts[0].Text, bad.Findings[0].Meta["a"] = "a\xff.txt", "\xc3", "\x80"
	got := through(bad)
	if got.Parts[0].Name != "a\uFFFD.txt" || got.Content.Texts[0].Text != "\uFFFD" || len(got.Findings[0].Meta) != 2 || got.Findings[0].Meta["a"] != "\uFFFD" || got.Findings[0].Meta["\uFFFD"] != "key" || !bytes.Equal(got.Extra[0].Data, bad.Extra[0].Data) || !got.RulesTime.Equal(bad.RulesTime) {
		t.Errorf("got %+v", got)
	}
	for _, score := range []float64{math.NaN(), math.Inf(-1)} {
		bad = answered()
		bad.Findings[0].Score = score
		var b bytes.Buffer
		if err := writeFrame(&b, bad); err != nil {
			t.Fatal(err)
		}
		if err := readFrame(&b, maxResponse, &got); err == nil {
			t.Errorf("a score of %v is taken: %+v", score, got.Findings)
		}
	}
	if err := readFrame(bytes.NewReader([]byte{0, 0, 0, 9, 1}), maxResponse, &got); err == nil {
		t.Error("half a frame was read")
	}
	if err := readFrame(bytes.NewReader([]byte{0, 0, 0, 9, 1}), 8, &got); !errors.Is(err, errFrame) {
		t.Errorf("a frame over the limit: %v", err)
	}
}

// FuzzFrame: whatever a worker says, its answer is refused or is text.
func FuzzFrame(f *testing.F) {
	small := answered()
	small.Content.Texts[0].Text = "text"
	good, _ := encoding.Marshal(small)
	f.Add(good)
	f.Add([]byte("\xa1fheader\xa1gsubject\x62\xff\xff"))
	f.Add([]byte("\xa1eparts\x9b\x7f\xff\xff\xff\xff\xff\xff\xff"))
	f.Add(bytes.Repeat([]byte{0x81}, 100))
	f.Fuzz(func(t *testing.T, b []byte) {
		var got Response
		frame := append(binary.BigEndian.AppendUint32(nil, uint32(len(b))), b...)
		if readFrame(bytes.NewReader(frame), maxResponse, &got) != nil {
			return
		}
		// The strict reader takes no string that is no text, and no number that is none.
		again, err := encoding.Marshal(got)
		if err != nil {
			t.Fatal(err)
		}
		if err := decoding.Unmarshal(again, &Response{}); err != nil {
			t.Errorf("%x is read as %+v: %v", b, got, err)
		}
	})
}
