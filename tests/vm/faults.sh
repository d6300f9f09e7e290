#!/bin/bash
# kill -9 and errors at every named fault point of a backup from a device-mapper
# snapshot: no mark is lost, no wrong point shows, no helper device is left.
#
# quick-kernels: 6.1
# guest: udev 2048M disk=512M disk=512M disk=512M disk=512M
# timeout: 600
# full-timeout: 5400
. "$(dirname "$0")/../lib/guest.sh"
. tests/lib/clawback.sh
. tests/faults/points.sh

# shellcheck disable=SC2086
set -- ${CLAWBACK_DISKS:?}
make_linear_volume volume labfault "$1" $((6 * 2048))
mkfs.ext4 -q "$2"
mount_volume "$2" "$work/repository"
clawback_begin "$work/repository/clawback" open
clawback_volume v "$volume" "spot_checks = 4"
fill "$volume" 5
if is_full; then
	fault_rounds v "$volume" 3 45
else
	fault_rounds v "$volume" 1 45 20
fi
fault_end
