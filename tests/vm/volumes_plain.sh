#!/bin/bash
# A plain dm-linear volume is protected exactly, also after it was renamed, came
# back under another number, or was changed while nobody looked.
#
# quick-kernels: 6.1
# guest: udev 2048M disk=512M disk=512M disk=512M disk=512M
# timeout: 600
. "$(dirname "$0")/../lib/guest.sh"
. tests/lib/clawback.sh
. tests/lib/volume-story.sh

# shellcheck disable=SC2086
set -- ${CLAWBACK_DISKS:?}
sectors=$((24 * 2048))

# activate NAME [OPTION]...: the volume with its uuid, as an init script would.
activate() {
	local name=$1
	shift
	dmsetup create "$name" --uuid TEST-plain --table "0 $sectors linear $disk 2048" "$@"
	udevadm settle
}
deactivate() { [ ! -e "/dev/mapper/$1" ] || dmsetup remove --retry "$1"; }
minor() { dmsetup info --columns --noheadings --options minor "$1" | tr -d ' '; }

disk=$1
mkfs.ext4 -q "$2"
mount_volume "$2" "$work/repository"
clawback_begin "$work/repository/clawback" open
activate plain
defer deactivate plain
volume_story plain /dev/mapper/plain ext4

echo "== renamed: tracked on"
dmsetup rename plain other
udevadm settle
defer deactivate other
fill /dev/mapper/other 4 11
backup plain
assert_kind incremental
assert_matches_volume plain /dev/mapper/other

echo "== back under another number: not trusted, compared"
before=$(minor other)
deactivate other
make_volume _ occupant "0 8 error"
activate other
[ "$(minor other)" != "$before" ] || fail "it has its old number"
fill /dev/mapper/other 4 17
backup plain
assert_rescan "not tracked"
assert_matches_volume plain /dev/mapper/other
fill /dev/mapper/other 1 3
backup plain
assert_kind incremental
assert_matches_volume plain /dev/mapper/other

echo "== changed beneath while it was gone, then back under the same number"
before=$(minor other) major=$(dmsetup info --columns --noheadings --options major other | tr -d ' ')
deactivate other
fill "$disk" 2 15
activate other --major "$major" --minor "$before"
assert_equal "$before" "$(minor other)" "its number"
backup plain
assert_rescan .
assert_matches_volume plain /dev/mapper/other

echo "== another program replaces the table: other blocks, without a write"
half=$((sectors / 2))
dmsetup suspend other
dmsetup load other <<-END
	0 $((sectors - half)) linear $disk $((2048 + half))
	$((sectors - half)) $half linear $disk 2048
END
dmsetup resume other
backup plain
assert_rescan "replaced the volume's device-mapper table"
assert_matches_volume plain /dev/mapper/other
fill /dev/mapper/other 4 2
own=$(dmsetup table other)
# Whoever looks while a snapshot comes, stands and goes sees the volume's own table.
clawback_start backup plain -o agent.read_rate=256K
looks=0 standing=0
while kill -0 "$clawback_pid" 2>/dev/null; do
	[ "$(dmsetup table other)" = "$own" ] || standing=$((standing + 1))
	assert_equal "tracked " "$(clawback status plain --json | jq -r '.volumes[0] | .trust + " " + .reason')" \
		"trust during a run"
	looks=$((looks + 1))
done
clawback_wait || fail "$(cat "$work/background.err")"
echo "  $looks looks during a run, $standing while its table led to the snapshot"
[ $standing -gt 2 ] || fail "nobody looked while the snapshot stood"

echo "== gone"
deactivate other
assert_refused 1 plain clawback backup plain
clawback_end
