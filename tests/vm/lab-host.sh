#!/bin/bash
# scripts/vm keeps its word: exit codes, output, shares, disks that last, power
# cuts, and 125 with a log for a panic, a complaint and a guest that hangs.
#
# kernels: 6.12
# guest: host
# timeout: 600
. "$(dirname "$0")/../lib/guest.sh"

# Fetching says so on stderr, which is compared below.
scripts/vm-kernel "$CLAWBACK_KERNEL" >/dev/null
truncate -s 64M "$work/disk"
mkdir "$work/share"

echo "== exit code, both outputs, share, variable"
# shellcheck disable=SC2016
assert_exit 7 guest_run --share "$work/share" --disk 32M --disk-file "$work/disk" --env WORD='a b' -- \
	bash -c 'echo "$WORD" | tee "$0/word"; echo oops >&2; mkfs.ext4 -q /dev/vdb; touch /outside
		mount /dev/vdb /mnt; echo kept >/mnt/file; exit 7' "$work/share" \
	>"$work/stdout" 2>"$work/stderr"
assert_equal "a b" "$(cat "$work/stdout")" stdout
assert_equal "oops" "$(cat "$work/stderr")" stderr
assert_equal "a b" "$(cat "$work/share/word")" "the shared file"
[ ! -e /outside ] || fail "the guest wrote to the host's root"

echo "== a disk lasts, a power cut loses what was not synced"
# shellcheck disable=SC2016
assert_exit 99 guest_run --disk-file "$work/disk" -- bash -c '. tests/lib/guest.sh
	mount /dev/vda /mnt; assert_equal kept "$(cat /mnt/file)" "the file"
	echo synced >/mnt/synced; sync /mnt/synced; echo lost >/mnt/lost; guest_power_cut'

# Each must give 125 and say where the log is.
trouble() {
	local want=$1 log
	shift
	assert_exit 125 guest_run "$@" 2>"$work/stderr"
	grep -q "$want" "$work/stderr" || fail "no '$want' in: $(cat "$work/stderr")"
	log=$(sed -n 's/.*log: //p' "$work/stderr")
	[ -e "$log" ] || fail "no log is kept"
	rm "$log"
}
trouble 'complained: .*on/purpose' --disk-file "$work/disk" --share "$work/share" -- sh -c '
	mount /dev/vda /mnt; cp /mnt/synced /mnt/lost "$0"
	echo "WARNING: CPU: 0 at on/purpose.c:1" >/dev/kmsg' "$work/share"
assert_equal synced "$(cat "$work/share/synced")" "what was synced"
[ ! -s "$work/share/lost" ] || fail "the cut lost nothing: it was no cut"

echo "== panic, and what tells the emulator's fault from the kernel's"
trouble "Kernel panic.*sysrq triggered crash.*the emulator's fault: no processor has EFLAGS 069aeb02" -- sh -c '
	echo "<0>RSP: 0018:ffa00000006d7910 EFLAGS: 069aeb02" >/dev/kmsg
	echo c >/proc/sysrq-trigger; sleep 60'
. tests/lib/kernel-log.sh
echo "EFLAGS: 00010246" >"$work/console"
! emulator_fault "$work/console" || fail "a processor's flags pass for the emulator's fault"
if is_full; then
	echo "== panic of its own, hang, sudden end"
	trouble 'Kernel panic.*sysrq triggered crash$' -- sh -c 'echo c >/proc/sysrq-trigger; sleep 60'
	trouble 'stopped after 20 s' --timeout 20 -- sleep 1000
	trouble 'ended without a word' -- sh -c 'echo b >/proc/sysrq-trigger; sleep 60'
fi
