#!/bin/bash
# The machine's side of tests/lib/root-story.sh, in front of a story's own steps. On
# /srv/data, where it runs, lie the program to install, and the repository.
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

# step_install DEVICE: the program, its units, and a configuration for the root.
step_install() {
	cp -a install/usr install/etc install/var /
	cat >/etc/clawback/clawback.conf <<-END
		[repository]
		url = file:///srv/data/repository
		recipient = /etc/clawback/recovery.pem.pub

		[volume root]
		device = $1
	END
	systemctl --quiet enable clawback-handover.service clawback-handover-root.service
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

