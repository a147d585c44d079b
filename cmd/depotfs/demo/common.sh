# Shared by demo.sh and run.sh: words on the terminal, the embedded store, and an
# orderly end. Source it; it changes to no directory and starts nothing.

# Each background command leads a process group of its own: ctrl-C reaches the
# script alone, and take_down ends what it started, whole and in order.
set -m

top=$(cd "$(dirname "${BASH_SOURCE[0]}")/../../.." && pwd)
depotfs=$top/bin/depotfs
depotfs_store=$top/bin/depotfs-store

bold='' dim='' green='' red='' plain=''
if [[ -t 1 && -z ${NO_COLOR:-} ]]; then
	bold=$'\e[1m' dim=$'\e[2m' green=$'\e[32m' red=$'\e[31m' plain=$'\e[0m'
fi

doing='its start' # the last step, for the one who has to say where it failed
step() { doing=$*; printf '\n%s%s%s\n' "$bold" "$*" "$plain"; }
# say LABEL VALUE: one line of a table.
say() { printf '  %-34s %s\n' "$1" "$2"; }
good() { printf '  %s✓%s %s\n' "$green" "$plain" "$*"; }
fail() { printf '%s✗ %s%s\n' "$red" "$*" "$plain" >&2; exit 1; }

# size BYTES: for people.
size() { numfmt --to=iec-i --suffix=B --round=nearest --format=%.1f "$1"; }

# do_ COMMAND...: runs it so that a signal to the script ends it at once (bash
# delays traps until a foreground command returns), in a process group of its own.
child=''
do_() {
	local status=0
	"$@" </dev/null &
	child=$!
	wait "$child" || status=$?
	child=''
	return "$status"
}

# timed COMMAND...: do_ it; $took says how long that was. Call it plainly: after
# && or ||, or in a condition, bash goes on behind failures inside of functions.
took=''
timed() {
	local began=${EPOCHREALTIME/[.,]/} us
	do_ "$@"
	us=$((${EPOCHREALTIME/[.,]/} - began))
	if ((us < 1000000)); then
		took="$(((us + 500) / 1000)) ms"
	else
		took="$(((us + 50000) / 1000000)).$(((us + 50000) / 100000 % 10)) s"
	fi
}

store_pid='' store_url=''
# start_store DIR LISTEN LOG: starts the embedded store with a key pair that is
# exported as AWS_*, and waits until it answers.
start_store() {
	AWS_ACCESS_KEY_ID=DEMO$(head -c 8 /dev/urandom | od -An -tx1 | tr -d ' \n')
	AWS_SECRET_ACCESS_KEY=$(head -c 20 /dev/urandom | od -An -tx1 | tr -d ' \n')
	AWS_REGION=us-east-1
	export AWS_ACCESS_KEY_ID AWS_SECRET_ACCESS_KEY AWS_REGION
	unset AWS_SESSION_TOKEN AWS_PROFILE AWS_ENDPOINT_URL AWS_ENDPOINT_URL_S3
	: >"$3" # it is read below, perhaps before the server has started
	"$depotfs_store" --dir "$1" --listen "$2" </dev/null >"$3" 2>&1 &
	store_pid=$!
	local i
	for ((i = 0; i < 200; i++)); do
		store_url=$(sed -n 's/^depotfs-store: listening on \([^ ]*\) .*/\1/p' "$3")
		if [[ -n $store_url ]]; then return; fi
		kill -0 "$store_pid" 2>/dev/null || break
		sleep 0.05
	done
	fail "the embedded store did not start: $(tail -n 1 "$3")"
}

mounted=''
# stop PID (or -GROUP): ends a process of ours and waits for it. A signal can be
# lost between the fork and the exec of a program, so it is sent again.
stop() {
	local i
	for ((i = 0; i < 200; i++)); do
		if ((i % 20 == 0)); then kill -TERM -- "$1" || break; fi
		kill -0 -- "$1" || break
		sleep 0.05
	done
	kill -KILL -- "$1" || true
	wait "${1#-}" || true
} 2>/dev/null # bash reports jobs that a signal ended

# take_down ends what was started here, in the reverse order, and nothing else.
take_down() {
	if [[ -n $child ]]; then
		stop "-$child"
		child=''
	fi
	if [[ -n $mounted ]]; then
		if mountpoint -q "$mounted"; then
			"$depotfs" umount "$mounted" >/dev/null 2>&1 || fusermount3 -uz "$mounted" 2>/dev/null || umount -l "$mounted" || true
		fi
		mounted=''
	fi
	if [[ -n $store_pid ]]; then
		stop "$store_pid"
		store_pid=''
	fi
}
