package gateway

import (
	"slices"
	"testing"

	"mailward/policy"
)

func TestMaskFields(t *testing.T) {
	t.Parallel()
	in := "From: a@b.example\r\nSUBJECT : 4111 1111\r\n 1111 1111\r\nX-Subject: stays\r\nThread-Topic: 4111\r\nno field\r\n\tof it\r\nSubject:x"
	want := "From: a@b.example\r\nSUBJECT : **** ****\r\n **** ****\r\nX-Subject: stays\r\nThread-Topic: ****\r\nno field\r\n\tof it\r\nSubject:*"
	if got := string(maskFields([]byte(in), []string{"subject", "thread-topic"})); got != want {
		t.Errorf("%q", got)
	}
	header := []byte(in)
	if got := maskFields(header, nil); &got[0] != &header[0] {
		t.Error("a header with nothing to mask was copied")
	}
	maskFields(header, []string{"subject"})
	if string(header) != in {
		t.Error("the mail's own header was changed")
	}
}

func TestMaskedFields(t *testing.T) {
	t.Parallel()
	a := policy.Report{Subject: "s", HeaderFrom: "f", Parts: []policy.Part{{Path: "1", Name: "n"}}}
	b := policy.Report{Subject: "s", HeaderFrom: "f", Parts: []policy.Part{{Path: "1", Name: "*"}}}
	if got := maskedFields(a, a); got != nil {
		t.Errorf("%v", got)
	}
	if got := maskedFields(a, b); !slices.Contains(got, "content-disposition") || slices.Contains(got, "subject") {
		t.Errorf("%v", got)
	}
	if got := maskedFields(a, policy.Report{Subject: "*", HeaderFrom: "f", Parts: a.Parts}); !slices.Contains(got, "subject") || slices.Contains(got, "content-type") {
		t.Errorf("%v", got)
	}
}

// FuzzMaskFields: offsets into a header stay true whatever it holds.
func FuzzMaskFields(f *testing.F) {
	f.Add([]byte("Subject: a\r\n b\r\nTo: c\r\n"))
	f.Fuzz(func(t *testing.T, header []byte) {
		got := maskFields(header, []string{"subject"})
		if len(got) != len(header) {
			t.Fatalf("%d bytes became %d", len(header), len(got))
		}
	})
}
