#!/usr/bin/env bash
# The round trip on real images: write them into a mount, see them arrive in the
# bucket, drop the local bytes, read everything back. All under one temporary
# directory, which is gone at the end, however the end comes.
#
# DEMO_MIB is the size of the big image (2048); TMPDIR says where to work.
set -euo pipefail
export LC_ALL=C
# shellcheck source=common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

mib=${DEMO_MIB:-2048}
bucket=depot

# --- a place to work in ---

# At the worst moment there are three copies of the big image: its object, the
# file in the cache directory, and the raw disk that it is made from or compared
# with. The rest is below half a GiB.
room=$((3 * mib + 512))
place=''
for candidate in "${TMPDIR:-/var/tmp}" /var/tmp; do
	[[ -d $candidate && -w $candidate ]] || continue
	case $(stat -f -c %T "$candidate") in tmpfs | ramfs) continue ;; esac
	if (($(df --output=avail -BM "$candidate" | tail -n 1 | tr -dc 0-9) >= room)); then
		place=$candidate
		break
	fi
done
[[ -n $place ]] || fail "the demo needs $room MiB on a real disk: set TMPDIR to a directory that has them, or DEMO_MIB below $mib"

work=$(mktemp -d "$place/depotfs-demo-XXXXXX")
mnt=$work/secondary cache=$work/cache state=$work/state
clean_up() {
	take_down
	rm -rf --one-file-system "$work"
}
end() {
	local status=$?
	trap - EXIT INT TERM
	if ((status == 1)); then
		printf '%sthe demo failed at: %s%s\n' "$red" "$doing" "$plain" >&2
		tail -n 5 "$state/depotfs.log" 2>/dev/null >&2 || true
	fi
	clean_up
	exit "$status"
}
trap end EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
mkdir "$mnt" "$cache" "$state" "$work/store" "$work/iso" "$work/ova"

# --- images under CloudStack's paths ---

disk=template/tmpl/2/201/4c1bd7a0-2b3e-3f6a-9d51-0e6f7a1b2c3d.qcow2
iso=template/tmpl/2/202/202-2-demo.iso
ova=template/tmpl/2/203/7f3f0f0e-8a41-3d0e-b7e6-3f1c5d2e9a10.ova
snapshot=snapshots/2/17/b2b7f7d4-53f5-4a1e-8d0c-6a3f0b8c1e22 # KVM: a qcow2 without extension
images=("$disk" "$iso" "$ova" "$snapshot")

random() { head -c "$1" /dev/urandom >"$2"; }

# begin_template PATH: CloudStack makes the properties first, empty.
begin_template() {
	mkdir -p "$mnt/${1%/*}"
	: >"$mnt/${1%/*}/template.properties"
}

# finish_template PATH FORMAT: and fills them in when the image is complete.
finish_template() {
	local bytes
	bytes=$(stat -c %s "$mnt/$1")
	cat >"$mnt/${1%/*}/template.properties" <<-END
		#
		#$(date)
		id=$(basename "${1%/*}")
		public=true
		uniquename=demo-$2
		filename=${1##*/}
		size=$bytes
		virtualsize=$bytes
		$2=true
		$2.filename=${1##*/}
		$2.size=$bytes
		$2.virtualsize=$bytes
	END
}

make_disk() {
	begin_template "$disk"
	qemu-img convert -f raw -O qcow2 "$work/disk.raw" "$mnt/$disk"
	finish_template "$disk" qcow2
}

make_iso() {
	begin_template "$iso"
	# Its banner goes to standard error, and so do its errors.
	xorriso -as mkisofs -quiet -J -R -V DEMO -o "$mnt/$iso" "$work/iso" 2>"$work/xorriso.log" ||
		{ cat "$work/xorriso.log" >&2; exit 1; }
	finish_template "$iso" iso
}

make_ova() {
	begin_template "$ova"
	tar -C "$work/ova" -cf "$mnt/$ova" demo.ovf demo-disk1.vmdk
	tar -C "$mnt/${ova%/*}" --no-same-owner -xf "$mnt/$ova" # as the secondary storage VM does
	finish_template "$ova" ova
}

make_snapshot() {
	mkdir -p "$mnt/${snapshot%/*}"
	qemu-img convert -f raw -O qcow2 "$work/volume.raw" "$mnt/$snapshot"
}

make_sources() {
	random "${mib}M" "$work/disk.raw"
	random 64M "$work/volume.raw"
	random 48M "$work/iso/initrd"
	random 32M "$work/ova.raw"
	qemu-img convert -f raw -O vmdk -o subformat=streamOptimized "$work/ova.raw" "$work/ova/demo-disk1.vmdk"
	cat >"$work/ova/demo.ovf" <<-'END'
		<?xml version="1.0"?>
		<Envelope xmlns="http://schemas.dmtf.org/ovf/envelope/1">
		  <References><File id="file1" href="demo-disk1.vmdk"/></References>
		</Envelope>
	END
	sha256sum <"$work/disk.raw" >"$work/disk.sum"
}

# --- the bucket as an S3 client sees it ---

# s3 PATH: curl signs the request; the keys reach it by a pipe, so that no
# process list shows them.
s3() {
	curl --silent --show-error --fail --aws-sigv4 "aws:amz:$AWS_REGION:s3" \
		--config <(printf 'user = "%s:%s"\n' "$AWS_ACCESS_KEY_ID" "$AWS_SECRET_ACCESS_KEY") \
		--header 'x-amz-content-sha256: UNSIGNED-PAYLOAD' "$store_url/$bucket$1"
}

compare_names() {
	find "$mnt" -type f -printf '%P\n' | sort >"$work/files"
	s3 '?list-type=2' | grep -o '<Key>[^<]*' | sed 's/<Key>//' | grep -v -e '^\.depotfs/' -e '/$' | sort >"$work/objects"
	diff "$work/files" "$work/objects"
}

compare_bytes() {
	local path
	while read -r path; do s3 "/$path" | cmp - "$mnt/$path"; done <"$work/files"
}

# --- reading back ---

sums() { cd "$mnt" && sha256sum -- "${images[@]}"; }
first_block() { dd if="$mnt/$disk" of=/dev/null bs=4096 count=1 skip=$((mib * 128)) status=none; } # from its middle
convert_disk() {
	qemu-img convert -f qcow2 -O raw "$mnt/$disk" "$work/back.raw"
	sha256sum <"$work/back.raw" | cmp - "$work/disk.sum"
	rm "$work/back.raw"
}
unpack_ova() {
	mkdir "$work/unpacked"
	tar -C "$work/unpacked" --no-same-owner -xf "$mnt/$ova"
	diff -r "$work/unpacked" "$work/ova"
}
check_sums() { cd "$mnt" && sha256sum --check --quiet "$work/sums"; }

bytes_here() { size "$(du -s -B1 "$cache" | cut -f1)"; }

# --- the story ---

began=$SECONDS
step 'depotfs: CloudStack secondary storage whose files live in a bucket'
start_store "$work/store" 127.0.0.1:0 "$work/store.log"
say 'S3 server of this demo' "$store_url"
mounted=$mnt
timed "$depotfs" mount --cache-dir "$cache" --state-dir "$state" --zone z1 \
	--bucket "$bucket" --endpoint "$store_url" --path-style "$mnt" >"$work/mount.log"
say 'mounted' "$took"

step "Write images under CloudStack's paths"
timed make_sources
for what in disk iso ova snapshot; do
	timed "make_$what"
	printf '  %-70s %8s %8s\n' "${!what}" "$(size "$(stat -c %s "$mnt/${!what}")")" "$took"
done
rm "$work/disk.raw" "$work/volume.raw" "$work/ova.raw"
timed sums >"$work/sums"
say 'sha256 of the images' "$took"

step 'Flush: everything to the bucket'
timed "$depotfs" flush "$mnt"
good "all of it is in the bucket ($took)"

step 'Compare the objects with the files, through an S3 client (curl)'
timed compare_names
good "the bucket lists the same $(wc -l <"$work/files") names as the mount"
timed compare_bytes
good "every object is its file, byte by byte ($took)"

step 'Evict: the local bytes go, the names stay'
say 'cache directory before' "$(bytes_here)"
timed "$depotfs" evict "${images[@]/#/$mnt/}"
say 'cache directory after' "$(bytes_here)  ($took)"
say 'listed in the mount' "$(find "$mnt" -type f | wc -l) files"

step 'Read back what is no longer here'
timed first_block
say '4 KiB from the middle of the disk' "$took"
timed qemu-img info "$mnt/$disk" >"$work/info"
say 'qemu-img info' "$took  ($(sed -n 's/^virtual size: //p' "$work/info"))"
do_ "$depotfs" stat "$mnt/$disk"
timed convert_disk
good "qemu-img convert gives the disk that was written ($took)"
timed unpack_ova
good "tar unpacks the disk that was packed ($took)"
timed check_sums
good "sha256 of all ${#images[@]} images as before ($took)"

step 'depotfs status'
do_ "$depotfs" status "$mnt"

step 'Unmount'
timed "$depotfs" umount "$mnt"
clean_up
good "nothing is left: no process, no mount, no file ($((SECONDS - began)) s in all)"
