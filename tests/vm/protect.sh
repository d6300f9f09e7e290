#!/bin/bash
# The daemon over a group on device-mapper, under load: points of one instant keep
# coming; killed in the middle, it leaves no volume suspended and goes on; stopped, it
# leaves no snapshot. What a run locks of its memory is not the daemon's.
#
# full-only: yes
# guest: udev 2048M disk=512M disk=512M disk=512M disk=512M
# timeout: 900
. "$(dirname "$0")/../lib/guest.sh"
. tests/lib/clawback.sh

# shellcheck disable=SC2086
set -- ${CLAWBACK_DISKS:?}
make_linear_volume data labdata "$1" $((8 * 2048))
make_linear_volume wal labwal "$2" $((8 * 2048))
clawback_begin "$work/repository" open
clawback_volume data "$data" group=both
clawback_volume wal "$wal" group=both
printf '[group both]\nrpo = 10s\n' >>"$clawback_config"
load_start data "$data"
load_start wal "$wal"

log=$work/background.out
ended() { jq -n '[inputs | select(.message_type == "cycle_ended" and .group == "both")] | length' "$log"; }
has_ended() { [ "$(ended)" -ge "$1" ]; }
running() { clawback_run=$(pgrep -P "$clawback_pid"); }

tell_log() { tail -n 20 "$log" "$work/background.err"; }
defer tell_log
clawback_start protect --json
wait_for 120 has_ended 3
grep VmLck "/proc/$clawback_pid/status"
[ "$(awk '/^VmLck/ { print $2 }' "/proc/$clawback_pid/status")" = 0 ] || fail "the daemon locked memory"
assert_takes_writes "$data"

echo "== killed during a run"
for _ in 1 2 3; do
	wait_for 30 running
	kill -KILL "$clawback_pid"
	clawback_wait || true
	assert_takes_writes "$data"
	assert_takes_writes "$wal"
	clawback_start protect --json
	wait_for 60 has_ended 1
done

echo "== stopped"
kill -TERM "$clawback_pid"
clawback_wait
assert_no_helpers
load_stop data
load_stop wal
assert_equal "$(points data)" "$(points wal)" "the points' numbers"
for number in $(points data); do
	assert_equal "$(clawback show "data@$number" --json | jq -r .time)" \
		"$(clawback show "wal@$number" --json | jq -r .time)" "the times of points $number"
done
echo "points of one instant: $(points data)"
jq -n '[inputs | select(.message_type == "cycle_ended") | .rpo_seconds] | max' "$log"
clawback backup both >"$work/last.out"
for name in data wal; do
	clawback restore "$name" --to "$work/image" --force "${clawback_key[@]}" >"$work/restore.out"
	assert_same "$work/image" "/dev/mapper/lab$name"
done
clawback_end
