package cache

import "context"

type backgroundKey struct{}

// InBackground marks a request for bytes that nobody waits for: under a bandwidth limit
// a Store has others go first.
func InBackground(ctx context.Context) context.Context {
	return context.WithValue(ctx, backgroundKey{}, true)
}

// IsBackground says whether a request was marked by InBackground.
func IsBackground(ctx context.Context) bool {
	yes, _ := ctx.Value(backgroundKey{}).(bool)
	return yes
}
