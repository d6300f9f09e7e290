#!/bin/bash
# The daemon under real writes: points keep coming inside the objective, none while
# nothing is written; a store that fails is told of, costs no mark and is got over;
# reloads, a second daemon, being stopped, interrupted, killed. What is stored last is
# what the device holds.
#
# timeout: 180
own_mounts=1
. "$(dirname "$0")/../lib/guest.sh"
. tests/lib/clawback.sh

[ "$(id -u)" = 0 ] || skip "not root"
clawback_begin "$work/repository" open
make_disk disk 8M
make_disk other 2M
clawback_volume v "$disk" "rpo = 2s" "spot_checks = 100"

# ---- the daemon and what it said ----------------------------------------------------
log=$work/background.out
protect() { clawback_start protect --json "$@"; seen=0; }

# events FILTER: how many it said so far that fit.
events() { jq -n "[inputs | select($1)] | length" "$log" 2>/dev/null || echo 0; }
has_events() { [ "$(events "$2")" -ge "$1" ]; }
# said SECONDS FILTER: one more than at the last call of it.
declare -A counted
said() {
	local wanted=$((${counted[$2]:-0} + 1))
	wait_for "$1" has_events "$wanted" "$2" || fail "$(cat "$log" "$work/background.err")"
	counted[$2]=$wanted
}
# Events from now on.
forget() { counted[$1]=$(events "$1"); }
v_ended='.message_type == "cycle_ended" and .volume == "v"'
write_some() {
	head -c 20K /dev/urandom | dd of="$disk" bs=4K seek=$((RANDOM % 2000)) conv=notrunc,fsync \
		iflag=fullblock status=none
}
stop_daemon() {
	local code=0
	kill -TERM "$clawback_pid"
	clawback_wait || code=$?
	assert_equal "${1:-0}" $code "exit code of the daemon: $(cat "$work/background.err")"
}
restart() { counted=(); protect "$@"; }
count_points() { points v | wc -w; }

echo "== nothing to protect"
assert_refused 2 "nothing to protect" clawback protect -o "volume v.rpo=off"
assert_refused 2 "no calendar expression" clawback protect -o "volume v.full=fortnightly"
clawback protect --dry-run | tee "$work/plan"
grep -q "^v: auto at .*there is no point yet" "$work/plan"
[ ! -e "$work/state/protect.lock" ] || fail "a plan took the lock"

echo "== points while something is written"
protect
said 20 "$v_ended"
for i in 1 2 3 4; do
	write_some
	said 20 "$v_ended"
done
assert_equal 5 "$(count_points)" "points"
worst=$(jq -n "[inputs | select($v_ended) | .rpo_seconds] | max" "$log")
echo "  the oldest write was at most $worst s old"
# A machine that is busy with other things may be late, but not without a word.
jq -en "$worst <= 2" >/dev/null || has_events 1 '.message_type == "rpo_missed"' ||
	fail "its objective of 2 s was missed, and it was not told: $worst"

echo "== none while nothing is"
said 20 '.message_type == "cycle_skipped"'
had=$(count_points)
sleep 4
assert_equal "$had" "$(count_points)" "points of a volume at rest"
clawback status v --json >"$work/status"
jq -e '.daemon.running and (.volumes[0].protect | .objective_seconds == 2 and .rpo_seconds == 0 and
	(.due == null or (.due | length) > 0))' "$work/status" >/dev/null || fail "$(cat "$work/status")"
clawback status v | tee "$work/status" | tail -n 2
grep -q "objective 2.0 s, RPO now 0" "$work/status"
assert_refused 11 "process $clawback_pid" clawback protect

echo "== a store that fails"
mount --bind "$work/repository" "$work/repository"
defer umount -l "$work/repository"
mount -o remount,bind,ro "$work/repository"
missed=$(events '.message_type == "rpo_missed"') met=$(events '.message_type == "rpo_recovered"')
write_some
said 20 '.message_type == "cycle_failed" and .code == 1 and (.error | test("ead-only"))'
wait_for 10 has_events $((missed + 1)) '.message_type == "rpo_missed"'
told=$(events '.message_type == "rpo_missed"')
sleep 3
assert_equal "$told" "$(events '.message_type == "rpo_missed"')" "how often it told the miss"
clawback status v --json >"$work/status"
jq -e '.volumes[0] | (.dirty_bytes > 0 or .pending) and .trust == "tracked" and .protect.missed and
	.protect.rpo_seconds > 2 and .protect.failures > 1 and (.protect.error | test("ead-only"))' \
	"$work/status" >/dev/null || fail "$(cat "$work/status")"
mount -o remount,bind,rw "$work/repository"
forget "$v_ended"
said 20 "$v_ended"
wait_for 20 has_events $((met + 1)) '.message_type == "rpo_recovered"'
jq -en "[inputs | select($v_ended)] | last | .points[0].kind == \"incremental\" and
	(.points[0].rescan | not)" "$log" >/dev/null || fail "marks were lost: $(tail -n 3 "$log")"

echo "== another configuration"
cp "$clawback_config" "$work/good"
clawback_volume w "$other" "group = g"
printf '[group g]\nrpo = 3s\nfull = daily\n' >>"$clawback_config"
kill -HUP "$clawback_pid"
said 20 '.message_type == "reload" and .accepted'
said 20 '.message_type == "cycle_ended" and .group == "g" and .points[0].volume == "w"'
echo "rpo = soon" >>"$clawback_config"
kill -HUP "$clawback_pid"
said 20 '.message_type == "reload" and (.accepted | not) and (.error | test("rpo"))'
forget "$v_ended"
write_some
said 20 "$v_ended"
forget '.message_type == "cycle_ended" and .group == "g"'
fill "$other" 1
said 20 '.message_type == "cycle_ended" and .group == "g"'

echo "== stopped"
stop_daemon
[ "$(jq -rn '[inputs] | last | .message_type' "$log")" = stopping ] || fail "$(tail -n 2 "$log")"
sed -i '/^rpo = soon/d' "$clawback_config"
clawback detach w >/dev/null
cp "$work/good" "$clawback_config"
clawback status v --json | jq -e '.daemon.running | not' >/dev/null

echo "== stopped during a run, which is interrupted"
slow=(-o agent.read_rate=1M)
fill "$disk" 3
restart "${slow[@]}" -o agent.stop_timeout=1
said 20 '.message_type == "cycle_started"'
stop_daemon
[ "$(events '.message_type == "cycle_failed" and .code == 130')" = 1 ] || fail "$(cat "$log")"

echo "== stopped during a run, which may end"
restart "${slow[@]}"
said 20 '.message_type == "cycle_started"'
stop_daemon
[ "$(events "$v_ended")" = 1 ] || fail "$(cat "$log")"

echo "== killed during a run"
fill "$disk" 3
restart "${slow[@]}"
said 20 '.message_type == "cycle_started"'
sleep 1
run=$(pgrep -P "$clawback_pid")
kill -KILL "$clawback_pid"
clawback_wait || true
run_over() { ! kill -0 "$run" 2>/dev/null; }
wait_for 5 run_over
restart
said 20 "$v_ended"
jq -en "[inputs | select($v_ended)] | last | .points[0] | .kind == \"incremental\" and
	(.rescan | not) and .read_bytes >= 3145728" "$log" >/dev/null || fail "$(cat "$log")"
write_some
said 20 "$v_ended"
stop_daemon

echo "== a run that is killed costs just itself"
fill "$disk" 3
restart "${slow[@]}"
said 20 '.message_type == "cycle_started"'
sleep 0.5
kill -KILL "$(pgrep -P "$clawback_pid")"
said 20 '.message_type == "cycle_failed" and (.error | test("killed by signal 9"))'
said 20 "$v_ended"
stop_daemon

echo "== once"
clawback protect --once --json >"$work/once"
assert_equal "" "$(jq -r .message_type "$work/once" | grep -v cycle_skipped || true)" "what it did at rest"
had=$(count_points)
write_some
sleep 2
clawback protect --once --json >"$work/once"
assert_equal $((had + 1)) "$(count_points)" "points"
write_some
sleep 2
mv "$work/repository/clawback.json" "$work/away"
assert_refused 10 "runs failed" clawback protect --once
mv "$work/away" "$work/repository/clawback.json"
sleep 2
clawback protect --once >"$work/once"

echo "== what is stored is what is there"
clawback restore v --to "$work/restored" "${clawback_key[@]}" >"$work/restore.out"
blockdev --flushbufs "$disk"
assert_same "$work/restored" "$disk"
clawback verify >/dev/null
clawback_end
