// Package events receives what an S3 store says when an object was made: event
// notifications over HTTP, as MinIO and Ceph's object gateway send them. They are untrusted
// and may be lost, late, or made up: who hears of a key looks for itself what is there.
package events

import (
	"encoding/json"
	"fmt"
	"net/url"
	"strings"
)

// notification is as much of Amazon's message structure as is needed. The other members
// differ between stores and versions.
type notification struct {
	Records []struct {
		EventName string `json:"eventName"`
		S3        struct {
			Object struct {
				Key string `json:"key"`
			} `json:"object"`
		} `json:"s3"`
	} `json:"Records"`
}

// Made reads a notification and lists the keys of objects that it says were made. Amazon and
// MinIO escape keys as in a query, Ceph may not: where that makes a difference both are listed.
func Made(body []byte) ([]string, error) {
	var n notification
	if err := json.Unmarshal(body, &n); err != nil {
		return nil, fmt.Errorf("read an event notification: %w", err)
	}
	var keys []string
	for _, r := range n.Records {
		if !isMade(r.EventName) || r.S3.Object.Key == "" {
			continue
		}
		keys = append(keys, r.S3.Object.Key)
		if plain, err := url.QueryUnescape(r.S3.Object.Key); err == nil && plain != r.S3.Object.Key {
			keys = append(keys, plain)
		}
	}
	return keys, nil
}

// isMade knows the events after which there is an object: puts, copies and completed
// uploads, and with Ceph those that came from another site of the store.
func isMade(event string) bool {
	event = strings.TrimPrefix(event, "s3:")
	return strings.HasPrefix(event, "ObjectCreated:") || strings.HasPrefix(event, "ObjectSynced:")
}
