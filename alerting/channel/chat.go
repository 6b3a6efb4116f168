package channel

import (
	"context"
	"encoding/json"
	"strconv"
	"strings"

	"github.com/google/uuid"
)

// object is a piece of JSON.
type object = map[string]any

// slackEscape takes the meaning out of a text. Slack knows three entities, and
// reads <...> as links and as calls to people.
func slackEscape(s string) string {
	return strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;").Replace(s)
}

// slackPlain also keeps Slack from finding links and marks in it.
func slackPlain(s string) string {
	return slackEscape(strings.NewReplacer("*", "∗", "_", "_\u200b", "~", "∼", "`", "ˋ", "@", "@\u200b", ".", ".\u200b", "://", ":\u200b//").Replace(s))
}

// slack posts to an incoming webhook, whose address is the secret.
func (s *Sender) slack(ctx context.Context, c Channel, _ uuid.UUID, m Message) error {
	w := words{c.Language}
	blocks := []object{{"type": "header", "text": object{"type": "plain_text", "text": cut(w.heading(m), 150)}}}
	if m.Test {
		blocks = append(blocks, object{"type": "section", "text": object{"type": "mrkdwn", "text": slackPlain(w.t("test_text", harmless(c.Name, 100), harmless(m.Note, 100)))}})
	}
	list, more := shown(m, 10) // three blocks each, of 50
	for _, a := range list {
		fields := []object{}
		for _, f := range w.facts(a) {
			fields = append(fields, object{"type": "mrkdwn", "text": cut("*"+slackEscape(f.name)+"*\n"+slackPlain(f.value), 2000)})
		}
		section := object{"type": "section", "fields": fields}
		if len(m.Alerts) > 1 {
			section["text"] = object{"type": "mrkdwn", "text": "*" + slackPlain(w.title(a)) + "*"}
		}
		blocks = append(blocks, section)
		if a.Late {
			blocks = append(blocks, object{"type": "context", "elements": []object{{"type": "mrkdwn", "text": w.t("late")}}})
		}
		buttons := []object{}
		for _, l := range s.links(w, a) {
			if len(l.url) <= 3000 {
				buttons = append(buttons, object{"type": "button", "text": object{"type": "plain_text", "text": l.name}, "url": l.url})
			}
		}
		if len(buttons) > 0 {
			blocks = append(blocks, object{"type": "actions", "elements": buttons})
		}
	}
	if more > 0 {
		blocks = append(blocks, object{"type": "section", "text": object{"type": "mrkdwn", "text": w.t("more", strconv.Itoa(more))}})
	}
	a, err := s.post(ctx, c.Secret, object{"text": slackEscape(w.heading(m)), "blocks": blocks, "unfurl_links": false, "unfurl_media": false}, nil)
	if err != nil {
		return err
	}
	var said struct {
		OK    *bool  `json:"ok"`
		Error string `json:"error"`
	}
	if a.body == "ok" || json.Unmarshal([]byte(a.body), &said) == nil && said.OK != nil && *said.OK {
		return nil
	}
	return permanent("Slack did not take it: %s", harmless(said.Error+" "+a.body, 200))
}

// cardPlain takes the meaning out of a text for the subset of Markdown that a
// TextBlock of an Adaptive Card reads.
func cardPlain(s string) string {
	var b strings.Builder
	for _, r := range s {
		if strings.ContainsRune("\\`*_{}[]()#+-!|<>~", r) {
			b.WriteByte('\\')
		}
		b.WriteRune(r)
	}
	return b.String()
}

// maxCard keeps a message to Teams well under its 28 KB.
const maxCard = 20 << 10

// teams posts an Adaptive Card to a workflow, whose address is the secret. A
// success means that the workflow has it, not that it is shown.
func (s *Sender) teams(ctx context.Context, c Channel, _ uuid.UUID, m Message) error {
	for most := 8; ; most /= 2 {
		raw, err := json.Marshal(s.card(c, m, most))
		if err != nil {
			return permanent("message cannot be written: %v", err)
		}
		if len(raw) > maxCard && most > 1 {
			continue
		}
		a, err := s.post(ctx, c.Secret, raw, nil)
		if err != nil {
			return err
		}
		// The old connectors say so with a 200.
		if strings.Contains(a.body, "HTTP error 429") {
			return temporary("Teams takes no more for now")
		}
		if strings.Contains(a.body, "HTTP error") {
			return permanent("Teams did not take it: %s", harmless(a.body, 200))
		}
		return nil
	}
}

func (s *Sender) card(c Channel, m Message, most int) object {
	w := words{c.Language}
	body := []object{{"type": "TextBlock", "text": cardPlain(w.heading(m)), "weight": "Bolder", "size": "Medium", "wrap": true}}
	if m.Test {
		body = append(body, object{"type": "TextBlock", "text": cardPlain(w.t("test_text", harmless(c.Name, 100), harmless(m.Note, 100))), "wrap": true})
	}
	actions := []object{}
	list, more := shown(m, most)
	for _, a := range list {
		if len(m.Alerts) > 1 {
			body = append(body, object{"type": "TextBlock", "text": cardPlain(w.title(a)), "weight": "Bolder", "wrap": true, "separator": true})
		}
		facts := []object{}
		for _, f := range w.facts(a) {
			facts = append(facts, object{"title": f.name, "value": cardPlain(f.value)})
		}
		body = append(body, object{"type": "FactSet", "facts": facts})
		if a.Late {
			body = append(body, object{"type": "TextBlock", "text": w.t("late"), "wrap": true, "isSubtle": true})
		}
		for _, l := range s.links(w, a) {
			if len(actions) < 6 && (len(m.Alerts) == 1 || l.name == w.t("open")) {
				actions = append(actions, object{"type": "Action.OpenUrl", "title": l.name, "url": l.url})
			}
		}
	}
	if more > 0 {
		body = append(body, object{"type": "TextBlock", "text": w.t("more", strconv.Itoa(more)), "wrap": true})
	}
	card := object{"$schema": "http://adaptivecards.io/schemas/adaptive-card.json", "type": "AdaptiveCard", "version": "1.2", "msteams": object{"width": "Full"}, "body": body}
	if len(actions) > 0 {
		card["actions"] = actions
	}
	return object{"type": "message", "attachments": []object{{"contentType": "application/vnd.microsoft.card.adaptive", "contentUrl": nil, "content": card}}}
}
