#!/bin/bash
# A restore to a file that is killed goes on where it was when the same command is given
# again, fetches less, and gives the very bytes; --dry-run and its begin say what it costs.
#
# timeout: 240
own_mounts=1
. "$(dirname "$0")/../lib/guest.sh"
. tests/lib/clawback.sh

[ "$(id -u)" = 0 ] || skip "not root"
mount -t tmpfs -o size=1G none "$work"
defer umount -l "$work"
clawback_begin "$work/repository" open
make_disk disk 192M
clawback_volume v "$disk" "provider = none" "fingerprints = no"
head -c 150M /dev/urandom | dd of="$disk" bs=1M oflag=direct iflag=fullblock status=none
backup v

whole=$(clawback restore v --to "$work/out" --dry-run --json "${clawback_key[@]}")
assert_equal null "$(jq -c .price <<<"$whole")" "the price where none is configured"
priced=$(clawback restore v --to "$work/out" --dry-run --json -o repository.price_get=1000 \
	-o repository.price_egress=1000000000 "${clawback_key[@]}" 2>&1) &&
	fail "a price beyond all bounds was taken: $priced"
priced=$(clawback restore v --to "$work/out" --dry-run --json -o repository.price_get=1000 \
	"${clawback_key[@]}")
jq -e '.requests > 0 and .price == .requests' <<<"$priced" >/dev/null ||
	fail "the price of requests: $priced"
clawback restore v --to "$work/out" --dry-run -o repository.price_egress=0.09 \
	"${clawback_key[@]}" | grep -Eq 'requests, for about 0\.01' || fail "no price in words"
[ ! -e "$work/out" ] || fail "--dry-run made its target"

# Its fourth second comes soon for a restore that stands still. It may be done before.
killed=
for _ in 1 2 3 4 5 6; do
	rm -f "$work/out"
	clawback_start restore v --to "$work/out" --json "${clawback_key[@]}"
	until [ -s "$work/out" ] || ! kill -0 $clawback_pid 2>/dev/null; do :; done
	kill -STOP $clawback_pid 2>/dev/null || continue
	sleep 3.2
	kill -CONT $clawback_pid
	until [ -n "$(find "$work/state/restore" -size +200c 2>/dev/null)" ] ||
		! kill -0 $clawback_pid 2>/dev/null; do :; done
	kill -KILL $clawback_pid 2>/dev/null || true
	clawback_wait 2>/dev/null && continue
	[ -z "$(find "$work/state/restore" -name '*.journal' 2>/dev/null)" ] || { killed=1; break; }
done
[ -n "$killed" ] || skip "too fast a machine: each restore was done before it could be killed"

# Somebody writes to it meanwhile.
printf 'not what was there' | dd of="$work/out" conv=notrunc bs=1 seek=125000000 status=none
clawback restore v --to "$work/out" --json --verify "${clawback_key[@]}" >"$work/again"
summary=$(tail -n 1 "$work/again")
head -n 1 "$work/again" | jq -e '.message_type == "status" and .fetch_bytes > 0 and
	.requests > 0' >/dev/null || fail "its begin did not say what it fetches: $(cat "$work/again")"
echo "$summary" | jq -r '"\(.resumed_bytes) of \(.data_bytes) bytes there, \(.fetched_bytes) fetched"'
cmp "$work/out" "$disk"
jq -e '.resumed_bytes > 0 and .fetched_bytes < .data_bytes - .resumed_bytes / 2' \
	<<<"$summary" >/dev/null || fail "it began anew: $summary"
[ -z "$(ls -A "$work/state/restore")" ] || fail "left: $(ls -A "$work/state/restore")"
# A second time it is somebody's file.
assert_refused 1 "force" clawback restore v --to "$work/out" "${clawback_key[@]}"
clawback_end
