#!/bin/bash
# Synthetic fulls and differentials: a differential restores with all points between it
# and its full gone, a synthetic full from one map; and in a random life of all kinds,
# with points forgotten and pruned, full and rescans in between, every point restores to
# what the volume held. The model is a digest of the volume taken before each run.
#
# timeout: 120
own_mounts=1
. "$(dirname "$0")/../lib/guest.sh"
. tests/lib/clawback.sh

[ "$(id -u)" = 0 ] || skip "not root"
RANDOM=$((CLAWBACK_SEED % 32768))
rounds=24
! is_full || rounds=200
clawback_begin "$work/repository" open
make_disk disk 6M
clawback_volume v "$disk" "spot_checks = 4"

# Asked with "DEVICE SEED", answers when the device has been changed: some blocks new,
# some zero, some as they were, some as others are.
cat >"$work/mutate.py" <<'END'
import os, random, sys
for line in sys.stdin:
    path, seed = line.split()
    random.seed(seed)
    device = os.open(path, os.O_RDWR)
    blocks = 1300
    for _ in range(random.choice([1, 3, 12])):
        count = random.choice([1, 2, 30])
        at = random.randrange(blocks - count)
        data = random.choice([
            lambda: bytes(count * 4096),
            lambda: os.pread(device, count * 4096, at * 4096),
            lambda: os.pread(device, count * 4096, random.randrange(blocks - count) * 4096),
            lambda: random.randbytes(count * 4096),
            lambda: random.randbytes(count * 4096)])()
        os.pwrite(device, data, at * 4096)
    os.fsync(device)
    os.close(device)
    print("done", flush=True)
END
coproc mutator { python3 "$work/mutate.py"; }
mutations=0
mutate() {
	local answer
	mutations=$((mutations + 1))
	echo "$disk $CLAWBACK_SEED.$mutations" >&"${mutator[1]}"
	read -r answer <&"${mutator[0]}"
	assert_equal "done" "$answer" "the mutator's answer"
}

declare -A model
# run TYPE KIND: a point of that kind comes out of it.
run() {
	clawback backup v --json --type "$1" >"$work/backup.json" 2>"$work/backup.err" ||
		fail "a run of type $1: $(cat "$work/backup.err")"
	newest=$(summary point.number)
	model[$newest]=$(sha256sum <"$disk")
	[[ $(summary point.kind) =~ ^($2)$ ]] || fail "a run of type $1 gave: $(cat "$work/backup.json")"
}

restores() {
	clawback restore "v@$1" --to "$work/restored" --force "${clawback_key[@]}" >/dev/null ||
		fail "restoring $1${2:+ $2}"
	assert_equal "${model[$1]}" "$(sha256sum <"$work/restored")" "point $1${2:+ $2}"
}

verify() { clawback verify "$@" >"$work/verify" || fail "$(cat "$work/verify")"; }

id() { (cd "$clawback_repository" && echo *-*-*-*-*); }
# put_away FIRST LAST, put_back: every object that belongs to those points.
put_away() {
	local n path
	for ((n = $1; n <= $2; n++)); do
		for path in "$clawback_repository/$(id)"/*/"$(printf %010d "$n")"*; do
			mkdir -p "$work/away/$(basename "$(dirname "$path")")"
			mv "$path" "$work/away/$(basename "$(dirname "$path")")/"
		done
	done
}
put_back() {
	cp -a "$work/away/." "$clawback_repository/$(id)/"
	rm -r "$work/away"
}

# facts NUMBER: base and depth, and of a differential its full, from the manifest.
facts() {
	tail -c +65 "$clawback_repository/$(id)/points/$(printf %010d "$1")" |
		grep -a -E '^ "(base|depth|full)"' | tr -dc '0-9\n' | paste -sd ' '
}

echo "== a volume without a point gets a full, whatever is asked for"
fill "$disk" 5
run differential full
full=$newest
# In each a block that no other writes.
for i in 1 2 3 4 5; do
	mutate
	head -c 4096 </dev/urandom | dd of="$disk" bs=4096 seek=$((1300 + i)) oflag=direct \
		conv=notrunc status=none
	run auto incremental
done

echo "== a differential needs its full and nothing else"
# Written before, not after: the last point has it already, the full has not.
clawback backup v --type differential -n | grep -q "differential point.*since the last full" ||
	fail "a look does not say what it would do"
run differential differential
differential=$newest
assert_equal "$differential 0 $full" "$(facts $differential)" "base, depth and full"
assert_equal "$full" "$(clawback show v@$differential --json | jq .full)" "its full in JSON"
clawback show v@$differential | grep -q "^  kind  *differential since point $full:" ||
	fail "show does not say its full: $(clawback show v@$differential)"
mutate
run auto incremental
assert_equal "$differential 1" "$(facts "$newest")" "base and depth of what follows"
put_away $((full + 1)) $((differential - 1))
restores $differential "without what was between"
restores "$newest" "behind it"
put_back
verify --data "${clawback_key[@]}"

echo "== a synthetic full reads no more than an incremental, and stands on its own map"
mutate
run synthetic synthetic
synthetic=$newest
assert_equal "$synthetic 0" "$(facts "$synthetic")" "base and depth"
[ "$(summary point.read_bytes)" -lt 3000000 ] || fail "it read $(summary point.read_bytes)"
mutate
run differential differential
assert_equal "$newest 0 $synthetic" "$(facts "$newest")" "a differential goes back to it"

clawback status v --json | jq -e ".volumes[0] | .full_point == $synthetic and
	(.full_time < .synthetic_time) and (.synthetic_time < .differential_time)" >/dev/null ||
	fail "the status of kinds: $(clawback status v --json)"
clawback status v | grep -q "^  last differential at " || fail "$(clawback status v)"
clawback points v | grep -q "^ *$synthetic .* synthetic" || fail "$(clawback points v)"

echo "== what is between is freed; then the full, too, and differentials go on"
seq -f "v@%g" $((full + 1)) $((differential - 1)) | xargs "$clawback_program" forget --config "$clawback_config" >/dev/null
clawback prune --grace 0s >/dev/null
# Of those points nothing serves any more: no object, but for stubs.
for ((n = full + 1; n < differential; n++)); do
	left=$(find "$clawback_repository/$(id)"/{points,segments,maps} -name "$(printf %010d $n)*" \
		-size +64c 2>/dev/null || true)
	[ -z "$left" ] || fail "kept of a point that nothing needs: $left"
done
restores $differential pruned
# Without a key to any map: what it may need, and nothing that is gone.
keyless_verify() {
	mv "$work/state/keys/map.key" "$work/"
	verify "$@"
	mv "$work/map.key" "$work/state/keys/"
}
keyless_verify "v@$differential"
clawback forget "v@$full" "v@$differential" "v@$synthetic" >/dev/null
clawback prune --grace 0s >/dev/null
mutate
run differential differential
assert_equal "$newest 0 $synthetic" "$(facts "$newest")" "base, depth and full"
restores "$newest" "with its full pruned"
keyless_verify "v@$newest"
verify --data "${clawback_key[@]}"

echo "== untrusted: compared first"
mutate
rm -r /sys/fs/bpf/clawback
run differential incremental
assert_equal true "$(summary rescan)" "rescan"
grep -q "no differential: the whole volume is compared first" "$work/backup.err" || fail "not said"
rm -r /sys/fs/bpf/clawback
mutate
run synthetic synthetic
assert_equal true "$(summary rescan)" "rescan"
restores "$newest"

echo "== a random life of $rounds runs"
declare -A kinds
check() {
	local number
	for number in $(points v); do restores "$number" "$1"; done
}
for ((i = 0; i < rounds; i++)); do
	mutate
	# Each kind at least once.
	case $i in 2) kind=1 ;; 5) kind=3 ;; 8) kind=0 ;; 9) kind=7 ;; *) kind=$((RANDOM % 12)) ;; esac
	case $kind in
	0) run full full ;;
	1|2) run synthetic synthetic ;;
	3|4|5) run differential differential ;;
	6) rm -r /sys/fs/bpf/clawback
		mutate
		run differential incremental ;;
	*) run auto incremental ;;
	esac
	kinds[$(summary point.kind)]=1
	case $((RANDOM % 6)) in
	0)	# any of them, but for the newest
		points v | tr ' ' '\n' | grep . | head -n -1 | shuf -n 3 |
			sed 's/^/v@/' | xargs -r "$clawback_program" forget --config "$clawback_config" >/dev/null
		clawback prune --grace 0s >/dev/null ;;
	1) clawback forget v --keep-last 6 >/dev/null ;;
	esac
	[ $((i % 12)) != 11 ] || check "in run $i"
done
[ ${#kinds[@]} = 4 ] || fail "only ${!kinds[*]} came up"
check "at the end"
verify --data "${clawback_key[@]}"
verify
clawback_end
