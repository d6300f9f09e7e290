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

# The one thing that may look different, and only in this way: lvs gives X for the
# state of the volume in story_lvs_unknown, and a warning.
forgive_lvs() {
	local lv=$1
	grep -q "WARNING: Detected linear segment type does not match expected type .* for $lv" \
		"$work/world-now" || fail "lvs does not say what it was known to say of $lv"
	sed -i "\|WARNING: .* for $lv\.\$|d; s|^\(  $lv *Vwi-\)XXtzX-|\1aotz--|" "$work/world-now"
	diff "$work/world" "$work/world-now" || fail "others see something else of $lv"
}

# While the snapshot of a slow run stands.
story_look() {
	local name=$1 device=$2 uuid found helper
	if [ -n "${story_lvs_unknown:-}" ]; then
		world "$device" >"$work/world-now"
		forgive_lvs "$story_lvs_unknown"
	else
		assert_world "$device" "while a snapshot stands"
	fi
	found=$(helpers | wc -l)
	[ "$found" = 4 ] || fail "not four helper devices but $found: $(helpers)"
	for helper in $(helpers); do
		# Nobody shall mount, activate or offer one of these by mistake.
		! find -L /dev/disk -samefile "/dev/mapper/$helper" 2>/dev/null | grep . ||
			fail "$helper has links"
	done
	uuid=$(blkid --probe --match-tag UUID --output value "$device" || true)
	[ -z "$uuid" ] || assert_equal "$(readlink -f "$device")" \
		"$(readlink -f "$(findfs "UUID=$uuid")")" "what UUID=$uuid leads to"
	has_switched "$device" || fail "the run ended before all was looked at"
}
has_switched() { [ "$(dmsetup table "$1")" != "$story_table" ]; }

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
	world "$device" >"$work/world-idle"
	load_start "$name" "$where"
	wait_for 30 has_written "$device" 1000
	world "$device" >"$work/world"	# now the device is open

	# Slowly and stopped, so that its snapshot can be looked at.
	story_table=$(dmsetup table "$device")
	clawback_start backup "$name" --json --image-digest -o agent.read_rate=8M
	wait_for 60 has_switched "$device"
	kill -STOP "$clawback_pid"
	story_look "$name" "$device"
	kill -CONT "$clawback_pid"
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
	assert_matches_volume "$name" "$device"
	[ "$kind" = raw ] || mount_volume "$device" "$where"
	cp "$work/world-idle" "$work/world"
	assert_world "$device" "after all runs"
	[ "$kind" = raw ] || unmount_volume "$where"

	for number in 1 2 3; do
		assert_restores "$name@$number"
	done
	assert_equal "1 2 3 4 " "$(points "$name")" "the points of $name"
}
