# shellcheck shell=bash disable=SC2154
# What tests and demonstrations of the whole program share; sourced after
# tests/lib/guest.sh, whose $work holds all of it.
#
#   clawback_begin FOLDER [open]         a recovery key, a repository in FOLDER; open:
#                                        without passphrase, for an emulated CPU takes
#                                        seconds to turn one into a key
#   clawback_volume NAME DEVICE [K=V]... configures a volume
#   clawback VERB [ARG]...               runs the program with that configuration
#   clawback_start VERB [ARG]...         the same in the background: clawback_pid
#   clawback_end                         detaches all; nothing of it may remain
#
#   backup NAME... [OPTION]...           with an image digest; sets nothing
#   summary [VOLUME] FIELD               of the last backup: point.kind, read_ns …
#   points NAME                          the numbers of its points
#   assert_rescan REASON [VOLUME]        the last backup was one
#   assert_restores VOLUME@POINT [TARGET]
#   assert_refused CODE PATTERN COMMAND… it fails with CODE and says PATTERN
clawback_program=$CLAWBACK_BUILD/clawback
clawback_config=$work/clawback.conf
clawback_key=(--recovery-key "$work/recovery.pem" --passphrase-file "$work/passphrase")

clawback() {
	local verb=$1
	shift
	"$clawback_program" "$verb" --config "$clawback_config" "$@"
}

clawback_start() {
	local verb=$1
	shift
	"$clawback_program" "$verb" --config "$clawback_config" "$@" \
		>"$work/background.out" 2>"$work/background.err" &
	clawback_pid=$!
	defer clawback_stop $clawback_pid
}

# Only what is still ours: by now the number could be another's.
clawback_stop() {
	case " $(jobs -pr | tr '\n' ' ')" in
	*" $1 "*) kill -KILL "$1" ;;
	esac
	wait "$1" 2>/dev/null || true
}

# clawback_wait: the exit code of what clawback_start began.
clawback_wait() {
	local code=0
	wait $clawback_pid || code=$?
	return $code
}

open_recovery_key() {
	(umask 077 && openssl pkey -in "$work/recovery.pem" -out "$work/opened.pem" \
		-passin "file:$work/passphrase")
	mv "$work/opened.pem" "$work/recovery.pem"
}

clawback_begin() {
	[ -x "$clawback_program" ] || fail "no $clawback_program: run make"
	mountpoint -q /sys/fs/bpf || mount -t bpf bpf /sys/fs/bpf
	(umask 077 && echo "a passphrase for tests only" >"$work/passphrase")
	"$clawback_program" keygen --out "$work/recovery.pem" \
		--passphrase-file "$work/passphrase" >"$work/keygen.out"
	[ "${2:-}" != open ] || open_recovery_key
	cat >"$clawback_config" <<-END
		[repository]
		url = file://$1
		recipient = $work/recovery.pem.pub

		[agent]
		state = $work/state
	END
	clawback init >"$work/init.out"
	clawback_repository=$1
	defer clawback_detach
}

clawback_volume() {
	local name=$1 device=$2
	shift 2
	printf '\n[volume %s]\ndevice = %s\n' "$name" "$device" >>"$clawback_config"
	[ $# = 0 ] || printf '%s\n' "$@" >>"$clawback_config"
}

# At the end of a test, however it went.
clawback_detach() {
	[ ! -d /sys/fs/bpf/clawback ] || clawback detach --all >/dev/null
}

clawback_end() {
	clawback detach --all >/dev/null
	assert_no_helpers
	if [ -d /sys/fs/bpf/clawback ]; then
		fail "pinned after detach: $(find /sys/fs/bpf/clawback)"
	fi
}

# ---- helper devices ------------------------------------------------------------
# Whether a snapshot of ours stands.
helpers() { dmsetup ls 2>/dev/null | sed -n 's/^\(clawback-[^[:space:]]*\).*/\1/p'; }
has_helpers() { [ -n "$(helpers)" ]; }
has_cow_loops() { losetup --list --noheadings --output BACK-FILE | grep -q clawback-cow; }
no_cow_loops() { ! has_cow_loops; }

assert_no_helpers() {
	! has_helpers || fail "helper devices are left: $(helpers)"
	# A loop device clears itself a moment after its last user.
	wait_for 5 no_cow_loops
}

# ---- runs and points -----------------------------------------------------------
backup() {
	clawback backup --json --image-digest "$@" >"$work/backup.json" || return
	jq -r 'select(.message_type == "summary") | "  \(.volume): point \(.point.number), " +
		"\(.point.kind), read \(.point.read_bytes) of \(.point.volume_bytes), " +
		"stored \(.point.stored_bytes)" + (if (.point.reason // "") == "" then ""
		else ", because \(.point.reason)" end)' "$work/backup.json"
}

summary() {
	local which=true
	[ $# = 1 ] || { which=".volume == \"$1\""; shift; }
	jq -r "select(.message_type == \"summary\" and $which) | .$1" "$work/backup.json"
}

points() { clawback points "$1" --json | jq -r '.points[].number' | tr '\n' ' '; }

# assert_kind KIND [VOLUME]: of the last backup's point.
assert_kind() { assert_equal "$1" "$(summary ${2:+"$2"} point.kind)" "the kind of the point"; }

# assert_rescan REASON [VOLUME]: the last backup compared the whole volume, for that reason.
assert_rescan() {
	assert_kind incremental ${2:+"$2"}
	assert_equal true "$(summary ${2:+"$2"} rescan)" "rescan"
	[[ $(summary ${2:+"$2"} point.reason) =~ $1 ]] ||
		fail "its reason: $(summary ${2:+"$2"} point.reason)"
}

# A point restored is what its snapshot showed, by SHA-256 over the whole volume.
# TARGET is a device or a file, by default a file that goes again.
assert_restores() {
	local point=$1 target=${2:-$work/restored} wanted bytes got
	read -r wanted bytes < <(clawback show "$point" --json |
		jq -r '"\(.image_sha256) \(.volume_bytes)"')
	[[ $wanted =~ ^[0-9a-f]{64}$ ]] || fail "$point has no image digest: $wanted"
	clawback restore "$point" --to "$target" --force "${clawback_key[@]}" \
		>"$work/restore.out" || fail "restoring $point: exit code $?"
	got=$(head -c "$bytes" "$target" | sha256sum)
	assert_equal "$wanted" "${got%% *}" "SHA-256 of $point restored"
	echo "  $point restored: $bytes bytes identical"
	[ "$target" != "$work/restored" ] || [ "${keep_restored:-}" = 1 ] || rm "$target"
}

# assert_matches_volume VOLUME DEVICE: at rest, the latest point is the volume.
assert_matches_volume() {
	local keep_restored=1
	assert_restores "$1@latest"
	blockdev --flushbufs "$2"
	assert_same "$work/restored" "$2" "$(blockdev --getsize64 "$2")"
	rm "$work/restored"
}

assert_refused() {
	local wanted=$1 pattern=$2 code=0
	shift 2
	"$@" >"$work/refused.out" 2>"$work/refused.err" || code=$?
	sed 's/^/  /' "$work/refused.err"
	[ $code = "$wanted" ] || fail "exit code $code, not $wanted: $*"
	grep -q -e "$pattern" "$work/refused.err" || fail "it did not say '$pattern': $*"
}

# mount_volume DEVICE FOLDER, unmount_volume FOLDER: at any time, any number of times.
mount_volume() {
	mkdir -p "$2"
	mount "$1" "$2"
	defer unmount_volume "$2"
}
unmount_volume() { ! mountpoint -q "$1" || umount "$1"; }

# ---- writers -------------------------------------------------------------------
# load_start NAME DEVICE|FOLDER [MIB_PER_SECOND]: random writes, 4 to 64 KiB, until
# load_stop; a write that fails ends it, which load_alive and load_stop notice.
declare -A load_pids
load_start() {
	local where=(--filename="$2" --direct=1)
	[ ! -d "$2" ] || where=(--directory="$2" --size=6M --fsync=8 --fallocate=none)
	fio --name=load --rw=randwrite --bsrange=4k-64k --ioengine=psync --thread --numjobs=2 \
		--time_based --runtime=3600 --rate="${3:-1}M" --randseed="$CLAWBACK_SEED" \
		--norandommap --randrepeat=0 "${where[@]}" >"$work/load.$1" 2>&1 &
	load_pids[$1]=$!
	defer clawback_stop $!
}

load_alive() {
	kill -0 "${load_pids[$1]}" 2>/dev/null ||
		fail "the volume refused a write: $(tail -n 20 "$work/load.$1")"
}

load_stop() {
	load_alive "$1"
	kill -INT "${load_pids[$1]}"
	wait "${load_pids[$1]}" || true
	! grep -E 'err=[ ]*[1-9]|error=' "$work/load.$1" || fail "the load had errors"
}

# write_sectors DEVICE: how many the kernel has counted.
write_sectors() {
	local device stat
	device=$(basename "$(readlink -f "$1")")
	read -ra stat <"/sys/block/$device/stat"
	echo "${stat[6]}"
}

# assert_takes_writes DEVICE: while a load runs, the volume goes on.
has_written() { [ "$(write_sectors "$1")" -gt "$2" ]; }
assert_takes_writes() { wait_for 20 has_written "$1" "$(write_sectors "$1")"; }

# fill DEVICE MIB [SEEK_MIB]: data to be backed up.
fill() {
	head -c "${2}M" </dev/urandom | dd of="$1" bs=1M seek="${3:-0}" oflag=direct \
		iflag=fullblock conv=notrunc status=none
}

fill_file() {
	head -c "${2}M" </dev/urandom >"$1"
	sync "$1"
}
