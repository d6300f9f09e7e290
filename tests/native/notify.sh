#!/bin/bash
# What the daemon tells while it runs: the metrics file follows it, for a store that
# fails as well, and stays readable for who collects it at any moment; messages reach a
# command and a real HTTPS server, and nothing that a server does keeps runs from
# going on. No secret is in a log or an argument.
#
# timeout: 180
own_mounts=1
. "$(dirname "$0")/../lib/guest.sh"
. tests/lib/clawback.sh

[ "$(id -u)" = 0 ] || skip "not root"
clawback_begin "$work/repository" open
make_disk disk 4M
mkdir "$work/metrics"
metrics=$work/metrics/clawback.prom
clawback_volume v "$disk" "rpo = 1s" "provider = none"
sed -i "s|^state = .*|&\nmetrics = $metrics|" "$clawback_config"

# ---- the metrics -------------------------------------------------------------------
# metric NAME [LABEL=VALUE]: its value; nothing while there is none.
metric() { sed -n "s/^$1\({.*${2:+${2%%=*}=\"${2#*=}\"}.*}\)\{0,1\} //p" "$metrics" 2>/dev/null; }
# metric_is COMPARISON NUMBER NAME [LABEL=VALUE]
metric_is() {
	local value
	value=$(metric "$3" "${4:-}")
	[ -n "$value" ] && awk "BEGIN { exit !(\"$value\" + 0 $1 $2) }"
}
# Whenever it is read, it is whole, and every line is one that the format knows.
assert_readable() {
	local bad
	bad=$(grep -v -E '^# (HELP|TYPE) clawback_[a-z_]+ .|^clawback_[a-z_]+(\{[a-z]+="[^"]*"(,[a-z]+="[^"]*")*\})? (\+Inf|[0-9.e+]+)$' "$1") || true
	assert_equal "" "$bad" "lines that are none of the format's"
	grep -q '^clawback_dirty_bytes' "$1" || fail "it was cut off: $(cat "$1")"
}
write_some() {
	head -c 20K /dev/urandom | dd of="$disk" bs=4K seek=$((RANDOM % 1000)) conv=notrunc,fsync \
		iflag=fullblock status=none
}

# ---- a store that fails ------------------------------------------------------------
mount --bind "$work/repository" "$work/repository"
defer umount -l "$work/repository"
store() { mount -o "remount,bind,$1" "$work/repository"; }

echo "== a path that no collector reads"
assert_refused 2 "ends in .prom" clawback protect -n -o "agent.metrics=$work/metrics/clawback.txt"

echo "== metrics"
clawback_start protect --json
wait_for 10 metric_is ">=" 1 clawback_cycles_total result=stored
assert_equal 644 "$(stat -c %a "$metrics")" "its mode"
assert_readable "$metrics"
assert_equal 1 "$(metric clawback_up)" "clawback_up"
assert_equal 1 "$(metric clawback_tracked volume=v)" "clawback_tracked"
assert_equal 1 "$(metric clawback_rpo_objective_seconds unit=v)" "its objective"
bytes=$(metric clawback_cycle_read_bytes_total)
[ "$bytes" -ge 4194304 ] || fail "a full read $bytes"
point=$(metric clawback_last_point_timestamp_seconds)
write_some
wait_for 10 metric_is ">=" 2 clawback_cycles_total result=stored
metric_is ">" "$point" clawback_last_point_timestamp_seconds || fail "the point's time stayed"
metric_is ">" "$bytes" clawback_cycle_read_bytes_total || fail "the bytes stayed"
wait_for 10 metric_is ">=" 1 clawback_cycles_total result=skipped

echo "== metrics of a store that fails"
store ro
write_some
wait_for 10 metric_is ">=" 1 clawback_cycles_total result=failed
wait_for 10 metric_is "==" 1 clawback_rpo_missed
wait_for 10 metric_is ">" 1 clawback_rpo_seconds
metric_is ">" "$point" clawback_last_error_timestamp_seconds || fail "no time of the failure"
assert_readable "$metrics"
store rw
wait_for 10 metric_is "==" 0 clawback_rpo_missed
assert_equal clawback.prom "$(ls "$work/metrics")" "what is in the folder"

echo "== metrics of a daemon that was stopped"
kill -TERM "$clawback_pid"
clawback_wait
assert_equal 0 "$(metric clawback_up)" "clawback_up"
assert_readable "$metrics"

# ---- whom it tells -----------------------------------------------------------------
secret=sesame-$RANDOM$RANDOM
make_certificate() {
	openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj "/CN=$1" -addext \
		"subjectAltName=IP:127.0.0.1" -keyout "$work/$1.key" -out "$work/$1.pem" 2>/dev/null
}
make_certificate ours
make_certificate other
cat >"$work/server.py" <<'PY'
# A request's path, and its body, a line each; those to /hang are never answered.
import http.server, ssl, sys, time

class Hook(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        with open(sys.argv[2], "ab") as log:
            log.write(self.path.encode() + b" " + body + b"\n")
        if "hang" in self.path:
            time.sleep(60)
        self.send_response(200)
        self.end_headers()
    def log_message(self, *args):
        pass

class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    def handle_error(self, request, address):
        pass

server = Server(("127.0.0.1", 0), Hook)
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(sys.argv[1] + ".pem", sys.argv[1] + ".key")
server.socket = context.wrap_socket(server.socket, server_side=True)
with open(sys.argv[3], "w") as port:
    port.write("%d\n" % server.server_address[1])
server.serve_forever()
PY
: >"$work/received"
python3 "$work/server.py" "$work/ours" "$work/received" "$work/port" &
defer clawback_stop $!
wait_for 10 test -s "$work/port"
hook=https://127.0.0.1:$(cat "$work/port")
cat >"$work/command" <<END
#!/bin/sh
{ cat; echo; } >>$work/commanded
env >$work/environment
ls -l /proc/self/fd >$work/descriptors
END
chmod 755 "$work/command"
(umask 077 && echo "$hook/$secret" >"$work/hook")
printf '[notify]\ncommand = %s\nwebhook_file = %s\nca_file = %s\nformat = slack\n' \
	"$work/command" "$work/hook" "$work/ours.pem" >>"$clawback_config"

log=$work/background.out
count() { { jq -n "[inputs | select($2)] | length" "$1" 2>/dev/null || echo 0; } | tail -n 1; }
was_commanded() { [ "$(count "$work/commanded" "$1")" -ge 1 ]; }
was_posted() { grep -q -e "$1" "$work/received"; }
said() { grep -q -e "$1" "$work/background.err"; }
stored() { count "$log" '.message_type == "cycle_ended"'; }
more_stored() { [ "$(stored)" -gt "$1" ]; }
assert_no_secret() {
	local file
	for file in /proc/[0-9]*/cmdline; do
		! grep -q -a -e "$secret" "$file" 2>/dev/null || fail "the secret is in $file"
	done
	! grep -r -q -e "$secret" "$log" "$work/background.err" "$work/state" "$work/metrics" ||
		fail "the secret is told"
}
stop_daemon() {
	kill -TERM "$clawback_pid"
	clawback_wait
}

echo "== a webhook and a command, of a store that fails and of its recovery"
clawback_start protect --json
wait_for 10 metric_is "==" 1 clawback_up
store ro
write_some
wait_for 15 was_commanded '.event == "cycle_failed" and .class == "failure" and .volume == "v" and
	(.error | test("ead-only")) and .objective_seconds == 1'
wait_for 10 was_commanded '.event == "rpo_missed"'
wait_for 10 was_posted "^/$secret {\"text\":\"clawback on .*volume v: runs fail"
wait_for 10 was_posted "^/$secret .*objective of 1 s is missed"
assert_no_secret
store rw
wait_for 15 was_commanded '.event == "cycle_recovered"'
wait_for 15 was_commanded '.event == "rpo_recovered"'
wait_for 10 was_posted "^/$secret .*is met again"
assert_equal 1 "$(count "$work/commanded" '.event == "cycle_failed"')" "failures told in an interval"
# A shell adds some of its own.
assert_equal PATH "$(cut -d = -f 1 "$work/environment" | grep -v -x -E 'PWD|OLDPWD|_|SHLVL')" \
	"its environment"
# stdin, stdout, stderr, and the folder that ls reads.
assert_equal 4 "$(grep -c -e '->' "$work/descriptors")" "descriptors: $(cat "$work/descriptors")"
assert_equal "" "$(cat "$work/background.err")" "what it said"
stop_daemon

# start_telling [KEY=VALUE]...: a daemon that tells of each run, and ran.
start_telling() {
	local option options=(-o notify.on=failure,warning,success -o notify.interval=off)
	for option; do options+=(-o "notify.$option"); done
	write_some
	clawback_start protect --json "${options[@]}"
	wait_for 10 more_stored 0
}
echo "== once, which ends when all is told"
store ro
write_some
sleep 1.1
rm "$work/commanded"
assert_refused 1 "runs failed" clawback protect --once
was_commanded '.event == "cycle_failed"' || fail "it was not told of"

echo "== every format, to a real server; to one with another's certificate, nothing"
(umask 077 && echo "key-$secret" >"$work/key")
# once FORMAT [OPTION]...: a run that fails, of which the webhook is told.
once() {
	local format=$1 key=()
	shift
	[ "$format" != pagerduty ] || key=(-o "notify.routing_key_file=$work/key")
	: >"$work/received"
	assert_refused 1 "runs failed" clawback protect --once -o "notify.format=$format" \
		"${key[@]}" -o notify.on=failure "$@"
	! grep -q -e "$secret" "$work/refused.err" || fail "the secret is told"
}
# What services ask for, from their own descriptions (agent/protect/notify_payload.h).
declare -A shapes=(
	[generic]='.source == "clawback" and .event == "cycle_failed" and .class == "failure" and
		.volume == "v" and (.error | test("ead-only")) and (.since | test("Z$")) and
		(.point_time | test("Z$"))'
	[slack]='keys == ["text"] and (.text | test("volume v: runs fail"))'
	[teams]='.type == "message" and (.attachments | length) == 1 and (.attachments[0] |
		.contentType == "application/vnd.microsoft.card.adaptive" and
		.content.type == "AdaptiveCard" and (.content.body[0].text | test("runs fail")))'
	[pagerduty]='.routing_key == $key and .event_action == "trigger" and
		.payload.severity == "error" and (.payload.summary | length) <= 1024 and
		(.payload.source | length) > 0 and (.dedup_key | test("/volume/v/cycle_failed$"))'
)
for format in generic slack teams pagerduty; do
	once "$format"
	sed -n "s|^/$secret ||p" "$work/received" | jq -e -s --arg key "key-$secret" \
		"length == 1 and (.[0] | ${shapes[$format]})" >/dev/null ||
		fail "$format: $(cat "$work/received")"
	once "$format" -o "notify.ca_file=$work/other.pem"
	grep -q "not delivered by the webhook: SSL peer certificate" "$work/refused.err" ||
		fail "$format: another's certificate is taken"
	[ ! -s "$work/received" ] || fail "$format: it was sent: $(cat "$work/received")"
done
store rw

echo "== another's certificate, a file that others can read, a server that hangs"
start_telling "ca_file=$work/other.pem"
wait_for 10 said "not delivered by the webhook: SSL peer certificate"
assert_no_secret
stop_daemon
chmod 644 "$work/hook"
start_telling
wait_for 10 said "refusing $work/hook: others may access it (mode 0644)"
stop_daemon
chmod 600 "$work/hook"
echo "$hook/hang/$secret" >"$work/hook"
start_telling
wait_for 10 was_posted "^/hang/$secret"
assert_no_secret
for i in 1 2; do
	had=$(stored)
	write_some
	wait_for 10 more_stored "$had"
done
deliverer=$(pgrep -P "$clawback_pid" | head -n 1)
[ -n "$deliverer" ] || fail "nothing hangs"
stop_daemon
! kill -0 "$deliverer" 2>/dev/null || fail "what hangs outlived the daemon"
assert_no_secret
clawback_end
