#!/bin/bash
# A real Debian's root file system stays tracked across a clean reboot; whatever else
# happens in between is found out, and what was saved is believed once at most.
#
# full-only: yes
# guest: host
# timeout: 600
# full-timeout: 1200
. "$(dirname "$0")/../lib/guest.sh"
. tests/lib/clawback.sh
. tests/lib/debian-image.sh
. tests/lib/root-story.sh

root_story lvm handover-root-step.sh

# boot_crash WHEN [PARAMETER]: a boot that the units of the step cut short.
boot_crash() {
	parameters="lab.crash=$*" assert_exit 99 boot none
	grep -aq "lab: power fails, $1" "$work/console" || fail "power did not fail as it should have"
}

# Another system mounts it and writes a file.
mounted_elsewhere() {
	guest_run --disk-file "$work/root.img" -- bash -euc '
		export DM_DISABLE_UDEV=1
		vgchange -qq -ay system
		mount /dev/mapper/system-root /mnt
		echo changed >/mnt/changed-elsewhere
		umount /mnt
		vgchange -qq -an system' </dev/null
}

boot prepare
# The hook keeps the check of the root file system out of it.
debian_initramfs "$work"
saved "root: saved for the next boot"
echo "== power fails before anything of ours runs: nothing is lost"
boot_crash early
boot judge_tracked
saved "root: saved for the next boot"
restores
echo "== it fails once the root file system is writable"
boot_crash rw
boot judge_untrusted "it was not tracked"
saved "root: saved for the next boot"
restores
is_full || exit 0
echo "== another system had it in between"
mounted_elsewhere
boot judge_untrusted "first or last MiB"
saved "root: saved for the next boot"
restores
echo "== it is written to in the new boot, before tracking begins"
boot_crash rw clawback.early=no
boot judge_untrusted "sectors were written in this boot before tracking began"
saved "root: saved for the next boot"
echo "== power fails after what was saved is out of use"
boot_crash ro
boot judge_untrusted "it was not tracked"
echo "== without a shutdown"
assert_exit 99 boot power_cut
boot judge_untrusted "it was not tracked"
