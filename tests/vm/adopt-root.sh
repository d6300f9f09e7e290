#!/bin/bash
# A real Debian's root file system, on a plain partition, is adopted from the initramfs,
# protected, kept tracked across a reboot, and released; where the initramfs fails to
# adopt it, the machine boots from the plain partition.
#
# kernels: 6.12
# full-only: yes
# guest: host
# timeout: 900
# full-timeout: 1800
. "$(dirname "$0")/../lib/guest.sh"
. tests/lib/clawback.sh
. tests/lib/debian-image.sh
. tests/lib/root-story.sh

# boot_renewing STEP: a boot in which the initramfs is made anew, or after it.
boot_renewing() {
	if is_full; then
		boot "$1" here
	else
		boot "$1" outside
		debian_initramfs "$work"
	fi
}

# boot_broken FILE CONTENT: a boot with another FILE in the initramfs: the root is plain.
boot_broken() {
	mkdir -p "$work/initrd.over/${1%/*}"
	printf '%b' "$2" >"$work/initrd.over/$1"
	chmod 755 "$work/initrd.over/$1"
	boot plain
	grep -aq "could not be adopted; it is mounted as it is" "$work/console" ||
		fail "the console does not say so"
	rm -r "$work/initrd.over"
}

root_story plain adopt-root-step.sh

boot_renewing install
if is_full; then
	echo "== the program is broken in the initramfs; the rule is"
	boot_broken usr/sbin/clawback '\0177ELF and no more\n'
	boot_broken usr/lib/udev/rules.d/62-clawback-system.rules 'ENV{DEVTYPE\n'
fi
echo "== adopted"
boot protect
saved "root: saved for the next boot"
restores
echo "== still tracked; the kernel's command line has a name that only the partition has"
parameters=root=PARTUUID=$debian_root_partuuid boot_renewing release
restores
boot released
