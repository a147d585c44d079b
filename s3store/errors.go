package s3store

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"depotfs/cache"
)

// storeError is what a Store answers: one of the sentinels of package cache and
// a text for people. The SDK's error is not kept: its chain holds things such as
// context.DeadlineExceeded for a dial that timed out, which callers would take
// for their own.
type storeError struct {
	kind, key string
	text      string
	meaning   error
	code      string // the store's own word, "" where it gave none
}

func (e *storeError) Error() string {
	if e.key == "" {
		return e.text
	}
	return fmt.Sprintf("%s %q: %s", e.kind, e.key, e.text)
}

func (e *storeError) Unwrap() error { return e.meaning }

// meaningOf says what the codes of S3 and of the servers that speak it mean.
// Codes that are missing here are judged by their HTTP status.
var meaningOf = map[string]error{
	"NoSuchKey":     cache.ErrNotFound,
	"NoSuchUpload":  cache.ErrNotFound,
	"NoSuchVersion": cache.ErrNotFound,
	"NoSuchBucket":  cache.ErrNotFound,
	"NotFound":      cache.ErrNotFound,

	"PreconditionFailed":         cache.ErrChanged,
	"ConditionalRequestConflict": cache.ErrChanged,

	"AccessDenied":                 cache.ErrDenied,
	"AccountProblem":               cache.ErrDenied,
	"AllAccessDisabled":            cache.ErrDenied,
	"AuthorizationHeaderMalformed": cache.ErrDenied,
	"ExpiredToken":                 cache.ErrDenied,
	"InvalidAccessKeyId":           cache.ErrDenied,
	"InvalidSecurity":              cache.ErrDenied,
	"InvalidToken":                 cache.ErrDenied,
	"MissingSecurityHeader":        cache.ErrDenied,
	"NotSignedUp":                  cache.ErrDenied,
	"RequestExpired":               cache.ErrDenied,
	"RequestTimeTooSkewed":         cache.ErrDenied,
	"SignatureDoesNotMatch":        cache.ErrDenied,
	"TokenRefreshRequired":         cache.ErrDenied,
	"XAdminUserNotFound":           cache.ErrDenied, // versitygw, for an unknown access key, with status 404

	"BadDigest":                          cache.ErrChecksum,
	"ContentSHA256Mismatch":              cache.ErrChecksum,
	"InvalidDigest":                      cache.ErrChecksum,
	"XAmzContentChecksumMismatch":        cache.ErrChecksum,
	"XAmzContentSHA256Mismatch":          cache.ErrChecksum,
	"XMinioInvalidObjectContentChecksum": cache.ErrChecksum,

	"IncompleteBody":      cache.ErrUnavailable,
	"OperationAborted":    cache.ErrUnavailable,
	"RequestTimeout":      cache.ErrUnavailable,
	"SlowDown":            cache.ErrUnavailable,
	"TemporaryRedirect":   cache.ErrUnavailable,
	"Throttling":          cache.ErrUnavailable,
	"ThrottlingException": cache.ErrUnavailable,
	"TooManyRequests":     cache.ErrUnavailable,
	"QuotaExceeded":       cache.ErrUnavailable,
	"XMinioStorageFull":   cache.ErrUnavailable,

	"NotImplemented": cache.ErrRejected,
}

// byStatus judges an answer without a code that is known.
func byStatus(status int) error {
	switch {
	case status == http.StatusNotFound:
		return cache.ErrNotFound
	case status == http.StatusUnauthorized || status == http.StatusForbidden:
		return cache.ErrDenied
	case status == http.StatusPreconditionFailed:
		return cache.ErrChanged
	case status == http.StatusNotImplemented:
		return cache.ErrRejected
	case status == http.StatusRequestTimeout || status == http.StatusTooManyRequests || status == http.StatusTemporaryRedirect,
		status >= 500, status < 300:
		return cache.ErrUnavailable
	default:
		return cache.ErrRejected
	}
}

// fail turns any error of a call into the Store's: the context's own, the
// body's own, or a storeError.
func (s *Store) fail(ctx context.Context, c *call, err error) error {
	if err == nil {
		return nil
	}
	if ctx.Err() != nil {
		return fmt.Errorf("%s %q: %w", c.kind, c.key, ctx.Err())
	}
	if stopped := c.stop(); stopped != nil {
		return fmt.Errorf("%s %q: %w", c.kind, c.key, stopped)
	}
	if bodyErr := c.body(); bodyErr != nil {
		if errors.Is(bodyErr, errShortBody) {
			return s.errorf(c, cache.ErrChecksum, "the body ended early")
		}
		return fmt.Errorf("%s %q: read body: %w", c.kind, c.key, bodyErr)
	}
	var done *storeError
	if errors.As(err, &done) {
		return err
	}
	text, meaning := s.judge(err)
	return &storeError{kind: c.kind, key: c.key, meaning: meaning, text: s.keys.redact(text), code: codeOf(err)}
}

// errorf makes a storeError whose text has no secrets.
func (s *Store) errorf(c *call, meaning error, format string, args ...any) error {
	return &storeError{kind: c.kind, key: c.key, meaning: meaning, text: s.keys.redact(fmt.Sprintf(format, args...))}
}

// judge finds out what an error of the SDK means and says it in words.
func (s *Store) judge(err error) (text string, meaning error) {
	var keys *keyError
	if errors.As(err, &keys) {
		return keys.Error() + " (set the access key and secret key, or what the AWS default chain reads)", cache.ErrDenied
	}
	var invalid smithy.InvalidParamsError
	if errors.As(err, &invalid) {
		return invalid.Error(), cache.ErrRejected
	}
	status := 0
	var response *smithyhttp.ResponseError
	if errors.As(err, &response) {
		status = response.HTTPStatusCode()
	}
	var api smithy.APIError
	if errors.As(err, &api) {
		code, message := api.ErrorCode(), strings.TrimSpace(api.ErrorMessage())
		meaning, ok := meaningOf[code]
		if !ok {
			meaning = byStatus(status)
		}
		return s.explain(code, message, status), meaning
	}
	if status != 0 {
		return fmt.Sprintf("%s answered %d %s in a form that is not S3's", s.cfg.where(), status, http.StatusText(status)), byStatus(status)
	}
	return fmt.Sprintf("%s cannot be reached: %v", s.cfg.where(), innermost(err)), cache.ErrUnavailable
}

// explain says what a person can do about an answer.
func (s *Store) explain(code, message string, status int) string {
	where := s.cfg.where()
	told := code
	if message != "" && message != code {
		told += ": " + message
	}
	switch code {
	case "NoSuchBucket":
		return fmt.Sprintf("bucket %q does not exist at %s", s.cfg.Bucket, where)
	case "InvalidAccessKeyId", "XAdminUserNotFound":
		return fmt.Sprintf("%s does not know the access key: check s3.access-key (%s)", where, told)
	case "SignatureDoesNotMatch":
		return fmt.Sprintf("%s finds the signature wrong: check s3.secret-key (%s)", where, told)
	case "ExpiredToken", "TokenRefreshRequired", "InvalidToken", "RequestExpired":
		return fmt.Sprintf("the temporary credentials have expired or are wrong: renew them (%s)", told)
	case "RequestTimeTooSkewed":
		return fmt.Sprintf("the clock of this machine and that of %s differ too much: set the clock (%s)", where, told)
	case "AuthorizationHeaderMalformed", "PermanentRedirect", "IllegalLocationConstraintException":
		return fmt.Sprintf("bucket %q is not in region %s: check s3.region and s3.endpoint (%s)", s.cfg.Bucket, s.cfg.Region, told)
	case "AccessDenied", "Forbidden", "AllAccessDisabled":
		return fmt.Sprintf("the key may not do this to bucket %q at %s: check its policy (%s)", s.cfg.Bucket, where, told)
	case "XMinioStorageFull", "QuotaExceeded", "InsufficientStorage":
		return fmt.Sprintf("%s is full or over quota (%s)", where, told)
	}
	if status == 0 {
		return told
	}
	return fmt.Sprintf("%s answered %d %s", where, status, told)
}

// codeOf returns the store's code of an error of the SDK or of this package.
func codeOf(err error) string {
	var told *storeError
	if errors.As(err, &told) {
		return told.code
	}
	var api smithy.APIError
	if errors.As(err, &api) {
		return api.ErrorCode()
	}
	return ""
}

// goneAnyway takes "there is no such thing" for the success of a removal,
// unless it is the bucket that is missing.
func goneAnyway(err error) error {
	if errors.Is(err, cache.ErrNotFound) && codeOf(err) != "NoSuchBucket" {
		return nil
	}
	return err
}

// failWrite is fail for a write with conditions: an object that must be a
// certain version and is not there at all has changed.
func (s *Store) failWrite(ctx context.Context, c *call, err error, o cache.PutOptions) error {
	err = s.fail(ctx, c, err)
	if code := codeOf(err); o.IfMatch != "" && errors.Is(err, cache.ErrNotFound) && (code == "NoSuchKey" || code == "NotFound") {
		return s.errorf(c, cache.ErrChanged, "exists no more")
	}
	return err
}

// innermost walks down to the cause, past the SDK's and net/http's preludes,
// but not so far that "dial tcp host:port" is lost.
func innermost(err error) error {
	for {
		switch err.(type) {
		case *smithy.OperationError, *smithyhttp.RequestSendError, *smithyhttp.ResponseError:
		default:
			if !strings.HasPrefix(err.Error(), "exceeded maximum number of attempts") &&
				!strings.HasPrefix(err.Error(), "https response error") {
				return err
			}
		}
		next := errors.Unwrap(err)
		if next == nil {
			return err
		}
		err = next
	}
}
