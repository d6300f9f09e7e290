#!/bin/bash
# Three stores: points are committed to the first and copied to the others, also while one
# is away; what it has not got is not pruned; each forgets and prunes for itself; from a
# further one all is restored when the first is gone; the daemon does it by itself.
#
# timeout: 240
own_mounts=1
. "$(dirname "$0")/../lib/guest.sh"
. tests/lib/clawback.sh

[ "$(id -u)" = 0 ] || skip "not root"
mkdir "$work/disk1"
mount -t tmpfs -o size=24M tmpfs "$work/disk1"
defer umount -l "$work/disk1"
first=$work/disk1/repository
clawback_begin "$first" open
make_disk disk 8M
clawback_volume v "$disk"
mkdir "$work/disk2"
cat >>"$clawback_config" <<END

[store near]
url = file://$work/near

[store far]
url = file://$work/disk2/far
lag_warning = 2s
keep = last=2
END

write_some() {
	head -c 200K /dev/urandom | dd of="$disk" bs=4K seek=$((RANDOM % 1900)) conv=notrunc,fsync \
		iflag=fullblock status=none
}
new_points() {
	for _ in $(seq "$1"); do
		write_some
		backup v
	done
}
store_points() { clawback points v --store "$1" --json | jq -r '.points[].number' | tr '\n' ' '; }
# lag STORE FIELD: what status says of it.
lag() { clawback status v --json | jq -r ".volumes[0].stores[] | select(.store == \"$1\") | .$2"; }

echo "== filled, then point by point"
new_points 2
clawback replicate --dry-run | tee "$work/out"
grep -q "would copy 2 points" "$work/out"
[ ! -e "$work/near" ] || fail "a look made a store"
clawback replicate | tee "$work/out"
assert_equal "1 2 " "$(store_points near)" "points in near"
assert_equal "1 2 " "$(store_points far)" "points in far"
new_points 1
clawback replicate --store far
assert_equal "1 2 " "$(store_points near)" "points in near"
assert_equal "1 2 3 " "$(store_points far)" "points in far"
clawback replicate
diff -r "$first" "$work/near" || fail "near is no copy"

echo "== one is away"
mv "$work/disk2/far" "$work/away"
new_points 3
assert_refused 3 "to fill it anew nevertheless" clawback replicate
assert_equal "1 2 3 4 5 6 " "$(store_points near)" "points in near"
[ ! -e "$work/disk2/far" ] || fail "a store that is away was made anew"
clawback status v | tee "$work/status"
grep -q "store near: up to point 6 of" "$work/status"
grep -q "store far: up to point 3 of .*; 3 points BEHIND" "$work/status"
assert_equal 3 "$(lag far lag_points)" "points that far lacks"
assert_equal 0 "$(lag near lag_points)" "points that near lacks"
assert_equal true "$(lag far 'lag_seconds > 0')" "far's lag"
grep -q "last failure .*store far\|last failure .*no such folder" "$work/status"
assert_refused 1 "stand in the way" clawback doctor

echo "== the first store is full"
head -c 64M /dev/zero >"$work/disk1/ballast" 2>/dev/null || true
write_some
assert_refused 1 "free space" clawback backup v
clawback status v --json >"$work/status"
jq -e '.volumes[0] | .pending and .trust == "tracked" and .point == 6 and
	(.stores | map({(.store): .lag_points}) | add) == {near: 0, far: 3}' "$work/status" >/dev/null ||
	fail "$(cat "$work/status")"
rm "$work/disk1/ballast"

echo "== what it has not got is not pruned"
clawback forget v --keep-last 1
clawback prune --grace 0s --json >"$work/prune"
jq -e '.held_points == 3 and .held_for == "far" and .points == 2' "$work/prune" >/dev/null ||
	fail "$(cat "$work/prune")"
mv "$work/away" "$work/disk2/far"
clawback replicate
assert_equal "1 2 3 4 5 6 " "$(store_points far)" "points in far"
assert_equal 0 "$(lag far lag_points)" "points that far lacks"
clawback status v | grep "got over: "
clawback prune --grace 0s --json >"$work/prune"
jq -e '.held_points == 0 and .points == 3' "$work/prune" >/dev/null || fail "$(cat "$work/prune")"
assert_equal "6 " "$(points v)" "points in the first"

echo "== each for itself"
clawback forget v --store far
clawback prune --store far --grace 0s
assert_equal "5 6 " "$(store_points far)" "points in far"
clawback keep v@2 --store near
clawback forget v --store near --keep-last 2
clawback prune --store near --grace 0s
assert_equal "2 5 6 " "$(store_points near)" "points in near"
new_points 2
clawback replicate
for store in repository near far; do
	clawback verify --data --store $store "${clawback_key[@]}"
done
assert_equal "2 5 6 7 8 " "$(store_points near)" "points in near"

echo "== a store that is added later"
printf '\n[store late]\nurl = file://%s\n' "$work/late" >>"$clawback_config"
clawback replicate --store late | tee "$work/out"
assert_equal "6 7 8 " "$(store_points late)" "points in late"
clawback verify --data --store late "${clawback_key[@]}"

echo "== damage is not copied"
new_points 1
newest=$(find "$first" -path '*/points/0000000009')
cp "$newest" "$work/good"
printf 'x' | dd of="$newest" bs=1 seek=$(($(stat -c %s "$newest") - 10)) conv=notrunc status=none
assert_refused 13 "is damaged" clawback replicate --store near
assert_equal "2 5 6 7 8 " "$(store_points near)" "points in near"
cp "$work/good" "$newest"
clawback replicate

echo "== another repository"
"$clawback_program" init --config "$clawback_config" -r "file://$work/other" --state "$work/state2" >/dev/null
assert_refused 13 "another repository" clawback replicate --store near -o "store near.url=file://$work/other"

echo "== the first store is gone"
assert_restores v@9
sum=$(clawback show v@9 --json | jq -r .image_sha256)
segment=$(find "$first" -path '*/points/0000000008')
mv "$segment" "$work/point8"
clawback restore v@9 --to "$work/back" --force "${clawback_key[@]}" 2>"$work/err"
grep -q "is not complete there\|is missing" "$work/err" || fail "$(cat "$work/err")"
grep -q "restoring from store near" "$work/err" || fail "$(cat "$work/err")"
assert_equal "$sum" "$(sha256sum <"$work/back" | cut -d ' ' -f 1)" "the image from near"
mv "$work/point8" "$segment"
mv "$first" "$work/disk1/gone"
clawback restore v --to "$work/back" --force "${clawback_key[@]}" 2>"$work/err"
grep -q "restoring from store near" "$work/err" || fail "$(cat "$work/err")"
assert_equal "$sum" "$(sha256sum <"$work/back" | cut -d ' ' -f 1)" "the image from near"
clawback restore v@5 --store far --to "$work/back" --force "${clawback_key[@]}"
assert_refused 2 'no store "nowhere"' clawback points v --store nowhere

echo "== another one takes its place"
cp "$clawback_config" "$work/good.conf"
sed -i "s,^url = file://$first,url = file://$work/near,; /^.store near/,/^url/d" "$clawback_config"
new_points 1
assert_kind incremental
clawback replicate
assert_equal "5 6 7 8 9 10 " "$(store_points far)" "points in far"
assert_restores v@latest
mv "$work/good.conf" "$clawback_config"
cp "$work"/near/*/points/0000000010 "$work"/disk1/gone/*/points/	# as if it had it all along
mv "$work/disk1/gone" "$first"

echo "== by itself"
log=$work/background.out
sed -i '/^\[store late\]/,$d' "$clawback_config"
sed -i 's/^device = .*/&\nrpo = 1s/' "$clawback_config"
sed -i "/^\[agent\]/a metrics = $work/clawback.prom" "$clawback_config"
printf '\n[notify]\ncommand = %s\ninterval = off\n' "$work/tell" >>"$clawback_config"
printf '#!/bin/sh\ncat >>%s\necho >>%s\n' "$work/told" "$work/told" >"$work/tell"
chmod +x "$work/tell"
events() { jq -n "[inputs | select($1)] | length" "$log" 2>/dev/null || echo 0; }
has_events() { [ "$(events "$2")" -ge "$1" ]; }
caught_up() { [ "$(lag "$1" lag_points)" = 0 ]; }
clawback_start protect --json
write_some
wait_for 20 has_events 1 '.message_type == "replicated" and .store == "near"' || fail "$(cat "$log")"
wait_for 20 caught_up near
wait_for 20 caught_up far
mv "$work/disk2/far" "$work/away"
cycles=$(events '.message_type == "cycle_ended"')
for i in 1 2 3; do
	write_some
	wait_for 20 has_events $((cycles + i)) '.message_type == "cycle_ended"'
done
wait_for 20 caught_up near
wait_for 20 has_events 2 '.message_type == "store_failed" and .store == "far"' || fail "$(cat "$log")"
wait_for 20 has_events 1 '.message_type == "store_lags" and .store == "far" and .points > 0 and .lag_seconds >= 2' ||
	fail "$(cat "$log")"
[ "$(lag far lag_points)" -ge 3 ] || fail "far lacks $(lag far lag_points) points"
in_metrics() { grep -q "$1" "$work/clawback.prom"; }
wait_for 20 in_metrics '^clawback_store_lag_points{store="far"} [1-9]'
grep -q '^clawback_store_lag_points{store="near"} 0' "$work/clawback.prom" || fail "near lags"
grep -q '^clawback_store_failures_total{store="far"} [1-9]' "$work/clawback.prom"
mv "$work/away" "$work/disk2/far"
wait_for 40 has_events 1 '.message_type == "store_recovered" and .store == "far"' || fail "$(tail "$log")"
caught_up far || fail "far lacks $(lag far lag_points) points"
has_told() { grep -q "\"event\":\"$1\"" "$work/told"; }
wait_for 20 has_told store_lags
wait_for 20 has_told store_recovered
kill -TERM "$clawback_pid"
clawback_wait || fail "exit code $? of the daemon: $(cat "$work/background.err")"
newest=$(points v | wc -w)
[ "$newest" -gt 4 ] || fail "only $newest points"
[ "$(store_points far | wc -w)" -gt 4 ] || fail "far has $(store_points far)"
for store in repository near far; do
	clawback verify --data --store $store "${clawback_key[@]}"
done
clawback restore v --store far --to "$work/back" --force "${clawback_key[@]}"
blockdev --flushbufs "$disk"
cmp -n "$(blockdev --getsize64 "$disk")" "$work/back" "$disk" || fail "far's newest is not the volume"

echo "== once"
write_some
clawback protect --once --json >"$work/once"
jq -en '[inputs | select(.message_type == "replicated")] | length == 2' "$work/once" >/dev/null ||
	fail "$(cat "$work/once")"

echo "== pruned although they were not there yet"
before=$(store_points near)
for _ in 1 2 3 4; do
	fill "$disk" 1 2
	backup v
done
newest=$(summary point.number)
clawback forget v --keep-last 2
clawback prune --grace 0s --ignore-stores
clawback replicate
assert_equal "$before$((newest - 1)) $newest " "$(store_points near)" "points in near"
for store in repository near far; do
	clawback verify --data --store $store "${clawback_key[@]}"
	clawback restore v --store $store --to "$work/back" --force "${clawback_key[@]}"
	blockdev --flushbufs "$disk"
	cmp -n "$(blockdev --getsize64 "$disk")" "$work/back" "$disk" || fail "not the volume"
done
clawback_end
