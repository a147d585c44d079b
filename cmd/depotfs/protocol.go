package main

import "depotfs/cache"

// pathsRequest asks for work on paths, relative to the mount's root; none means
// the whole mount.
type pathsRequest struct {
	Paths          []string `json:"paths"`
	TimeoutSeconds float64  `json:"timeout_seconds,omitempty"` // flush: 0 = none
	State          string   `json:"state,omitempty"`           // ls
	On             bool     `json:"on,omitempty"`              // pin; disable: --yes
	Set            []string `json:"set,omitempty"`             // config: KEY=VALUE
}

// event is one line of a streamed answer. Exactly one field is set; the last
// line of every answer is Done or Error.
type event struct {
	Progress *progress         `json:"progress,omitempty"`
	File     *cache.FileStatus `json:"file,omitempty"`
	NotDone  *cache.NotDone    `json:"not_done,omitempty"`
	Said     string            `json:"said,omitempty"` // for the person who asked
	Done     bool              `json:"done,omitempty"`
	Error    string            `json:"error,omitempty"`
}

// progress is cache.Progress on the wire.
type progress struct {
	FilesDone  int64 `json:"files_done"`
	FilesTotal int64 `json:"files_total"`
	BytesDone  int64 `json:"bytes_done"`
	BytesTotal int64 `json:"bytes_total"`
}

// apiError is the body of an answer that is no success.
type apiError struct {
	Error string `json:"error"`
}
