package s3store

import (
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
)

// Secret is a string that shows itself to no printer: every verb of fmt, JSON,
// text encoders (YAML) and slog write "***". string(s) is the plain text.
type Secret string

const hidden = "***"

// String returns "***".
func (s Secret) String() string { return hidden }

// GoString returns "***".
func (s Secret) GoString() string { return hidden }

// Format writes "***" whatever the verb.
func (s Secret) Format(f fmt.State, verb rune) { io.WriteString(f, hidden) }

// MarshalJSON writes "***".
func (s Secret) MarshalJSON() ([]byte, error) { return json.Marshal(hidden) }

// MarshalText writes "***".
func (s Secret) MarshalText() ([]byte, error) { return []byte(hidden), nil }

// LogValue is "***".
func (s Secret) LogValue() slog.Value { return slog.StringValue(hidden) }
