# shellcheck shell=bash
# What tests of the vm lane share. A test script opens with
#
#   #!/bin/bash
#   # What it proves, in a sentence.
#   #
#   # kernels: 6.1 6.12        on which it runs (default: both)
#   # quick-kernels: 6.12      of these, where it runs in a quick run (default: all)
#   # guest: plain 2048M       plain, udev, systemd or host; memory; disk=SIZE[,4k]
#   # timeout: 300             seconds, in the guest
#   # full-only: yes           left out of the quick run
#   . "$(dirname "$0")/../lib/guest.sh"
#
# and then runs in a guest, as root, from the top of the tree, set -eu; with
# "guest: host" it runs on the host instead and boots guests itself (guest_run).
# Environment: CLAWBACK_BUILD (the build folder), CLAWBACK_KERNEL, CLAWBACK_FULL
# (1 in the full run), CLAWBACK_DISKS (scratch disks, empty at the start),
# CLAWBACK_SEED. $work is a folder of the test's own that vanishes with it.
set -eu -o pipefail

# With own_mounts=1 before this is sourced: mounts, and what is pinned in bpffs, are
# the test's own, so that it may take away or count what it did not make itself.
if [ "${own_mounts:-}" = 1 ] && [ "$(id -u)" = 0 ] && [ -z "${CLAWBACK_OWN_MOUNTS:-}" ]; then
	CLAWBACK_OWN_MOUNTS=1 exec unshare --mount bash "$0" "$@"
fi
if [ "${own_mounts:-}" = 1 ] && [ "$(id -u)" = 0 ]; then
	unset CLAWBACK_OWN_MOUNTS
	mount -t bpf bpf /sys/fs/bpf
fi

tree=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
cd "$tree"
: "${CLAWBACK_BUILD:=$tree/build}"
: "${CLAWBACK_SEED:=$RANDOM$RANDOM}"
export CLAWBACK_BUILD CLAWBACK_SEED
work=$(mktemp -d "${TMPDIR:-/tmp}/clawback-$(basename "$0" .sh).XXXXXX")
echo "seed: $CLAWBACK_SEED"

# ---- ending -------------------------------------------------------------------
deferred=()

# defer COMMAND [ARG]...: to be run when the test ends, however it does; the last
# one given runs first. COMMAND is a program or a function.
defer() {
	local command
	printf -v command '%q ' "$@"
	deferred+=("$command")
}

end_test() {
	local code=$? index command
	trap '' INT TERM
	trap - EXIT
	set +e
	for ((index = ${#deferred[@]} - 1; index >= 0; index--)); do
		command=${deferred[index]}
		# A program gets no chance to hang the rest.
		case $(type -t "${command%% *}") in file) command="timeout -k 2 30 $command" ;; esac
		eval "$command" || echo "clean-up failed: $command"
	done
	rm -rf "$work"
	exit $code
}
trap end_test EXIT
trap 'echo "FAILED: interrupted"; exit 143' INT TERM
trap 'echo "FAILED: $0 line $LINENO: $BASH_COMMAND" >&2' ERR
set -E

fail() {
	echo "FAILED: $* (${BASH_SOURCE[1]##*/}:${BASH_LINENO[0]})" >&2
	trap - ERR
	exit 1
}

skip() {
	echo "skipped: $*"
	trap - ERR
	exit 77
}

# ---- asserting ------------------------------------------------------------------
is_full() { [ "${CLAWBACK_FULL:-}" = 1 ]; }

# assert_equal WANTED GOT WHAT
assert_equal() { [ "$1" = "$2" ] || fail "$3: wanted '$1', got '$2'"; }

# assert_same A B [BYTES]: two files or devices hold the same bytes.
assert_same() {
	local difference
	difference=$(cmp ${3:+-n "$3"} "$1" "$2" 2>&1) || fail "not the same: ${difference:-$1 $2}"
}

# assert_exit CODE COMMAND [ARG]...
assert_exit() {
	local wanted=$1 code=0
	shift
	"$@" || code=$?
	[ "$code" = "$wanted" ] || fail "exit code $code, not $wanted: $*"
}

# wait_for SECONDS COMMAND [ARG]...: until COMMAND succeeds.
wait_for() {
	local limit=$((SECONDS + $1))
	shift
	until "$@"; do
		[ $SECONDS -lt $limit ] || fail "waited in vain for: $*"
		sleep 0.2
	done
}

# ---- devices -----------------------------------------------------------------------
# Each sets the variable named first to the device's path and takes the device
# down at the end.

# make_disk VARIABLE SIZE: a loop device on a sparse file (SIZE as for truncate).
make_disk() {
	local file device
	file=$(mktemp "$work/disk.XXXXXX")
	truncate -s "$2" "$file"
	device=$(losetup --find --show "$file")
	defer losetup --detach "$device"
	printf -v "$1" %s "$device"
}

# make_volume VARIABLE NAME TABLE: a device-mapper device with a table of one's own.
make_volume() {
	dmsetup create "$2" --table "$3"
	defer dmsetup remove --retry "$2"
	printf -v "$1" %s "/dev/mapper/$2"
}

# make_linear_volume VARIABLE NAME DEVICE [SECTORS]: a linear volume over the start,
# by default all, of DEVICE.
make_linear_volume() {
	make_volume "$1" "$2" "0 ${4:-$(blockdev --getsz "$3")} linear $3 0"
}

# make_crypt_volume VARIABLE NAME DEVICE: dm-crypt over all of DEVICE, fixed key.
make_crypt_volume() {
	local key=0123456789abcdef0123456789abcdef
	make_volume "$1" "$2" \
		"0 $(blockdev --getsz "$3") crypt aes-xts-plain64 $key$key$key$key 0 $3 0"
}

# make_thin_volume VARIABLE NAME DEVICE SECTORS: a thin volume of SECTORS whose pool
# takes all of DEVICE but 4 MiB of metadata at its start.
make_thin_volume() {
	local whole pool
	whole=$(blockdev --getsz "$3")
	dd if=/dev/zero of="$3" bs=4096 count=1 status=none
	make_volume pool "$2-meta" "0 8192 linear $3 0"
	make_volume pool "$2-data" "0 $((whole - 8192)) linear $3 8192"
	make_volume pool "$2-pool" \
		"0 $((whole - 8192)) thin-pool /dev/mapper/$2-meta /dev/mapper/$2-data 128 0"
	dmsetup message "$pool" 0 'create_thin 0'
	make_volume "$1" "$2" "0 $4 thin $pool 0"
}

# mount_at DEVICE FOLDER [OPTION]...: makes the folder, unmounts at the end.
mount_at() {
	local device=$1 folder=$2
	shift 2
	mkdir -p "$folder"
	mount "$@" "$device" "$folder"
	defer umount "$folder"
}

# ---- PostgreSQL ----------------------------------------------------------------------
pg_bin=$(ls -d /usr/lib/postgresql/*/bin 2>/dev/null | tail -n 1) || true
as_postgres() { setpriv --reuid postgres --regid postgres --init-groups "$@"; }

# pg_start FOLDER: a cluster in FOLDER (made if it is empty), socket in FOLDER/run.
pg_start() {
	[ -n "$pg_bin" ] || skip "no PostgreSQL: run scripts/bootstrap"
	mkdir -p "$1/data" "$1/run"
	chmod 755 "$work"
	chown postgres: "$1/data" "$1/run"
	chmod 700 "$1/data"
	if [ ! -e "$1/data/PG_VERSION" ]; then
		# Durable from the first checkpoint on, which initdb --no-sync leaves to us.
		as_postgres "$pg_bin/initdb" --no-sync -A trust -D "$1/data" >"$work/initdb.log" ||
			fail "initdb: $(tail -n 3 "$work/initdb.log")"
	fi
	as_postgres "$pg_bin/pg_ctl" -s -w -t 120 -D "$1/data" -l "$1/run/log" \
		-o "-c listen_addresses='' -c unix_socket_directories=$1/run" start ||
		fail "PostgreSQL did not start: $(tail -n 5 "$1/run/log")"
	defer pg_kill "$1"
}

pg_kill() {
	local pid
	pid=$(head -n 1 "$1/data/postmaster.pid" 2>/dev/null) || return 0
	kill -QUIT "$pid" 2>/dev/null || return 0
	for _ in {1..50}; do
		kill -0 "$pid" 2>/dev/null || return 0
		sleep 0.1
	done
	echo "PostgreSQL $pid does not end"
	return 1
}

# pg_stop FOLDER [fast|immediate]
pg_stop() {
	as_postgres "$pg_bin/pg_ctl" -s -w -t 120 -D "$1/data" -m "${2:-fast}" stop
}

# pg_sql FOLDER STATEMENT...: unadorned rows on stdout.
pg_sql() {
	local folder=$1 statement arguments=()
	shift
	for statement in "$@"; do
		arguments+=(-c "$statement")
	done
	"$pg_bin/psql" -X -q -A -t -v ON_ERROR_STOP=1 -U postgres -h "$folder/run" "${arguments[@]}"
}

# ---- power and reboots: tests on the host ("guest: host") ---------------------------
# guest_run [OPTION of scripts/vm]... -- COMMAND [ARG]...
guest_run() {
	scripts/vm --kernel "${CLAWBACK_KERNEL:-6.1}" --env CLAWBACK_BUILD --env CLAWBACK_SEED \
		--env CLAWBACK_FULL --env CLAWBACK_KERNEL "$@"
}

# guest_power_cut [CODE]: in the guest: power fails now, nothing is written back;
# scripts/vm exits with CODE (default 99), so that a cut differs from a crash.
guest_power_cut() {
	local entry
	for entry in /sys/class/virtio-ports/*; do
		[ "$(cat "$entry/name")" != status ] || echo "exit ${1:-99}" >"/dev/${entry##*/}"
	done
	echo b >/proc/sysrq-trigger
	sleep 60
}

# guest_shut_down [CODE]: in a guest with systemd: ends it as a person would; for
# scripts/vm it exits with CODE (default 0).
guest_shut_down() {
	local entry name
	for entry in /sys/class/virtio-ports/*; do
		name=$(cat "$entry/name")
		case $name in
		dmesg) dmesg >"/dev/${entry##*/}" ;;
		status) echo "exit ${1:-0}" >"/dev/${entry##*/}" ;;
		esac
	done
	systemctl --no-block poweroff
	sleep 300
}
