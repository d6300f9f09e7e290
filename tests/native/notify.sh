#!/bin/bash
# What the daemon tells while it runs: the metrics file follows it, for a store that
# fails as well, and stays readable for who collects it at any moment.
#
# timeout: 60
own_mounts=1
. "$(dirname "$0")/../lib/guest.sh"
. tests/lib/clawback.sh

[ "$(id -u)" = 0 ] || skip "not root"
clawback_begin "$work/repository" open
make_disk disk 4M
mkdir "$work/metrics"
metrics=$work/metrics/clawback.prom
clawback_volume v "$disk" "rpo = 1s" "provider = none"
sed -i "s|^state = .*|&\nmetrics = $metrics|" "$clawback_config"

# ---- the metrics -------------------------------------------------------------------
# metric NAME [LABEL=VALUE]: its value; nothing while there is none.
metric() { sed -n "s/^$1\({.*${2:+${2%%=*}=\"${2#*=}\"}.*}\)\{0,1\} //p" "$metrics" 2>/dev/null; }
# metric_is COMPARISON NUMBER NAME [LABEL=VALUE]
metric_is() {
	local value
	value=$(metric "$3" "${4:-}")
	[ -n "$value" ] && awk "BEGIN { exit !(\"$value\" + 0 $1 $2) }"
}
# Whenever it is read, it is whole, and every line is one that the format knows.
assert_readable() {
	local bad
	bad=$(grep -v -E '^# (HELP|TYPE) clawback_[a-z_]+ .|^clawback_[a-z_]+(\{[a-z]+="[^"]*"(,[a-z]+="[^"]*")*\})? (\+Inf|[0-9.e+]+)$' "$1") || true
	assert_equal "" "$bad" "lines that are none of the format's"
	grep -q '^clawback_dirty_bytes' "$1" || fail "it was cut off: $(cat "$1")"
}
write_some() {
	head -c 20K /dev/urandom | dd of="$disk" bs=4K seek=$((RANDOM % 1000)) conv=notrunc,fsync \
		iflag=fullblock status=none
}

# ---- a store that fails ------------------------------------------------------------
mount --bind "$work/repository" "$work/repository"
defer umount -l "$work/repository"
store() { mount -o "remount,bind,$1" "$work/repository"; }

echo "== a path that no collector reads"
assert_refused 2 "ends in .prom" clawback protect -n -o "agent.metrics=$work/metrics/clawback.txt"

echo "== metrics"
clawback_start protect --json
wait_for 10 metric_is ">=" 1 clawback_cycles_total result=stored
assert_equal 644 "$(stat -c %a "$metrics")" "its mode"
assert_readable "$metrics"
assert_equal 1 "$(metric clawback_up)" "clawback_up"
assert_equal 1 "$(metric clawback_tracked volume=v)" "clawback_tracked"
assert_equal 1 "$(metric clawback_rpo_objective_seconds unit=v)" "its objective"
bytes=$(metric clawback_cycle_read_bytes_total)
[ "$bytes" -ge 4194304 ] || fail "a full read $bytes"
point=$(metric clawback_last_point_timestamp_seconds)
write_some
wait_for 10 metric_is ">=" 2 clawback_cycles_total result=stored
metric_is ">" "$point" clawback_last_point_timestamp_seconds || fail "the point's time stayed"
metric_is ">" "$bytes" clawback_cycle_read_bytes_total || fail "the bytes stayed"
wait_for 10 metric_is ">=" 1 clawback_cycles_total result=skipped

echo "== metrics of a store that fails"
store ro
write_some
wait_for 10 metric_is ">=" 1 clawback_cycles_total result=failed
wait_for 10 metric_is "==" 1 clawback_rpo_missed
wait_for 10 metric_is ">" 1 clawback_rpo_seconds
metric_is ">" "$point" clawback_last_error_timestamp_seconds || fail "no time of the failure"
assert_readable "$metrics"
store rw
wait_for 10 metric_is "==" 0 clawback_rpo_missed
assert_equal clawback.prom "$(ls "$work/metrics")" "what is in the folder"

echo "== metrics of a daemon that was stopped"
kill -TERM "$clawback_pid"
clawback_wait
assert_equal 0 "$(metric clawback_up)" "clawback_up"
assert_readable "$metrics"
clawback_end
