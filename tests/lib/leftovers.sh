# shellcheck shell=bash
# Finds what a test left behind on the machine. Sourced by tests/lib/run.sh.
#
#   leftovers_before FILE     notes the machine's state
#   leftovers_after FILE ID   prints what is there now and was not; also processes
#                             that carry CLAWBACK_TEST_ID=ID in their environment
#
# With CLAWBACK_SHARED_MACHINE=1 devices and mounts count only when they have to
# do with $TMPDIR: others may be at work on the same machine. What has to do with
# CLAWBACK_TEST_BESIDE, the start of a path, is of tests that run at the same time.

# Builtins only: each program costs an emulated CPU 50 ms and more.
leftovers_state() {
	local entry value rest
	for entry in /sys/block/*; do
		case $entry in
		*/loop*)
			[ -e "$entry/loop/backing_file" ] || continue
			read -r value <"$entry/loop/backing_file"
			echo "loop device /dev/${entry##*/} $value" ;;
		*/dm-*)
			read -r value <"$entry/dm/name" && echo "device-mapper device $value" ;;
		*/nbd*)
			[ ! -e "$entry/pid" ] || echo "nbd device /dev/${entry##*/}" ;;
		*/zram*)
			read -r value <"$entry/disksize" && [ "$value" = 0 ] || echo "zram device $entry" ;;
		esac
	done
	while read -r value entry rest; do
		echo "mount of $value on $entry"
	done </proc/self/mounts
	shopt -s globstar nullglob dotglob
	for entry in /sys/fs/bpf/**; do
		echo "pinned in bpffs: $entry"
	done
	shopt -u globstar nullglob dotglob
} 2>/dev/null

leftovers_processes() {
	local file pid
	grep -sl "CLAWBACK_TEST_ID=$1" /proc/[0-9]*/environ | while read -r file; do
		pid=${file#/proc/}
		pid=${pid%/environ}
		[ "$pid" = $$ ] || [ "$pid" = "${BASHPID:-}" ] ||
			echo "process $pid: $(tr '\0' ' ' <"/proc/$pid/cmdline" 2>/dev/null)"
	done
}

leftovers_before() { leftovers_state >"$1"; }

leftovers_after() {
	local found known line limit=$((SECONDS + 3))
	known=$'\n'$(<"$1")$'\n'
	# The kernel and udev may still be busy taking down what the test released.
	while true; do
		found=$(
			leftovers_state | while read -r line; do
				case "$known" in *$'\n'"$line"$'\n'*) continue ;; esac
				case $line in *"${CLAWBACK_TEST_BESIDE:-//}"*) continue ;; esac
				[ "${CLAWBACK_SHARED_MACHINE:-}" != 1 ] || case $line in
				*"${TMPDIR:-/tmp}/"*) ;;
				*) continue ;;
				esac
				echo "$line"
			done
			leftovers_processes "$2"
		)
		[ -n "$found" ] && [ $SECONDS -lt $limit ] || break
		sleep 0.3
	done
	[ -z "$found" ] || echo "$found"
}
