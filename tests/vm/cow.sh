#!/bin/bash
# The snapshot's store: one that overflows ends the run with a clear message and
# costs nothing else; in memory, in a file, on a device it works the same.
#
# quick-kernels: 6.1
# guest: udev 2048M disk=512M disk=512M disk=512M disk=512M
# timeout: 600
. "$(dirname "$0")/../lib/guest.sh"
. tests/lib/clawback.sh

# shellcheck disable=SC2086
set -- ${CLAWBACK_DISKS:?}
make_linear_volume volume labvolume "$1" $((48 * 2048))
mkfs.ext4 -q "$2"
mount_volume "$2" "$work/other"
mkdir "$work/other/cow"
make_linear_volume cow labcow "$3" $((64 * 2048))
clawback_begin "$work/other/clawback" open
clawback_volume data "$volume"
fill "$volume" 8 4
backup data
assert_kind full

overflow() {
	fill "$volume" 12 20
	load_start data "$volume" 8
	assert_refused 1 "COW store is full" clawback backup data --image-digest \
		-o "volume data.cow_size=1M" -o agent.read_rate=1M "$@"
	grep -q cow_size "$work/refused.err" || fail "it does not say what to enlarge"
	assert_no_helpers
	assert_takes_writes "$volume"
	load_stop data
	assert_equal linear "$(dmsetup table labvolume | cut -d ' ' -f 3)" "the volume's own target"
	assert_equal true "$(clawback status data --json | jq '.volumes[0].pending')" "pending marks"
}

kinds=(ram "file:$work/other/cow")
! is_full || kinds+=("device:$cow")
for kind in "${kinds[@]}"; do
	echo "== cow = $kind: overflow"
	count=$(points data | wc -w)
	overflow -o "volume data.cow=$kind"
	assert_equal "$count" "$(points data | wc -w)" "points after an overflow"
	echo "== cow = $kind: enough room"
	load_start data "$volume"
	backup data -o "volume data.cow=$kind"
	load_stop data
	assert_kind incremental
	assert_no_helpers
	assert_restores "data@latest"
	[ -z "$(find "$work/other/cow" -type f)" ] || fail "files are left: $(ls -la "$work/other/cow")"
done
backup data
assert_kind incremental
assert_matches_volume data "$volume"

echo "== a store on what it stores is refused, so is one with data"
assert_refused 1 "labvolume\|data" clawback backup data -o "volume data.cow=device:$volume"
mkfs.ext4 -q "$cow"
assert_refused 1 ext4 clawback backup data -o "volume data.cow=device:$cow"
clawback_end
