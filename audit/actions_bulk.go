package audit

import "context"

// Acts on many held mails at once. Each item's act is an event of its own, which
// names the start as its cause.
const (
	BulkStart = "quarantine.bulk.start"
	BulkEnd   = "quarantine.bulk.end"
)

type causationKey struct{}

// WithCausation notes the event that led to all that is done under ctx, for
// events that name no other cause.
func WithCausation(ctx context.Context, event string) context.Context {
	return context.WithValue(ctx, causationKey{}, event)
}

func causationFrom(ctx context.Context) string {
	id, _ := ctx.Value(causationKey{}).(string)
	return id
}
