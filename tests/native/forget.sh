#!/bin/bash
# Points forgotten and pruned by the program, while backups go on: what is kept restores
# byte for byte with the recovery key and verifies; the space comes back; a prune or a
# forget that is killed or fails anywhere is finished by the next; a host whose state is
# older than its repository makes no point that nobody sees.
#
# timeout: 300
own_mounts=1
. "$(dirname "$0")/../lib/guest.sh"
. tests/lib/clawback.sh

[ "$(id -u)" = 0 ] || skip "not root"
clawback_begin "$work/repository" open
make_disk disk 12M
clawback_volume v "$disk" "fingerprints = no"

# ---- points, and what they hold --------------------------------------------------------
declare -A model
newest=0
# point MIB OFFSET_MIB [OPTION]...: so much is rewritten, and backed up.
point() {
	fill "$disk" "$1" "$2"
	clawback backup v --json "${@:3}" >"$work/backup.json" || fail "backup after $newest"
	newest=$(summary point.number)
	model[$newest]=$(sha256sum <"$disk")
}

# The program that has fault points, for one command.
faulty() {
	local fault=$1 code=0
	shift
	CLAWBACK_FAULT=$fault "$CLAWBACK_BUILD/faults/clawback" "$1" --config "$clawback_config" "${@:2}" \
		>"$work/out" 2>"$work/err" || code=$?
	echo "$code"
}

assert_points() { assert_equal "$1" "$(points v)" "visible points${2:+ $2}"; }

# All that is visible, exact; nothing wrong, by any check.
check() {
	local number
	clawback verify --data "${clawback_key[@]}" >"$work/verify" || fail "$1: $(cat "$work/verify")"
	for number in $(points v); do
		clawback restore "v@$number" --to "$work/restored" --force "${clawback_key[@]}" \
			>/dev/null || fail "$1: restoring $number"
		assert_equal "${model[$number]}" "$(sha256sum <"$work/restored")" "$1: point $number"
	done
}

stored() { find "$clawback_repository" -type f -path '*-*-*-*-*/*' -printf '%s\n' | awk '{ n += $1 } END { print n + 0 }'; }
objects() { find "$clawback_repository" -type f -path "*-*-*-*-*/$1/*" | wc -l; }

echo "== requests of a run"
point 8 0
point 1 0
before=$(summary requests)
for i in 1 0 1 0 1 0; do point 1 "$i"; done
clawback keep v@3 >"$work/out"
grep -q "v@3 .*kept" "$work/out"
clawback forget v --keep-last 2 -n >"$work/out"
grep -Eq '^ +3 .* keep +pinned$' "$work/out" || fail "$(cat "$work/out")"
grep -Eq '^ +8 .* keep +newest, last$' "$work/out" || fail "$(cat "$work/out")"
grep -Eq '^ +1 .* forget +$' "$work/out" || fail "$(cat "$work/out")"
assert_points "1 2 3 4 5 6 7 8 " "after a look"
clawback forget v --keep-last 2 --json | jq -e '.kept == 3 and .forgotten == 5' >/dev/null
assert_points "3 7 8 "
clawback points v | grep -q '^ *3 .*pinned$' || fail "no pinned point is listed"
assert_refused 1 "was forgotten" clawback show v@4
assert_refused 1 "is pinned" clawback forget v@3
point 1 7
assert_equal "$before" "$(summary requests)" "requests of a run before and after forgetting"
check "forgotten"

echo "== pruned, an hour of grace or none"
full=$(stored)
clawback prune >"$work/out"
grep -q "5 forgotten points pruned .*deleted 0 objects.*can be deleted by a prune in \(59 min\|1 h\)" "$work/out" ||
	fail "$(cat "$work/out")"
check "marked"
clawback prune --grace 0s >"$work/out"
cat "$work/out"
[ "$(stored)" -lt $((full - 2000000)) ] || fail "of $full bytes $(stored) are left"
check "pruned"
assert_points "3 7 8 9 "
point 1 2
assert_equal "$before" "$(summary requests)" "requests of a run after pruning"
check "and gone on"

echo "== a chain longer than a map chain may be, with holes in it"
for ((i = 0; i < 40; i++)); do
	point 1 $((i % 12))
	[ $((i % 9)) != 8 ] || {
		clawback forget v --keep-last 4 >/dev/null
		clawback prune --grace 0s >/dev/null
	}
done
check "long chain"

echo "== killed and failed at every point of a forget and a prune"
clawback keep v@3 --off >/dev/null
kills=0
for what in kill EIO; do
	for fault in retention.commit prune.map prune.pack prune.stub prune.delete; do
		# Of the later passings a quick run has one, by chance; errors are only of the first.
		passings=(1 2 5)
		is_full || passings=(1 $((RANDOM % 2 ? 2 : 5)))
		is_full || [ $what = kill ] || passings=(1)
		for passing in "${passings[@]}"; do
			point 1 $((RANDOM % 12))
			point 1 $((RANDOM % 12))
			point 1 $((RANDOM % 12))
			# A forget and a mark commit a record each.
			code=$(faulty "$fault:$what:$passing" forget v --keep-last 2)
			[ "$code" = 0 ] || clawback forget v --keep-last 2 >/dev/null
			[ "$code" = 0 ] || kills=$((kills + 1))
			assert_points "$((newest - 1)) $newest "
			code=$(faulty "$fault:$what:$passing" prune --grace 0s)
			[ "$code" = 0 ] || kills=$((kills + 1))
			case $what:$code in *:0|kill:137|EIO:1) ;; *) fail "exit code $code: $(cat "$work/err")" ;; esac
			[ "$passing" != 1 ] || check "$what at $fault"
			clawback prune --grace 0s >/dev/null
		done
	done
done
check "after all"
[ $kills -ge 10 ] || fail "only $kills kills and failures"
[ "$(objects retention)" = 1 ] || fail "records are left: $(objects retention)"
[ "$(objects maps)" -le 2 ] || fail "maps are left: $(objects maps)"

echo "== one volume that cannot be pruned does not keep the others"
make_disk disk2 1M
clawback_volume w "$disk2" "fingerprints = no"
clawback backup w >/dev/null
id=$(clawback points --json | jq -r '.volumes[] | select(.name == "w").volume_id')
mkdir "$clawback_repository/$id/retention"
echo damage >"$clawback_repository/$id/retention/0000000001"
code=0
clawback prune --json >"$work/out" 2>"$work/err" || code=$?
assert_equal 3 $code "exit code when one of two volumes cannot be pruned"
jq -e -s 'length == 1 and .[0].volume == "v"' "$work/out" >/dev/null
assert_refused 13 "retention record\|cut short" clawback verify w
rm -r "$clawback_repository/$id/retention"
clawback prune >/dev/null

echo "== a host whose state is older than its repository"
# with_state FOLDER COMMAND...: with a copy of it for the host's state.
with_state() {
	mv "$work/state" "$work/put-away"
	cp -a "$1" "$work/state"
	"${@:2}"
	rm -r "$work/state"
	mv "$work/put-away" "$work/state"
}
cp -a "$work/state" "$work/old-state"
old=$newest
for i in 1 2 3; do point 1 $i; done
clawback keep "v@$old" >/dev/null
clawback forget v --keep-last 1 >/dev/null
clawback prune --grace 0s >/dev/null
with_state "$work/old-state" assert_refused 11 "exists already\|was pruned" clawback backup v
with_state "$work/old-state" assert_refused 11 "was pruned: the machine or its state" \
	clawback backup v --type full
# All the volume anew, so that nothing of the old points is needed.
point 12 0
clawback keep "v@$old" --off >/dev/null
clawback forget v --keep-last 1 >/dev/null
clawback prune --grace 0s >/dev/null
[ ! -e "$(find "$clawback_repository" -path "*/points/*$old")" ] || fail "point $old is still there"
with_state "$work/old-state" assert_refused 11 "was pruned: the machine or its state" clawback backup v
with_state "$work/old-state" assert_refused 11 "was pruned: the machine or its state" \
	clawback backup v --type full
echo "== and goes on behind the newest point, storing all"
rm -r "$work/state"
mv "$work/old-state" "$work/state"
assert_refused 11 "was pruned: the machine or its state" clawback backup v
behind=$newest
point 1 4
assert_equal "full $((behind + 1))" "$(summary point.kind) $newest" "the point after being set back"
[[ $(summary point.reason) =~ "set back" ]] || fail "its reason: $(summary point.reason)"
point 1 5
assert_equal incremental "$(summary point.kind)" "the kind of the point after that"
check "set back"
clawback_end
