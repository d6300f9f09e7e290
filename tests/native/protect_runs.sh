#!/bin/bash
# Several runs of the daemon at once: a long full of one volume does not keep the points of
# another waiting, and the limits hold for both together; a run that takes too long is
# ended, told and tried again; the calendars of all kinds; blackouts; jitter.
#
# timeout: 120
own_mounts=1
. "$(dirname "$0")/../lib/guest.sh"
. tests/lib/clawback.sh

[ "$(id -u)" = 0 ] || skip "not root"
clawback_begin "$work/repository" open
make_disk large 5M
make_disk disk 2M
clawback_volume v "$disk" "rpo = 2s"
clawback_volume w "$large" "rpo = 1h"
fill "$large" 5

log=$work/background.out
events() { jq -n "[inputs | select($1)] | length" "$log" 2>/dev/null || echo 0; }
has_events() { [ "$(events "$2")" -ge "$1" ]; }
protect() { clawback_start protect --json "$@"; }
stop_daemon() {
	local code=0
	kill -TERM "$clawback_pid"
	clawback_wait || code=$?
	assert_equal 0 $code "exit code of the daemon: $(cat "$work/background.err")"
}
write_some() {
	head -c 8K /dev/urandom | dd of="$disk" bs=4K seek=$((RANDOM % 500)) conv=notrunc,fsync \
		iflag=fullblock status=none
}
ended='.message_type == "cycle_ended"'

echo "== nothing begins in a blackout"
all_day=(-o agent.blackout="Sun-Thu 00:00-24:00, Fri-Sat 00:00-12:00, Fri-Sat 11:00-00:00")
clawback protect --once "${all_day[@]}" >"$work/out" 2>&1
[ ! -s "$work/out" ] || fail "it did something: $(cat "$work/out")"
clawback protect -n "${all_day[@]}" | grep -q "no run may begin until then: blackout" ||
	fail "a plan does not say why"

echo "== jitter puts off first runs, by as much each time"
offset() {
	local due
	due=$(clawback protect -n --json -o agent.jitter=30d | jq -r "select(.volume == \"$1\").due")
	echo $((($(date -d "$due" +%s) - $(date +%s)) / 60))
}
first=$(offset v)
again=$(offset v)
[ $((first - again)) -le 1 ] || fail "another jitter: $first and then $again minutes"
other=$(offset w)
[ "$first" -ge 0 ] && [ "$first" -le 43200 ] && [ "$first" != "$other" ] ||
	fail "jitter of two volumes: $first and $other minutes"
clawback protect --once -o agent.jitter=30d -o "volume w.rpo=off" >/dev/null
assert_equal 1 "$(points v | wc -w)" "points of a first run of --once"

echo "== a long full beside short runs"
# 1 MiB a second for each of two: 5 s for the large one.
protect -o agent.read_rate=2M
wait_for 20 has_events 1 '.message_type == "cycle_started" and .volume == "w"'
# Not while it is read: without device-mapper such a run fails.
v_ended="$ended and .volume == \"v\"" w_ended="$ended and .volume == \"w\""
while ! has_events 1 "$w_ended"; do
	had=$(events "$v_ended")
	write_some
	until has_events $((had + 1)) "$v_ended" || has_events 1 "$w_ended"; do sleep 0.1; done
done
short=$(jq -n "[inputs] | (map(.message_type == \"cycle_started\" and .volume == \"w\") | index(true)) as \$a |
	(map($ended and .volume == \"w\") | index(true)) as \$b |
	.[\$a:\$b] | map(select($ended and .volume == \"v\")) | length" "$log")
[ "$short" -ge 1 ] || fail "$short points of the other beside the full: $(cat "$log")"
seconds=$(jq -n "[inputs | select($ended and .volume == \"w\")] | .[0].seconds" "$log")
echo "  $short points beside a full of $seconds s"
jq -en "$seconds >= 3.3" >/dev/null || fail "it read 5 MiB in $seconds s: more than its part of the limit"
stop_daemon

echo "== a run that takes too long"
fill "$large" 5
protect -o agent.read_rate=2M -o "volume w.rpo=3s" -o "volume w.run_timeout=2s"
late='.message_type == "cycle_failed" and .volume == "w" and .code == 1 and
	(.error | test("longer than its run_timeout of 2 s"))'
wait_for 30 has_events 2 "$late"
write_some
wait_for 10 has_events 1 "$ended and .volume == \"v\""
stop_daemon
# No mark was lost by it.
clawback backup w --json >"$work/backup.json"
assert_equal "incremental false" "$(summary point.kind) $(summary rescan)" "the run after"
[ "$(summary point.read_bytes)" -ge 5242880 ] || fail "marks were lost: $(cat "$work/backup.json")"

echo "== compression of the daemon's choice"
protect -o agent.compression=auto -o agent.read_rate=2M -o "volume v.rpo=1s"
fill "$disk" 2
wait_for 20 has_events 1 '.message_type == "compression" and .volume == "v" and .level == 2 and
	(.reason | test("processors wait"))'
stop_daemon

echo "== calendars"
protect -o "volume v.synthetic=*:*:0/6" -o "volume v.differential=*:*:0/2"
wait_for 30 has_events 1 "$ended and .volume == \"v\" and .points[0].kind == \"synthetic\""
wait_for 30 has_events 2 "$ended and .volume == \"v\" and .points[0].kind == \"differential\""
jq -en 'first(inputs | select(.message_type == "cycle_started" and .type == "differential")) |
	.reason == "the calendar asks for a differential"' "$log" >/dev/null || fail "$(cat "$log")"
stop_daemon
clawback points v | grep -q differential || fail "none is listed"

echo "== what is stored is what is there"
for pair in "v $disk" "w $large"; do
	clawback restore "${pair%% *}" --to "$work/restored" --force "${clawback_key[@]}" >/dev/null
	blockdev --flushbufs "${pair#* }"
	cmp "$work/restored" "${pair#* }" || fail "volume ${pair%% *} differs"
done
clawback verify >/dev/null
clawback_end
