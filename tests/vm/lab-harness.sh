#!/bin/bash
# The harness notices what it must: exit codes, skips, time-outs, left-overs of
# every kind, complaints in the kernel's log.
#
# quick-kernels: 6.1
# guest: plain 2048M disk=256M
# full-only: yes
# timeout: 120
. "$(dirname "$0")/../lib/guest.sh"
. tests/lib/run.sh

# judge WANTED LIMIT SCRIPT: runs SCRIPT as a test.
judge() {
	test_run "$2" "$work/log" "$work/result" bash -c "$3" || true
	case $(cat "$work/result") in
	"$1"*) echo "as wanted: $(cat "$work/result")" ;;
	*) fail "wanted '$1', got '$(cat "$work/result")' for: $3" ;;
	esac
}

judge "ok" 10 'echo fine'
judge "FAILED" 10 'echo "FAILED: on purpose"; exit 1'
judge "FAILED" 10 'kill -SEGV $$'
judge "skipped" 10 'echo "skipped: for a reason"'
judge "skipped" 10 'echo "skipped: for a reason"; exit 77'
judge "FAILED" 10 'echo "skipped: but failed"; exit 2'
judge "FAILED" 1 'sleep 20'

truncate -s 1M "$work/file"
judge "FAILED" 10 "losetup --find --show '$work/file'"
grep -q '^LEFT BEHIND' "$work/log" || fail "a loop device was not noticed"
losetup --detach-all
judge "FAILED" 10 'dmsetup create left --table "0 8 error"'
grep -q '^device-mapper device left' "$work/log" || fail "a dm device was not noticed"
dmsetup remove left
judge "FAILED" 10 "mount -t tmpfs none /mnt"
grep -q '^mount of none on /mnt' "$work/log" || fail "a mount was not noticed"
umount /mnt
judge "FAILED" 10 'setsid sleep 1234 & sleep 0.1'
grep -q '^process .*sleep 1234' "$work/log" || fail "a process was not noticed"
judge "FAILED" 10 'bpftool map create /sys/fs/bpf/left type array key 4 value 4 entries 1 name left'
grep -q '^pinned in bpffs: /sys/fs/bpf/left' "$work/log" || fail "a pinned map was not noticed"
rm /sys/fs/bpf/left

# The outer harness shall not hold these against this test.
echo "clawback-test: complaints expected" >/dev/kmsg
export KERNEL_LOG_ALL=1
judge "FAILED" 10 'echo "WARNING: CPU: 0 PID: 1 at on/purpose.c:1" >/dev/kmsg'
judge "FAILED" 10 'echo "BUG: kernel NULL pointer dereference, on purpose" >/dev/kmsg'
judge "FAILED" 10 'echo "WARNING: possible circular locking dependency detected" >/dev/kmsg'
judge "ok" 10 'echo "a WARNING inside a line is none" >/dev/kmsg'
unset KERNEL_LOG_ALL
echo "clawback-test: complaints over" >/dev/kmsg
judge "ok" 10 'true'
