package cache

import "testing"

// Files up to S3's largest go in as many parts as it allows, of sizes that it allows.
func TestPartSize(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ least, size, want int64 }{
		{16 << 20, 0, 16 << 20},
		{16 << 20, 16 << 20, 16 << 20},
		{16 << 20, 10_000 * (16 << 20), 16 << 20},
		{16 << 20, 10_000*(16<<20) + 1, 32 << 20},
		{16 << 20, 1 << 40, 128 << 20},
		{16 << 20, 5 << 40, 1 << 30},
		{5 << 20, 5 << 40, 640 << 20},
		{5 << 30, 5 << 40, 5 << 30},
		{3 << 30, 48 << 40, 5 << 30},
	} {
		got := partSize(tt.least, tt.size)
		if got != tt.want {
			t.Errorf("a file of %d goes in parts of %d, want %d", tt.size, got, tt.want)
		}
		if parts := (tt.size + got - 1) / got; parts > maxParts || got < minPartSize || got > maxPartSize {
			t.Errorf("a file of %d goes in %d parts of %d", tt.size, parts, got)
		}
	}
}
