#!/bin/bash
# The command line keeps its word: what is asked for wrongly is refused with the
# documented exit code and one line, on stderr alone; --help, --json and --dry-run
# do what they say, and nothing that only looks changes anything.
#
# timeout: 300
own_mounts=1
. "$(dirname "$0")/../lib/guest.sh"
. tests/lib/clawback.sh

[ "$(id -u)" = 0 ] || skip "not root"
export LC_ALL=C	# for grep: some messages are no UTF-8 on purpose
verbs="doctor keygen init attach detach status backup points show restore verify forget keep prune"
# Others have to reach it, or not being root would not be what they fail for.
chmod 755 "$work"
cp "$clawback_program" "$work/clawback"
clawback_program=$work/clawback

make_disk disk 8M
make_disk disk2 1M
repository=$work/repository
clawback_begin "$repository" open
clawback_volume v "$disk"
clawback_volume other "$disk2" "group = g"
chmod 644 "$clawback_config"
fill "$disk" 1
clawback backup v >/dev/null
fill "$disk" 1 4

# ---- what may not change ----------------------------------------------------------
# Files with content, mode and time, pins, and what the tracker knows.
everything() {
	(cd "$work" && find . -regex '\./\(state\|repository\|recovery\|absent\|new\).*' ! -name lock \
		-printf '%p %y %m %s %T@\n' | LC_ALL=C sort)
	find "$work/state" "$repository" -type f ! -name lock -exec sha256sum {} + | LC_ALL=C sort
	find /sys/fs/bpf/clawback | LC_ALL=C sort
	clawback status --json | jq -c '.tracker.program_id, .tracker.link_id, .tracker.slots_used,
		(.volumes[] | [.name, .attached, .trust, .point, .pending, .dirty_bytes])'
}
everything >"$work/before"
assert_unchanged() {
	everything >"$work/after"
	diff "$work/before" "$work/after" >"$work/changes" ||
		fail "$1 changed something: $(cat "$work/changes")"
}

# ---- refusing ---------------------------------------------------------------------
# one_line CODE PATTERN COMMAND...: exit code, an empty stdout, one line on stderr.
cases=0
one_line() {
	local wanted=$1 pattern=$2 code=0
	shift 2
	"$@" >"$work/out" 2>"$work/err" </dev/null || code=$?
	[ $code = "$wanted" ] || fail "exit code $code, not $wanted: ${*@Q}: $(cat "$work/err")"
	[ ! -s "$work/out" ] || fail "${*@Q} printed on stdout: $(head -n 3 "$work/out")"
	[ "$(wc -l <"$work/err")" = 1 ] || fail "${*@Q} said not one line: $(cat "$work/err")"
	grep -q -e "$pattern" "$work/err" || fail "${*@Q} did not say '$pattern': $(cat "$work/err")"
	cases=$((cases + 1))
}

# refused CODE PATTERN VERB [ARG]...: as text, and as JSON.
refused() {
	local code=$1 pattern=$2 verb=$3
	shift 3
	one_line "$code" "$pattern" "$clawback_program" "$verb" "$@"
	grep -q '^clawback: .*[^ .]$' "$work/err" || fail "no such line: $(cat "$work/err")"
	one_line "$code" . "$clawback_program" "$verb" --json "$@"
	cat "$work/err" >>"$work/json"
	jq -e --arg code "$code" '.message_type == "exit_error" and (.code | tostring) == $code and
		(.message | length) > 0' "$work/err" >/dev/null || fail "not so: $(cat "$work/err")"
}
c=(--config "$clawback_config")

echo "== no verb, no such verb"
one_line 2 "help" "$clawback_program"
one_line 2 '"nosuch"' "$clawback_program" nosuch
one_line 2 '"--nosuch"' "$clawback_program" --nosuch

echo "== options"
wrong_options() {
	case $1 in
	0) refused 2 "$verb: option -Z is unknown" "$verb" --quiet -Z ;;
	1) refused 2 "$verb: option -Z is unknown" "$verb" --quiet -qZ ;;
	2) refused 2 "$verb: option --config needs a value" "$verb" --config ;;
	3) refused 2 "$verb: option -o needs a value" "$verb" -o ;;
	4) refused 2 "$verb: option --quiet=1 takes no value" "$verb" --quiet=1 ;;
	5) refused 2 "state is given twice" "$verb" --state /a --state /b ;;
	6) refused 2 "repository is given twice" "$verb" -r file:///a --repository file:///b ;;
	esac
}
turn=$RANDOM
for verb in $verbs; do
	refused 2 "$verb: option --nosuch is unknown" "$verb" "${c[@]}" --nosuch
	# All verbs' options are read by the same code: in a quick run each has one of these,
	# and each of these comes twice.
	for which in {0..6}; do
		is_full || [ $((turn % 7)) = "$which" ] || continue
		wrong_options "$which"
	done
	turn=$((turn + 1))
done
refused 2 '"daily" is none of auto' backup --type daily v
refused 2 '"x" is no file descriptor' keygen --passphrase-fd x
refused 2 '"-1" is no file descriptor' restore --passphrase-fd -1 v
refused 2 "No such file" init "${c[@]}" --recipient "$work/absent"
# Also in front of --json.
one_line 2 '^{"message_type":"exit_error","code":2,' "$clawback_program" status --nosuch --json

echo "== arguments"
for verb in doctor keygen init; do
	refused 2 "usage: clawback $verb \[options\];" "$verb" "${c[@]}" surplus
done
refused 2 "usage: clawback points" points "${c[@]}" v v
refused 2 "usage: clawback show .*VOLUME" show "${c[@]}"
refused 2 "usage: clawback show" show "${c[@]}" v v
refused 2 "usage: clawback restore" restore "${c[@]}"
refused 2 "\-\-to DEVICE|FILE" restore "${c[@]}" v
refused 2 "\-\-out FILE" keygen "${c[@]}"
refused 2 "usage: clawback forget" forget "${c[@]}" --keep-last 1
refused 2 "usage: clawback keep" keep "${c[@]}" v@1 v@2
refused 2 "VOLUME@POINT" keep "${c[@]}" v
refused 2 "no policy says what to keep of v" forget "${c[@]}" v
refused 2 "no policy" forget "${c[@]}" v --keep-last 0
refused 2 "forget --keep-daily: daily=-1: give a number" forget "${c[@]}" v --keep-daily -1
refused 2 "forget --keep-within: .*duration" forget "${c[@]}" v --keep-within 7
refused 2 "forget --policy: .*no rule" forget "${c[@]}" v --policy grandmother
refused 2 "by name or by a policy" forget "${c[@]}" v@1 --keep-last 1
refused 2 "prune --grace: .*duration" prune "${c[@]}" --grace soon
refused 1 "is the newest of v" forget "${c[@]}" v@1
refused 1 "no recovery point 2" keep "${c[@]}" v@2
for verb in attach detach backup; do
	refused 2 "or give --all" "$verb" "${c[@]}"
	refused 2 "or give --all" "$verb" "${c[@]}" --all v
	refused 2 'no volume "nosuch".* v, other$' "$verb" "${c[@]}" nosuch
done
refused 2 'no volume "nosuch"' status "${c[@]}" nosuch
refused 2 'no volume "nosuch"' status "${c[@]}" v nosuch
refused 2 'no volume "nosuch"' backup "${c[@]}" v nosuch
refused 2 "is no recovery point" show "${c[@]}" v@yesterday
refused 2 "is no recovery point" verify "${c[@]}" v@-1
refused 2 "is no recovery point" restore "${c[@]}" v@1x --to "$work/new"
refused 1 "no recovery point 2" show "${c[@]}" v@2
refused 1 "as old as that" restore "${c[@]}" v@1999-01-01T00:00:00Z --to "$work/new"
for verb in points show verify prune "forget --keep-last 1"; do
	# shellcheck disable=SC2086
	refused 1 'no volume "nosuch".* v$' $verb "${c[@]}" nosuch
done
refused 1 'no volume' show "${c[@]}" $'n\xffosuch'
refused 1 "tracked\|attached" detach "${c[@]}" -o agent.state="$work/absent-state" v
rm -rf "$work/absent-state"
assert_unchanged "bad usage"

echo "== configuration"
# bad_config PATTERN LINE...
readers=(doctor status points)
bad_config() {
	local pattern=$1 verb
	shift
	printf '%s\n' "$@" >"$work/bad.conf"
	# They read it in the same way: in a quick run one of them, in turn.
	local asked=("${readers[@]}")
	is_full || asked=("${readers[turn++ % 3]}")
	for verb in "${asked[@]}"; do
		refused 2 "$pattern" "$verb" --config "$work/bad.conf"
	done
}
bad_config "bad.conf: \[nosuch\]" "[nosuch]"
bad_config "bad.conf:2: .*\"nosuch\"" "[agent]" "nosuch = 1"
bad_config "bad.conf:3: .*workers = 0" "[agent]" "" "workers = 0"
bad_config "bad.conf:2: .*whole number" "[agent]" "workers = two"
bad_config "bad.conf:2: .*size like" "[agent]" "segment_size = 5Q"
bad_config "bad.conf:2: .*retries = 0" "[repository]" "retries = 0"
bad_config "bad.conf:2: .*yes or no" "[repository]" "path_style = maybe"
bad_config "bad.conf:2: .*absolute" "[agent]" "state = here"
bad_config "bad.conf:2: .*power of two" "[volume v]" "granularity = 12K"
bad_config "bad.conf: .*no name" "[volume a/b]" "device = /dev/null"
bad_config "bad.conf:1: Equal sign is missing" "nonsense"
bad_config "volume v has no device" "[volume v]" "group = g"
refused 2 "No such file" status --config "$work/absent"
refused 2 "bad.conf" status --config "$work/bad.conf/x"
refused 2 "I/O error\|Is a directory" status --config "$work"
for verb in $verbs; do
	case $verb in show|restore|forget|keep) volume=(v) ;; *) volume=() ;; esac
	refused 2 "SECTION.KEY=VALUE" "$verb" "${c[@]}" -o nonsense "${volume[@]}"
done
for verb in points verify; do
	refused 2 "no repository is configured" "$verb" --state "$work/absent-state"
	refused 10 "no such folder" "$verb" "${c[@]}" -r "file://$work/absent-repository"
	refused 2 "file:/// or s3://" "$verb" "${c[@]}" -r ftp://secret@host
	! grep -q secret "$work/err" || fail "a URL's secret was printed"
done
refused 10 "no such folder" backup "${c[@]}" -r "file://$work/absent-repository" v
assert_unchanged "a bad configuration"

echo "== not root"
# A program built to measure coverage complains that nobody may not add to its counts.
as_nobody() {
	local code=0
	setpriv --reuid 65534 --regid 65534 --clear-groups "$@" 2>"$work/nobody" || code=$?
	sed '/^profiling:/d' "$work/nobody" >&2
	return $code
}
for verb in attach detach status backup; do
	one_line 1 "$verb needs root" as_nobody "$clawback_program" $verb "${c[@]}"
done
for verb in points verify; do
	one_line 1 "Permission denied" as_nobody "$clawback_program" $verb "${c[@]}"
done
code=0
as_nobody "$clawback_program" doctor "${c[@]}" --json >"$work/out" 2>"$work/err" || code=$?
assert_equal 1 $code "doctor's exit code, not root"
jq -e '.checks[] | select(.check == "root") | .finding == "BAD"' "$work/out" >/dev/null
assert_unchanged "not being root"

echo "== help"
for verb in $verbs; do
	for option in --help -h; do
		"$clawback_program" "$verb" $option >"$work/out" 2>"$work/err"
		grep -q "^usage: clawback $verb " "$work/out" || fail "no usage of $verb"
		[ ! -s "$work/err" ] || fail "$verb $option said: $(cat "$work/err")"
	done
done
for option in --help -h help --version; do
	"$clawback_program" $option >"$work/out" 2>"$work/err"
	grep -q clawback "$work/out"
	[ ! -s "$work/err" ] || fail "$option said: $(cat "$work/err")"
done
assert_unchanged "--help"

echo "== a full standard output is a failure"
code=0
"$clawback_program" points "${c[@]}" v >/dev/full 2>"$work/err" || code=$?
assert_equal 1 $code "exit code with a full standard output"
grep -q "standard output" "$work/err"

# is_json VERB: what it printed is a document, or lines of objects as documented.
is_json() {
	case $1 in
	backup|restore|verify|forget|prune)
		python3 -m json.tool --json-lines <"$work/out" >/dev/null &&
			jq -e -s 'length > 0 and all(.message_type | type == "string") and
				(last.message_type == "summary" or last.message_type == "dry_run")' \
				"$work/out" >/dev/null ;;
	*) python3 -m json.tool <"$work/out" >/dev/null ;;
	esac || fail "$1 --json printed: $(cat "$work/out")"
}

echo "== looking changes nothing"
for verb in "doctor" "status" "points" "points v" "show v" "verify" "verify v@1" \
	"backup -n v" "backup --dry-run --all" "backup -n --type full g" \
	"forget -n v --keep-last 1" "forget -n v --policy gfs" "keep -n v@1" "prune -n" "prune -n v" \
	"verify --data ${clawback_key[*]}" "restore -n v --to $work/new ${clawback_key[*]}"; do
	for json in "" --json; do
		# shellcheck disable=SC2086
		clawback $verb $json >"$work/out" 2>"$work/err" || [ "${verb%% *}" = doctor ] ||
			fail "$verb $json: $(cat "$work/err")"
		[ -s "$work/out" ] || fail "$verb printed nothing"
		[ -z "$json" ] || is_json "${verb%% *}"
	done
	assert_unchanged "clawback $verb"
done
clawback doctor --json >"$work/out" 2>"$work/err" || true
jq -e '.checks | map(.check) | contains(["kernel", "btf", "bpffs", "tracker", "device-mapper",
	"io_uring", "v", "other", "repository"])' "$work/out" >/dev/null
jq -e '.checks[] | select(.check == "repository") | .finding == "ok"' "$work/out" >/dev/null ||
	fail "doctor does not like the repository: $(cat "$work/out")"
refused 1 "cannot be backed up incrementally" backup -n --type incremental "${c[@]}" other
assert_unchanged "backup -n that fails"

echo "== a repository is not pinned by looking"
mv "$work/state/repository" "$work/pin"
for verb in doctor "backup -n v" "restore -n v --to $work/new ${clawback_key[*]}"; do
	# shellcheck disable=SC2086
	clawback $verb >/dev/null 2>&1 || [ "$verb" = doctor ] || fail "$verb failed"
	[ ! -e "$work/state/repository" ] || fail "$verb pinned the repository"
done
clawback points v >/dev/null 2>"$work/err"
grep -q "first use .*$(cat "$work/pin")" "$work/err" || fail "a first use was not told"
cmp "$work/pin" "$work/state/repository"
clawback doctor --state "$work/new-state" >/dev/null 2>&1 || true
refused 1 "no keys" backup -n "${c[@]}" --state "$work/new-state" v
[ ! -e "$work/new-state" ] || fail "looking made a state folder: $(find "$work/new-state")"

echo "== what acts, in JSON"
json_of() {
	local verb=$1
	shift
	clawback "$verb" --json "$@" >"$work/out" 2>"$work/err" || fail "$verb: $(cat "$work/err")"
	is_json "$verb"
}
json_of keygen --out "$work/k.pem" --passphrase-file "$work/passphrase"
jq -e '.private and .public and (.fingerprint | length == 64)' "$work/out" >/dev/null
json_of init --repository "file://$work/r2" --state "$work/s2" --recipient "$work/k.pem.pub"
jq -e '.id and (.recipients | length == 1)' "$work/out" >/dev/null
json_of attach other
jq -e '.volumes[0].name == "other"' "$work/out" >/dev/null
json_of detach other
json_of backup v
jq -e 'select(.message_type == "summary") | .point.number == 2' "$work/out" >/dev/null
json_of restore v --to "$work/restored" "${clawback_key[@]}"
assert_same "$work/restored" "$disk"
json_of verify
# Damage is told in the same way, and stays apart from the talk.
flip=$(find "$repository" -path '*/points/0000000002')
printf 'x' | dd of="$flip" bs=1 seek=200 conv=notrunc status=none
code=0
clawback verify --json >"$work/out" 2>"$work/err" || code=$?
assert_equal 13 $code "verify's exit code for damage"
jq -e -s 'any(.message_type == "problem" and (.text | length > 0)) and
	last.message_type == "summary"' "$work/out" >/dev/null
jq -e '.code == 13' "$work/err" >/dev/null
python3 -m json.tool --json-lines <"$work/json" >/dev/null
echo "$cases refusals"
clawback_end
