#!/bin/bash
# kill -9 and errors at every named fault point of a backup (provider none): no mark
# is lost, no wrong point shows, nothing is left behind.
#
# timeout: 300
# full-timeout: 1200
own_mounts=1
. "$(dirname "$0")/../lib/guest.sh"
. tests/lib/clawback.sh
. tests/faults/points.sh

[ "$(id -u)" = 0 ] || skip "not root"
times=1
! is_full || times=3
clawback_begin "$work/repository" open
make_disk disk 6M
# So that a run stores a segment, too.
clawback_volume v "$disk" "spot_checks = 4"
fill "$disk" 5
fault_rounds v "$disk" $times 20
# What reads and writes more maps. A quick run has its share of the points only.
every=7
! is_full || every=1
for fault_type in differential synthetic; do
	fault_rounds v "$disk" 1 20 $every
	for what in kill EIO; do fault_round commit.checkpoint $what 1; done
done
fault_end

# A whole disk's run has points of its own. After each the next one is right, and, for the
# last point is known however the run ended, incremental.
echo "== of a whole disk"
clawback_program=$CLAWBACK_BUILD/faults/clawback
make_disk machine 8M
echo 'start=2048, type=83' | sfdisk --quiet --no-reread "$machine" 2>/dev/null
fill "$machine" 7 1
printf '\n[disk machine]\ndevice = %s\n' "$machine" >>"$clawback_config"
clawback backup machine >/dev/null
change() { head -c 8192 </dev/urandom | dd of="$machine" bs=4096 seek=$((300 + RANDOM % 1000)) conv=notrunc,fsync status=none; }
change
CLAWBACK_FAULT_LOG=$work/disk-passed clawback backup machine >/dev/null
every=5 at=$RANDOM
! is_full || every=1
for name in $(sort -u "$work/disk-passed"); do
	[ $((at++ % every)) = 0 ] || continue
	for what in kill EIO; do
		change
		CLAWBACK_FAULT=$name:$what clawback backup machine >"$work/out" 2>"$work/err" || true
		clawback backup machine --json >"$work/backup.json" 2>"$work/backup.err" ||
			fail "after $what at $name: $(cat "$work/backup.err")"
		# Without its fingerprints it cannot be.
		[ "$(summary point.reason)" = "there are no fingerprints of the last point" ] ||
			assert_kind incremental
		clawback restore machine --to "$work/restored" --force "${clawback_key[@]}" >/dev/null
		cmp "$work/restored" <(dd if="$machine" bs=1M iflag=direct status=none) ||
			fail "after $what at $name"
	done
done
[ "$(sort -u "$work/disk-passed" | wc -l)" -ge 12 ] || fail "points: $(cat "$work/disk-passed")"
clawback verify machine >/dev/null
clawback_end
