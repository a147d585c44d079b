package share

import "bytes"

// FrameForTest makes a log of a magic string and payloads.
func FrameForTest(magic string, payloads ...string) []byte {
	b := []byte(magic)
	for _, p := range payloads {
		b = appendFrame(b, []byte(p))
	}
	return b
}

// ReadSidecarForTest reads a log from memory.
func ReadSidecarForTest(b []byte) (Header, []Record, error) { return readSidecar(bytes.NewReader(b)) }

// EncodeCleanForTest and DecodeCleanForTest are the record codec of the clean log.
func EncodeCleanForTest(r CleanRecord) []byte              { return appendClean(nil, r) }
func DecodeCleanForTest(b []byte) (r CleanRecord, ok bool) { return parseClean(b) }

// RenameWithoutFlags is Rename as it works on file systems without flags.
func (s *Share) RenameWithoutFlags(oldRel, newRel string) error {
	return s.onTwo("rename", oldRel, newRel, renameNoReplace)
}

// MountWarningsOf is MountWarnings for a line of mountinfo.
func MountWarningsOf(line, id string) (warnings []string, found bool) {
	m, ok := parseMount(line, id)
	if !ok {
		return nil, false
	}
	return m.warnings(), true
}
