#!/bin/bash
# A run keeps to its limits: it stands back for CPU and disks while it reads and stores,
# and only then; it takes no more
# memory than it may; a snapshot does not stand for longer than it may.
#
# timeout: 120
own_mounts=1
. "$(dirname "$0")/../lib/guest.sh"
. tests/lib/clawback.sh

[ "$(id -u)" = 0 ] || skip "not root"
make_disk disk 64M
clawback_begin "$work/repository" open
clawback_volume v "$disk"
fill "$disk" 24

# What the threads of a run have: how many, of which nice value and I/O priority.
threads() {
	local thread
	for thread in "/proc/$clawback_pid/task"/*; do
		echo "$(awk '{ print $19 }' "$thread/stat") $(ionice -p "${thread##*/}")"
	done | sort | uniq -c | sed 's/^ *//'
}
reads() { [ "$(ls "/proc/$clawback_pid/task" 2>/dev/null | wc -l)" -gt 1 ]; }

# slow_run [OPTION]...: while it reads, what its threads have.
slow_run() {
	clawback_start backup v --type full -o agent.read_rate=12M "$@"
	wait_for 20 reads
	sleep 0.3
	threads >"$work/threads"
	clawback_wait || fail "the run failed: $(cat "$work/background.err")"
	cat "$work/threads"
}

echo "== by default"
slow_run
[[ $(cat "$work/threads") =~ ^[0-9]+\ 5\ best-effort:\ prio\ 7$ ]] || fail "not all stand back"
echo "== as configured"
slow_run -o agent.nice=11 -o agent.io_class=idle
[[ $(cat "$work/threads") =~ ^[0-9]+\ 11\ idle$ ]] || fail "not all stand back"
echo "== not at all"
slow_run -o agent.nice=0 -o agent.io_class=none
[[ $(cat "$work/threads") =~ ^[0-9]+\ 0\  ]] || fail "somebody stands back"
[[ $(cat "$work/threads") != *"prio 7"* ]] || fail "somebody stands back"

echo "== memory"
cat >"$work/peak.py" <<'END'
import os, subprocess, sys
child = subprocess.Popen(sys.argv[1:], stdout=subprocess.DEVNULL)
_, status, usage = os.wait4(child.pid, 0)
print(usage.ru_maxrss >> 10)
sys.exit(os.waitstatus_to_exitcode(status))
END
# peak OPTION...: MiB that a full takes.
peak() { python3 "$work/peak.py" "$clawback_program" backup --config "$clawback_config" v --type full "$@"; }
free=$(peak -o agent.workers=8)
least=$(peak -o agent.workers=8 -o agent.memory_limit=52M)
echo "$free MiB without a limit, $least with one of 52"
[ "$least" -le 52 ] || fail "it took more than it may"
[ "$least" -lt "$free" ] || fail "the limit changed nothing"
assert_refused 2 "memory_limit = 40M is too little: 32 workers at compression 1 want" \
	clawback backup v -o agent.workers=32 -o agent.memory_limit=40M

echo "== a snapshot stands too long"
clawback backup v >"$work/backup.out"
dd if="$disk" bs=1M count=16 iflag=direct status=none | tr '\000-\377' '\001-\377\000' |
	dd of="$disk" bs=1M iflag=fullblock oflag=direct conv=notrunc status=none
assert_refused 1 "stood longer than snapshot_max" \
	clawback backup v -o agent.read_rate=4M -o agent.snapshot_max=1s
assert_equal true "$(clawback status --json | jq '.volumes[0].pending')" "marks that are kept"
# One that reads all is let go on; and what was kept comes with the next.
backup v -o agent.read_rate=32M -o agent.snapshot_max=1s --type full
assert_kind full
dd if=/dev/urandom of="$disk" bs=1M count=8 oflag=direct conv=notrunc status=none
assert_refused 1 "stood longer than snapshot_max" \
	clawback backup v -o agent.read_rate=4M -o agent.snapshot_max=1s
backup v -o agent.snapshot_max=1min
assert_kind incremental
[ "$(summary point.read_bytes)" -ge $((8 << 20)) ] || fail "the kept marks did not come"
assert_matches_volume v "$disk"
assert_refused 2 "give best-effort, idle or none" clawback backup v -o agent.io_class=realtime
assert_refused 2 "must be from 0 to 19" clawback backup v -o agent.nice=-1
clawback_end
