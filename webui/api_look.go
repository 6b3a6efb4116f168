package webui

import (
	"context"
	"errors"
	"net/http"

	"github.com/danielgtaylor/huma/v2"
	"github.com/google/uuid"

	"mailward/audit"
	"mailward/identity"
	"mailward/quarantine"
	"mailward/quarantine/preview"
	"mailward/scanner"
)

// OwnWill is part of GET calls that hand out content and say on record who took it.
// One that a browser makes on another site's or a mail's behalf is refused: nothing is
// taken in the name of somebody who did not want it.
type OwnWill struct {
	Site string `header:"Sec-Fetch-Site" doc:"set by browsers"`
}

func (w OwnWill) ownWill() error {
	if w.Site != "" && w.Site != "same-origin" {
		return huma.Error403Forbidden("a link cannot ask for this in your name: call it from a program, or use the pages")
	}
	return nil
}

// Why is the reason for looking at content. It stands in the address, since
// these are GET calls.
type Why struct {
	Purpose string `query:"purpose" required:"true" enum:"analysis,release,request,test" doc:"why; it goes on record before anything is shown"`
	Reason  string `query:"reason" maxLength:"200" doc:"in words"`
	OwnWill
}

type headersOutput struct {
	Fields    []fieldOutput `json:"fields" nullable:"false"`
	Path      []preview.Hop `json:"path" nullable:"false" doc:"the mail's way, the last station is ours"`
	Truncated bool          `json:"truncated" doc:"the end is missing"`
}

type fieldOutput struct {
	Name  string `json:"name"`
	Value string `json:"value" doc:"unfolded and decoded"`
	Raw   string `json:"raw" doc:"as it came, with its folds"`
}

type bodyInput struct {
	ByID
	Why
	Format string `query:"format" enum:"text,html" default:"text"`
}

type bodyOutput struct {
	Format    string           `json:"format"`
	Content   string           `json:"content" doc:"text, or HTML that does nothing: show it in a sandboxed frame all the same"`
	FromHTML  bool             `json:"from_html" doc:"the text was taken out of HTML"`
	Removed   *preview.Removed `json:"removed,omitempty" doc:"of HTML: what was taken away"`
	Links     []preview.Link   `json:"links" nullable:"false"`
	Truncated bool             `json:"truncated" doc:"the end is missing"`
}

type partInput struct {
	ByID
	Why
	Number string `path:"n" pattern:"^[0-9]{1,4}$" doc:"of the item's parts, from 1"`
}

func (s *Server) registerLook() {
	register(s, endpoint{http.MethodGet, "/quarantine/{id}/headers", "get-quarantine-headers", "The header of a held mail, and its way", identity.ViewHeaders, 0}, s.getHeaders)
	register(s, endpoint{http.MethodGet, "/quarantine/{id}/body", "get-quarantine-body", "The words of a held mail, or HTML that does nothing; on record before it is shown", identity.ViewBody, 0}, s.getBody)
	register(s, endpoint{http.MethodGet, "/quarantine/{id}/parts/{n}", "get-quarantine-part", "The exact bytes of one file in a held mail; on record before it begins", identity.DownloadRaw, 0},
		s.getPart, func(op *huma.Operation) {
			op.Responses = map[string]*huma.Response{"200": {Description: "The file", Content: map[string]*huma.MediaType{"application/octet-stream": {}}}}
		})
}

// present is an item whose bytes are still there.
func (s *Server) present(ctx context.Context, p identity.Principal, id uuid.UUID, right identity.Right) (quarantine.Item, error) {
	it, err := s.item(ctx, p, id, right)
	if err == nil && it.BlobRemovedAt != nil {
		err = quarantine.ErrGone
	}
	return it, err
}

func (s *Server) getHeaders(ctx context.Context, p identity.Principal, in *ByID) (*one[headersOutput], error) {
	it, err := s.present(ctx, p, in.uuid(), identity.ViewHeaders)
	if err != nil {
		return nil, err
	}
	mail, err := s.pages.view(ctx, it)
	if err != nil {
		return nil, err
	}
	out := headersOutput{Fields: []fieldOutput{}, Path: s.pages.path(it, mail.Headers), Truncated: mail.Truncated}
	for _, f := range mail.Headers {
		out.Fields = append(out.Fields, fieldOutput(f))
	}
	return &one[headersOutput]{Body: out}, nil
}

func (s *Server) getBody(ctx context.Context, p identity.Principal, in *bodyInput) (*one[bodyOutput], error) {
	if err := in.ownWill(); err != nil {
		return nil, err
	}
	it, err := s.present(ctx, p, in.uuid(), identity.ViewBody)
	if err != nil {
		return nil, err
	}
	ev, err := s.pages.begin(ctx, lookEvent(p.Actor(), p.RoleNames(), audit.ViewBody, it), in.Purpose, in.Reason)
	if err != nil {
		return nil, err
	}
	mail, err := s.pages.view(ctx, it)
	s.pages.ended(ctx, ev, "api "+in.Format, err)
	if err != nil {
		return nil, err
	}
	out := bodyOutput{Format: in.Format, Links: linksOf(mail)}
	if out.Links == nil {
		out.Links = []preview.Link{}
	}
	if in.Format == "html" {
		got := preview.HTML(mail.HTML, preview.Options{Images: imagesOf(mail)})
		out.Content, out.Removed, out.Truncated = got.HTML, &got.Removed, got.Removed.Cut
	} else {
		out.Content, out.FromHTML, out.Truncated = wordsOf(mail)
	}
	out.Truncated = out.Truncated || mail.Truncated
	return &one[bodyOutput]{Body: out}, nil
}

func (s *Server) getPart(ctx context.Context, p identity.Principal, in *partInput) (*huma.StreamResponse, error) {
	if err := in.ownWill(); err != nil {
		return nil, err
	}
	it, err := s.present(ctx, p, in.uuid(), identity.DownloadRaw)
	if err != nil {
		return nil, err
	}
	part, ok := partOf(it, in.Number)
	if !ok {
		return nil, huma.Error404NotFound("the mail has no such part")
	}
	ev, err := s.pages.begin(ctx, partEvent(lookEvent(p.Actor(), p.RoleNames(), audit.ViewPart, it), part), in.Purpose, in.Reason)
	if err != nil {
		return nil, err
	}
	data, err := s.pages.part(ctx, it, part.SHA256)
	s.pages.ended(ctx, ev, "api", err)
	if errors.Is(err, scanner.ErrNoPart) {
		return nil, huma.Error410Gone("the part cannot be taken out of the mail again: it is too big, or this version takes mails apart in another way")
	}
	if err != nil {
		return nil, err
	}
	return &huma.StreamResponse{Body: func(c huma.Context) {
		c.SetHeader("Content-Type", "application/octet-stream")
		c.SetHeader("Content-Disposition", `attachment; filename="`+part.SHA256+`.bin"`)
		if _, err := c.BodyWriter().Write(data); err != nil {
			s.log.Debug("part not sent to its end", "mail", it.MailID, "error", err)
		}
	}}, nil
}
