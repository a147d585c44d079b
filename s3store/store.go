package s3store

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync/atomic"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awsmiddleware "github.com/aws/aws-sdk-go-v2/aws/middleware"
	"github.com/aws/aws-sdk-go-v2/aws/ratelimit"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/smithy-go/logging"

	"depotfs/cache"
)

// Store is one bucket. It is safe for concurrent use and never changes, but for
// the transfer limits and what Probe finds out: new settings make a new Store (Renew).
type Store struct {
	cfg    Config
	keys   *keyring
	trans  *transport
	client *s3.Client
	can    atomic.Pointer[abilities]
	closed atomic.Bool
}

var _ cache.Store = (*Store)(nil)

// abilities is what is relied on.
type abilities struct {
	cache.Capabilities
	conditionalCopy bool // If-Match and If-None-Match for the target of CopyObject
	copiedSums      bool // copied parts have checksums, so that those of the whole object add up
	uploadsByPrefix bool // ListMultipartUploads honours any prefix
}

// assumed holds until Probe: what every store is expected to do, without what
// versitygw or MinIO get wrong.
var assumed = abilities{
	Capabilities: cache.Capabilities{ConditionalPut: true, ConditionalComplete: true, CopyPart: true, CRC64: true},
}

// New makes a Store of a valid Config. It starts nothing and asks nobody.
func New(cfg Config) (*Store, error) { return newStore(cfg, nil) }

// Renew makes a Store that is to take the place of s: the same depot by other settings.
// Both count together and keep together within the transfer limits, which are those of s
// (see SetLimits). s goes on until it is closed.
func (s *Store) Renew(cfg Config) (*Store, error) { return newStore(cfg, s.trans.traffic) }

func newStore(cfg Config, counts *traffic) (*Store, error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("store settings: %w", err)
	}
	cfg = cfg.withDefaults()
	endpoint, err := cfg.endpointURL()
	if err != nil {
		return nil, fmt.Errorf("store settings: %w", err)
	}
	if counts == nil {
		counts = newTraffic(cfg)
	}
	s := &Store{cfg: cfg, keys: newKeyring(cfg), trans: newTransport(cfg, counts)}
	start := assumed
	s.can.Store(&start)
	options := s3.Options{
		Region:       cfg.Region,
		Credentials:  aws.NewCredentialsCache(s.keys),
		HTTPClient:   s.trans,
		UsePathStyle: *cfg.PathStyle,
		// The caller has computed the checksums already, and bodies are
		// verified by whoever assembles the ranges.
		RequestChecksumCalculation: aws.RequestChecksumCalculationWhenRequired,
		ResponseChecksumValidation: aws.ResponseChecksumValidationWhenRequired,
		Retryer: retry.NewStandard(func(o *retry.StandardOptions) {
			o.MaxAttempts = cfg.MaxErrorRetry + 1
			o.Backoff = retry.BackoffDelayerFunc(backoff)
			o.RateLimiter = ratelimit.None // MaxErrorRetry is a promise, not a hope
			o.Retryables = append([]retry.IsErrorRetryable{retry.IsErrorRetryableFunc(s.whenOpen)}, o.Retryables...)
		}),
		Logger: logging.LoggerFunc(func(_ logging.Classification, format string, v ...any) {
			cfg.Log.Debug("s3 sdk", "message", s.keys.redact(fmt.Sprintf(format, v...)))
		}),
	}
	if endpoint != "" {
		options.BaseEndpoint = &endpoint
	}
	if name, number, _ := strings.Cut(cfg.UserAgent, "/"); name != "" {
		options.APIOptions = append(options.APIOptions, awsmiddleware.AddUserAgentKeyValue(name, number))
	}
	s.client = s3.New(options)
	return s, nil
}

// firstBackoff and lastBackoff bound the pause before a retry: full jitter over
// a range that doubles. The SDK's own first pause is up to 2 s, too much for a
// read that somebody waits for.
const (
	firstBackoff = 200 * time.Millisecond
	lastBackoff  = 20 * time.Second
)

func backoff(attempt int, _ error) (time.Duration, error) {
	most := lastBackoff
	if attempt >= 1 && attempt < 7 {
		most = min(most, firstBackoff<<(attempt-1))
	}
	return rand.N(most), nil
}

// Close closes idle connections. Requests that run go on; one that fails is not retried.
func (s *Store) Close() {
	s.closed.Store(true)
	s.trans.base.CloseIdleConnections()
}

// whenOpen ends the retries of a Store that was closed.
func (s *Store) whenOpen(error) aws.Ternary {
	if s.closed.Load() {
		return aws.FalseTernary
	}
	return aws.UnknownTernary
}

// SetLimits changes the transfer limits, in bytes of objects per second, also
// for transfers that run; 0 is unlimited.
func (s *Store) SetLimits(upload, download int64) {
	s.trans.upload.set(upload)
	s.trans.download.set(download)
}

// Usage implements cache.Store. Requests counts every attempt; Errors counts
// attempts that failed, but not answers such as 404 and 412.
func (s *Store) Usage() cache.StoreUsage { return s.trans.usage() }

// begin starts a call on a key that must be one.
func (s *Store) begin(ctx context.Context, kind, key string) (context.Context, *call, error) {
	ctx, c := newCall(ctx, kind, key)
	if err := ctx.Err(); err != nil {
		return ctx, c, s.fail(ctx, c, err)
	}
	if key == "" {
		return ctx, c, s.errorf(c, cache.ErrRejected, "the key is empty")
	}
	if len(key) > maxKey {
		return ctx, c, s.errorf(c, cache.ErrRejected, "the key has %d bytes, more than %d", len(key), maxKey)
	}
	return ctx, c, nil
}

// maxKey is the longest key of S3, in bytes.
const maxKey = 1024

// checkMetadata refuses what headers cannot carry before the SDK tries to.
func (s *Store) checkMetadata(c *call, meta map[string]string) error {
	for k, v := range meta {
		if k == "" || strings.ContainsFunc(k+v, func(r rune) bool { return r < ' ' || r > '~' }) {
			return s.errorf(c, cache.ErrRejected, "metadata %q is not printable ASCII", k)
		}
	}
	return nil
}

func (s *Store) bucket() *string { return &s.cfg.Bucket }

// quoted makes an entity tag of a stored ETag.
func quoted(etag string) *string {
	if etag == "" {
		return nil
	}
	return aws.String(`"` + etag + `"`)
}

func unquoted(etag *string) string {
	return strings.Trim(strings.TrimPrefix(aws.ToString(etag), "W/"), `"`)
}
