#!/bin/bash
# shellcheck disable=SC2154
# The machine's side of tests/vm/adopt-root.sh: one step a boot.
partition=/dev/vda1
rules=/etc/udev/rules.d/62-clawback-system.rules
fs_uuid=$(blkid -o value -s UUID $partition)
partuuid=$(blkid -o value -s PARTUUID $partition)

# refused PATTERN COMMAND...: and the reason.
refused() {
	local pattern=$1
	shift
	if "$@" 2>refused; then
		fail "it was not refused: $*"
	fi
	cat refused
	grep -q -e "$pattern" refused || fail "it did not say '$pattern'"
	[ ! -e $rules ] || fail "its rules are there"
}

# with_file FILE COMMAND...: while FILE, which is there, says what stdin does.
with_file() {
	local file=$1 code=0
	shift
	cat >with
	chmod "${mode:-644}" with
	mount --bind with "$file"
	"$@" || code=$?
	umount "$file"
	return $code
}

# renewing COMMAND...: update-initramfs is itself, or leaves its work to the test.
renewing() {
	if [ "$initramfs" = here ]; then
		"$@"
	else
		mode=755 with_file /usr/sbin/update-initramfs "$@" <<<$'#!/bin/sh\nexec touch /boot/initrd.img-*'
	fi
}

# without FILE: adopt, while that is not there.
without() {
	local code=0
	mv "$1" kept
	clawback adopt $partition system --next-boot || code=$?
	mv kept "$1"
	return $code
}

# root_on DEVICE: it is mounted from there, and has its names; the system is well.
root_on() {
	local link
	findmnt -no SOURCE,OPTIONS /
	[ "$(findmnt -no SOURCE /)" = "$1" ] || fail "the root is not mounted from $1"
	for link in by-uuid/$fs_uuid by-partuuid/$partuuid by-partlabel/root; do
		[ "$(readlink -f /dev/disk/"$link")" = "$(readlink -f "$1")" ] ||
			fail "/dev/disk/$link leads to $(readlink -f /dev/disk/"$link")"
	done
	timeout 60 systemctl is-system-running --wait ||
		fail "units failed: $(systemctl --failed --no-legend)"
}

# install here|outside: where the initramfs is made.
install() {
	initramfs=$1
	step_install /dev/mapper/system
	root_on $partition
	refused "in use: mounted on /" clawback adopt $partition system
	refused "root=/dev/vda1\|root file system /dev/vda1" \
		with_file /proc/cmdline clawback adopt $partition system --next-boot <<<"root=/dev/vda1 ro"
	refused "fstab mounts /dev/vda1" \
		with_file /etc/fstab clawback adopt $partition system --next-boot <<<"/dev/vda1 / ext4 defaults 0 1"
	refused "clawback(8) says what to do for dracut" with_file /usr/sbin/update-initramfs \
		clawback adopt $partition system --next-boot </dev/null
	mode=755 refused "made no new initramfs" with_file /usr/sbin/update-initramfs \
		clawback adopt $partition system --next-boot <<<'#!/bin/true'
	mode=755 refused "update-initramfs -u. failed" with_file /usr/sbin/update-initramfs \
		clawback adopt $partition system --next-boot <<<'#!/bin/false'
	refused "GRUB would not find" without /etc/default/grub.d/clawback.cfg
	refused "clawback is missing" without /usr/share/initramfs-tools/hooks/clawback
	clawback adopt $partition system --next-boot --dry-run
	[ ! -e $rules ] || fail "a dry run wrote rules"
	renewing clawback adopt $partition system --next-boot
	clawback adopt | grep "system: not there: it waits for the next boot"
	clawback init >/dev/null
}

plain() { root_on $partition; }

adopted() {
	root_on /dev/mapper/system
	# As when a package's installation lets udev look at everything.
	udevadm trigger --action=add --subsystem-match=block --settle
	root_on /dev/mapper/system
	clawback adopt | grep "system: /dev/mapper/system, .*, adopted"
}

# update-grub would name it by UUID, and find it behind its partition table.
grub() {
	mkdir -p /boot/grub
	grub-mkconfig 2>grub.log >grub.cfg || fail "grub-mkconfig: $(cat grub.log)"
	grep -m 1 "root=UUID=$fs_uuid" grub.cfg || fail "it does not boot it by UUID: $(grep root= grub.cfg)"
	grep -m 1 "insmod part_gpt" grub.cfg || fail "no GPT"
	grep -m 1 "search .*--fs-uuid .*$fs_uuid" grub.cfg || fail "no search"
	if grep "root=[^'U]*mapper" grub.cfg; then fail "it boots the device"; fi
	# What the manual says: it does nothing rather than something wrong.
	if grub-probe --target=drive / 2>grub.log; then fail "GRUB found a drive"; fi
	cat grub.log
}

protect() {
	adopted
	grub
	backup --image-digest
	[ "$(trust)" = tracked ] || fail "$(trust)"
	load
}

# release here|outside
release() {
	initramfs=$1
	root_on /dev/mapper/system
	judge_tracked
	clawback release system 2>refused && fail "it was released while it is tracked"
	grep "is tracked" refused
	clawback detach root
	renewing clawback release system
	[ ! -e $rules ] || fail "its rules are still there"
	clawback adopt | grep "system: .*released, and a plain one from the next boot on"
}

released() {
	# The configuration names a device that is no more, and the unit says so.
	systemctl reset-failed clawback-handover.service
	root_on $partition
	[ -z "$(clawback adopt)" ] || fail "something is adopted: $(clawback adopt)"
}

"$@"
