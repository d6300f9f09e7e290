#!/bin/bash
# What the daemon says, as JSON lines that jq reads, and in a real journal (systemd's
# journald, in a mount namespace of its own) with fields to find it by; without the
# journal nothing is lost.
#
# timeout: 180
own_mounts=1
. "$(dirname "$0")/../lib/guest.sh"
. tests/lib/clawback.sh

[ "$(id -u)" = 0 ] || skip "not root"
clawback_begin "$work/repository" open
make_disk disk 4M
clawback_volume v "$disk" "rpo = 1s" "provider = none"
mount --bind "$work/repository" "$work/repository"
defer umount -l "$work/repository"
store() { mount -o "remount,bind,$1" "$work/repository"; }
write_some() {
	head -c 20K /dev/urandom | dd of="$disk" bs=4K seek=$((RANDOM % 1000)) conv=notrunc,fsync \
		iflag=fullblock status=none
}
said=$work/background.err
stop_daemon() {
	kill -TERM "$clawback_pid"
	clawback_wait
}

echo "== JSON lines"
# line FILTER: there is such a line, and all are JSON objects that say when, how bad and what.
line() {
	jq -e -s "all(.[]; (.time | test(\"^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:]{8}\\\\.[0-9]{6}Z$\")) and
		(.level | test(\"^(error|warning|info|debug)$\")) and (.message | length > 0)) and
		any(.[]; $1)" "$said" >/dev/null 2>&1
}
clawback_start protect --log-format json --verbose
wait_for 30 line '.event == "cycle_ended" and .level == "info" and .unit == "v" and
	.kind == "volume" and .volume == "v" and .point == 1'
store ro
write_some
wait_for 30 line '.event == "cycle_failed" and .level == "warning" and .unit == "v" and
	(.message | test("ead-only"))'
wait_for 30 line '.event == "rpo_missed"'
store rw
wait_for 30 line '.event == "rpo_recovered"'
stop_daemon
line '.event == "stopping"' || fail "$(cat "$said")"
code=0
clawback backup none -o agent.log_format=json 2>"$said" || code=$?
assert_equal 2 "$code" "its exit code"
line '.level == "error" and (.message | test("no volume \"none\""))' || fail "$(cat "$said")"
assert_refused 2 "give auto, text or json" clawback status --log-format xml
assert_refused 2 "give auto, text or json" clawback status -o agent.log_format=xml

echo "== a journal"
journald=/lib/systemd/systemd-journald
[ -x "$journald" ] && [ -s /etc/machine-id ] || skip "no systemd-journald, or no machine-id"
mount -t tmpfs tmpfs /run
defer umount -l /run
mkdir -p /run/systemd/journal /run/log/journal
"$journald" >"$work/journald.log" 2>&1 &
journald_pid=$!
defer clawback_stop $journald_pid
wait_for 30 test -S /run/systemd/journal/socket
# entry FIELD=VALUE... -- FILTER: of all that clawback said, one that matches both.
entry() {
	local matches=()
	while [ "$1" != -- ]; do matches+=("$1"); shift; done
	journalctl -q --no-pager -o json SYSLOG_IDENTIFIER=clawback "${matches[@]}" |
		jq -e -s "any(.[]; $2)" >/dev/null
}
message_id() { sed -n "/PROTECT_$1\\]/s/.*\"\\([0-9a-f]\\{32\\}\\)\".*/\\1/p" agent/cli/verb_protect.c; }
: >"$said"
JOURNAL_STREAM=$(stat -c %d:%i "$said")
export JOURNAL_STREAM
(umask 077 && echo https://127.0.0.1:1/ >"$work/hook")
write_some
rm "$work/state/repository"
clawback_start protect -v -o "notify.webhook_file=$work/hook" -o notify.on=failure,success -o notify.interval=off
wait_for 30 entry CLAWBACK_EVENT=cycle_ended CLAWBACK_UNIT=v CLAWBACK_VOLUME=v \
	"MESSAGE_ID=$(message_id CYCLE_ENDED)" -- \
	'.PRIORITY == "6" and (.CLAWBACK_POINT | tonumber) > 1 and (.MESSAGE | test("^v: incremental point"))'
# A run that pins the repository says so in its own process, and for which unit.
wait_for 30 entry CLAWBACK_UNIT=v -- '.CLAWBACK_EVENT == null'
store ro
write_some
wait_for 30 entry "MESSAGE_ID=$(message_id CYCLE_FAILED)" CLAWBACK_UNIT=v -- \
	'.PRIORITY == "4" and (.MESSAGE | test("ead-only"))'
store rw
# A child that closed its descriptors speaks by the stream, with a level in front.
wait_for 30 grep -q '^<4>a message was not delivered by the webhook: ' "$said"
! grep -v '^<4>a message was not delivered' "$said" || fail "it was said twice"

echo "== a journal that is gone"
kill "$journald_pid"
wait "$journald_pid" || true
write_some
wait_for 30 grep -q '^<6>v: incremental point' "$said"
stop_daemon

echo "== another stderr than the journal's"
clawback backup v 2>"$work/elsewhere" >/dev/null -v
! grep -v '^clawback: ' "$work/elsewhere" || fail "$(cat "$work/elsewhere")"
unset JOURNAL_STREAM
clawback_end
