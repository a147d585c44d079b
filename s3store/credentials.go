package s3store

import (
	"context"
	"fmt"
	"strings"
	"sync"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/credentials"
)

// keyring gives the SDK its keys and remembers them, so that they can be struck
// out of every text.
type keyring struct {
	region string

	mu     sync.Mutex
	source aws.CredentialsProvider // guarded by mu; nil until the default chain was loaded
	seen   []string                // guarded by mu
}

// maxSeen bounds how many keys are remembered; a role's keys change every few
// hours, and old ones are worth nothing.
const maxSeen = 12

func newKeyring(c Config) *keyring {
	k := &keyring{region: c.Region}
	if c.AccessKey != "" {
		k.source = credentials.NewStaticCredentialsProvider(string(c.AccessKey), string(c.SecretKey), string(c.SessionToken))
	}
	return k
}

// keyError is why there are no keys.
type keyError struct{ cause error }

func (e *keyError) Error() string { return "no credentials: " + e.cause.Error() }
func (e *keyError) Unwrap() error { return e.cause }

// Retrieve implements aws.CredentialsProvider. The default chain is loaded here
// and not in New: it reads files, and its errors are the requests' errors.
func (k *keyring) Retrieve(ctx context.Context) (aws.Credentials, error) {
	k.mu.Lock()
	source := k.source
	k.mu.Unlock()
	if source == nil {
		cfg, err := config.LoadDefaultConfig(ctx, config.WithRegion(k.region))
		if err != nil {
			return aws.Credentials{}, &keyError{fmt.Errorf("load the AWS configuration: %w", err)}
		}
		source = cfg.Credentials
		k.mu.Lock()
		k.source = source
		k.mu.Unlock()
	}
	creds, err := source.Retrieve(ctx)
	if err != nil {
		return aws.Credentials{}, &keyError{err}
	}
	k.remember(creds.AccessKeyID, creds.SecretAccessKey, creds.SessionToken)
	return creds, nil
}

func (k *keyring) remember(keys ...string) {
	k.mu.Lock()
	defer k.mu.Unlock()
next:
	for _, key := range keys {
		for _, old := range k.seen {
			if old == key {
				continue next
			}
		}
		if key != "" {
			k.seen = append(k.seen, key)
		}
	}
	if n := len(k.seen); n > maxSeen {
		k.seen = k.seen[n-maxSeen:]
	}
}

// redact strikes the keys out of text.
func (k *keyring) redact(text string) string {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, key := range k.seen {
		text = strings.ReplaceAll(text, key, hidden)
	}
	return text
}
