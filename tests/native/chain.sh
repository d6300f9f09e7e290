#!/bin/bash
# Every point that a long and rough life leaves behind restores to what the volume
# held when its run froze it: random writes, zeroes and discards; runs killed at any
# moment, also between commit and saving the state; chains longer than a map chain
# may be; resizing, lost state, lost pins, detaching, another granularity, another
# repository, another state folder. The model is a digest of the volume taken by the
# test before each run.
#
# timeout: 600
own_mounts=1
. "$(dirname "$0")/../lib/guest.sh"
. tests/lib/clawback.sh

[ "$(id -u)" = 0 ] || skip "not root"
RANDOM=$((CLAWBACK_SEED % 32768))
rounds=34	# more than the 32 maps that a point may be away from its base
is_full && rounds=150

# ---- volumes that change -----------------------------------------------------------
declare -A file disk model
new_volume() {
	file[$1]=$work/$1.image
	truncate -s "$2" "${file[$1]}"
	disk[$1]=$(losetup --find --show "${file[$1]}")
	defer losetup --detach "${disk[$1]}"
	clawback_volume "$1" "${disk[$1]}" "${@:3}"
}

resize() {
	truncate -s "$2" "${file[$1]}"
	losetup --set-capacity "${disk[$1]}"
}

# Asked with "DEVICE SEED", answers when the device has been changed.
cat >"$work/mutate.py" <<'END'
import fcntl, os, random, struct, sys
BLKDISCARD, BLKZEROOUT = 0x1277, 0x127f

def mutate(device):
    size = os.lseek(device, 0, os.SEEK_END)
    for _ in range(random.choice([0, 1, 3, 8, 20])):
        length = min(size, random.choice([512, 4096, 5120, 65536, 299520, 1 << 20]))
        at = random.randrange((size - length) // 512 + 1) * 512
        if random.random() < 0.1:
            at = size - length      # the tail
        kind = random.choice("wwwwwzdt")
        if kind in "zd":
            os.fsync(device)
            fcntl.ioctl(device, BLKZEROOUT if kind == "z" else BLKDISCARD,
                        struct.pack("QQ", at, length))
        else:
            data = random.randbytes(length) if kind == "w" else b"text " * (length // 5 + 1)
            os.pwrite(device, data[:length], at)
    os.fsync(device)

for line in sys.stdin:
    path, seed = line.split()
    random.seed(seed)
    device = os.open(path, os.O_RDWR)
    mutate(device)
    os.close(device)
    print("done", flush=True)
END
coproc mutator { python3 "$work/mutate.py"; }
mutations=0
mutate() {
	local answer
	mutations=$((mutations + 1))
	echo "${disk[$1]} $CLAWBACK_SEED.$mutations" >&"${mutator[1]}"
	read -r answer <&"${mutator[0]}"
	assert_equal "done" "$answer" "the mutator's answer"
}

# ---- runs ------------------------------------------------------------------------
repositories=("$work/a")
into() {
	repository=(--repository "file://$1" -o "repository.fingerprint=$(cat "$1.pin")")
	[ "$1" != "$work/c" ] || repository+=(--state "$work/state2")
}

# What points there are that were not there before: of the run that just ended.
new_points() {
	local folder path
	found=0
	for folder in "${repositories[@]}"; do
		for path in "$folder"/*-*-*-*-*/points/*; do
			[ -e "$path" ] && [ -z "${model[$path]:-}" ] || continue
			model[$path]=$digest
			found=$((found + 1)) newest=$((10#${path##*/}))
		done
	done
	[ $found -le 1 ] || fail "one run made $found points"
}

# run VOLUME KIND REASON [OPTION]...: a backup that works, of that kind and for that
# reason ("" for none). A rescan is an incremental that compares the whole volume.
runs=0
run() {
	local volume=$1 kind=$2 reason=$3 got
	shift 3
	read -r digest _ < <(sha256sum "${file[$volume]}")
	clawback backup "$volume" "${repository[@]}" --json "$@" >"$work/backup.json" \
		2>"$work/backup.err" || fail "run $runs of $volume: $(cat "$work/backup.err")"
	new_points
	[ $found = 1 ] || fail "run $runs of $volume made no point"
	got=$(jq -r 'select(.message_type == "summary") | (if .rescan then "rescan" else
		.point.kind end) + " " + .point.reason' "$work/backup.json")
	runs=$((runs + 1))
	# The tracker's own doubt is never wrong to heed; it is rare.
	case $got in *" the kernel skipped"*) doubts=$((doubts + 1)); return ;; esac
	[[ $got =~ ^$kind\ .*$reason ]] && [ -n "$reason" ] || [ "$got" = "$kind $reason" ] ||
		fail "run $runs of $volume: wanted '$kind $reason', got '$got'"
}
doubts=0

# kill_run VOLUME SECONDS|CONDITION... : killed after that time, or once the command
# succeeds, however far it came.
kills=0
kill_run() {
	local volume=$1 pid code=0
	shift
	read -r digest _ < <(sha256sum "${file[$volume]}")
	clawback_start backup "$volume" "${repository[@]}" "${slow[@]}"
	pid=$clawback_pid
	if [[ $1 =~ ^[0-9.]+$ ]]; then
		sleep "$1"
	else
		until "$@"; do
			kill -0 "$pid" 2>/dev/null || break
		done
	fi
	kill -KILL "$pid" 2>/dev/null || true
	wait "$pid" 2>/dev/null || code=$?
	case $code in 0|137) ;; *) fail "a run failed: $(cat "$work/background.err")" ;; esac
	kills=$((kills + 1))
	new_points
	survivors=$((survivors + found))
	[ $found = 0 ] || [ "$(state_head "$volume")" -ge "$newest" ] || unsaid=$((unsaid + 1))
}
survivors=0 unsaid=0 adopted=0
slow=()
state_head() { jq '[.. | .head_point? | numbers] | first' "$work/state/volumes/$1/state.json"; }
adoption_seen() { adopted=$((adopted + $(grep -c "did not live to say so" "$work/backup.err" || true))); }

is_pending() { [ -e "$work/state/volumes/$1/pending" ]; }
has_draft() { [ -n "$(find "$work/a" -name '.tmp-*')" ]; }
has_next_point() { [ -e "$next_point" ]; }	# with no other process: it is soon over

# unsaved_run VOLUME: stores its point, but cannot save its state: what a kill in
# between leaves, every time.
unsaved_run() {
	local folder=$work/state/volumes/$1 code=0
	read -r digest _ < <(sha256sum "${file[$1]}")
	clawback_start backup "$1" "${repository[@]}" --image-digest -o agent.read_rate=4M \
		--type full
	wait_for 20 is_pending "$1"
	mount --bind "$folder" "$folder"
	mount -o remount,bind,ro "$folder"
	clawback_wait || code=$?
	umount "$folder"
	[ $code = 1 ] || fail "saving the state did not fail: exit code $code"
	grep -q "ead-only" "$work/background.err" || fail "$(cat "$work/background.err")"
	new_points
	assert_equal 1 $found "points of a run that could not save its state"
}

# ---- a long life -------------------------------------------------------------------
clawback_begin "$work/a" open
cp "$work/state/repository" "$work/a.pin"
into "$work/a"
new_volume v 6M
new_volume w $((3 * 1024 * 1024 + 1536)) "granularity = 64K"

echo "== $rounds rounds, every third with a run that is killed"
mutate v
mutate w
run v full "there is no point yet"
run w full "there is no point yet"
id=$(clawback show v --json "${repository[@]}" | jq -r .volume_id)
points_v=$work/a/$id/points
for ((i = 1; i <= rounds; i++)); do
	mutate v
	if [ $((i % 3)) = 0 ]; then
		kill_run v "0.$(printf '%03d' $((RANDOM % 120)))"
		[ $((i % 2)) = 0 ] || mutate v
	elif [ $((i % 8)) = 1 ]; then
		next_point=$(printf '%s/%010d' "$points_v" $(($(state_head v) + 1)))
		kill_run v has_next_point
	fi
	run v incremental ""
	adoption_seen
	[ $((i % 6)) = 0 ] || continue
	mutate w
	kill_run w 0.0$((RANDOM % 10))
	mutate w
	run w incremental ""
	adoption_seen
done
echo "  $kills kills left $survivors points, $unsaid of them not in the state, $adopted adopted"
assert_equal $unsaid $adopted "adopted points"
checkpoints=0
for number in $(points v); do
	clawback show "v@$number" "${repository[@]}" >"$work/show"
	read -r maps < <(sed -n 's/^  parent.*, \([0-9]*\) maps away$/\1/p' "$work/show")
	[ "$maps" -le 32 ] || fail "point $number is $maps maps away from its base"
	! grep -q "^  kind *incremental" "$work/show" || [ "$maps" != 0 ] ||
		checkpoints=$((checkpoints + 1))
done
[ $checkpoints -gt 0 ] || [ $doubts -gt 0 ] || fail "no checkpoint map in the chain"

echo "== between commit and saving the state"
mutate v
unsaved_run v
mutate v
run v incremental ""
adoption_seen
assert_equal $((unsaid + 1)) $adopted "adopted points"

echo "== killed while it stores a segment"
slow=(--type full -o agent.read_rate=4M -o agent.compression=-7)
head -c 4M /dev/urandom | dd of="${disk[v]}" conv=notrunc,fsync status=none
kill_run v has_draft
slow=()
has_draft || fail "no draft to be swept"
echo left >"$work/state/volumes/v/state.json.a1B2c3"
run v incremental ""
[ ! -e "$work/state/volumes/v/state.json.a1B2c3" ] || fail "a killed save's file is left"
! has_draft || fail "the draft of a dead run is left: $(find "$work/a" -name '.tmp-*')"

echo "== resized"
resize v 7M
mutate v
run v full "size changed"
mutate v
run v incremental ""
resize v 5M
run v full "size changed"
resize w $((3 * 1024 * 1024 + 2048))
kill_run w 0.03
run w full "size changed"

echo "== detached"
mutate v
clawback detach v >/dev/null
mutate v
clawback attach v >/dev/null
mutate v
run v rescan "detached"
mutate v
run v incremental ""

echo "== another granularity"
sed -i 's/^granularity = 64K/granularity = 16K/' "$clawback_config"
mutate w
run w rescan "granularity"
mutate w
run w incremental ""

echo "== pins lost"
mutate v
rm -r /sys/fs/bpf/clawback
mutate v
run v rescan "not tracked"
mutate v
rm /sys/fs/bpf/clawback/link
mutate v
run v rescan "not tracked"
run w rescan "not tracked"
mutate v
run v incremental ""

echo "== another repository, and back"
cp "$work/state/repository" "$work/pin"
clawback init --repository "file://$work/b" >/dev/null
cp "$work/state/repository" "$work/b.pin"
repositories+=("$work/b")
into "$work/b"
mutate v
unsaved_run v
mutate v
run v rescan "another repository"	# with what the unsaved run left
mutate v
run v incremental ""
into "$work/a"
mutate v
run v full "another repository"
mutate v
run v incremental ""
into "$work/b"
run v full "another repository"

echo "== another state folder, with its own repository"
clawback init --repository "file://$work/c" --state "$work/state2" >/dev/null
cp "$work/state2/repository" "$work/c.pin"
repositories+=("$work/c")
into "$work/c"
mutate v
run v full "no point yet"
mutate v
run v incremental ""
into "$work/b"
run v rescan "took its marks"
mutate v
run v incremental ""
into "$work/c"
run v rescan "took its marks"

echo "== state lost"
into "$work/a"
rm -r "$work/state/volumes/v"
mutate v
kill_run v 0.0$((RANDOM % 10))
# It may have been quick enough to be known of.
if [ -e "$work/state/volumes/v/state.json" ] && [ "$(state_head v)" != 0 ]; then
	run v incremental ""
else
	run v full "(no point yet|never backed up)"
fi
mutate v
run v incremental ""
assert_refused 2 "two volumes are called" clawback points v "${repository[@]}"

# ---- what is there -------------------------------------------------------------------
echo "== ${#model[@]} points of $runs runs, $kills of which were killed; tracker's doubts: $doubts"
for folder in "${repositories[@]}"; do
	into "$folder"
	for arguments in "" "--data ${clawback_key[*]}"; do
		# shellcheck disable=SC2086
		clawback verify "${repository[@]}" $arguments >"$work/verify" || fail "$(cat "$work/verify")"
	done
done
# restore_share K N: every Nth point, beginning with the Kth.
restore_share() {
	local index=0 path folder name got
	for path in "${!model[@]}"; do
		[ $((index++ % $2)) = "$1" ] || continue
		folder=${path%/*-*-*-*-*/points/*}
		into "$folder"
		name=${path#"$folder/"}
		clawback restore "${name%%/*}@$((10#${name##*/}))" "${repository[@]}" "${clawback_key[@]}" \
			--to "$work/restored.$1" --force >"$work/restore.$1" || fail "restoring $name"
		read -r got _ < <(sha256sum "$work/restored.$1")
		assert_equal "${model[$path]}" "$got" "SHA-256 of $path restored"
		echo "$path" >>"$work/identical.$1"
	done
}
shares=()
for ((k = 0; k < $(nproc); k++)); do
	restore_share $k "$(nproc)" &
	shares+=($!)
done
for pid in "${shares[@]}"; do
	wait "$pid" || fail "a point is not what it should be"
done
assert_equal ${#model[@]} "$(cat "$work"/identical.* | sort -u | wc -l)" "points restored"
echo "  all restored, all identical"
assert_equal "" "$(find "${repositories[@]}" -name '.tmp-*')" "drafts left in repositories"
assert_equal "fingerprints lock state.json " "$(find "$work/state/volumes" -type f -printf '%f\n' | sort -u | tr '\n' ' ')" \
	"files in the state folder"
clawback detach --all --state "$work/state2" >/dev/null
clawback_end
