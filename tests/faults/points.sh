# shellcheck shell=bash disable=SC2154
# Killing and failing a backup at every named fault point (agent/base/fault.h), for
# tests/native/faults.sh and tests/vm/faults.sh, which say what the volume is.
#
#   fault_rounds VOLUME DEVICE TIMES LEAST [EVERY]
#                                        at every point (EVERYth, beginning at random) that
#                                        an incremental run of VOLUME passes, at least
#                                        LEAST: killed TIMES times, at different passings
#                                        if there are some, and an I/O error (in a quick
#                                        run at every other one, beginning at random)
#
#                                        fault_type, if it is set: runs of that type
#
# After each, the next run must be incremental and trusted, the volume's newest point
# must be the volume, and no point may have come that is not. At the end all points
# are restored, the repository is verified, nothing is left behind.
clawback_program=$CLAWBACK_BUILD/faults/clawback
fault_log=$work/passed

# Asked with "DEVICE SEED", answers when the device has been changed.
cat >"$work/mutate.py" <<'END'
import os, random, sys
for line in sys.stdin:
    path, seed = line.split()
    random.seed(seed)
    device = os.open(path, os.O_RDWR)
    blocks = os.lseek(device, 0, os.SEEK_END) // 4096
    for _ in range(random.choice([1, 3, 40])):
        count = random.choice([1, 2, 30])
        at = random.randrange(blocks - count)
        data = bytes(count * 4096) if random.random() < 0.2 else random.randbytes(count * 4096)
        if random.random() < 0.3:   # the same again
            data = os.pread(device, count * 4096, at * 4096)
        os.pwrite(device, data, at * 4096)
    os.fsync(device)
    os.close(device)
    print("done", flush=True)
END
coproc mutator { python3 "$work/mutate.py"; }
mutations=0
fault_mutate() {
	local answer
	mutations=$((mutations + 1))
	echo "$fault_device $CLAWBACK_SEED.$mutations" >&"${mutator[1]}"
	read -r answer <&"${mutator[0]}"
	assert_equal "done" "$answer" "the mutator's answer"
	digest=$(sha256sum <"$fault_device")
}

# A mutation that surely brings new content: a run over nothing new passes fewer points.
fault_rewrite() {
	dd if=/dev/urandom of="$fault_device" bs=4096 count=1 conv=notrunc oflag=direct status=none
	fault_mutate
}

declare -A fault_model
# Points that were not there before: what they must hold is what the volume holds.
fault_points() {
	local path
	for path in "$clawback_repository"/*-*-*-*-*/points/*; do
		[ -n "${fault_model[$path]:-}" ] || fault_model[$path]=$digest
	done
}

# The run after: incremental, trusted, and right.
fault_recovered() {
	clawback backup "$fault_volume" --json >"$work/backup.json" 2>"$work/backup.err" ||
		fail "the run after $1: $(cat "$work/backup.err")"
	fault_points
	assert_equal "incremental " "$(summary point.kind) $(summary point.reason)" "the run after $1"
	clawback restore "$fault_volume" --to "$work/restored" --force "${clawback_key[@]}" >/dev/null ||
		fail "restoring after $1"
	assert_equal "$digest" "$(sha256sum <"$work/restored")" "the newest point after $1"
}

# fault_round NAME WHAT N [RETRY]
fault_round() {
	local code=0
	# Where they could not be kept, fingerprints come back with a full.
	if [ ! -e "$work/state/volumes/$fault_volume/fingerprints" ]; then
		clawback backup "$fault_volume" --type full >/dev/null
		fault_points
	fi
	fault_mutate
	CLAWBACK_FAULT=$1:$2:$3 clawback backup "$fault_volume" "${fault_as[@]}" >"$work/out" 2>"$work/err" || code=$?
	case $2:$code in
	kill:137) fault_kills=$((fault_kills + 1)) ;;
	kill:0)	# passed less often this time
		[ "${4:-0}" = 5 ] || { fault_points; fault_round "$1" "$2" "$3" $((${4:-0} + 1)); return; }
		[ "$3" = 1 ] || { fault_points; fault_round "$1" "$2" $(($3 - 1)); return; }
		fail "$1 was not passed in six runs" ;;
	kill:*) fail "killed at $1, yet exit code $code: $(cat "$work/err")" ;;
	# Some failures are none of the run's: it says so and goes on.
	*:0) ! grep -q . "$work/err" || fault_survived=$((fault_survived + 1)) ;;
	*:1) fault_errors=$((fault_errors + 1))
		grep -q . "$work/err" || fail "failed at $1 without a word" ;;
	*) fail "an error at $1 gave exit code $code: $(cat "$work/err")" ;;
	esac
	fault_points
	[ $((mutations % 2)) = 0 ] || fault_mutate
	fault_recovered "$2 at $1, passing $3"
}

# The passings of one point out of `all`, `times` of them: the first, the last, and some
# between; the same again when there are not as many.
fault_passings() {
	local all=$1 times=$2 i
	for ((i = 0; i < times; i++)); do
		echo $((times == 1 ? 1 : 1 + i * (all - 1) / (times - 1)))
	done
}

fault_rounds() {
	local name all n times=$3 every=${5:-1} skip errors
	skip=$((CLAWBACK_SEED % every)) errors=$((CLAWBACK_SEED / 7 % 2))
	fault_volume=$1 fault_device=$2
	fault_as=(--type "${fault_type:-auto}")
	fault_kills=0 fault_errors=0 fault_survived=0
	fault_rewrite
	clawback backup "$fault_volume" >/dev/null
	fault_points
	fault_rewrite
	rm -f "$fault_log"
	CLAWBACK_FAULT_LOG=$fault_log clawback backup "$fault_volume" "${fault_as[@]}" >/dev/null
	fault_points
	sort "$fault_log" | uniq -c | awk '{ print $2, $1 }' >"$work/passings"
	[ "$(wc -l <"$work/passings")" -ge "$4" ] ||
		fail "a run passed no more than $(wc -l <"$work/passings") fault points: $(cat "$work/passings")"
	while read -r name all <&3; do
		[ $((skip++ % every)) = 0 ] || continue
		for n in $(fault_passings "$all" "$times"); do
			fault_round "$name" kill "$n"
		done
		# Each of them comes in one of two quick runs.
		! is_full && [ $((errors++ % 2)) = 0 ] || fault_round "$name" EIO 1
		[ "$times" = 1 ] || fault_round "$name" ENOSPC "$all"
	done 3<"$work/passings"
	echo "$(wc -l <"$work/passings") points: killed $fault_kills times, failed $fault_errors," \
		"went on after an error $fault_survived"
}

fault_end() {
	local path name
	clawback backup "$fault_volume" --type full >/dev/null
	fault_points
	clawback verify --data "${clawback_key[@]}" >"$work/verify" || fail "$(cat "$work/verify")"
	for path in "${!fault_model[@]}"; do
		name=${path#"$clawback_repository/"}
		clawback restore "${name%%/*}@$((10#${name##*/}))" "${clawback_key[@]}" \
			--to "$work/restored" --force >/dev/null || fail "restoring $name"
		assert_equal "${fault_model[$path]}" "$(sha256sum <"$work/restored")" "$path restored"
	done
	echo "${#fault_model[@]} points, all restored, all identical"
	assert_equal "" "$(find "$clawback_repository" -name '.tmp-*')" "drafts in the repository"
	assert_equal "fingerprints lock state.json " \
		"$(find "$work/state/volumes" -type f -printf '%f\n' | sort -u | tr '\n' ' ')" \
		"files in the state folder"
	clawback_end
}
