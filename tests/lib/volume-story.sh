# shellcheck shell=bash disable=SC2154
# The life of a protected volume, the same for every kind of volume; sourced after
# tests/lib/clawback.sh.
#
#   volume_story NAME DEVICE raw|ext4|xfs
#
# configures the volume and takes it through a full, two incrementals under writes
# and one at rest; each is restored and must be what its snapshot showed, the last
# one also what the volume holds. While a snapshot stands nothing that other
# programs see of the volume may change, and nothing is left afterwards.

# What a person, udev, LVM and libblkid see of DEVICE and of all volumes, but for
# our helpers' own nodes.
world() {
	local device=$1
	[ ! -e /run/udev/control ] || udevadm settle --timeout=20
	find /dev/disk /dev/mapper /dev/lab -type l -printf '%p -> %l\n' 2>/dev/null |
		grep -v -e '^/dev/mapper/clawback-' -e '/by-diskseq/.*loop' | LC_ALL=C sort || true
	lsblk --noheadings --output NAME,FSTYPE,UUID,TYPE,SIZE,MOUNTPOINT "$device"
	[ ! -e /run/udev/control ] || udevadm info --query=property "$device" |
		sed -n 's/^DEVLINKS=//p; /^ID_FS_/p; /^SYSTEMD_READY/p' | tr ' ' '\n' |
		LC_ALL=C sort || true
	blkid --probe "$device" || echo "blkid: nothing known"
	lvs --noheadings --options lv_full_name,lv_attr,lv_size,segtype,devices,lv_uuid 2>&1
}

assert_world() {
	world "$1" >"$work/world-now"
	diff "$work/world" "$work/world-now" || fail "others see something else of $1 $2"
}

# While the snapshot of a slow run stands.
story_look() {
	local name=$1 device=$2 uuid found helper
	assert_world "$device" "while a snapshot stands"
	found=$(helpers | wc -l)
	[ "$found" = 3 ] || fail "not three helper devices but $found: $(helpers)"
	for helper in $(helpers); do
		# Nobody shall mount, activate or offer one of these by mistake.
		! find -L /dev/disk -samefile "/dev/mapper/$helper" 2>/dev/null | grep . ||
			fail "$helper has links"
	done
	uuid=$(blkid --probe --match-tag UUID --output value "$device" || true)
	[ -z "$uuid" ] || assert_equal "$(readlink -f "$device")" \
		"$(readlink -f "$(findfs "UUID=$uuid")")" "what UUID=$uuid leads to"
	kill -0 "$clawback_pid" 2>/dev/null ||
		fail "the run ended before all was looked at; make it slower"
}

volume_story() {
	local name=$1 device=$2 kind=$3 where=$2 number
	echo "== $name: $kind on $(dmsetup table "$device" | cut -d ' ' -f 3 | sort -u | tr '\n' ' ')"
	clawback_volume "$name" "$device"
	if [ "$kind" = raw ]; then
		fill "$device" 8 4
	else
		"mkfs.$kind" -q "$device"
		where=$work/mount-$name
		mount_volume "$device" "$where"
		fill_file "$where/first" 8
	fi
	world "$device" >"$work/world"
	load_start "$name" "$where"

	# Slowly, so that its snapshot can be looked at.
	clawback_start backup "$name" --json --image-digest -o agent.read_rate="${story_rate:-8M}"
	wait_for_snapshot
	story_look "$name" "$device"
	clawback_wait || fail "the full failed: $(cat "$work/background.err")"
	cp "$work/background.out" "$work/backup.json"
	assert_kind full
	assert_no_helpers
	assert_takes_writes "$device"
	for number in 2 3; do
		backup "$name"
		assert_kind incremental
		load_alive "$name"
	done
	load_stop "$name"
	[ "$kind" = raw ] || unmount_volume "$where"
	backup "$name"
	assert_kind incremental
	assert_no_helpers
	[ "$kind" = raw ] || mount_volume "$device" "$where"
	assert_world "$device" "after all runs"
	[ "$kind" = raw ] || unmount_volume "$where"

	for number in 1 2 3; do
		assert_restores "$name@$number"
	done
	assert_equal "1 2 3 4 " "$(points "$name")" "the points of $name"
}
