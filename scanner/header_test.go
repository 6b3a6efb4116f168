package scanner

import (
	"log/slog"
	"testing"

	"github.com/google/uuid"
)

func TestScan_EnginesOff(t *testing.T) {
	t.Parallel()
	s, err := New(DefaultConfig(), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	mail := "From: =?utf-8?Q?J=C3=BCrgen=2C_?= <j@sender.example>\r\nSUBJECT : a\r\n b\r\nMessage-ID: <1@sender.example>\r\nDate: today\r\n\r\nSubject: body\r\n"
	rep, _ := s.Scan(t.Context(), Job{MailID: uuid.New(), Spool: spool(t, []byte(mail))})
	if rep.Subject != "a b" || rep.HeaderFrom != `"Jürgen, " <j@sender.example>` || rep.MessageID != "1@sender.example" || rep.Date != "today" || len(rep.Findings) != 0 || len(rep.Engines) != 0 {
		t.Errorf("%+v", rep)
	}
}
