#!/bin/bash
# LVM volumes are protected exactly: linear of several segments, striped, thin;
# LVM and udev notice nothing. (But for a thin volume, which LVM knows by its target:
# while a snapshot stands lvs cannot tell its state, and says so.)
#
# quick-kernels: 6.1
# guest: udev 2048M disk=512M disk=512M disk=512M disk=512M
# timeout: 700
. "$(dirname "$0")/../lib/guest.sh"
. tests/lib/clawback.sh
. tests/lib/volume-story.sh

# shellcheck disable=SC2086
set -- ${CLAWBACK_DISKS:?}
export LVM_SUPPRESS_FD_WARNINGS=1
# A configuration of its own: backups of metadata stay here, no daemon is started.
export LVM_SYSTEM_DIR=$work/lvm
mkdir "$LVM_SYSTEM_DIR"
echo 'activation { monitoring = 0 }' >"$LVM_SYSTEM_DIR/lvm.conf"

remove_group() {
	vgchange --quiet --quiet -an lab
	vgremove --quiet --quiet --force lab
	pvremove --quiet --quiet --force --force "$@"
}

mkfs.ext4 -q "$4"
mount_volume "$4" "$work/repository"
vgcreate --quiet --quiet lab "$1" "$2" "$3"
defer remove_group "$1" "$2" "$3"
clawback_begin "$work/repository/clawback" open

# Two pieces apart on one disk and one on another.
lvcreate --quiet --quiet -Wn -n linear -L 8M lab "$1"
lvcreate --quiet --quiet -Wn -n apart -L 8M lab "$1"
lvextend --quiet --quiet -L +8M lab/linear "$1"
lvextend --quiet --quiet -L +8M lab/linear "$2"
assert_equal 3 "$(dmsetup table lab-linear | wc -l)" "segments of lab/linear"
lvcreate --quiet --quiet -Wn -n striped -i 3 -I 64k -L 24M lab
lvcreate --quiet --quiet -Wn -T lab/pool -L 64M
lvcreate --quiet --quiet -n thin -V 24M -T lab/pool

volume_story linear /dev/lab/linear ext4
! is_full || volume_story striped /dev/lab/striped raw
story_lvs_unknown=lab/thin
volume_story thin /dev/lab/thin ext4

echo "== an LVM snapshot's origin is refused, with the reason"
lvcreate --quiet --quiet -s -n old -L 8M lab/linear
assert_refused 1 "snapshot" clawback backup linear
lvremove --quiet --quiet --yes lab/old
assert_no_helpers
backup linear
assert_matches_volume linear /dev/lab/linear
clawback_end
