#!/bin/bash
# The machine's side of tests/vm/handover-root.sh: one step a boot. On /srv/data, where it
# runs, lie the program to install, and the repository.
set -eu -o pipefail
trap 'echo "FAILED: step line $LINENO: $BASH_COMMAND"' ERR

fail() {
	echo "FAILED: $*"
	trap - ERR
	exit 1
}

trust() {
	clawback status --json | jq -r ".volumes[0] | .trust + (.reason |
		if . == \"\" then \"\" else \": \(.)\" end)"
}

# backup [OPTION]...
backup() {
	clawback backup root --json "$@" >backup.json
	jq -r 'select(.message_type == "summary") | "  \(.volume): point \(.point.number), " +
		"\(.point.kind), read \(.point.read_bytes) of \(.point.volume_bytes), because \(.point.reason)"' backup.json
}
summary() { jq -r "select(.message_type == \"summary\") | .$1" backup.json; }

# crash NAME AFTER BEFORE COMMAND: a unit that cuts the power if the kernel's command
# line says lab.crash=NAME. It says so on the console, if COMMAND succeeded.
crash() {
	cat >"/etc/systemd/system/lab-crash-$1.service" <<-END
		[Unit]
		DefaultDependencies=no
		ConditionKernelCommandLine=lab.crash=$1
		After=$2
		Before=$3
		[Service]
		Type=oneshot
		ExecStart=/bin/sh -c '$4 && echo "lab: power fails, $1" >/dev/kmsg; echo b >/proc/sysrq-trigger; sleep 60'
		[Install]
		WantedBy=sysinit.target
	END
	systemctl --quiet enable "lab-crash-$1.service"
}

# Writes until the shutdown ends it.
load() {
	cat >/etc/lab-load <<-'END'
		#!/bin/bash
		while :; do
			for file in /root/load-{1..4}; do
				head -c $((RANDOM * 8)) /dev/urandom >"$file"
			done
			sync -d "$file"
		done
	END
	rm -f /root/load-*
	systemd-run --quiet bash /etc/lab-load
	for _ in {1..30}; do
		[ ! -e /root/load-4 ] || return 0
		sleep 1
	done
	fail "no load"
}

prepare() {
	cp -a install/usr install/etc install/var /
	cat >/etc/clawback/clawback.conf <<-END
		[repository]
		url = file:///srv/data/repository
		recipient = /etc/clawback/recovery.pem.pub

		[volume root]
		device = /dev/mapper/system-root
	END
	systemctl --quiet enable clawback-handover.service clawback-handover-root.service
	crash early "" "clawback-handover-root.service systemd-remount-fs.service" true
	crash ro clawback-handover-root.service "systemd-remount-fs.service clawback-handover.service" true
	# A boot in which nobody takes what was saved.
	mkdir -p /etc/systemd/system/clawback-handover-root.service.d
	printf '[Unit]\nConditionKernelCommandLine=!clawback.early=no\n' \
		>/etc/systemd/system/clawback-handover-root.service.d/lab.conf
	# What it writes must be found by the next boot.
	crash rw systemd-remount-fs.service clawback-handover.service \
		"head -c 100000 /dev/urandom >/root/crashed && sync"
	clawback init >/dev/null
	backup
	[ "$(trust)" = tracked ] || fail "$(trust)"
	ls -l /var/lib/clawback/volumes/root
	refused "at the very end"
	mount -o remount,barrier=0 /
	refused "mounted with the option nobarrier"
	mount -o remount,barrier=1 /
	clawback handover --root && fail "it was handed over while it could be written to"
	load
}

# refused PATTERN: it cannot be handed over now, and the reason.
refused() {
	clawback handover --all 2>refused || fail "handover --all: exit code $?"
	cat refused
	grep -q "$1" refused || fail "it did not say '$1'"
}

said() { journalctl -b --no-pager -o cat -u 'clawback*' || true; }

judge_tracked() {
	said
	[ "$(trust)" = tracked ] || fail "$(trust)"
	backup --image-digest
	[ "$(summary point.kind)/$(summary rescan)" = incremental/false ] ||
		fail "$(summary point.kind), rescan $(summary rescan)"
	[ "$(summary point.read_bytes)" -lt $((64 << 20)) ] || fail "more than the marks was read"
	load
}

judge_untrusted() {
	local found
	said
	found=$(trust)
	echo "  $found"
	[[ $found == untrusted:*$1* ]] || fail "wanted '$1', got '$found'"
	backup --image-digest
	[ "$(summary rescan)" = true ] || fail "no rescan"
	[ "$(trust)" = tracked ] || fail "$(trust)"
}

power_cut() {
	[ "$(trust)" = tracked ] || fail "$(trust)"
	head -c 100000 /dev/urandom >/root/cut
	sync
	echo b >/proc/sysrq-trigger
	sleep 60
}

none() { fail "power should have failed"; }

"$@"
