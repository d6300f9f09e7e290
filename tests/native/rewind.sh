#!/bin/bash
# A protected volume goes back to a point in place: exact, and moving little more than
# what changed; what was there is a point before. Killed at any moment it is run again and
# finishes. Trust stays, and the next incremental holds just what was written. In a random
# life of all kinds of points, of forgetting and pruning, every rewind is exact.
#
# timeout: 300
# full-timeout: 3600
own_mounts=1
. "$(dirname "$0")/../lib/guest.sh"
. tests/lib/clawback.sh

[ "$(id -u)" = 0 ] || skip "not root"
RANDOM=$((CLAWBACK_SEED % 32768))
mib=64 kills=20 rounds=16
! is_full || { mib=3072 kills=60 rounds=120; }
clawback_begin "$work/repository" open

# Asked with "DEVICE SEED HOW": clustered N: N MiB of the volume, whole ones; scattered N:
# so many blocks; life: a few runs, new, zero, as they were or as others are; half: every
# other block. Answers with the number of bytes that were written.
cat >"$work/mutate.py" <<'END_OF_PYTHON'
import os, random, sys
for line in sys.stdin:
    path, seed, how, number = line.split()
    random.seed(seed)
    device = os.open(path, os.O_RDWR)
    size = os.lseek(device, 0, os.SEEK_END)
    blocks, number, written = size // 4096, int(number), 0
    def write(data, at):
        global written
        written += os.pwrite(device, data, at)
    if how == "clustered":
        for at in random.sample(range(size >> 20), number):
            write(random.randbytes(1 << 20), at << 20)
    elif how == "scattered":
        for at in random.sample(range(blocks), number):
            write(random.randbytes(4096), at * 4096)
    elif how == "half":
        for at in range(number % 2, blocks, 2):
            write(random.randbytes(4096), at * 4096)
    else:
        for _ in range(random.choice([1, 3, 12])):
            count = random.choice([1, 2, 30, 200])
            at = random.randrange(blocks - count)
            write(random.choice([
                lambda: bytes(count * 4096),
                lambda: os.pread(device, count * 4096, at * 4096),
                lambda: os.pread(device, count * 4096, random.randrange(blocks - count) * 4096),
                lambda: random.randbytes(count * 4096),
                lambda: random.randbytes(count * 4096)])(), at * 4096)
    os.fsync(device)
    os.close(device)
    print(written, flush=True)
END_OF_PYTHON
coproc mutator { python3 "$work/mutate.py"; }
mutations=0
# mutate DEVICE HOW [NUMBER]: sets changed to the bytes written.
mutate() {
	mutations=$((mutations + 1))
	echo "$1 $CLAWBACK_SEED.$mutations $2 ${3:-0}" >&"${mutator[1]}"
	read -r changed <&"${mutator[0]}"
	[[ $changed =~ ^[0-9]+$ ]] || fail "the mutator answers: $changed"
}

# rewind VOLUME@POINT [OPTION]...: what it says is in rewind.json and rewind.err.
rewind() {
	clawback restore --in-place "$1" --json "${clawback_key[@]}" "${@:2}" \
		>"$work/rewind.json" 2>"$work/rewind.err" || return
	# What it did is on the device, not in somebody's cache.
	blockdev --flushbufs "$(said to)"
}
said() { jq -r "select(.message_type == \"summary\" or .message_type == \"dry_run\") | .$1" "$work/rewind.json"; }
must_rewind() { rewind "$@" || fail "rewinding $*: exit code $?: $(cat "$work/rewind.err")"; }
trust() { clawback status "$1" --json | jq -r '.volumes[0] | .trust + " " + .reason'; }

# take VOLUME DEVICE [OPTION]...: a point, and the volume as it is then.
take() {
	clawback backup "$1" --json "${@:3}" >"$work/backup.json" 2>"$work/backup.err" ||
		fail "backing up $1: $(cat "$work/backup.err")"
	newest=$(summary point.number)
	cp --sparse=always "$2" "$work/image.$1.$newest"
}
keep_image() { cp --sparse=always "$2" "$work/image.$1.$3"; }
is_point() { cmp -s "$2" "$work/image.$1.$3" || fail "$1 is not as it was at point $3${4:+: $4}"; }

# What was written is what the next incremental holds.
assert_next_has() {
	local written
	written=$(said written_bytes)
	clawback backup "$1" --json --image-digest >"$work/backup.json"
	assert_equal "incremental false" "$(summary point.kind) $(summary rescan)" "the run after it"
	assert_equal "$written" "$(summary point.marked_bytes)" "bytes marked by the rewind"
	assert_restores "$1@latest"
}

echo "== $mib MiB, of which 1 % changed since the point"
make_disk disk "${mib}M"
clawback_volume v "$disk"
fill "$disk" "$mib"
take v "$disk"
percent=$(((mib + 99) / 100))
mutate "$disk" clustered $percent
take v "$disk"
is_changed=$changed
assert_equal incremental "$(summary point.kind)" "kind"
must_rewind v@1 --dry-run
assert_equal "marks 2 null" "$(said method) $(said from) $(said safety_point)" "what it would do"
dry=$(said fetched_bytes)
[ "$(said written_bytes)" = "$is_changed" ] || fail "it would write $(said written_bytes) of $is_changed"
is_point v "$disk" 2 "after a look"
assert_equal "1 2 " "$(points v)" "points after a look"
must_rewind v@1 --verify
is_point v "$disk" 1
echo "  changed $is_changed: fetched $(said fetched_bytes), written $(said written_bytes)"
assert_equal "marks 3 3 true" "$(said method) $(said from) $(said safety_point) $(said verified)" "how"
assert_equal "$is_changed" "$(said written_bytes)" "bytes written"
assert_equal "$dry" "$(said fetched_bytes)" "bytes fetched, against what was said"
[ $(($(said fetched_bytes) * 10)) -le $((is_changed * 11)) ] || fail "fetched $(said fetched_bytes)"
assert_equal "tracked " "$(trust v)" "trust"
assert_next_has v
clawback points v --json | jq -e '.points[] | select(.number == 3) | .pinned' >/dev/null ||
	fail "the safety point is not kept: $(clawback points v)"
assert_equal "before a rewind to point 1" "$(clawback show v@3 --json | jq -r .reason)" "its reason"

echo "== and back, to what was there before; also marks that are in no point"
must_rewind v@3
is_point v "$disk" 2 "by the safety point"
mutate "$disk" clustered $percent
more=$changed
keep_image v "$disk" unsaved
must_rewind v@1
is_point v "$disk" 1
safety=$(said safety_point)
[ $(($(said fetched_bytes) * 10)) -le $(((is_changed + more) * 11)) ] ||
	fail "fetched $(said fetched_bytes) for $is_changed and $more"
must_rewind "v@$safety" --no-safety-point
assert_equal "null" "$(said safety_point)" "no safety point"
is_point v "$disk" unsaved "by the safety point"

echo "== 1 % in scattered blocks: written are these, and fetched the frames they lie in"
must_rewind v@1 --no-safety-point
mutate "$disk" scattered $((mib * 256 / 100))
must_rewind v@1 --no-safety-point
is_point v "$disk" 1
echo "  changed $changed: fetched $(said fetched_bytes), written $(said written_bytes)"
assert_equal "$changed" "$(said written_bytes)" "bytes written"
[ "$(said fetched_bytes)" -le $((changed / 4096 * 264 * 1024)) ] || fail "fetched more than their frames"

echo "== the same with frames of a block: what changed, a tenth more at most; what that costs"
large=$(jq -r .stored_bytes <<<"$(clawback show v@1 --json)")
take v "$disk" --type full -o "volume v.frame_size=4K"
blocks=$newest small=$(summary point.stored_bytes)
echo "  the full's stored bytes: $small, of the other $large"
mutate "$disk" scattered $((mib * 256 / 100))
must_rewind "v@$blocks" --no-safety-point
is_point v "$disk" "$blocks"
echo "  changed $changed: fetched $(said fetched_bytes), written $(said written_bytes)"
assert_equal "$changed" "$(said written_bytes)" "bytes written"
[ $(($(said fetched_bytes) * 10)) -le $((changed * 11)) ] || fail "fetched $(said fetched_bytes)"
must_rewind v@1 --no-safety-point
rm "$work/image.v.$blocks"

echo "== marks that a killed backup left behind"
mutate "$disk" clustered 2
first=$changed
clawback_start backup v -o agent.read_rate=256K
wait_for 20 test -e "$work/state/volumes/v/pending"
clawback_stop "$clawback_pid"
mutate "$disk" scattered 20
must_rewind v@1 --no-safety-point
is_point v "$disk" 1
assert_equal marks "$(said method)" "method"
[ "$(said written_bytes)" -ge "$first" ] || fail "it wrote $(said written_bytes)"

echo "== not to be trusted: all is compared, and why is said"
clawback detach v >/dev/null
mutate "$disk" scattered 50
must_rewind v@1 --no-safety-point --verify
is_point v "$disk" 1
assert_equal "comparison null true" "$(said method) $(said from) $(said verified)" "method"
[[ $(said reason) == *"not loaded"* ]] || fail "its reason: $(said reason)"
grep -q "all of it is compared: " "$work/rewind.err" || fail "not said: $(cat "$work/rewind.err")"
assert_equal "$changed" "$(said written_bytes)" "bytes written"
# Tracked again, and still not to be believed: what was written in between has no mark.
clawback attach v >/dev/null
must_rewind v@1 --no-safety-point
[[ $(said reason) == *"detached"* ]] || fail "its reason: $(said reason)"
clawback detach v >/dev/null
mutate "$disk" scattered 50
clawback attach v >/dev/null
must_rewind v@1 --no-safety-point
is_point v "$disk" 1
assert_equal "comparison $changed" "$(said method) $(said written_bytes)" "attached but not trusted"
# The safety point compares, and after it all is known.
mutate "$disk" clustered 1
keep_image v "$disk" unsaved
must_rewind v@1 --to "$disk"
is_point v "$disk" 1
assert_equal "marks $(said from)" "$(said method) $(said safety_point)" "after a safety point"
must_rewind "v@$(said safety_point)" --no-safety-point
is_point v "$disk" unsaved

echo "== what it refuses, it refuses before a point is made"
before=$(points v)
make_disk other 8M
mkfs.ext4 -q "$other"
clawback_volume m "$other" group=g
clawback backup g >/dev/null
mount_volume "$other" "$work/mounted"
fill_file "$work/mounted/file" 1
must_rewind m@1 --dry-run
assert_equal "marks null" "$(said method) $(said safety_point)" "a look at a mounted volume"
assert_refused 1 "in use" clawback restore --in-place m@1 "${clawback_key[@]}"
umount "$work/mounted"
assert_equal "1 " "$(points m)" "points of a volume in use"
assert_refused 2 "one by one" clawback restore --in-place g@latest "${clawback_key[@]}"
assert_refused 2 "no volume .x. is configured" clawback restore --in-place x@1 "${clawback_key[@]}"
assert_refused 2 "--no-safety-point goes with" clawback restore --in-place v@1 \
	--no-safety-point --to "$work/file" "${clawback_key[@]}"
assert_refused 2 "or --in-place" clawback restore v@1 "${clawback_key[@]}"
assert_refused 12 "recovery" clawback restore --in-place v@1
# A restore in place of another target is what it was.
cp --sparse=always "$disk" "$work/file"
clawback restore v@1 --in-place --to "$work/file" "${clawback_key[@]}" >/dev/null
is_point v "$work/file" 1
assert_equal "$before" "$(points v)" "points after refusals"
# Its store gone, there is no safety point; without one it needs no more than a copy.
mv "$work/repository" "$work/repository.away"
assert_refused 10 . clawback restore --in-place v@1 "${clawback_key[@]}"
mv "$work/repository.away" "$work/repository"
must_rewind m@1
assert_equal marks "$(said method)" "a volume with a file system"
fsck.ext4 -fn "$other" >"$work/fsck" 2>&1 || fail "$(cat "$work/fsck")"

echo "== killed at $kills random moments, and run again"
make_disk small 24M
clawback_volume s "$small" "spot_checks = 4"
fill "$small" 22
take s "$small"
for i in 1 2 3; do
	mutate "$small" half $i
	take s "$small"
done
died=0 half=0 run_ms=400
for ((round = 1; died < kills; round++)); do
	[ $round -le $((4 * kills)) ] || fail "only $died of $round rewinds died: no test"
	to=$((RANDOM % 4 + 1))
	mutate "$small" life
	options=()
	[ $((RANDOM % 2)) = 0 ] || options=(--no-safety-point)
	delay=$((RANDOM % run_ms))
	clawback_start restore --in-place "s@$to" "${options[@]}" "${clawback_key[@]}"
	sleep "$((delay / 1000)).$(printf %03d $((delay % 1000)))"
	kill -KILL "$clawback_pid" 2>/dev/null || true
	code=0
	clawback_wait 2>/dev/null || code=$?
	case $code in
	137) died=$((died + 1)) run_ms=$((run_ms * 11 / 10)) ;;
	0) run_ms=$((run_ms * 2 / 3 + 1)) ;;
	*) fail "a rewind ended with $code: $(cat "$work/background.err")" ;;
	esac
	blockdev --flushbufs "$small"
	cmp -s "$small" "$work/image.s.$to" || half=$((half + 1))
	options=(--no-safety-point)
	[ $((RANDOM % 3)) != 0 ] || options=()
	must_rewind "s@$to" "${options[@]}"
	is_point s "$small" "$to" "killed after $delay ms and run again"
	assert_equal marks "$(said method)" "method of the second attempt"
done
echo "  $died of $((round - 1)) died, $half before all was written"
[ $half -gt 0 ] || fail "none was killed on its way"
assert_equal "tracked " "$(trust s)" "trust"
backup s
assert_kind incremental
assert_matches_volume s "$small"

echo "== a random life of $rounds turns"
make_disk life 6M
clawback_volume l "$life" "spot_checks = 4"
fill "$life" 5
take l "$life"
methods=""
for ((i = 0; i < rounds; i++)); do
	mutate "$life" life
	case $((RANDOM % 10)) in
	0) take l "$life" --type full ;;
	1|2) take l "$life" --type synthetic ;;
	3|4) take l "$life" --type differential ;;
	5|6) take l "$life" ;;
	7) rm -rf /sys/fs/bpf/clawback ;;
	esac
	[ $((RANDOM % 2)) = 0 ] || mutate "$life" life
	if [ $((RANDOM % 4)) = 0 ]; then
		points l | tr ' ' '\n' | grep . | shuf -n 2 | sed 's/^/l@/' |
			xargs -r -n 1 "$clawback_program" keep --off --config "$clawback_config" >/dev/null
		clawback forget l --keep-last 5 >/dev/null
		clawback prune l --grace 0s >/dev/null
	fi
	to=$(points l | tr ' ' '\n' | grep . | shuf -n 1)
	keep_image l "$life" unsaved
	options=()
	[ $((RANDOM % 3)) != 0 ] || options=(--no-safety-point)
	must_rewind "l@$to" "${options[@]}"
	is_point l "$life" "$to" "turn $i"
	safety=$(said safety_point)
	[ "$safety" = null ] || mv "$work/image.l.unsaved" "$work/image.l.$safety"
	methods+="$(said method) "
done
by() { tr ' ' '\n' <<<"$methods" | grep -c "$1" || true; }
echo "  by marks $(by marks), by comparison $(by comparison)"
grep -q marks <<<"$methods" || fail "never by marks"
for number in $(points l); do
	clawback restore "l@$number" --to "$work/restored" --force "${clawback_key[@]}" >/dev/null
	is_point l "$work/restored" "$number" "restored"
done
backup l
assert_matches_volume l "$life"
clawback verify --data "${clawback_key[@]}" >"$work/verify" || fail "$(cat "$work/verify")"
clawback_end
