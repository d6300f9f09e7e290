# shellcheck shell=bash
# Runs one test and judges it. Sourced by scripts/test on the host and by
# tests/lib/guest-tests.sh in a guest.
#
#   test_run TIMEOUT LOG RESULT COMMAND [ARG]...
#
# runs COMMAND for at most TIMEOUT seconds with its output in LOG, and writes
# "VERDICT SECONDS CPU REASON" to RESULT, CPU being the seconds of processor time that it
# and what it waited for took, VERDICT being ok, FAILED or skipped:
#   exit code 77, or 0 and a line "skipped: WHY"    skipped
#   any other code but 0                            FAILED
#   something left behind, or the kernel complained FAILED (LOG tells)
# Returns 1 if the machine is not as it was before.
#
#   test_header FILE KEY DEFAULT     the value of a line "# KEY: VALUE" in the
#                                    first comment of a test script
#   test_limit FILE DEFAULT          its seconds: "# timeout:", and in a full run
#                                    "# full-timeout:" if it has one

test_lib=$(dirname "${BASH_SOURCE[0]}")
# shellcheck source=tests/lib/leftovers.sh
. "$test_lib/leftovers.sh"
# shellcheck source=tests/lib/kernel-log.sh
. "$test_lib/kernel-log.sh"

test_header() {
	local value
	value=$(sed -n "/^[^#]/q; s/^# $2: *//p" "$1" | head -n 1)
	echo "${value:-$3}"
}

test_limit() {
	local limit
	limit=$(test_header "$1" timeout "$2")
	[ "${CLAWBACK_FULL:-0}" = 0 ] || limit=$(test_header "$1" full-timeout "$limit")
	echo "$limit"
}

test_kernel_log() { dmesg 2>/dev/null >"$1.dmesg"; kernel_complaints "$1.dmesg" | LC_ALL=C sort >"$1"; }

# test_cpu FILE: sets test_cpu_tenths to the processor time of all that this shell has
# waited for; a subshell starts from nothing.
test_cpu() {
	local user system
	times >"$1"
	{ read -r user system; read -r user system; } <"$1"
	test_cpu_tenths=0
	for user in "$user" "$system"; do	# as 12m3.456s
		system=${user#*m}
		test_cpu_tenths=$((test_cpu_tenths + ${user%m*} * 600 + ${system%.*} * 10 + ${system:(-4):1}))
	done
}

test_reason() {
	local code=$1 limit=$2 log=$3 line
	case $code in
	124|137) echo "stopped after $limit s" ; return ;;
	esac
	line=$(grep -a -m 1 -E '^FAILED:|^\[  ERROR   \]|ERROR: (Address|Leak|Undefined)|runtime error:|Assertion' "$log" |
		cut -c 1-150)
	echo "exit code $code${line:+: $line}"
}

# test_measured FILE COMMAND [ARG]...: its processor time, in tenths of a second, goes to
# FILE. For a subshell: the harness itself may reap the vm lanes meanwhile, and they are
# not this test's.
test_measured() {
	local file=$1 code=0
	shift
	trap 'kill $! 2>/dev/null' INT TERM HUP
	"$@" &
	# Waited for in the background, so that a signal is not kept waiting; then again,
	# for what it ended.
	wait $! || code=$?
	wait $! || true
	test_cpu "$file.times"
	echo "$test_cpu_tenths" >"$file"
	exit $code
}

test_run() {
	local limit=$1 log=$2 result=$3 state id started cpu code=0 tenths verdict reason left complaints dirty=0
	shift 3
	state=$(mktemp -d "${TMPDIR:-/tmp}/clawback-run.XXXXXX")
	id=$$-$RANDOM$RANDOM
	leftovers_before "$state/before"
	test_kernel_log "$state/kernel-before"
	started=$(date +%s%N)
	(test_measured "$state/cpu" env CLAWBACK_TEST_ID=$id timeout -k 10 "$limit" "$@" \
		</dev/null >"$log" 2>&1 5>&- 6>&-) &
	wait $! || code=$?
	tenths=$((($(date +%s%N) - started) / 100000000))
	cpu=$(cat "$state/cpu" 2>/dev/null || echo 0)

	reason=$(grep -a -m 1 '^skipped:' "$log" | cut -c 9-200)
	reason=${reason# }
	case $code in
	77) verdict=skipped reason=${reason:-no reason given} ;;
	0) verdict=${reason:+skipped} verdict=${verdict:-ok} ;;
	*) verdict=FAILED reason=$(test_reason "$code" "$limit" "$log") ;;
	esac

	left=$(leftovers_after "$state/before" "$id")
	if [ -n "$left" ]; then
		verdict=FAILED dirty=1 reason="${reason:+$reason; }left behind: $(head -n 1 <<<"$left")"
		printf '\nLEFT BEHIND by this test:\n%s\n' "$left" >>"$log"
		# Its processes are ours to end; devices are left for a look.
		sed -n 's/^process \([0-9]*\): .*/\1/p' <<<"$left" | xargs -r kill 2>/dev/null
	fi
	test_kernel_log "$state/kernel-after"
	complaints=$(LC_ALL=C comm -13 "$state/kernel-before" "$state/kernel-after")
	if [ -n "$complaints" ]; then
		verdict=FAILED dirty=1 reason="${reason:+$reason; }the kernel complained: $(head -n 1 <<<"$complaints")"
		printf '\nTHE KERNEL COMPLAINED during this test:\n%s\n' "$complaints" >>"$log"
		LC_ALL=C tail -n 150 "$state/kernel-after.dmesg" >>"$log"
	fi
	rm -rf "$state"
	echo "$verdict $((tenths / 10)).$((tenths % 10)) $((cpu / 10)).$((cpu % 10)) $reason" >"$result"
	return $dirty
}
