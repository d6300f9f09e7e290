#!/bin/bash
# A chain longer than deltas may be deep: maps become whole again in time, every
# point stays exact. And a run that died between its point and its state file: the
# next one finds the point and goes on behind it.
. "$(dirname "$0")/../lib/guest.sh"
. tests/lib/clawback.sh

[ "$(id -u)" = 0 ] || skip "not root"
deep=32

truncate -s 8M "$work/image"
device=$(losetup --find --show --direct-io=on "$work/image")
defer losetup -d "$device"
mkdir "$work/state"
mount -t tmpfs -o size=1M none "$work/state"
defer umount "$work/state"
clawback_begin "$work/repository" open
clawback_volume v "$device"

# change N: another block each time, so that each point needs all before it.
change() {
	head -c 4096 </dev/urandom | dd of="$device" bs=4096 seek=$((17 * $1)) oflag=direct \
		conv=notrunc status=none
}

echo "== a chain of $((deep + 6)) points"
fill "$device" 2
backup v >"$work/out"
assert_kind full
for ((i = 2; i <= deep + 6; i++)); do
	change "$i"
	backup v >"$work/out" || fail "backup $i: exit code $?"
	assert_kind incremental
	[ "$(summary point.data_bytes)" -lt 65536 ] || fail "point $i is no increment: $(cat "$work/out")"
done
id=$(cd "$work/repository" && echo *-*-*-*-*)
# Base and depth of a point, from its manifest.
facts() {
	tail -c +65 "$work/repository/$id/points/$(printf %010d "$1")" |
		grep -a -E '^ "(base|depth)"' | tr -dc '0-9\n' | paste -sd ' '
}
assert_equal "1 0" "$(facts 1)" "base and depth of the full"
assert_equal "1 $deep" "$(facts $((deep + 1)))" "the deepest delta"
assert_equal "$((deep + 2)) 0" "$(facts $((deep + 2)))" "the point with a whole map"
assert_equal "$((deep + 2)) 1" "$(facts $((deep + 3)))" "the one behind it"
for i in 1 2 $((deep + 1)) $((deep + 2)) $((deep + 6)); do
	assert_restores "v@$i"
done
assert_matches_volume v "$device"
clawback verify --data "${clawback_key[@]}" >"$work/out"

echo "== a point whose run did not live to say so"
# Room for the marks that a run keeps, none for the state behind them.
dd if=/dev/zero of="$work/state/filler" bs=4096 status=none 2>/dev/null || true
truncate -s -4096 "$work/state/filler"
change 100
assert_refused 1 "state.json" clawback backup v --image-digest
rm "$work/state/filler"
all=$(points v)
assert_equal "$((deep + 7)) " "${all##*"$((deep + 6)) "}" "the last point"
change 101
backup v >"$work/out" 2>"$work/note"
grep -q "did not live to say so" "$work/note" || fail "it does not tell: $(cat "$work/note")"
assert_equal "$((deep + 8))" "$(summary point.number)" "the number behind the one found"
assert_kind incremental
assert_restores "v@$((deep + 7))"
assert_matches_volume v "$device"
clawback verify --data "${clawback_key[@]}" >"$work/out"
clawback_end
