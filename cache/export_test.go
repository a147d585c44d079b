package cache

// CombineCRC and ZeroCRC are for tests outside the package.
func CombineCRC(first, second uint64, n int64) uint64 { return combineCRC(first, second, n) }

// ZeroCRC is the checksum of n zeros.
func ZeroCRC(n int64) uint64 { return zeroCRC(n) }
