#!/bin/bash
# The machine's side of tests/vm/bare-metal.sh: one step a boot.
set -Eeu -o pipefail
trap 'echo "FAILED: step line $LINENO: $BASH_COMMAND"' ERR

fail() {
	echo "FAILED: $*"
	trap - ERR
	exit 1
}

sql() { setpriv --reuid postgres --regid postgres --init-groups psql -X -q -A -t -v ON_ERROR_STOP=1 "$@"; }

well() {
	timeout 200 systemctl is-system-running --wait || fail "units failed: $(systemctl --failed --no-legend)"
}

# What names things: it must be the same on the new disk.
identities() {
	blkid -o export /dev/vda? /dev/mapper/* 2>/dev/null |
		grep -E '^(DEVNAME|UUID|LABEL|TYPE|PARTUUID|PARTLABEL)=' | sort
	sfdisk --dump /dev/vda | grep -E '^label|uuid=' | sed 's/start=.*type=/type=/'
	pvs --noheadings -o pv_name,pv_uuid,vg_name,vg_uuid 2>/dev/null
	lvs --noheadings -o lv_name,lv_uuid,lv_size 2>/dev/null
	swapon --noheadings --show=UUID
	findmnt -rno TARGET,SOURCE,FSTYPE -t ext4,vfat | sort
}

install_clawback() {
	cp -a install/usr install/etc install/var /
	cp clawback.conf /etc/clawback/clawback.conf
}

# protect VOLUME...: PostgreSQL is written to while the points are taken.
protect() {
	local volume
	well
	findmnt -no SOURCE,OPTIONS /
	[ -e /usr/sbin/clawback ] || install_clawback
	[ -e repository/clawback.json ] || clawback init
	sql -c "CREATE TABLE survivor (word text)" -c "INSERT INTO survivor VALUES ('before')"
	setpriv --reuid postgres --regid postgres --init-groups pgbench -q -i -s 1 postgres 2>&1 | tail -n 1
	setpriv --reuid postgres --regid postgres --init-groups pgbench -c 2 -T 3600 postgres >/dev/null 2>&1 &
	sleep 3
	# Through a pipe it says less of how far it is.
	clawback backup "$@" 2>&1 | cat
	sql -c "INSERT INTO survivor VALUES ('after')"
	identities >identities.before
	sync
}

# After the recovery: the machine has booted from its new disk by itself.
check() {
	well
	identities >identities.after
	diff identities.before identities.after || fail "identities differ"
	[ "$(sql -c "SELECT string_agg(word, ',') FROM survivor")" = before ] ||
		fail "the rows are $(sql -c 'SELECT * FROM survivor')"
	sql -c "SELECT count(*) || ' rows in pgbench_history, ' || pg_size_pretty(pg_database_size('postgres')) FROM pgbench_history"
	setpriv --reuid postgres --regid postgres --init-groups /usr/lib/postgresql/15/bin/pg_amcheck --install-missing --all ||
		fail "pg_amcheck: $?"
	sql -c "CREATE TABLE afterwards AS SELECT generate_series(1, 1000) AS n"
	journalctl -b --no-pager -o cat -p err | head
	blockdev --getsize64 /dev/vda
	vgs --noheadings -o vg_name,vg_size,vg_free 2>/dev/null || true
	clawback status || true
}

"$@"
