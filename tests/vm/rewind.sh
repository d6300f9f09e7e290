#!/bin/bash
# A volume of LVM with a file system on it, protected while mounted, goes back to a point
# while it is not: the files are what they were, LVM and udev notice nothing, tracking goes
# on through the device and the next point is an incremental of what was written; killed
# with a snapshot of the safety point standing, it is run again.
#
# quick-kernels: 6.12
# guest: udev 2048M disk=128M disk=512M
# timeout: 600
. "$(dirname "$0")/../lib/guest.sh"
. tests/lib/clawback.sh
. tests/lib/volume-story.sh

# shellcheck disable=SC2086
set -- ${CLAWBACK_DISKS:?}
export LVM_SUPPRESS_FD_WARNINGS=1
export LVM_SYSTEM_DIR=$work/lvm
mkdir "$LVM_SYSTEM_DIR"
echo 'activation { monitoring = 0 }' >"$LVM_SYSTEM_DIR/lvm.conf"
remove_group() {
	vgchange --quiet --quiet -an lab
	vgremove --quiet --quiet --force lab
	pvremove --quiet --quiet --force --force "$@"
}

mkfs.ext4 -q "$2"
mount_volume "$2" "$work/repository"
vgcreate --quiet --quiet lab "$1"
defer remove_group "$1"
clawback_begin "$work/repository/clawback" open
lvcreate --quiet --quiet -Wn -n data -L 32M lab
device=/dev/lab/data
clawback_volume v "$device"
mkfs.ext4 -q "$device"
mount_volume "$device" "$work/data"

files() { (cd "$work/data" && find . -type f -exec sha256sum {} + | LC_ALL=C sort -k 2); }
rewind() {
	clawback restore --in-place "$1" --json "${clawback_key[@]}" "${@:2}" \
		>"$work/rewind.json" 2>"$work/rewind.err" || fail "rewinding $1: $(cat "$work/rewind.err")"
}
said() { jq -r "select(.message_type == \"summary\") | .$1" "$work/rewind.json"; }
assert_holds() {
	blockdev --flushbufs "$device"
	assert_equal "$(clawback show "$1" --json | jq -r .image_sha256)" \
		"$(sha256sum <"$device" | cut -d ' ' -f 1)" "$1 on $device"
}

echo "== points of a mounted file system"
fill_file "$work/data/kept" 4
fill_file "$work/data/changed" 2
backup v
assert_kind full
files >"$work/files.1"
fill_file "$work/data/changed" 2
rm "$work/data/kept"
fill_file "$work/data/new" 3
backup v
assert_kind incremental
fill_file "$work/data/later" 2
assert_refused 1 "in use" clawback restore --in-place v@1 "${clawback_key[@]}"
assert_equal "1 2 " "$(points v)" "points of a volume in use"
files >"$work/files.now"
unmount_volume "$work/data"

echo "== killed while the snapshot of the safety point stands"
clawback_start restore --in-place v@1 "${clawback_key[@]}" -o agent.read_rate=256K
wait_for 60 has_helpers
clawback_stop "$clawback_pid"
has_helpers || fail "the rewind ended before it was killed"

echo "== rewound: the files are what they were"
rewind v@1 --no-safety-point
assert_no_helpers
assert_equal "marks 2 null" "$(said method) $(said from) $(said safety_point)" "how"
assert_holds v@1
world "$device" >"$work/world"
rewind v@1
safety=$(said safety_point)
assert_equal "marks $safety 0" "$(said method) $(said from) $(said written_bytes)" "once more"
assert_world "$device" "after a rewind"
assert_no_helpers
mount_volume "$device" "$work/data"
diff "$work/files.1" <(files) || fail "the files are not what they were"

echo "== the next points are incrementals"
fill_file "$work/data/afterwards" 1
backup v
assert_kind incremental
assert_equal false "$(summary rescan)" "rescan"
files >"$work/files.now"
unmount_volume "$work/data"
rewind v@2 --verify
safety=$(said safety_point)
assert_equal "marks $safety true" "$(said method) $(said from) $(said verified)" "how"
echo "  $(said written_bytes) written, $(said fetched_bytes) fetched"
assert_holds v@2
written=$(said written_bytes)
backup v
assert_kind incremental
assert_equal "$written" "$(summary point.marked_bytes)" "bytes marked by the rewind"
assert_matches_volume v "$device"
rewind "v@$safety" --no-safety-point
mount_volume "$device" "$work/data"
diff "$work/files.now" <(files) || fail "the safety point does not have what was there"
unmount_volume "$work/data"
clawback_end
