package fetch

// Class says how urgent bytes are. Lower goes first.
type Class uint8

const (
	// Demand: somebody waits for exactly these bytes.
	Demand Class = iota
	// Header: what tools read first of an image; somebody is about to ask.
	Header
	// Readahead: what comes next by all that is known, of a sequential reader, of an
	// image's tables, of a file that is wanted whole.
	Readahead
	// Background: the rest. It yields to all others.
	Background

	classes = int(Background) + 1
)

// String is for logs.
func (c Class) String() string {
	switch c {
	case Demand:
		return "demand"
	case Header:
		return "header"
	case Readahead:
		return "readahead"
	}
	return "background"
}
