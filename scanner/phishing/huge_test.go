package phishing

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"mailward/scanner"
	"mailward/scanner/content"
)

// The biggest content that the sidecar hands out is judged well within a judge's
// time, also where every sentence and link looks like something.
func TestJudge_Huge(t *testing.T) {
	t.Parallel()
	for name, text := range map[string]string{
		"braces":  strings.Repeat("{{ [#%% paypal.com verify your account ", content.MaxText/40),
		"a word":  strings.Repeat("a", content.MaxText),
		"accents": strings.Repeat("é\u0301", content.MaxText/4),
		"quotes":  strings.Repeat("bitcoin bc1q ", content.MaxText/13),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := about("a@sender.example", strings.Repeat("x", 400), strings.Repeat("y ", 400), text)
			for i := range content.MaxLinks {
				c.Links = append(c.Links, anchor(fmt.Sprintf("https://paypa1-%d.login.example/%s", i, strings.Repeat("q{", 1500)), strings.Repeat("paypal.com ", 300)))
			}
			for i := range 5000 {
				c.Headers = append(c.Headers, content.Header{Name: "received", Value: fmt.Sprintf("from a%d by b; d=%s", i, strings.Repeat("z", 20))})
			}
			begin := time.Now()
			if _, _, err := engine().Judge(t.Context(), scanner.Question{Content: c}); err != nil {
				t.Fatal(err)
			}
			if took := time.Since(begin); took > 4*time.Second {
				t.Errorf("it took %v", took)
			}
			t.Log(time.Since(begin))
		})
	}
}
