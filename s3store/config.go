package s3store

import (
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"regexp"
	"strings"
	"time"
)

// Config says where the store is and how to talk to it. The zero value of every
// field but Bucket is usable; DefaultConfig has what is good for most.
type Config struct {
	Bucket string
	// Endpoint is a host, host:port or URL; empty is AWS in Region. Its scheme,
	// where it has one, goes before UseHTTPS.
	Endpoint string
	Region   string // default us-east-1
	// PathStyle puts the bucket into the path, not the host name. nil: exactly
	// when Endpoint is set.
	PathStyle *bool
	UseHTTPS  bool // for an Endpoint without scheme; AWS is always asked by HTTPS

	// RootCAs are trusted for HTTPS; nil is the system's, which SSL_CERT_FILE
	// and SSL_CERT_DIR name.
	RootCAs *x509.CertPool `json:"-"`

	// Without keys the AWS default chain is asked at the first request:
	// environment, shared files, instance role.
	AccessKey    Secret
	SecretKey    Secret
	SessionToken Secret // only with temporary keys

	ConnectTimeout time.Duration // of dialling and of the TLS handshake; default 50 s
	SocketTimeout  time.Duration // a connection on which no byte moves for so long is cut; default 50 s
	MaxErrorRetry  int           // retries after the first attempt; 0 = default (3), negative = none
	MaxConns       int           // connections at once; 0 = as many as there are requests

	// CopyPartThreshold: larger objects are copied in parts of at most this
	// size. Default and most is 5 GiB, the limit of S3 for one request.
	CopyPartThreshold int64

	UploadLimit   int64 // bytes of objects per second, 0 = unlimited; see Store.SetLimits
	DownloadLimit int64

	UserAgent string       // such as depotfs/1.0, appended to the SDK's own
	Log       *slog.Logger // may be nil
}

// The defaults of the 2012 form (addS3), which operators know.
const (
	DefaultConnectTimeout = 50 * time.Second
	DefaultSocketTimeout  = 50 * time.Second
	DefaultMaxErrorRetry  = 3
	DefaultRegion         = "us-east-1"
)

// maxCopy is the largest object, and the largest part, that S3 copies in one request.
const maxCopy = 5 << 30

// minPart is the smallest part but the last that S3 takes.
const minPart = 5 << 20

// DefaultConfig is a Config for a bucket of AWS with all defaults spelled out.
func DefaultConfig() Config {
	return Config{
		Region: DefaultRegion, UseHTTPS: true, ConnectTimeout: DefaultConnectTimeout, SocketTimeout: DefaultSocketTimeout,
		MaxErrorRetry: DefaultMaxErrorRetry, CopyPartThreshold: maxCopy,
	}
}

// withDefaults fills in what was left at zero.
func (c Config) withDefaults() Config {
	if c.Region == "" {
		c.Region = DefaultRegion
	}
	if c.ConnectTimeout == 0 {
		c.ConnectTimeout = DefaultConnectTimeout
	}
	if c.SocketTimeout == 0 {
		c.SocketTimeout = DefaultSocketTimeout
	}
	switch {
	case c.MaxErrorRetry == 0:
		c.MaxErrorRetry = DefaultMaxErrorRetry
	case c.MaxErrorRetry < 0:
		c.MaxErrorRetry = 0
	}
	if c.CopyPartThreshold == 0 {
		c.CopyPartThreshold = maxCopy
	}
	if c.PathStyle == nil {
		pathStyle := c.Endpoint != ""
		c.PathStyle = &pathStyle
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	return c
}

// bucketName is what servers agree on; AWS is a little stricter.
var bucketName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{1,253}[A-Za-z0-9]$`)

var regionName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9-]*$`)

// Validate says, without asking anybody, what is wrong with c; all of it.
func (c Config) Validate() error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	switch {
	case c.Bucket == "":
		bad("bucket: no name is set")
	case !bucketName.MatchString(c.Bucket):
		bad("bucket: %q is no bucket name (3 to 255 letters, digits, dots and dashes, without scheme or path)", c.Bucket)
	}
	if _, err := c.endpointURL(); err != nil {
		errs = append(errs, err)
	}
	if c.Region != "" && !regionName.MatchString(c.Region) {
		bad("region: %q is no region name (such as us-east-1)", c.Region)
	}
	if (c.AccessKey == "") != (c.SecretKey == "") {
		bad("access key and secret key: set both, or neither to use the AWS default chain")
	}
	if c.SessionToken != "" && c.AccessKey == "" {
		bad("session token: is of use only with an access key")
	}
	for name, key := range map[string]Secret{"access key": c.AccessKey, "secret key": c.SecretKey, "session token": c.SessionToken} {
		if strings.ContainsFunc(string(key), func(r rune) bool { return r <= ' ' || r > '~' }) {
			bad("%s: has spaces, line ends or other characters that keys do not have", name)
		}
	}
	if c.ConnectTimeout < 0 || c.SocketTimeout < 0 {
		bad("timeouts: must not be negative")
	}
	if c.MaxConns < 0 {
		bad("connections: must not be negative")
	}
	if t := c.CopyPartThreshold; t != 0 && (t < minPart || t > maxCopy) {
		bad("copy part threshold: %d is not between %d (5 MiB) and %d (5 GiB)", t, minPart, int64(maxCopy))
	}
	if c.UploadLimit < 0 || c.DownloadLimit < 0 {
		bad("transfer limits: must not be negative (0 is unlimited)")
	}
	return errors.Join(errs...)
}

// endpointURL returns the endpoint with its scheme, or "" for AWS. Its errors do
// not show the endpoint when that might hold a password.
func (c Config) endpointURL() (string, error) {
	if c.Endpoint == "" {
		return "", nil
	}
	raw := c.Endpoint
	if !strings.Contains(raw, "://") {
		scheme := "http://"
		if c.UseHTTPS {
			scheme = "https://"
		}
		raw = scheme + raw
	}
	u, err := url.Parse(raw)
	switch {
	case err != nil:
		return "", errors.New("endpoint: is no URL, host or host:port")
	case u.User != nil:
		return "", errors.New("endpoint: must not hold a user or password; keys have their own settings")
	case u.Scheme != "http" && u.Scheme != "https":
		return "", fmt.Errorf("endpoint: %q is neither http nor https", c.Endpoint)
	case u.Hostname() == "" || strings.ContainsAny(u.Host, " \t"):
		return "", fmt.Errorf("endpoint: %q has no host", c.Endpoint)
	case u.RawQuery != "" || u.Fragment != "":
		return "", fmt.Errorf("endpoint: %q must end after the host (or path)", c.Endpoint)
	}
	return strings.TrimRight(u.String(), "/"), nil
}

// where names the store for a person.
func (c Config) where() string {
	if u, err := c.endpointURL(); err == nil && u != "" {
		return u
	}
	return "AWS in " + c.Region
}
