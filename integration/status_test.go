package integration

import (
	"encoding/json"
	"strings"
)

// status is `depotfs status --json`, as far as tests look at it.
type status struct {
	Passthrough bool `json:"passthrough"`
	Store       struct {
		State    string           `json:"state"`
		Reason   string           `json:"reason"`
		Error    string           `json:"error"`
		Listing  string           `json:"listing"`
		Sent     int64            `json:"bytes_sent"`
		Received int64            `json:"bytes_received"`
		Requests map[string]int64 `json:"requests"`
	} `json:"store"`
	Pending struct {
		Files     int64   `json:"files"`
		Bytes     int64   `json:"bytes"`
		Moves     int64   `json:"moves"`
		Removals  int64   `json:"removals"`
		Oldest    float64 `json:"oldest_seconds"`
		Uploading []struct {
			Path string `json:"path"`
			Done int64  `json:"done_bytes"`
		} `json:"uploading"`
	} `json:"pending"`
	Limits struct {
		Upload   int64 `json:"upload_limit"`
		Download int64 `json:"download_limit"`
		Parts    int   `json:"upload_parts"`
		PartSize int64 `json:"part_size"`
	} `json:"limits"`
	Events struct {
		Listen   string `json:"listen"`
		Received int64  `json:"received"`
		Woken    int64  `json:"woken"`
		Refused  int64  `json:"refused"`
		Invalid  int64  `json:"invalid"`
	} `json:"events"`
	Adoption struct {
		State     string `json:"state"`
		DirsDone  int64  `json:"dirs_done"`
		DirsLeft  int64  `json:"dirs_left"`
		Files     int64  `json:"files"`
		Compared  int64  `json:"compared"`
		Same      int64  `json:"same"`
		Uploaded  int64  `json:"uploaded"`
		Conflicts int64  `json:"conflicts"`
		Comparing int64  `json:"comparing"`
	} `json:"adoption"`
	Cache struct {
		Files      int64 `json:"files"`
		Resident   int64 `json:"resident_files"`
		Partial    int64 `json:"partial_files"`
		Remote     int64 `json:"remote_files"`
		Unshowable int64 `json:"unshowable_objects"`
		ReadHits   int64 `json:"read_hits"`
		ReadMisses int64 `json:"read_misses"`
	} `json:"cache"`
	Problems []struct {
		Path, Kind, Reason string
	} `json:"problems"`
}

func (z *zone) status() status {
	z.t.Helper()
	var s status
	if err := json.Unmarshal([]byte(z.must("status", "--json", z.mnt)), &s); err != nil {
		z.t.Fatalf("status --json: %v", err)
	}
	return s
}

// fileStatus is one file of `depotfs stat --json`.
type fileStatus struct {
	Path    string `json:"path"`
	Type    string `json:"type"`
	State   string `json:"state"`
	Size    int64  `json:"size"`
	Here    int64  `json:"bytes_here"`
	Pending int64  `json:"bytes_pending"`
	Key     string `json:"key"`
	ETag    string `json:"etag"`
	CRC64   string `json:"crc64nvme"`
	Why     string `json:"why"`
}

func (z *zone) stat(name string) fileStatus {
	z.t.Helper()
	var all []fileStatus
	if err := json.Unmarshal([]byte(z.must("stat", "--json", z.path(name))), &all); err != nil || len(all) != 1 {
		z.t.Fatalf("stat --json %s: %d files, %v", name, len(all), err)
	}
	return all[0]
}

// states is `depotfs ls --json` as a map from path to state, of files only.
func (z *zone) states(args ...string) map[string]string {
	z.t.Helper()
	found := map[string]string{}
	dec := json.NewDecoder(strings.NewReader(z.must(append(append([]string{"ls", "--json"}, args...), z.mnt)...)))
	for dec.More() {
		var f fileStatus
		if err := dec.Decode(&f); err != nil {
			z.t.Fatalf("ls --json: %v", err)
		}
		if f.Type == "file" {
			found[f.Path] = f.State
		}
	}
	return found
}
