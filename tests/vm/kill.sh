#!/bin/bash
# kill -9 of a backup at random moments, under load: the volumes go on taking
# writes, the next run removes the remains, no mark is lost, no half point shows.
#
# quick-kernels: 6.1
# guest: udev 2048M disk=512M disk=512M disk=512M disk=512M
# timeout: 3000
. "$(dirname "$0")/../lib/guest.sh"
. tests/lib/clawback.sh

# shellcheck disable=SC2086
set -- ${CLAWBACK_DISKS:?}
kills=2
! is_full || kills=50
RANDOM=$((CLAWBACK_SEED % 32768))

make_linear_volume data labdata "$1" $((32 * 2048))
make_linear_volume wal labwal "$2" $((16 * 2048))
mkfs.ext4 -q "$3"
mount_volume "$3" "$work/repository"
mkfs.ext4 -q "$data"
mount_volume "$data" "$work/data"
fill_file "$work/data/first" 4
clawback_begin "$work/repository/clawback" open
clawback_volume data "$data" group=both
clawback_volume wal "$wal" group=both
load_start data "$work/data"
load_start wal "$wal"
backup both
started=$(date +%s%N)
backup both
run_ms=$((($(date +%s%N) - started) / 1000000))
echo "an undisturbed run takes $run_ms ms"

# What a reader of the repository sees: whole points, without a gap.
assert_whole_points() {
	local volume numbers wanted
	for volume in data wal; do
		numbers=$(points $volume)
		wanted=$(seq -s ' ' 1 "$(wc -w <<<"$numbers")")
		assert_equal "$wanted " "$numbers" "the points of $volume"
	done
}

died=0 remains=0 round=0
while [ $died -lt $kills ]; do
	round=$((round + 1))
	[ $round -le $((3 * kills)) ] || fail "only $died of $round runs died: no test"
	# Groups and single volumes take different ways through the boundary.
	what=both
	[ $((round % 2)) != 0 ] || what=data
	delay=$((RANDOM % run_ms))
	clawback_start backup "$what" --json
	sleep "$((delay / 1000)).$(printf %03d $((delay % 1000)))"
	kill -KILL "$clawback_pid" 2>/dev/null || true
	code=0
	clawback_wait 2>/dev/null || code=$?
	case $code in
	# The machine's speed changes: aim at what a run takes now.
	137) died=$((died + 1)) run_ms=$((run_ms * 11 / 10)) ;;
	0) run_ms=$((run_ms * 2 / 3 + 1)) ;;
	*) fail "the run ended with $code: $(cat "$work/background.err")" ;;
	esac
	left=$(helpers | wc -l)
	remains=$((remains + (left > 0)))
	echo "round $round: $what, killed after $delay ms (exit code $code), $left helper devices left"
	assert_takes_writes "$data"
	assert_takes_writes "$wal"
	load_alive data
	load_alive wal
	# Only every other time, so that also remains of remains are cleared.
	if [ $((round % 2)) = 0 ] || [ $died = $kills ]; then
		assert_whole_points
		clawback backup both --json >"$work/backup.json" 2>"$work/backup.err" ||
			fail "the next run failed: $(cat "$work/backup.err")"
		assert_kind incremental data
		assert_kind incremental wal
		assert_no_helpers
	fi
done
echo "$died runs killed, $remains left devices behind"

load_stop data
load_stop wal
unmount_volume "$work/data"
backup both
assert_kind incremental data
assert_kind incremental wal
assert_no_helpers
for volume in data wal; do
	assert_matches_volume $volume "${!volume}"
done
clawback verify --data "${clawback_key[@]}" >"$work/verify.out"
tail -n 3 "$work/verify.out"
clawback_end
