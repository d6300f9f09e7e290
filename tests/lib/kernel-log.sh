# shellcheck shell=bash
# Finds the lines of a kernel log that mean a fault in the kernel. For scripts/vm
# and the test harness; sourced.
#
#   kernel_complaints FILE    prints such lines of a dmesg, nothing when clean
#
# A test that provokes some says so in the log itself, through /dev/kmsg: what
# stands between "clawback-test: complaints expected" and "clawback-test:
# complaints over" does not count.
kernel_complaints() {
	# KERNEL_LOG_ALL: for the test of this function.
	sed ${KERNEL_LOG_ALL:+-n -e p -e d} -e '/clawback-test: complaints expected/,/clawback-test: complaints over/d' "$1" |
		grep -E '(^|\] )(BUG:|WARNING:|INFO: possible |INFO: suspicious |INFO: trying to register|kernel BUG at |Oops|general protection fault|Kernel panic|UBSAN:|KASAN:|watchdog: BUG)|possible circular locking|Call Trace:' || true
}
