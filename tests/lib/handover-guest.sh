#!/bin/bash
# The guest's side of tests/vm/handover.sh: one step a boot. What outlasts a boot is
# on the root disk (configuration, state, repository, units) and the data disk.
. "$(dirname "$0")/guest.sh"
. tests/lib/clawback.sh
clawback_program=/usr/local/sbin/clawback
clawback_config=/etc/clawback/clawback.conf
clawback_key=(--recovery-key /etc/clawback/recovery.pem --passphrase-file /etc/clawback/passphrase)
disk=/dev/vdb

# ---- a host of its own -----------------------------------------------------------
# The table of volumes, one a line: NAME START SIZE (MiB on the disk).
write_volumes() {
	cat >/etc/lab-volumes <<-END
		files 0 96
	END
}

# What an init script, LVM or cryptsetup does: the devices are there early.
make_devices() {
	local name start size
	while read -r name start size; do
		dmsetup create "$name" --uuid "LAB-$name" \
			--table "0 $((size * 2048)) linear $disk $((start * 2048))"
	done </etc/lab-volumes
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
		ExecStart=/bin/bash $tree/tests/lib/handover-guest.sh devices
		[Install]
		WantedBy=sysinit.target
	END
	cat >$units/lab-load.service <<-END
		[Unit]
		RequiresMountsFor=/srv/files
		[Service]
		Environment=CLAWBACK_BUILD=$CLAWBACK_BUILD
		ExecStart=/bin/bash $tree/tests/lib/handover-guest.sh load
	END
	echo "/dev/mapper/files /srv/files ext4 defaults 0 0" >/etc/fstab
	mkdir -p /srv/files
	systemctl enable --quiet lab-volumes.service clawback-handover.service
}

prepare() {
	cp -a "$INSTALL/." /
	write_volumes
	make_devices
	mkfs.ext4 -q /dev/mapper/files
	write_units
	cat >$clawback_config <<-END
		[repository]
		url = file:///srv/repository
		recipient = /etc/clawback/recovery.pem.pub
	END
	clawback_volume files /dev/mapper/files
	clawback init
	sync
}

load() {
	while :; do
		for name in a b c d; do
			head -c $((RANDOM * 8)) /dev/urandom >"/srv/files/$name"
			sync "/srv/files/$name"
		done
	done
}

# ---- the boots -------------------------------------------------------------------
trust() { clawback status "$1" --json | jq -r '.volumes[0] | "\(.trust) \(.reason)"'; }

first() {
	journalctl -b --no-pager -u clawback-handover.service -u lab-volumes.service
	mountpoint /srv/files
	fill_file /srv/files/first 16
	backup files
	systemctl start lab-load.service
	sleep 2
	guest_shut_down
}

second() {
	journalctl -b --no-pager -u clawback-handover.service -o cat
	assert_equal "tracked " "$(trust files)" "the trust in files"
	backup files
	assert_kind incremental
	assert_restores files@latest
	guest_shut_down
}

devices() { make_devices; }

"$1"
