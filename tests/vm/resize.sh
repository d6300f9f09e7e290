#!/bin/bash
# A volume that grows under load between two runs, and one that shrinks: the next
# point says so and is exact, and the one after is an incremental again.
#
# quick-kernels: 6.1
# guest: udev 2048M disk=512M disk=512M disk=512M disk=512M
# timeout: 600
. "$(dirname "$0")/../lib/guest.sh"
. tests/lib/clawback.sh

# shellcheck disable=SC2086
set -- ${CLAWBACK_DISKS:?}
make_linear_volume volume labresize "$1" $((24 * 2048))
mkfs.ext4 -q "$2"
mount_volume "$2" "$work/repository"
clawback_begin "$work/repository/clawback" open
clawback_volume v "$volume"
mkfs.ext4 -q "$volume"
mount_volume "$volume" "$work/files"
load_start v "$work/files"
backup v
backup v
assert_kind incremental

# resize SECTORS: as lvextend and lvreduce do.
resize() {
	dmsetup load labresize --table "0 $1 linear $disk 0"
	dmsetup resume labresize
}
disk=$1

echo "== grows under load"
resize $((40 * 2048))
resize2fs "$volume" 2>&1 | tail -n 1
assert_takes_writes "$volume"
clawback status v | grep "size changed.* be a full one"
backup v
assert_kind full
[[ $(summary point.reason) == *"size changed"* ]] || fail "its reason: $(summary point.reason)"
assert_equal $((40 << 20)) "$(summary point.volume_bytes)" "the volume's size"
assert_restores v@latest
backup v
assert_kind incremental
assert_restores v@latest

echo "== shrinks"
load_stop v
unmount_volume "$work/files"
e2fsck -fp "$volume" >/dev/null || [ $? -lt 4 ] || fail "the file system is damaged"
resize2fs "$volume" 30M >"$work/resize" 2>&1 || fail "$(cat "$work/resize")"
resize $((30 * 2048))
backup v
assert_kind full
assert_matches_volume v "$volume"
mount_volume "$volume" "$work/files"
fill_file "$work/files/more" 1
backup v
assert_kind incremental
assert_restores v@latest
# The later ones were restored as they came.
again="1 2"
! is_full || again=$(points v)
for number in $again; do
	assert_restores "v@$number"
done
clawback_end
