#!/bin/bash
# kill -9 and errors at every named fault point of a backup (provider none): no mark
# is lost, no wrong point shows, nothing is left behind.
#
# timeout: 300
# full-timeout: 1200
own_mounts=1
. "$(dirname "$0")/../lib/guest.sh"
. tests/lib/clawback.sh
. tests/faults/points.sh

[ "$(id -u)" = 0 ] || skip "not root"
times=1
! is_full || times=3
clawback_begin "$work/repository" open
make_disk disk 6M
# So that a run stores a segment, too.
clawback_volume v "$disk" "spot_checks = 4"
fill "$disk" 5
fault_rounds v "$disk" $times 20
# What reads and writes more maps. A quick run has its share of the points only.
every=7
! is_full || every=1
for fault_type in differential synthetic; do
	fault_rounds v "$disk" 1 20 $every
	for what in kill EIO; do fault_round commit.checkpoint $what 1; done
done
fault_end
