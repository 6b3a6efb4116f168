package webui

import (
	"strings"

	"mailward/approval"
)

// ApprovalMail returns what writes the mail to somebody who can decide on
// requests, in their language. publicURL is our address; without one the mail
// has no link.
func ApprovalMail(host, publicURL string) (func(locale string, waiting []approval.Waiting) (subject, text string), error) {
	texts, err := newCatalog()
	if err != nil {
		return nil, err
	}
	link := strings.TrimRight(publicURL, "/")
	return func(locale string, waiting []approval.Waiting) (string, string) {
		l := texts.pick(locale)
		var b strings.Builder
		b.WriteString(l.T("notice.approval.text") + "\n\n")
		for _, w := range waiting {
			where := w.Workspace
			if where == "" {
				where = l.T("user.installation")
			}
			b.WriteString("- " + l.T("notice.approval.line", l.T("approval.kind."+string(w.Kind)), plain(where, 100), plain(w.By, 254), l.Full(w.At)) + "\n")
		}
		if link != "" {
			b.WriteString("\n" + link + "/approvals\n")
		}
		b.WriteString("\n" + l.T("notice.approval.why", host) + "\n")
		return l.N("notice.approval.subject", len(waiting)), b.String()
	}, nil
}
