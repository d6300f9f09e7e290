# shellcheck shell=bash
# Finds the lines of a kernel log that mean a fault in the kernel, and tells those
# that the emulator made. For scripts/vm and the test harness; sourced.
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

# emulator_fault FILE: the flags of a register dump that no processor could have: bits
# that are always zero (15, 22 and up) or that long mode forbids (17, virtual 8086).
# QEMU's emulation loses the flags now and then; what the kernel does after is not its
# own. Fails when there are none such.
emulator_fault() {
	local flags
	while read -r flags; do
		if [ $((0x$flags & 0xffc28000)) != 0 ]; then
			echo "EFLAGS $flags"
			return
		fi
	done < <(sed -n 's/.*EFLAGS: *\([0-9a-f]\{8\}\).*/\1/p' "$1" 2>/dev/null)
	return 1
}
