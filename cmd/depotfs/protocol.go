package main

import "depotfs/cache"

// pathsRequest asks for work on paths, relative to the mount's root; none means
// the whole mount.
type pathsRequest struct {
	Paths          []string `json:"paths"`
	TimeoutSeconds float64  `json:"timeout_seconds,omitempty"` // flush: 0 = none
	State          string   `json:"state,omitempty"`           // ls
	On             bool     `json:"on,omitempty"`              // pin; disable, deletes approve, trash purge: --yes
	Set            []string `json:"set,omitempty"`             // config: KEY=VALUE
	AllZones       bool     `json:"all_zones,omitempty"`       // config: announce them
	Entries        []string `json:"entries,omitempty"`         // trash, conflicts: names of entries
	To             string   `json:"to,omitempty"`              // trash restore
	OlderSeconds   float64  `json:"older_seconds,omitempty"`   // trash purge, conflicts drop; 0 = whatever its age
	Zone           string   `json:"zone,omitempty"`            // zones/remove
}

// event is one line of a streamed answer. Exactly one field is set; the last
// line of every answer is Done or Error.
type event struct {
	Progress *progress            `json:"progress,omitempty"`
	File     *cache.FileStatus    `json:"file,omitempty"`
	NotDone  *cache.NotDone       `json:"not_done,omitempty"`
	Held     *cache.HeldName      `json:"held,omitempty"`
	Zone     *cache.ZoneStatus    `json:"zone,omitempty"`
	Trash    *cache.TrashEntry    `json:"trash,omitempty"`
	Conflict *cache.ConflictEntry `json:"conflict,omitempty"`
	Purged   *cache.Purged        `json:"purged,omitempty"`
	Said     string               `json:"said,omitempty"` // for the person who asked
	Done     bool                 `json:"done,omitempty"`
	Error    string               `json:"error,omitempty"`
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
