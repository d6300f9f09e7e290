#!/bin/bash
# Disks that fail: under the volume, under the snapshot's store, under the repository,
# under the state folder. Each fails the run with a word about it, costs no mark and
# leaves no helper; once the disk works again the next run is incremental and right.
#
# quick-kernels: 6.1
# guest: udev 2048M disk=64M disk=64M disk=128M disk=64M
# timeout: 600
. "$(dirname "$0")/../lib/guest.sh"
. tests/lib/clawback.sh

# shellcheck disable=SC2086
set -- ${CLAWBACK_DISKS:?}

# flaky_make VARIABLE NAME DISK; flaky_break NAME [FEATURE]; flaky_mend NAME
declare -A flaky_disk
flaky_table() { echo "0 $(blockdev --getsz "${flaky_disk[$1]}") flakey ${flaky_disk[$1]} 0 $2"; }
flaky_make() {
	flaky_disk[$2]=$3
	make_volume "$1" "$2" "$(flaky_table "$2" "3600 0")"
}
flaky_load() {
	dmsetup suspend --noflush "$1"
	dmsetup load "$1" --table "$(flaky_table "$1" "$2")"
	dmsetup resume "$1"
}
flaky_break() { flaky_load "$1" "0 3600${2:+ 1 $2}"; }
flaky_mend() { flaky_load "$1" "3600 0"; }

flaky_make beneath badvolume "$1"
flaky_make store badcow "$2"
flaky_make repository badrepository "$3"
flaky_make state badstate "$4"
make_linear_volume volume labvolume "$beneath" $((24 * 2048))
make_linear_volume cow labcow "$store" $((32 * 2048))
mkfs.ext4 -q "$repository"
mkfs.ext4 -q "$state"
mount_volume "$repository" "$work/repository"
mount_volume "$state" "$work/state"
clawback_begin "$work/repository/clawback" open
clawback_volume v "$volume"
fill "$volume" 16
backup v
assert_kind full

# well_again: nothing is left, no mark is lost.
well_again() {
	assert_no_helpers
	assert_equal linear "$(dmsetup table labvolume | cut -d ' ' -f 3)" "the volume's own target"
	fill "$volume" 1 $((RANDOM % 20))
	backup v
	assert_kind incremental
	assert_equal "" "$(summary point.reason)" "why not trusted"
	assert_matches_volume v "$volume"
	clawback verify v >/dev/null
}

echo "== the volume cannot be read"
fill "$volume" 4 3
flaky_break badvolume
assert_refused 1 "read" clawback backup v
assert_equal true "$(clawback status v --json | jq '.volumes[0].pending')" "pending marks"
flaky_mend badvolume
well_again

echo "== the snapshot's store cannot be written"
fill "$volume" 4 3
clawback_start backup v -o "volume v.cow=device:$cow" -o agent.read_rate=256K
is_pending() { [ -e "$work/state/volumes/v/pending" ]; }
wait_for 60 is_pending
flaky_break badcow
# The volume goes on: what cannot be kept for the snapshot is the snapshot's loss.
dd if=/dev/urandom of="$volume" bs=64k count=16 seek=200 oflag=direct status=none
code=0
clawback_wait || code=$?
sed 's/^/  /' "$work/background.err"
[ $code = 1 ] || fail "exit code $code"
grep -q "snapshot of volume v was lost" "$work/background.err" || fail "it does not say why"
grep -q "failed" "$work/background.err" || fail "it does not say that the store may have failed"
flaky_mend badcow
well_again

if is_full; then
for feature in "" error_writes; do
	echo "== the repository's disk fails ${feature:-altogether}"
	fill "$volume" 6 5
	flaky_break badrepository $feature
	assert_refused 1 "$work/repository\|file://" clawback backup v
	flaky_mend badrepository
	# The file system gave up; whoever owns it repairs it.
	unmount_volume "$work/repository"
	e2fsck -p "$repository" >"$work/fsck" || [ $? -lt 4 ] || fail "fsck: $(cat "$work/fsck")"
	mount_volume "$repository" "$work/repository"
	well_again
done

echo "== the state folder's disk fails"
fill "$volume" 2 9
flaky_break badstate
assert_refused 1 "$work/state" clawback backup v
flaky_mend badstate
unmount_volume "$work/state"
e2fsck -p "$state" >"$work/fsck" || [ $? -lt 4 ] || fail "fsck: $(cat "$work/fsck")"
mount_volume "$state" "$work/state"
well_again
fi

echo "== the state folder is full"
fill "$volume" 2 9
dd if=/dev/zero of="$work/state/ballast" bs=64k status=none 2>/dev/null || true
dd if=/dev/zero of="$work/state/crumbs" bs=1k status=none 2>/dev/null || true
assert_refused 1 "No space" clawback backup v
rm "$work/state/ballast" "$work/state/crumbs"
well_again
for number in $(points v); do
	assert_restores "v@$number"
done
clawback_end
