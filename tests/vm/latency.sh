#!/bin/bash
# What a writer feels: latency of 4 KiB O_DIRECT writes to a device-mapper volume without
# clawback, with its tracker alone, and while the daemon's cycles follow one another; in
# turns in one guest, for figures of an emulated machine compare only with each other.
#
# CLAWBACK_LATENCY_ROUNDS    how many turns (3)
# CLAWBACK_LATENCY_SECONDS   how long each is (45)
#
# kernels: 6.12
# guest: udev 2048M disk=96M disk=2G
# timeout: 1200
# full-only: yes
. "$(dirname "$0")/../lib/guest.sh"
. tests/lib/clawback.sh

rounds=${CLAWBACK_LATENCY_ROUNDS:-3} seconds=${CLAWBACK_LATENCY_SECONDS:-45}
# shellcheck disable=SC2086
set -- ${CLAWBACK_DISKS:?}
make_linear_volume volume labvolume "$1"
mkfs.ext4 -q -E lazy_itable_init=0,lazy_journal_init=0 "$2"
mount_volume "$2" "$work/store"
clawback_begin "$work/store/repository" open
clawback_volume v "$volume" rpo=2s
log=$work/background.out

# writer NAME ROUND: one after another, 100 a second, all over a quarter of the volume.
writer() {
	fio --name=w --filename="$volume" --rw=randwrite --bs=4k --size=64M --direct=1 \
		--ioengine=psync --rate_iops=100 --time_based --runtime="$seconds" --norandommap \
		--randseed=$((CLAWBACK_SEED + $2)) --percentile_list=50:99:99.9 \
		--output-format=json --output="$work/$1.$2.json"
	jq -e '.jobs[0] | .error == 0 and .write.total_ios > 0' "$work/$1.$2.json" >/dev/null ||
		fail "the volume refused a write"
	jq -r --arg name "$1" '.jobs[0].write | "  \($name): \(.total_ios) writes, ms: p50 " + ([
		.clat_ns.percentile."50.000000", .clat_ns.percentile."99.000000",
		.clat_ns.percentile."99.900000", .clat_ns.max] | map(. / 1e4 | round / 100) |
		"\(.[0]), p99 \(.[1]), p99.9 \(.[2]), max \(.[3])")' "$work/$1.$2.json"
}

ended() { grep -c '"cycle_ended"' "$log" || true; }
has_ended() { [ "$(ended)" -ge "$1" ]; }

turn_without() {
	clawback detach v >"$work/detach.out"
	writer without "$1"
	# The rescan that follows is no cycle that anybody waits for every day.
	clawback attach v >"$work/attach.out"
	clawback backup v >"$work/backup.out"
}
turn_tracked() { writer tracked "$1"; }
turn_cycles() {
	local first
	# Else there is no cycle to wait for.
	fill "$volume" 1
	clawback_start protect --json
	wait_for 60 has_ended 1
	first=$(ended)
	writer cycles "$1"
	cycles=$(($(ended) - first))
	kill -TERM "$clawback_pid"
	clawback_wait
	[ $cycles -ge 1 ] || fail "no cycle ended while the writer wrote"
	jq -r 'select(.message_type == "cycle_ended") | .seconds' "$log" >>"$work/seconds"
	all=$((all + cycles))
}

fill "$volume" 64
clawback attach v >"$work/attach.out"
clawback backup v >"$work/backup.out"
all=0
for ((round = 1; round <= rounds; round++)); do
	echo "== turn $round"
	for ((at = 0; at < 3; at++)); do
		case $(((round + at) % 3)) in
		0) turn_without $round ;;
		1) turn_tracked $round ;;
		2) turn_cycles $round ;;
		esac
	done
done
assert_no_helpers
# Where the time of a run goes here, at rest but for 1 MiB.
for ((round = 1; round <= 5; round++)); do
	fill "$volume" 1 $((round + 2))
	clawback backup v --json >>"$work/steps"
done
# Still right, after all that.
clawback backup v >"$work/backup.out"
clawback restore v --to "$work/image" --force "${clawback_key[@]}" >"$work/restore.out"
assert_same "$work/image" "$volume"
clawback_end

# row NAME WHAT: medians over the turns, but for the greatest.
row() {
	jq -r '.jobs[0].write.clat_ns | [.percentile."50.000000", .percentile."99.000000",
		.percentile."99.900000", .max] | map(. / 1e6) | @tsv' "$work/$1".*.json |
		awk -v what="$2" '{ for (i = 1; i <= 4; i++) v[i, NR] = $i }
		function middle(c, a, i, j, t) {
			for (i = 1; i <= NR; i++) a[i] = v[c, i]
			for (i = 1; i <= NR; i++) for (j = i + 1; j <= NR; j++)
				if (a[j] < a[i]) { t = a[i]; a[i] = a[j]; a[j] = t }
			return c == 4 ? a[NR] : a[int((NR + 1) / 2)]
		}
		END { printf "| %s | %.2f | %.2f | %.2f | %.1f |\n", what, middle(1), middle(2), middle(3), middle(4) }'
}
echo "== latency of a 4 KiB write in ms: medians of $rounds turns of $seconds s, the greatest of all"
echo "| | p50 | p99 | p99.9 | max |"
echo "|---|---|---|---|---|"
row without "without clawback"
row tracked "tracker alone"
row cycles "cycles"
sort -n "$work/seconds" | awk -v all=$all '{ v[NR] = $1 }
	END { printf "%d cycles; one took %.2f s (median of %d), at most %.2f s\n", all, v[int((NR + 1) / 2)], NR, v[NR] }'
echo "== a run's steps in ms, median of 5"
jq -s -r 'map(select(.message_type == "summary").timings) | . as $all | .[0] | keys_unsorted[] | . as $step |
	"\($step) \([$all[][$step]] | sort | .[length / 2 | floor] * 10 | round / 10)"' "$work/steps" | paste -s -d ',' |
	sed 's/,/, /g'
