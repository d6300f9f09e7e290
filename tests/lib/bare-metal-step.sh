#!/bin/bash
# The machine's side of tests/vm/bare-metal.sh: one step a boot. In blocks/ lie the commands
# of docs/runbooks/lost-server.md, as they stand there.
set -Eeu -o pipefail
trap 'echo "FAILED: step line $LINENO: $BASH_COMMAND"' ERR

fail() {
	echo "FAILED: $*"
	trap - ERR
	exit 1
}

as_postgres() { setpriv --reuid postgres --regid postgres --init-groups "$@"; }
sql() { as_postgres psql -X -q -A -t -v ON_ERROR_STOP=1 "$@"; }

well() {
	timeout 900 systemctl is-system-running --wait || fail "units failed: $(systemctl --failed --no-legend)"
}

# page NAME: through a pipe the program says less of how far it is.
page() {
	local code=0
	echo "-- the runbook: $1"
	bash -eu -o pipefail "blocks/$1" 2>&1 | tee "said-$1" || code=$?
	return $code
}

# What names things, and what starts them: it must be the same on the new disk. Only the
# partition of LVM may be larger.
identities() {
	blkid -o export /dev/vda? /dev/mapper/* 2>/dev/null |
		grep -E '^(DEVNAME|UUID|LABEL|TYPE|PARTUUID|PARTLABEL)=' | sort
	sfdisk --dump /dev/vda | sed '/^last-lba/d; s/size= *[0-9]*, \(type=E6D6D379\)/\1/'
	echo "boot code $(head -c 440 /dev/vda | sha256sum)"
	# Where GRUB's second part lies when there is no partition for it.
	[ "$(blkid -p -o value -s PTTYPE /dev/vda)" != dos ] ||
		echo "core image $(dd if=/dev/vda bs=512 skip=1 count=2047 status=none | sha256sum)"
	pvs --noheadings -o pv_name,pv_uuid,vg_name,vg_uuid 2>/dev/null
	lvs --noheadings -o lv_name,lv_uuid,lv_size 2>/dev/null
	swapon --noheadings --show=UUID
	findmnt -rno TARGET,SOURCE,FSTYPE -t ext4,vfat | sort
}

# adopt: partitions get device-mapper under them, the root's at the next boot.
adopt() {
	well
	install_clawback
	# "postgresql" itself would be stopped before this is.
	systemctl stop postgresql@15-main
	umount /var/lib/postgresql
	clawback adopt /dev/vda2 pgdata
	mount /var/lib/postgresql
	systemctl start postgresql@15-main
	clawback adopt /dev/vda1 system --next-boot
}

install_clawback() {
	cp -a install/usr install/etc install/var /
	cp clawback.conf /etc/clawback/clawback.conf
}

# protect: PostgreSQL is written to while the points are taken.
protect() {
	well
	findmnt -no SOURCE,OPTIONS /
	[ -e /usr/sbin/clawback ] || install_clawback
	clawback init | tee said-init
	sql -c "CREATE TABLE survivor (word text)" -c "INSERT INTO survivor VALUES ('before')"
	as_postgres pgbench -q -i -s 1 postgres 2>&1 | tail -n 1
	as_postgres pgbench -c 2 -T 3600 postgres >/dev/null 2>&1 &
	sleep 3
	sql -c "SELECT count(*) || ' rows in pgbench_history before'  FROM pgbench_history"
	page before
	! grep -q leaked said-before || fail "its children inherit what is open"
	sql -c "INSERT INTO survivor VALUES ('after')"
	sql -c "SELECT count(*) || ' rows in pgbench_history at the end' FROM pgbench_history"
	identities >identities.before
	sync
}

# After the recovery: the machine has booted from its new disk by itself.
check() {
	local rows
	well
	identities >identities.after
	diff identities.before identities.after || fail "identities differ"
	[ "$(sql -c "SELECT string_agg(word, ',') FROM survivor")" = before ] ||
		fail "the rows are $(sql -c 'SELECT * FROM survivor')"
	rows=$(sql -c "SELECT count(*) FROM pgbench_history")
	[ "$rows" -gt 0 ] || fail "nothing was written when the point was taken"
	sql -c "SELECT '$rows rows in pgbench_history, ' || pg_size_pretty(pg_database_size('postgres'))"
	# What each transaction adds to all three is the same, in whichever of them it is looked for.
	[ "$(sql -c "SELECT (SELECT sum(abalance) FROM pgbench_accounts) = (SELECT sum(delta) FROM pgbench_history)
		AND (SELECT sum(bbalance) FROM pgbench_branches) = (SELECT sum(delta) FROM pgbench_history)
		AND (SELECT sum(tbalance) FROM pgbench_tellers) = (SELECT sum(delta) FROM pgbench_history)")" = t ] ||
		fail "pgbench's sums differ"
	page well
	sql -c "CREATE TABLE afterwards AS SELECT generate_series(1, 1000) AS n"
	page afterwards
	grep -q 'set back to an earlier image' said-afterwards || fail "the first run was not refused"
	journalctl -b --no-pager -o cat -p err | head
	blockdev --getsize64 /dev/vda
	vgs --noheadings -o vg_name,vg_size,vg_free 2>/dev/null || true
	clawback status || true
}

"$@"
