#!/bin/bash
# A real Prometheus collects what the daemon answers over HTTP, before and after a
# backup; strangers' addresses, a port in use, clients that say nothing and a server
# process that is killed cost no point and no answer for long; neither the daemon, nor so
# a run that it forks, holds a descriptor of it.
#
# timeout: 240
own_mounts=1
. "$(dirname "$0")/../lib/guest.sh"
. tests/lib/clawback.sh

[ "$(id -u)" = 0 ] || skip "not root"
command -v prometheus promtool >/dev/null || skip "prometheus is not installed: run scripts/bootstrap"
clawback_begin "$work/repository" open
make_disk disk 4M
clawback_volume v "$disk" "rpo = 1s" "provider = none"

free_port() { python3 -c 'import socket, sys
s = socket.socket(socket.AF_INET6 if sys.argv[1:] else socket.AF_INET)
s.bind(("::1" if sys.argv[1:] else "127.0.0.1", 0)); print(s.getsockname()[1])' "$@"; }
port=$(free_port)
listen() { sed -i "/^metrics_listen/d; s|^state = .*|&\nmetrics_listen = $1|" "$clawback_config"; }
listen "127.0.0.1:$port"
ask() { curl -s -S --max-time 5 "http://127.0.0.1:$port$1"; }
status_of() { curl -s -o /dev/null --max-time 5 -w '%{http_code}' "$@"; }
write_some() {
	head -c 20K /dev/urandom | dd of="$disk" bs=4K seek=$((RANDOM % 1000)) conv=notrunc,fsync \
		iflag=fullblock status=none
}
stored() { ask /metrics | sed -n 's/^clawback_cycles_total{.*result="stored"} //p'; }
more_stored() { [ "$(stored)" -gt "$1" ]; } 2>/dev/null
said() { grep -q -e "$1" "$work/background.err"; }
server_pid() { pgrep -P "$clawback_pid" -x clawback-http; }

echo "== addresses that are refused"
assert_refused 2 "is no loopback address" clawback protect -n -o agent.metrics_listen=0.0.0.0:9746
assert_refused 2 "address in numbers" clawback protect -n -o agent.metrics_listen=localhost:9746
clawback protect -n -o agent.metrics_listen=0.0.0.0:9746 -o agent.metrics_public=yes >/dev/null

echo "== what it answers"
clawback_start protect --json
wait_for 30 more_stored 0
assert_equal ok "$(ask /healthz)" "/healthz"
assert_equal 404 "$(status_of "http://127.0.0.1:$port/")" "/"
assert_equal 405 "$(status_of -X POST -d x "http://127.0.0.1:$port/metrics")" "a POST"
curl -s -I --max-time 5 "http://127.0.0.1:$port/metrics" | tr -d '\r' >"$work/head"
grep -q -i '^content-type: text/plain; version=0.0.4' "$work/head" || fail "$(cat "$work/head")"
ask /metrics >"$work/metrics"
promtool check metrics <"$work/metrics" || fail "promtool complains"
grep -q '^clawback_up 1$' "$work/metrics" || fail "it is not up"
promtool check rules scripts/grafana/alerts.yml >/dev/null || fail "promtool complains of the alerts"

echo "== a real Prometheus"
prometheus_port=$(free_port)
cat >"$work/prometheus.yml" <<END
global: {scrape_interval: 1s, scrape_timeout: 1s}
scrape_configs:
- job_name: clawback
  static_configs: [{targets: ['127.0.0.1:$port']}]
END
prometheus --config.file="$work/prometheus.yml" --storage.tsdb.path="$work/tsdb" \
	--web.listen-address="127.0.0.1:$prometheus_port" --log.level=warn >"$work/prometheus.log" 2>&1 &
prometheus_pid=$!
defer clawback_stop $prometheus_pid
# query EXPRESSION: its value.
query() {
	curl -s --max-time 5 -G --data-urlencode "query=$1" \
		"http://127.0.0.1:$prometheus_port/api/v1/query" | jq -r '.data.result[0].value[1]' 2>/dev/null
}
query_is() { [ "$(query "$1")" = "$2" ]; }
query_some() { [[ $(query "$1") =~ ^[0-9.eE+-]+$ ]]; }
query_above() { [[ $(query "$1") =~ ^[0-9.]+$ ]] && awk "BEGIN { exit !($(query "$1") > $2) }"; }
wait_for 30 query_is 'clawback_up{job="clawback"}' 1
wait_for 30 query_is 'up{job="clawback"}' 1
wait_for 30 query_is 'clawback_tracked{volume="v"}' 1
wait_for 30 query_is 'clawback_rpo_objective_seconds{unit="v",kind="volume"}' 1
before=$(query 'clawback_cycles_total{result="stored"}')
instant=$(query clawback_last_point_timestamp_seconds)
write_some
wait_for 30 query_above 'clawback_cycles_total{result="stored"}' "$before"
wait_for 30 query_above clawback_last_point_timestamp_seconds "$instant"
# What the dashboard asks for, it answers; but for failures that there were none of, and
# for the textfile collector's own metric.
asked=0
while IFS= read -r expression; do
	expression=${expression//\$instance/.*}
	expression=${expression//\$unit/.*}
	expression=${expression//\$__rate_interval/1m}
	[[ $expression =~ last_error|node_textfile ]] || query_some "$expression" ||
		fail "no answer to $expression"
	asked=$((asked + 1))
done < <(jq -r '.. | .expr? // empty' scripts/grafana/clawback.json)
[ "$asked" -gt 10 ] || fail "the dashboard asks for $asked things"
kill "$prometheus_pid"
wait "$prometheus_pid" || true

echo "== who holds the listener"
sockets() { find "/proc/$1/fd" -lname 'socket:*' -printf '%l\n' 2>/dev/null; }
in_use=$(ss -H -l -t -n -e "sport = :$port" | sed -n 's/.* ino:\([0-9]*\).*/\1/p')
[ -n "$in_use" ] || fail "nobody listens"
server=$(server_pid)
sockets "$server" | grep -q ":\[$in_use\]" || fail "the server does not hold the listener"
! sockets "$clawback_pid" | grep -q ":\[$in_use\]" || fail "the daemon holds the listener"
assert_equal 65534 "$(stat -c %u "/proc/$server")" "whose process it is"
assert_equal 0000000000000000 "$(sed -n 's/^CapEff:\t//p' "/proc/$server/status")" "its capabilities"

echo "== clients that say nothing"
python3 - "$port" <<'PY' &
import socket, sys, time
held = []
for _ in range(20):
    try:
        held.append(socket.create_connection(("127.0.0.1", int(sys.argv[1])), 1))
        held[-1].send(b"GET /metrics HTTP/1.1\r\nX: ")
    except OSError:
        pass
time.sleep(60)
PY
silent=$!
defer clawback_stop $silent
log=$work/background.out
ended() { jq -n '[inputs | select(.message_type == "cycle_ended")] | length' "$log" 2>/dev/null || echo 0; }
more_ended() { [ "$(ended)" -gt "$1" ]; }
for _ in 1 2; do
	had=$(ended)
	write_some
	wait_for 30 more_ended "$had"
done
answers() { [ "$(ask /healthz 2>/dev/null)" = ok ]; }
wait_for 25 answers
kill "$silent"

echo "== a server that is killed"
kill -KILL "$(server_pid)"
wait_for 25 answers
said "ended unasked, and was started again" || fail "it was not said"

if is_full; then
	echo "== a daemon that hangs"
	kill -STOP "$clawback_pid"
	assert_equal ok "$(ask /healthz)" "at first"
	hangs() { [ "$(status_of "http://127.0.0.1:$port/healthz")" = 503 ]; }
	wait_for 120 hangs
	assert_equal 503 "$(status_of "http://127.0.0.1:$port/metrics")" "/metrics"
	kill -CONT "$clawback_pid"
	wait_for 30 answers
fi

echo "== a port in use"
other=$(free_port)
python3 -m http.server --bind 127.0.0.1 "$other" >"$work/other.log" 2>&1 &
defer clawback_stop $!
bound() { [ -n "$(ss -H -l -t -n "sport = :$1")" ]; }
wait_for 30 bound "$other"
assert_refused 1 "Address already in use; end what listens there" \
	clawback protect --state "$work/state2" -o "agent.metrics_listen=127.0.0.1:$other"
listen "127.0.0.1:$other"
kill -HUP "$clawback_pid"
wait_for 30 grep -q '"accepted":false' "$log"
grep -q 'cannot listen on.*Address already in use' "$log" || fail "$(tail -n 3 "$log")"
assert_equal ok "$(ask /healthz)" "the old address"
if [ -e /proc/sys/net/ipv6 ] && v6=$(free_port 6 2>/dev/null); then
	listen "[::1]:$v6"
	kill -HUP "$clawback_pid"
	wait_for 30 bound "$v6"
	wait_for 30 test "$(curl -s -g "http://[::1]:$v6/healthz")" = ok
	! bound "$port" || fail "the old address is still taken"
fi

echo "== the end"
kill -TERM "$clawback_pid"
clawback_wait
! bound "$port" || fail "it outlived the daemon"
clawback_end
