package main

import (
	"strings"
	"time"

	"depotfs/cache"
)

// Config is everything that can be set for a mount. Zero values are not the
// defaults; loadConfig fills them in.
type Config struct {
	File string // the configuration file; "" = none

	CacheDir, StateDir string
	Zone               string
	Deploy             string // gateway, beside

	Bucket, Prefix string
	Endpoint       string // with its scheme; "" = Amazon's for the region
	Region         string
	PathStyle      bool
	UseHTTPS       bool // for an endpoint without a scheme
	DepotRegion    string
	AccessKey      secret // both empty: the AWS chain
	SecretKey      secret
	SessionToken   secret // with temporary keys
	ConnectTimeout time.Duration
	SocketTimeout  time.Duration
	MaxErrorRetry  int
	NoStoreCheck   bool

	CacheSize, MinFree, Capacity int64

	UploadFiles, UploadParts, Fetches int
	PartSize                          int64
	UploadLimit, DownloadLimit        int64 // bytes per second; 0 = none
	CompareLimit                      int64 // the same, of what is read of the share to compare it
	ColdTimeout, MaxDirtyAge          time.Duration
	ScanInterval, ScanFull            time.Duration
	PollInterval, ListInterval        time.Duration
	EventsListen                      string // host:port; "": events are not received
	EventsSecret                      secret
	ShareDeletes                      string         // restore, delete; "": by Deploy
	Settle                            *time.Duration // nil: each class its own
	Brake                             cache.Brake    // on bursts of deletes of what other zones made
	Deletes                           string         // global, origin, or by class
	TrashRetention                    time.Duration  // 0: deleted versions are not kept

	Foreground, AllowOther bool
	Passthrough            string // auto, on, off
	LogFormat, LogLevel    string
	LogFile                string

	givenEndpoint string // Endpoint as it was given, perhaps without a scheme

	origin map[string]string // where each option's value came from, by option name
}

// option is one row of the table of all settings.
type option struct {
	name  string // of the flag, of DEPOTFS_NAME, and of the key in the file
	key   string // the 2012 form's name in the file and in config show, where it has one
	group string // in help
	usage string
	fixed string // default text; "" where the default is empty or computed
	note  string // what help says of a computed default
	at    func(*Config) value
	only  place // "" = everywhere
	live  bool  // config set changes it while a mount runs
	all   bool  // and in all zones at once
}

// place restricts where an option may be given.
type place string

const (
	onlyFile    place = "file"    // secrets: command lines and environments are readable by others
	onlyCommand place = "command" // flag or environment
)

const (
	groupPlaces   = "Basics"
	groupStore    = "Depot"
	groupSpace    = "Space"
	groupTransfer = "Transfers"
	groupProcess  = "Process"
)

// options is the table; help, configuration file, environment and config show
// are all made from it, in this order.
var options = []option{
	{name: "config", group: groupPlaces, usage: "read settings from `FILE` (YAML)", only: onlyCommand,
		at: func(c *Config) value { return pathValue{&c.File} }},
	{name: "cache-dir", group: groupPlaces, usage: "the share: `DIR` that holds the files at their plain paths",
		at: func(c *Config) value { return pathValue{&c.CacheDir} }},
	{name: "state-dir", group: groupPlaces, usage: "keep in `DIR`, on a local disk, the catalog, the log and the control socket", note: "/var/lib/depotfs/ZONE, or ~/.local/state/depotfs/ZONE",
		at: func(c *Config) value { return pathValue{&c.StateDir} }},
	{name: "zone", group: groupPlaces, usage: "call this mount `NAME` among all that share the bucket", note: "the host's name",
		at: func(c *Config) value { return textValue{&c.Zone} }},
	{name: "share-deletes", group: groupPlaces, usage: "`WHAT` a file that others removed from the share means; restore: the bucket has it, so it stays; delete: it is deleted everywhere, templates excepted; auto: restore, and delete with --deploy beside", fixed: "auto",
		at: func(c *Config) value { return choiceValue{&c.ShareDeletes, []string{"auto", "restore", "delete"}} }},
	{name: "brake", group: groupPlaces, usage: "hold the deletes of what other zones made when, within a time, they are in so many template or snapshot directories and in more than a share of all, or more than a number of them: `DIRS,SHARE,NUMBER,TIME` or off", fixed: "3,10%,20,10m",
		at: func(c *Config) value { return brakeValue{&c.Brake} }},
	{name: "deletes", group: groupPlaces, usage: "`WHAT` it means to delete here what another zone made; global: it is gone in all zones; origin: it is hidden here; or by class, like template=origin,snapshot=global", fixed: "global",
		at: func(c *Config) value { return deletesValue{&c.Deletes} }},
	{name: "scan-interval", group: groupPlaces, usage: "look every `D` at what of the share was used within a day", fixed: "1m",
		at: func(c *Config) value { return durationValue{&c.ScanInterval, time.Second} }},
	{name: "scan-full", group: groupPlaces, usage: "look at everything in the share within `D`", fixed: "6h",
		at: func(c *Config) value { return durationValue{&c.ScanFull, time.Second} }},
	{name: "poll-interval", group: groupPlaces, usage: "look every `D` at what other zones did; less often, up to 10s, while nothing happens", fixed: "2s",
		at: func(c *Config) value { return durationValue{&c.PollInterval, 100 * time.Millisecond} }},
	{name: "list-interval", group: groupPlaces, usage: "list the whole depot every `D`, for what other tools put there or removed", fixed: "24h",
		at: func(c *Config) value { return durationValue{&c.ListInterval, 10 * time.Minute} }},
	{name: "events-listen", group: groupPlaces, usage: "receive the store's event notifications over HTTP at `ADDRESS`, such as 10.1.0.5:9400, and look then at what other zones did; needs events-secret in the --config file",
		at: func(c *Config) value { return textValue{&c.EventsListen} }},
	{name: "events-secret", group: groupPlaces, usage: "what senders of event notifications must know", only: onlyFile,
		at: func(c *Config) value { return secretValue{&c.EventsSecret} }},
	{name: "deploy", group: groupPlaces, usage: "`HOW` the mount is used; gateway: all access goes through it; beside: others use the share directly too", fixed: "gateway",
		at: func(c *Config) value { return choiceValue{&c.Deploy, []string{"gateway", "beside"}} }},

	{name: "bucket", key: "s3.bucket", group: groupStore, usage: "keep the depot in `BUCKET`; without one the store is off and the mount is a plain pass-through", live: true,
		at: func(c *Config) value { return textValue{&c.Bucket} }},
	{name: "prefix", group: groupStore, usage: "begin the depot's keys with `PREFIX`",
		at: func(c *Config) value { return textValue{&c.Prefix} }},
	{name: "endpoint", key: "s3.endpoint", group: groupStore, usage: "use the S3 server at `URL` instead of Amazon's", live: true, all: true,
		at: func(c *Config) value { return textValue{&c.Endpoint} }},
	{name: "region", key: "s3.region", group: groupStore, usage: "sign requests for `REGION`", note: "AWS_REGION, else us-east-1", live: true,
		at: func(c *Config) value { return textValue{&c.Region} }},
	{name: "path-style", key: "s3.path-style", group: groupStore, usage: "address buckets as endpoint/bucket", note: "true with an endpoint", live: true,
		at: func(c *Config) value { return boolValue{&c.PathStyle} }},
	{name: "use-https", key: "s3.use-https", group: groupStore, usage: "for an endpoint that names no scheme", fixed: "true", live: true, all: true,
		at: func(c *Config) value { return boolValue{&c.UseHTTPS} }},
	{name: "access-key", key: "s3.access-key", group: groupStore, usage: "access key id", only: onlyFile, live: true,
		at: func(c *Config) value { return secretValue{&c.AccessKey} }},
	{name: "secret-key", key: "s3.secret-key", group: groupStore, usage: "secret access key", only: onlyFile, live: true,
		at: func(c *Config) value { return secretValue{&c.SecretKey} }},
	{name: "session-token", key: "s3.session-token", group: groupStore, usage: "session token of temporary keys", only: onlyFile, live: true,
		at: func(c *Config) value { return secretValue{&c.SessionToken} }},
	{name: "depot-region", group: groupStore, usage: "the depot belongs to the CloudStack region `NAME`",
		at: func(c *Config) value { return textValue{&c.DepotRegion} }},
	{name: "connect-timeout", key: "s3.connect-timeout", group: groupStore, usage: "give up connecting after `D`", fixed: "50s", live: true, all: true,
		at: func(c *Config) value { return durationValue{&c.ConnectTimeout, time.Millisecond} }},
	{name: "socket-timeout", key: "s3.socket-timeout", group: groupStore, usage: "give up a connection that is silent for `D`", fixed: "50s", live: true, all: true,
		at: func(c *Config) value { return durationValue{&c.SocketTimeout, time.Millisecond} }},
	{name: "max-error-retry", key: "s3.max-error-retry", group: groupStore, usage: "retry a failed request `N` times before it counts as failed", fixed: "3", live: true, all: true,
		at: func(c *Config) value { return countValue{&c.MaxErrorRetry, 0} }},
	{name: "trash-retention", group: groupStore, usage: "keep the bucket's versions of deleted files in the trash for `D`; 0s: delete them at once", fixed: "168h", live: true,
		at: func(c *Config) value { return durationValue{&c.TrashRetention, 0} }},
	{name: "no-store-check", group: groupStore, usage: "mount without asking the store first", fixed: "false", only: onlyCommand,
		at: func(c *Config) value { return boolValue{&c.NoStoreCheck} }},

	{name: "cache-size", group: groupSpace, usage: "keep at most `SIZE` of files that the depot has too; 0 = no limit", fixed: "0",
		at: func(c *Config) value { return sizeValue{p: &c.CacheSize} }},
	{name: "min-free", group: groupSpace, usage: "evict so that `SIZE` stays free on the share; 0 = never for that", fixed: "0",
		at: func(c *Config) value { return sizeValue{p: &c.MinFree} }},
	{name: "capacity", group: groupSpace, usage: "report `SIZE` as the file system's size while the store is on", fixed: "1PiB",
		at: func(c *Config) value { return sizeValue{p: &c.Capacity} }},

	{name: "upload-files", group: groupTransfer, usage: "upload `N` files at once", fixed: "4", live: true, all: true,
		at: func(c *Config) value { return countValue{&c.UploadFiles, 1} }},
	{name: "upload-parts", group: groupTransfer, usage: "send `N` parts at once, over all files", fixed: "8", live: true, all: true,
		at: func(c *Config) value { return countValue{&c.UploadParts, 1} }},
	{name: "fetches", group: groupTransfer, usage: "fetch `N` ranges at once", fixed: "32",
		at: func(c *Config) value { return countValue{&c.Fetches, 1} }},
	{name: "part-size", group: groupTransfer, usage: "upload larger files in parts of `SIZE` or more", fixed: "16MiB", live: true, all: true,
		at: func(c *Config) value { return sizeValue{p: &c.PartSize} }},
	{name: "upload-limit", group: groupTransfer, usage: "send at most `RATE`, such as 20MiB/s; 0 = no limit", fixed: "0", live: true, all: true,
		at: func(c *Config) value { return sizeValue{p: &c.UploadLimit, rate: true} }},
	{name: "download-limit", group: groupTransfer, usage: "receive at most `RATE`; 0 = no limit", fixed: "0", live: true, all: true,
		at: func(c *Config) value { return sizeValue{p: &c.DownloadLimit, rate: true} }},
	{name: "compare-limit", group: groupTransfer, usage: "read at most `RATE` of the share to compare files that were in it before with the bucket; 0 = no limit", fixed: "100MiB/s",
		at: func(c *Config) value { return sizeValue{p: &c.CompareLimit, rate: true} }},
	{name: "cold-timeout", group: groupTransfer, usage: "a read of what is not here tries the store for `D`, then fails", fixed: "20s",
		at: func(c *Config) value { return durationValue{&c.ColdTimeout, time.Millisecond} }},
	{name: "max-dirty-age", group: groupTransfer, usage: "a file that is open and written to without a pause is shown as busy after `D`", fixed: "1h",
		at: func(c *Config) value { return durationValue{&c.MaxDirtyAge, time.Second} }},
	{name: "settle", group: groupTransfer, usage: "upload every file after `D` of quiet", note: "by class, 2s to 30s",
		at: func(c *Config) value { return optionalDuration{&c.Settle} }},

	{name: "foreground", group: groupProcess, usage: "stay, and log to the terminal", fixed: "false", only: onlyCommand,
		at: func(c *Config) value { return boolValue{&c.Foreground} }},
	{name: "allow-other", group: groupProcess, usage: "let other users in, as the mounts of root always do; permissions are checked as usual", note: "true for root",
		at: func(c *Config) value { return boolValue{&c.AllowOther} }},
	{name: "passthrough", group: groupProcess, usage: "`WHEN` the kernel reads and writes resident files itself: auto, on (or do not mount), off", fixed: "auto",
		at: func(c *Config) value { return choiceValue{&c.Passthrough, []string{"auto", "on", "off"}} }},
	{name: "log-file", group: groupProcess, usage: "log to `FILE`", note: "STATE-DIR/depotfs.log",
		at: func(c *Config) value { return pathValue{&c.LogFile} }},
	{name: "log-format", group: groupProcess, usage: "log as `FORMAT`: text or json", fixed: "text",
		at: func(c *Config) value { return choiceValue{&c.LogFormat, []string{"text", "json"}} }},
	{name: "log-level", group: groupProcess, usage: "log from `LEVEL`: debug, info, warn or error", fixed: "info",
		at: func(c *Config) value { return choiceValue{&c.LogLevel, []string{"debug", "info", "warn", "error"}} }},
}

// fileKey is the option's name in the configuration file and in config show.
func (o *option) fileKey() string {
	if o.key != "" {
		return o.key
	}
	return o.name
}

// envName is the option's environment variable.
func (o *option) envName() string {
	return "DEPOTFS_" + strings.ToUpper(strings.ReplaceAll(o.name, "-", "_"))
}

func (o *option) isBool() bool {
	_, yes := o.at(&Config{}).(boolValue)
	return yes
}

// isSecret reports whether the value must never be shown.
func (o *option) isSecret() bool {
	_, yes := o.at(&Config{}).(secretValue)
	return yes
}
