#!/usr/bin/env bash
# A mount to play with: ./mnt on the embedded store, until ctrl-C. What is written
# stays in bin/run and is there again the next time; make clean removes it.
set -euo pipefail
# shellcheck source=common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

mnt=$top/mnt data=$top/bin/run
if mountpoint -q "$mnt"; then fail "$mnt is mounted already: bin/depotfs umount mnt"; fi
mkdir -p "$mnt" "$data/cache" "$data/state" "$data/store"

end() {
	local status=$?
	trap - EXIT INT TERM
	take_down
	exit "$status"
}
trap end EXIT
trap 'echo; exit 0' INT TERM

start_store "$data/store" 127.0.0.1:0 "$data/store.log"
mounted=$mnt
do_ "$depotfs" mount --cache-dir "$data/cache" --state-dir "$data/state" --zone z1 \
	--bucket depot --endpoint "$store_url" --path-style "$mnt"
say 'mounted at' "$mnt"
say 'its objects are the files below' "$data/store/depot"
say 'S3 server' "$store_url"
say 'its keys' "AWS_ACCESS_KEY_ID=$AWS_ACCESS_KEY_ID AWS_SECRET_ACCESS_KEY=$AWS_SECRET_ACCESS_KEY"
printf '\nTry: cp FILE mnt/; bin/depotfs status mnt; bin/depotfs flush mnt; bin/depotfs evict mnt/FILE\nctrl-C unmounts and stops the server; what was written stays for the next time.\n\n'
do_ tail -n 0 -F "$data/state/depotfs.log"
