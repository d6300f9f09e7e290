#!/bin/bash
# The volumes of a group share one instant: of two counters of which the first is
# always written first, no pair of points shows the second ahead or far behind.
#
# quick-kernels: 6.1
# guest: udev 2048M disk=512M disk=512M disk=512M disk=512M
# timeout: 600
# full-timeout: 1800
. "$(dirname "$0")/../lib/guest.sh"
. tests/lib/clawback.sh

# shellcheck disable=SC2086
set -- ${CLAWBACK_DISKS:?}
rounds=3
! is_full || rounds=30
make_linear_volume data labdata "$1" $((8 * 2048))
make_linear_volume wal labwal "$2" $((8 * 2048))
clawback_begin "$work/repository" open
clawback_volume data "$data" group=both
clawback_volume wal "$wal" group=both

# Each number reaches data's block before wal's: at any instant wal = data or data - 1.
cat >"$work/counter.py" <<'END'
import mmap, os, sys
block = mmap.mmap(-1, 4096)
fds = [os.open(path, os.O_WRONLY | os.O_DIRECT) for path in sys.argv[1:]]
number = 0
while True:
    number += 1
    block[0:8] = number.to_bytes(8, "little")
    for fd in fds:
        os.pwrite(fd, block, 65536)
END
python3 "$work/counter.py" "$data" "$wal" &
counter=$!
defer clawback_stop $counter

# number_in VOLUME@POINT
number_in() {
	clawback restore "$1" --to "$work/image" --force "${clawback_key[@]}" >"$work/restore.out"
	od -A n -t u8 -j 65536 -N 8 "$work/image" | tr -d ' '
	rm "$work/image"
}
wait_for 20 has_written "$wal" 1000

for ((round = 1; round <= rounds; round++)); do
	backup both
	kill -0 $counter || fail "the counter stopped: a volume refused a write"
	assert_equal "$(summary data point.time)" "$(summary wal point.time)" "the points' times"
	assert_equal "$(summary data point.number)" "$(summary wal point.number)" "the points' numbers"
done
assert_no_helpers
for ((round = 1; round <= rounds; round++)); do
	first=$(number_in "data@$round")
	second=$(number_in "wal@$round")
	echo "points $round: data $first, wal $second"
	[ "$second" = "$first" ] || [ "$second" = $((first - 1)) ] ||
		fail "data has $first and wal $second: not one instant"
done

# A hook stops the counter until the instant is over: the points have what it saw.
cat >"$work/hold" <<-END
	#!/bin/bash
	kill -STOP $counter
	until grep -q '^State:.T' /proc/$counter/status; do sleep 0.1; done
	for volume in $data $wal; do
		dd if=\$volume bs=4096 skip=16 count=1 iflag=direct status=none | od -A n -t u8 -N 8
	done | xargs >$work/held
	echo ready
	read -r _
	kill -CONT $counter
END
chmod 755 "$work/hold"
printf '[group both]\nhook = %s\n' "$work/hold" >>"$clawback_config"
backup both
assert_equal "application application" "$(summary data point.consistency) $(summary wal point.consistency)" \
	"consistency with a hook"
assert_equal "$(cat "$work/held")" "$(number_in data@latest) $(number_in wal@latest)" "what was held"
sed -i '/^\[group both\]/,$d' "$clawback_config"

# The counters do tell: two runs, two instants.
clawback backup data >"$work/one.out"
clawback backup wal >"$work/two.out"
first=$(number_in data@latest)
second=$(number_in wal@latest)
[ "$second" -gt "$first" ] || fail "two runs, yet $first and $second: this test sees nothing"
clawback_end
