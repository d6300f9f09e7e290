#!/bin/bash
# shellcheck disable=SC2154
# The machine's side of tests/vm/handover-root.sh: one step a boot.

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

prepare() {
	step_install /dev/mapper/system-root
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
