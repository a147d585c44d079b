// Package image knows what tools read first of a disk image, an ISO or an appliance.
//
// Nobody wants to wait for 100 GiB to see what is in them, nor for one round trip to
// the store after the other while a tool follows a header to a table to a table. A
// Plan says which ranges to fetch next, given those that came: all that is known to be
// needed in one round, so that it costs one round trip.
//
// # What is fetched in which round
//
// The first round is the same for all: the first 256 KiB, and the last 256 KiB unless
// the name says that nothing is there. For images of usual size that is everything
// that it takes to open them. What nobody knows is left at that.
//
//	format           header, round 2                     metadata, later rounds
//	qcow2 v2, v3     L1 table, refcount table, snapshot  L2 tables, L1 and L2 tables of
//	                 table, bitmaps, name of the         snapshots, refcount blocks
//	                 backing file
//	VHD fixed        -                                   as raw
//	VHD dynamic and  dynamic header, allocation table    -
//	differencing     with tapdisk's map, footer, name
//	                 of the parent
//	VHDX             log if it is not empty, metadata    -
//	                 table and items, allocation table,
//	                 name of the parent
//	VMDK sparse,     descriptor, footer, both grain      grain tables
//	streamOptimized  directories
//	VMDK descriptor  names of extents and parent         -
//	raw, MBR or GPT  -                                   where each partition begins: its
//	                                                     boot sector and first superblocks
//	ISO 9660         path tables, root directories and   all directories of both trees, the
//	                 boot catalogue, Joliet's too        boot image
//	OVA              the OVF where it is large           headers of the members, at the places
//	                                                     that follow from the OVF
//
// # Untrusted input
//
// Files come from anywhere. A parser only ever asks: for ranges inside the file, each
// once, with bounds on their bytes, number and rounds (plan.go). A lie costs a few
// requests. Names of other files are kept to one component of a path.
//
// # Where the formats are from
//
//   - qcow2: "The qcow2 image format" (docs/interop/qcow2.txt of QEMU)
//   - VHD: Microsoft, "Virtual Hard Disk Image Format Specification", 2006; the map
//     behind the allocation table is that of blktap
//   - VHDX: Microsoft, [MS-VHDX]
//   - VMDK: VMware, "Virtual Disk Format 5.0"
//   - GPT: UEFI specification, chapter 5
//   - ISO 9660: ECMA-119; Joliet and "El Torito" are additions to it
//   - tar: POSIX, ustar and pax interchange formats; GNU tar's large numbers
//   - OVF and OVA: DMTF DSP0243
package image
