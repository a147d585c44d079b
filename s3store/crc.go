package s3store

import (
	"encoding/base64"
	"encoding/binary"

	"github.com/aws/aws-sdk-go-v2/service/s3/types"
)

// encodeCRC is a checksum as S3's headers carry it.
func encodeCRC(sum uint64) *string {
	text := base64.StdEncoding.EncodeToString(binary.BigEndian.AppendUint64(nil, sum))
	return &text
}

// decodeCRC reads a header's checksum; ok is false where there is none, or one
// that is not of the whole object.
func decodeCRC(text *string, kind types.ChecksumType) (sum uint64, ok bool) {
	if text == nil || kind == types.ChecksumTypeComposite {
		return 0, false
	}
	raw, err := base64.StdEncoding.DecodeString(*text)
	if err != nil || len(raw) != 8 {
		return 0, false
	}
	return binary.BigEndian.Uint64(raw), true
}
