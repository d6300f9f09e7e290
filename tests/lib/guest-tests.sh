#!/bin/bash
# Runs tests of the vm lane one after another on the kernel it finds itself on:
# in a guest, or on the host with scripts/test --here.
#
#   guest-tests.sh FOLDER NAME...      NAME stands for tests/vm/NAME.sh
#
# FOLDER receives NAME.log and NAME.result (see tests/lib/run.sh), NAME.started when
# a test begins, NAME.busy ("BEFORE AFTER": what the guest's processors have worked
# since its boot, in ticks), boot.complaints (the kernel's before any test). Ends early,
# with 75, when a test left the kernel in a state that could spoil the next one.
set -u
cd "$(dirname "$0")/../.." || exit 1
# shellcheck source=tests/lib/run.sh
. tests/lib/run.sh
folder=$1
shift

test_kernel_log "$folder/boot.complaints"
rm -f "$folder/boot.complaints.dmesg"

busy() {
	local user nice system idle wait irq softirq rest
	read -r _ user nice system idle wait irq softirq rest </proc/stat
	ticks=$((user + nice + system + irq + softirq))
}

for name in "$@"; do
	script=tests/vm/$name.sh
	# Scratch disks go from test to test in one boot, their contents do not.
	for disk in ${CLAWBACK_DISKS:-}; do
		blkdiscard -f "$disk" || exit 75
	done
	: >"$folder/$name.started"
	busy
	before=$ticks
	test_run "$(test_limit "$script" 300)" "$folder/$name.log" \
		"$folder/$name.partial" bash "$script"
	dirty=$?
	busy
	echo "$before $ticks" >"$folder/$name.busy"
	mv "$folder/$name.partial" "$folder/$name.result"
	[ $dirty = 0 ] || exit 75
done
