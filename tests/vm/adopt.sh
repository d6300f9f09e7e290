#!/bin/bash
# A plain partition is adopted, protected while it is written to, and released: what
# udev makes of it, what is refused, what a killed adopt leaves.
#
# quick-kernels: 6.12
# guest: udev disk=256M disk=64M disk=256M
# timeout: 600
. "$(dirname "$0")/../lib/guest.sh"
. tests/lib/clawback.sh

# shellcheck disable=SC2086
set -- ${CLAWBACK_DISKS:?}
disk=$1
sfdisk -q "$disk" <<-END
	label: gpt
	size=96M, name="web files"
	size=32M, name=second
	size=32M
	size=32M
END
udevadm settle
mkfs.ext4 -q -L files "${disk}1"
mkfs.ext4 -q "${disk}2"
mkswap -q "${disk}3" >/dev/null
pvcreate -qq "${disk}4"
udevadm settle
rules=/etc/udev/rules.d/62-clawback-web.rules

dm_devices() { dmsetup ls | sed '/^No devices/d'; }
number_of() { stat -L -c %Hr:%Lr "$1"; }
# link_leads LINK DEVICE
link_leads() { assert_equal "$(number_of "$2")" "$(number_of "$1")" "the device of $1"; }
uuid=$(blkid -o value -s UUID "${disk}1")
partuuid=$(blkid -o value -s PARTUUID "${disk}1")

echo "== refused"
mkdir -p /mnt/a /mnt/b
mount "${disk}2" /mnt/b
assert_refused 1 "is in use: mounted on /mnt/b" clawback adopt "${disk}2" second
assert_refused 1 "swap space" clawback adopt "${disk}3" swap
assert_refused 1 "device-mapper devices already" clawback adopt "${disk}4" lvm
assert_refused 1 "adopt its partitions" clawback adopt "$disk" whole
truncate -s 1M "$work/image"
loop=$(losetup --find --show "$work/image")
defer losetup --detach "$loop"
udevadm settle
assert_refused 1 "no serial number" clawback adopt "$loop" whole
assert_refused 2 "is no name" clawback adopt "${disk}1" ../web
assert_refused 1 "not a block device" clawback adopt /etc/fstab web
dmsetup create taken --table '0 8 zero'
assert_refused 1 "another device-mapper device called taken" clawback adopt "${disk}1" taken
dmsetup remove --retry taken
echo "${disk}1 /mnt/a ext4 defaults 0 0" >>/etc/fstab
assert_refused 1 "/etc/fstab mounts ${disk}1 by the name ${disk}1" clawback adopt "${disk}1" web
sed -i "s|^${disk}1 |UUID=$uuid |" /etc/fstab
clawback adopt "${disk}1" web --dry-run
assert_equal "" "$(ls /etc/udev/rules.d/)" "the rules"
assert_equal "" "$(dm_devices)" "device-mapper's devices"

remove_adopted() {
	local name
	for name in web second whole; do
		[ ! -b /dev/mapper/$name ] || dmsetup remove --retry $name
	done
}
# by_links DEVICE: all the partition's names lead there.
by_links() {
	local link
	for link in by-uuid/$uuid by-label/files by-partuuid/$partuuid 'by-partlabel/web\x20files'; do
		link_leads "/dev/disk/$link" "$1"
	done
}
# by_rule NAME DEVICE: the rule has adopted it. udev keeps to itself what a rule's program
# says; where it did not, the same event is gone through once more, aloud.
by_rule() {
	[ ! -b "/dev/mapper/$1" ] || return 0
	grep "^$2 " /proc/self/mounts || true
	udevadm test --action=change "/sys/class/block/${2##*/}" 2>&1 | grep -a "clawback\|dm-\|SYMLINK" || true
	fail "its rule has not adopted $2 as $1"
}
ready() { udevadm info --query=property --property=SYSTEMD_READY --value "$1"; }

echo "== adopted: it has every name of the partition, and all its bytes"
by_links "${disk}1"
plain=$(sha256sum <"${disk}1")
clawback adopt "${disk}1" web
defer remove_adopted
assert_equal "$plain" "$(sha256sum </dev/mapper/web)" "the bytes"
assert_equal 0 "$(ready "${disk}1")" "systemd's view of the partition"
assert_equal 1 "$(ready /dev/mapper/web)" "systemd's view of the device"
by_links /dev/mapper/web
assert_equal "web true" "$(clawback adopt --json | jq -r '.adopted[] | "\(.name) \(.present)"')" "the list"
! mount "${disk}1" /mnt/a 2>/dev/null || fail "the bare partition can be mounted"

echo "== protected while it is written to"
clawback_begin "$work/repository" open
clawback_volume web /dev/mapper/web
mount_volume "/dev/disk/by-uuid/$uuid" /mnt/a
fill_file /mnt/a/one 8
backup web
fill_file /mnt/a/two 4
sync
clawback_start backup web -o agent.read_rate=512K
until [[ $(dmsetup table web) == *" linear "* && $(dmsetup table web) != *" $(number_of "${disk}1") "* ]]; do
	kill -0 "$clawback_pid" || fail "it ended too soon"
done
# An event now, when the table is not the one that was adopted.
udevadm trigger --action=change --settle "${disk}1"
by_links /dev/mapper/web
kill -0 "$clawback_pid" || fail "the run ended before the event"
clawback_wait || fail "$(cat "$work/background.err")"
assert_equal "tracked" "$(clawback status web --json | jq -r '.volumes[0].trust')" trust
backup web
unmount_volume /mnt/a
backup web
assert_matches_volume web /dev/mapper/web

echo "== met anew, as at a boot"
dmsetup remove --retry web
udevadm trigger --action=change --settle "${disk}1"
udevadm settle
by_rule web "${disk}1"
by_links /dev/mapper/web
echo "== a killed adopt is completed"
dmsetup remove --retry web
clawback adopt "${disk}1" web
by_links /dev/mapper/web
clawback adopt "${disk}1" web
assert_refused 1 "held by web" clawback adopt "${disk}1" other
assert_refused 1 "it is adopted already, as web" clawback adopt "${disk}1" other --next-boot
backup web
assert_matches_volume web /dev/mapper/web

echo "== where the program fails the partition is a plain one"
dmsetup remove --retry web
sed -i.kept 's|PROGRAM!="[^ ]* |PROGRAM!="/bin/false |' $rules
udevadm control --reload
udevadm trigger --action=change --settle "${disk}1"
by_links "${disk}1"
mount "/dev/disk/by-uuid/$uuid" /mnt/a
umount /mnt/a
assert_refused 1 "says something else" clawback adopt "${disk}1" web
mv $rules.kept $rules
clawback adopt "${disk}1" web

echo "== a copy of the disk is not taken for it"
dd if="$disk" of="$3" bs=1M oflag=direct conv=notrunc status=none
# udev reads the partition table anew when a disk's writer closes it.
udevadm settle
[ -b "${3}1" ] || blockdev --rereadpt "$3"
udevadm settle
assert_equal "" "$(ready "${3}1")" "systemd's view of the copy"
assert_equal $'1 dependencies\t: '"($(stat -L -c '%Hr, %Lr' "${disk}1"))" "$(dmsetup deps web)" "what is beneath"
partx --delete "$3"
wipefs -q -a "$3"
udevadm settle

echo "== a whole disk"
mkfs.ext4 -q -L whole "$2"
udevadm settle
clawback adopt "$2" whole
link_leads /dev/disk/by-label/whole /dev/mapper/whole
clawback release whole
link_leads /dev/disk/by-label/whole "$2"
clawback adopt "$2" whole
# Unplugged: /sys/devices/…/PCI-SLOT/virtioN/block/vdb
slot=$(readlink -f "/sys/class/block/${2##*/}/../../..")
echo 1 >"$slot/remove"
[ ! -e "$2" ] || fail "it is still there"
clawback release whole
[ ! -e /dev/mapper/whole ] || fail "its device is still there"

echo "== later"
clawback adopt "${disk}2" second --next-boot
link_leads "/dev/disk/by-uuid/$(blkid -o value -s UUID "${disk}2")" "${disk}2"
clawback adopt
umount /mnt/b
udevadm trigger --action=change --settle "${disk}2"
udevadm settle
by_rule second "${disk}2"
link_leads "/dev/disk/by-uuid/$(blkid -o value -s UUID "${disk}2")" /dev/mapper/second
clawback release second
[ ! -e /etc/udev/rules.d/62-clawback-second.rules ] || fail "its rule is still there"

echo "== released"
plain=$(sha256sum </dev/mapper/web)
assert_refused 1 "is tracked" clawback release web
clawback detach web
mount /dev/mapper/web /mnt/a
assert_refused 1 "in use: mounted on /mnt/a" clawback release web
umount /mnt/a
clawback release web --dry-run
[ -b /dev/mapper/web ] || fail "a dry run took it away"
plain=$(sha256sum </dev/mapper/web)
clawback release web
assert_equal "" "$(dm_devices)" "device-mapper's devices"
assert_equal "$plain" "$(sha256sum <"${disk}1")" "the bytes"
by_links "${disk}1"
assert_equal "" "$(ready "${disk}1")" "systemd's view of the partition"
assert_equal "" "$(ls /etc/udev/rules.d/)" "the rules"
assert_refused 1 "no device was adopted as web" clawback release web
clawback_end
