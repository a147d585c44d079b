package image

import (
	"io"
	"path"
	"strings"

	"depotfs/cache/extent"
)

// Range is a half-open range of bytes [Off, End).
type Range = extent.Range

// Class says how urgent a range is.
type Class uint8

const (
	// Header is what a tool must have to open the file: it waits for it.
	Header Class = iota
	// Metadata maps the file's data: tools read it together with the data that they
	// want, so it comes after what somebody waits for, and before the rest.
	Metadata

	classes
)

// Bounds on what one plan asks for, whatever the file says. They are per class.
const (
	// headSize and tailSize are fetched of every file at first, together, so that
	// they cost one round trip: the headers of all formats, and for images of usual
	// size all of their first tables, are there.
	headSize = 256 << 10
	tailSize = 256 << 10

	// maxHeader holds the largest tables that a tool reads as a whole when it opens
	// the file: the allocation table of a VHD of 2 TiB is 4 MiB.
	maxHeader = 8 << 20
	// maxMetadata maps 32 GiB of a qcow2 image with clusters of 64 KiB.
	maxMetadata = 4 << 20
	// maxTable is how much of one table is read.
	maxTable = 4 << 20
	// maxRead is how much of what is here one pass reads: a thousand snapshots may have
	// the same large table.
	maxRead = maxHeader + maxMetadata
	// maxRequests bounds the ranges, which are requests to the store.
	maxRequests = 256
	// maxRounds bounds how often something depends on what came before: no format
	// needs half as many, but an archive's members form a chain.
	maxRounds = 16
	// maxSiblings is how many files beside this one are named; a chain has one.
	maxSiblings = 8
)

const (
	// page is what ranges are aligned to: the smallest piece a partial file keeps well.
	page = 4 << 10
	// joinGap is how far apart two ranges are fetched in one request: less than what
	// a request costs.
	joinGap = 32 << 10
)

// Plan says round by round which ranges of one file tools read first. It is not safe
// for concurrent use, holds no bytes of the file, and believes nothing that they say:
// the constants above bound all that it asks for.
type Plan struct {
	name string
	size int64

	begun    bool
	format   string
	asked    extent.Set
	bytes    [classes]int64 // that may still be asked for
	requests [classes]int   // likewise
	rounds   [classes]int   // likewise
	siblings []string
}

// New returns the plan for a file of which nothing but its name and size is known.
// The name only decides whether its end is fetched before its format is known.
func New(name string, size int64) *Plan {
	return &Plan{
		name: name, size: size,
		bytes:    [classes]int64{Header: maxHeader, Metadata: maxMetadata},
		requests: [classes]int{Header: maxRequests, Metadata: maxRequests},
		rounds:   [classes]int{Header: maxRounds, Metadata: maxRounds},
	}
}

// minSize is below which a plan is seldom worth its requests: such files are fetched by
// a few reads, and most are no images.
const minSize = 1 << 20

// Worthwhile says whether a file of that name and size, of which nobody knows more, is
// worth a plan. Small ones are where they may lead to large ones: descriptors, and
// images with hardly anything in them but the name of a parent.
func Worthwhile(name string, size int64) bool {
	switch strings.ToLower(path.Ext(name)) {
	case ".vmdk", ".qcow2", ".vhd", ".vhdx":
		return size > 0
	}
	return size >= minSize
}

// Next looks at what has come and returns the ranges to fetch next, the most urgent
// first: those of the given class and of more urgent ones. None means that the class
// is done. It is called again when they have come, or have failed to: no byte is
// asked for twice. src answers an error for bytes that are not here; the first call
// does not read.
func (p *Plan) Next(src io.ReaderAt, class Class) []Range {
	if p.size <= 0 || class >= classes || p.rounds[class] == 0 {
		return nil
	}
	w := &walk{plan: p, src: src, upto: class}
	if !p.begun {
		p.begun = true
		w.begin()
	} else {
		w.detect()
	}
	if len(w.need) > 0 {
		p.rounds[class]--
	}
	return w.need
}

// Format is what the bytes that came turned out to be, "" while that is not known.
func (p *Plan) Format() string { return p.format }

// Asked is all that was asked for.
func (p *Plan) Asked() extent.Set { return p.asked.Clone() }

// Siblings are the names of files in the same directory that tools open together
// with this one: backing files, differencing parents, external data files, extents.
// They come from the file, but each is one component of a path, not "." or "..", and
// not this file's own name. Nothing says that such files exist, or that they do not
// name each other in a circle.
func (p *Plan) Siblings() []string { return p.siblings }

// begin asks for what is fetched of every file.
func (w *walk) begin() {
	w.ask(Header, 0, headSize)
	if size := w.plan.size; endsMatter(w.plan.name) && size > headSize {
		tail := max(headSize, (size-tailSize+page-1)/page*page)
		w.ask(Header, uint64(tail), tailSize)
	}
}

// endsMatter says whether a file of that name may be of a format with something at
// its end: footers of VHD and VMDK, the second table of GPT. A wrong name costs the
// round trip that it would have saved.
func endsMatter(name string) bool {
	switch strings.ToLower(path.Ext(name)) {
	case ".qcow2", ".qcow", ".vhdx", ".iso", ".ova", ".tar", ".gz", ".bz2", ".xz", ".zst", ".ovf", ".mf", ".properties":
		return false
	}
	return true
}
