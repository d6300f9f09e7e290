#!/bin/bash
# The systemd units that `make install` puts in place are what systemd takes, and run
# options that the program has.
. "$(dirname "$0")/../lib/guest.sh"

command -v systemd-analyze >/dev/null || skip "no systemd-analyze"
program=$CLAWBACK_BUILD/clawback
root=$work/root
folder=$root/usr/local/lib/systemd/system
make --no-print-directory install BUILD="$CLAWBACK_BUILD" DESTDIR="$root" >"$work/install" 2>&1 ||
	fail "$(cat "$work/install")"
! grep -l @SBINDIR@ "$folder"/* || fail "a path was not filled in"
mkdir "$work/units"
for unit in "$folder"/*; do
	# Where it is here; an instance of a template.
	name=$(basename "$unit" | sed 's/@\./@vg0-data./')
	sed "s|=/usr/local/sbin/clawback|=$root/usr/local/sbin/clawback|" "$unit" >"$work/units/$name"
done
cd "$work/units"
[ "$(printf '%s\n' *.timer *.service | wc -l)" = 5 ] || fail "installed: $(ls)"
# What it only warns of does not fail it.
systemd-analyze verify --man=no ./*.service ./*.timer >"$work/said" 2>&1 || fail "$(cat "$work/said")"
! grep "$work/units\|clawback" "$work/said" || fail "systemd complains"
# What runs backups may the same, by the daemon or by a timer.
may() { sed -n '/^# ---- what it may/,/^\[/p' "$1" | grep '^[A-Z].*='; }
[ "$(may clawback-protect.service | wc -l)" -gt 15 ] || fail "no sandbox"
may clawback-protect.service | diff - <(may clawback-backup@vg0-data.service) ||
	fail "the sandboxes of daemon (<) and backup (>)"
# verify does say when something is wrong.
sed 's/^OnCalendar=.*/OnCalendar=fortnightly/' clawback-backup@vg0-data.timer >bad@vg0-data.timer
cp clawback-backup@vg0-data.service bad@vg0-data.service
systemd-analyze verify --man=no ./bad@vg0-data.timer >"$work/said" 2>&1 || true
grep -q fortnightly "$work/said" || fail "verify finds nothing: $(cat "$work/said")"

# The command of each, as far as the program's own parser: it knows verb and options.
for unit in clawback-*.service; do
	for line in ExecStart ExecStop; do
		command=$(sed -n "s|^$line=[^ ]*/clawback ||p" "$unit" | head -n 1)
		[ -n "$command" ] || continue
		command=${command//\$CLAWBACK_OPTIONS/--type differential}
		code=0
		# shellcheck disable=SC2086
		"$program" ${command/ -- / --help -- } --help >"$work/help" 2>&1 || code=$?
		[ $code = 0 ] && grep -q "^usage: clawback ${command%% *}" "$work/help" ||
			fail "$unit, $line: clawback $command: $(cat "$work/help")"
	done
done
