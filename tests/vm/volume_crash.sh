#!/bin/bash
# A run killed at any stage, or while it recovers, loses no mark and leaves nothing;
# an overflowing snapshot says so and harms nobody.
#
# guest: plain 2048M
# quick-kernels: 6.1
# timeout: 600
# full-timeout: 3000
. "$(dirname "$0")/../lib/guest.sh"

times=3
is_full && times=40
modprobe -a dm-snapshot loop
"$CLAWBACK_BUILD/tests/vm/volume_crash" --random $times
