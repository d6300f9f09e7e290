#!/bin/bash
# The guest's side of tests/vm/handover.sh: one step a boot. What outlasts a boot is
# on the root disk (configuration, state, repository, units) and on the data disk.
#
# Volumes, by what becomes of them:
#   files, data   ext4 and xfs, mounted, written to until the shutdown; data is a
#                 logical volume, which LVM activates at boot and takes away again
#   web           the same, ext4 on an adopted partition
#   alone       raw, left alone; its hand-over file is put back later
#   mounted       ext4, mounted and unmounted by another system
#   cut           xfs, mounted by another system whose power failed then
#   raw           some KiB of what was written last are overwritten
#   damaged       its hand-over file has a changed byte, of no meaning
#   grown, moved  the device gets larger; lies elsewhere, with the same contents
#   early         written to in the new boot, the same bytes, before tracking began
. "$(dirname "$0")/guest.sh"
. tests/lib/clawback.sh
clawback_program=/usr/local/sbin/clawback
clawback_config=/etc/clawback/clawback.conf
clawback_key=(--recovery-key /etc/clawback/recovery.pem --passphrase-file /etc/clawback/passphrase)
state=/var/lib/clawback/volumes

# ---- a host of its own -----------------------------------------------------------
# The table of volumes, one a line: NAME START SIZE (MiB on the disk).
write_table() {
	cat >/etc/lab-volumes <<-END
		files 0 32
		alone 64 16
		mounted 80 16
		cut 96 40
		raw 136 16
		damaged 152 12
		grown 164 12
		moved 180 12
		early 192 12
	END
}
volumes() { cut -d ' ' -f 1 /etc/lab-volumes; echo data; echo web; }
device_of() { [ "$1" = data ] && echo /dev/lab/data || echo "/dev/mapper/$1"; }

# What an init script, LVM or cryptsetup does: the devices are there early. Not bash,
# which takes an emulated CPU seconds to start.
write_devices() {
	cat >/etc/lab-devices <<-'END'
		#!/bin/sh
		while read -r name start size; do
			dmsetup create "$name" --uuid "LAB-$name" \
				--table "0 $((size * 2048)) linear /dev/vdb $((start * 2048))"
		done </etc/lab-volumes
		[ ! -e /etc/lab-early ] || dd if=/etc/lab-early of=/dev/mapper/early bs=4k \
			seek=2000 oflag=direct conv=notrunc status=none
	END
	chmod 755 /etc/lab-devices
}

write_units() {
	local units=/etc/systemd/system
	cat >$units/lab-volumes.service <<-END
		[Unit]
		DefaultDependencies=no
		After=systemd-udevd.service
		Before=clawback-handover.service
		[Service]
		Type=oneshot
		RemainAfterExit=yes
		ExecStart=/etc/lab-devices
		[Install]
		WantedBy=sysinit.target
	END
	cat >$units/lab-load.service <<-END
		[Unit]
		RequiresMountsFor=/srv/files /srv/data /srv/web
		[Service]
		ExecStart=/etc/lab-load
	END
	cat >/etc/lab-load <<-'END'
		#!/bin/bash
		while :; do
			for file in /srv/{files,data,web}/load-{1..4}; do
				head -c $((RANDOM * 8)) /dev/urandom >"$file"
			done
			sync -d "$file"
		done
	END
	chmod 755 /etc/lab-load
	printf '%s /srv/%s %s defaults 0 0\n' /dev/mapper/files files ext4 /dev/lab/data data xfs \
		"UUID=$(blkid -o value -s UUID /dev/vdd1)" web ext4 >/etc/fstab
	mkdir -p /srv/files /srv/data /srv/web /srv/other
	systemctl enable --quiet lab-volumes.service clawback-handover.service
}

# ---- asking ------------------------------------------------------------------------
# Asked once a boot.
status() { clawback status --json >"$work/status.json"; }
trust() {
	jq -r ".volumes[] | select(.name == \"$1\") | .trust + (.reason |
		if . == \"\" then \"\" else \": \(.)\" end)" "$work/status.json"
}

assert_tracked() { assert_equal tracked "$(trust "$1")" "the trust in $1"; }

# assert_untrusted NAME PATTERN
assert_untrusted() {
	local found
	found=$(trust "$1")
	echo "  $1: $found"
	[[ $found == untrusted:*$2* ]] || fail "the trust in $1: wanted '$2', got '$found'"
}

read_bytes() { jq -r "select(.message_type == \"summary\" and .volume == \"$1\") | .point.read_bytes" "$work/backup.json"; }

# ---- the boots -----------------------------------------------------------------------
# Everything is backed up, and handed over by hand.
prepare() {
	local name
	cp -a "$INSTALL/." /
	echo 'size=40M' | sfdisk -q --label gpt /dev/vdd
	mkfs.ext4 -q /dev/vdd1
	udevadm settle
	clawback adopt /dev/vdd1 web
	write_table
	write_devices
	write_units
	/etc/lab-devices
	mkfs.ext4 -q /dev/mapper/files
	# Without a journal, so that a mount leaves its trace in the superblock alone.
	mkfs.ext4 -q -O ^has_journal /dev/mapper/mounted
	# Small enough for this test only.
	export TEST_DIR=1 TEST_DEV=1 QA_CHECK_FS=1
	pvcreate -qq /dev/vdc
	vgcreate -qq lab /dev/vdc
	lvcreate -qq -n data -L 32M lab
	mkfs.xfs -q /dev/lab/data
	mkfs.xfs -q /dev/mapper/cut
	for name in alone raw damaged grown moved early; do
		fill "/dev/mapper/$name" 1 4
	done
	printf '[repository]\nurl = file:///srv/repository\nrecipient = %s\n' \
		/etc/clawback/recovery.pem.pub >$clawback_config
	for name in $(volumes); do
		clawback_volume "$name" "$(device_of "$name")"
	done
	clawback init >/dev/null
	clawback backup --all
	for name in files data web cut; do
		mount "$(device_of "$name")" /srv/other
		fill_file /srv/other/first 4
		umount /srv/other
	done

	echo "== refused while in use"
	mount /dev/mapper/mounted /srv/other
	assert_refused 1 'mounted on /srv/other' clawback handover mounted
	umount /srv/other
	exec 5</dev/mapper/raw
	assert_refused 1 'open 1 times elsewhere' clawback handover raw
	exec 5<&-
	[ "$(blockdev --getro /dev/mapper/raw)" = 0 ] || fail "it stayed read-only"

	echo "== handed over and taken back in one boot"
	clawback handover alone
	[ -e $state/alone/handover ] || fail "no hand-over file"
	! dd if=/dev/zero of=/dev/mapper/alone bs=4k count=1 oflag=direct status=none 2>/dev/null ||
		fail "a volume handed over can be written to"
	clawback attach alone
	[ ! -e $state/alone/handover ] || fail "the hand-over file is still there"
	fill /dev/mapper/alone 1 8
	status
	assert_tracked alone
	clawback handover --all
}

# systemd boots with it, and ends it while programs write.
load() {
	local name
	status
	for name in $(volumes); do
		assert_tracked "$name"
	done
	for name in alone raw damaged grown moved early; do
		fill "/dev/mapper/$name" 1 8
	done
	systemctl start lab-load.service
	sleep 3
	systemctl is-active --quiet lab-load.service || fail "no load"
	guest_shut_down
}

# Another system, or a person, in between. Ends with a power cut.
tamper() {
	local name
	for name in $(volumes); do
		[ -e "$state/$name/handover" ] || fail "$name was not handed over"
	done
	/etc/lab-devices
	mount /dev/mapper/mounted /srv/other
	umount /srv/other
	fill /dev/mapper/raw 1 8
	dd if=/dev/mapper/moved of=/dev/vdb bs=1M seek=210 oflag=direct conv=notrunc status=none
	dd if=/dev/mapper/early of=/etc/lab-early bs=4k skip=2000 count=1 status=none
	sed -i 's/^grown .*/grown 164 16/; s/^moved .*/moved 210 12/' /etc/lab-volumes
	printf '\x55' | dd of=$state/damaged/handover bs=1 seek=33 conv=notrunc status=none
	cp $state/alone/handover /root/
	sync
	mount /dev/mapper/cut /srv/other
	guest_power_cut
}

# What was left alone is tracked, and exact; everything else is found out.
judge() {
	local name
	journalctl -b --no-pager -o cat -u clawback-handover.service
	status
	for name in files data web alone; do
		assert_tracked "$name"
	done
	assert_equal /dev/mapper/web "$(findmnt -n -o SOURCE /srv/web)" "what is mounted on /srv/web"
	for name in $(volumes); do
		[ ! -e "$state/$name/handover" ] || fail "$name: the hand-over file is still there"
	done
	assert_untrusted mounted "first or last MiB"
	assert_untrusted cut "file system's log"
	assert_untrusted raw "sampled blocks"
	assert_untrusted damaged "checksum is wrong"
	assert_untrusted grown "size changed"
	assert_untrusted moved "lies elsewhere"
	assert_untrusted early "8 sectors were written"
	backup files data web alone
	for name in files data web alone; do
		assert_kind incremental "$name"
		[ "$(read_bytes "$name")" -lt $((12 << 20)) ] || fail "$name: more than the marks was read"
		assert_restores "$name@latest"
	done
	clawback backup raw grown --json >"$work/backup.json"
	assert_rescan "sampled blocks" raw
	assert_kind full grown
	# What has been believed once must not be believed again.
	cp /root/handover $state/alone/
	sync
	guest_power_cut
}

# After a power cut.
after_cut() {
	/etc/lab-devices
	echo "== one whose device does not come keeps nobody else"
	assert_exit 3 clawback attach --boot --wait 1
	vgchange -qq -ay lab
	clawback attach data
	status
	assert_untrusted data "it was not tracked"
	assert_untrusted files "it was not tracked"
	assert_untrusted alone "does not belong to the state"
	backup alone
	assert_rescan "does not belong to the state"
	assert_matches_volume alone /dev/mapper/alone
}

"$1"
