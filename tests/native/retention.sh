#!/bin/bash
# The daemon keeps each store to its policy, by that store's calendar: points are forgotten
# and pruned while runs go on; a store that is away does not keep the other, and is tried
# again; what was due while no daemon ran is made up for, and nothing else; a bad calendar is
# refused. What is kept restores.
#
# timeout: 120
own_mounts=1
. "$(dirname "$0")/../lib/guest.sh"
. tests/lib/clawback.sh

[ "$(id -u)" = 0 ] || skip "not root"
command -v systemd-analyze >/dev/null || skip "no systemd-analyze"
clawback_begin "$work/first" open
make_disk disk 8M
clawback_volume v "$disk" "rpo = 1s" "keep = last=3"
cat >>"$clawback_config" <<END
[store near]
url = file://$work/near
keep = last=5
END

write_some() {
	head -c 40K /dev/urandom | dd of="$disk" bs=4K seek=$((RANDOM % 2000)) conv=notrunc,fsync \
		iflag=fullblock status=none
}
visible() { clawback points v --store "$1" --json | jq '.points | length'; }
with_calendar() { # STORE CALENDAR: from now on
	sed -i '/^retention/d' "$clawback_config"
	[ -z "${2:-}" ] || sed -i "/^\[$1\]/a retention = $2" "$clawback_config"
}
events() { jq -c "select(.message_type == \"$1\" and .store == \"$2\")" "$work/background.out"; }
told() { [ "$(events "$1" "$2" | wc -l)" -ge "${3:-1}" ]; }

echo "== no calendar: nothing is forgotten"
for i in 1 2 3 4 5 6 7; do
	write_some
	backup v
	[ $i != 4 ] || clawback replicate
done
# From here on the other store is away, and lacks points. That a pass fails is no matter here.
mv "$work/near" "$work/away"
once() { clawback protect --once --json >"$work/background.out" || true; }
once
assert_equal 7 "$(visible repository)" "points without a calendar"
told retention repository && fail "a round without a calendar"

echo "== it must be one"
with_calendar repository "no such day"
assert_refused 2 "retention of repository" clawback protect --once
with_calendar repository 'weekly$(x)'
assert_refused 2 "retention" clawback status

echo "== due only after it was first seen, and once it is"
with_calendar repository daily
once
assert_equal 7 "$(visible repository)" "points on the first day"
touch -d "3 days ago" "$work/state/retention/repository"
once
told retention repository || fail "no round was made up for: $(cat "$work/background.out")"
# What the other store lacks, and the point before, on which that stands, stays.
events retention repository | jq -e '.forgotten == 4 and .pruned == 3' >/dev/null ||
	fail "$(events retention repository)"
assert_equal 3 "$(visible repository)" "points by last=3"
once
told retention repository && fail "a second round on one day"

echo "== beside runs, in all stores"
with_calendar repository "*:*:0/2"
sed -i '/^\[store near\]/a retention = *:*:0/2' "$clawback_config"
sed -i "/^state = /a metrics = $work/clawback.prom" "$clawback_config"
clawback_start protect --json
for _ in $(seq 12); do
	write_some
	sleep 0.5
done
wait_for 20 told retention repository 2
wait_for 20 told retention_failed near
events retention_failed near | jq -e '.error != "" and .due' >/dev/null
mv "$work/away" "$work/near"
kill -HUP $clawback_pid
wait_for 20 told retention near
wait_for 10 grep -q '^clawback_retention_last_success_timestamp_seconds{store="near"} ' "$work/clawback.prom"
grep -q '^clawback_retention_failures_total{store="near"} [1-9]' "$work/clawback.prom"
grep -q '^clawback_retention_forgotten_points_total{store="repository"} [1-9]' "$work/clawback.prom"
kill -TERM $clawback_pid
clawback_wait || fail "the daemon failed: $(tail "$work/background.err")"

echo "== what is kept is whole"
[ "$(jq -rs 'map(select(.message_type == "cycle_ended")) | length' "$work/background.out")" -ge 3 ] ||
	fail "no runs beside it"
write_some
backup v
clawback replicate
touch -d "3 days ago" "$work/state/retention/repository" "$work/state/retention/near"
clawback protect --once --json >"$work/background.out"
assert_equal 3 "$(visible repository)" "points by last=3"
assert_equal 5 "$(visible near)" "points by last=5"
for store in repository near; do
	clawback verify --data --store $store "${clawback_key[@]}" v
	clawback restore v --store $store --to "$work/image" --force "${clawback_key[@]}" >/dev/null
	cmp "$work/image" "$disk"
done
clawback_end
