#!/bin/bash
# E-mail through a real SMTP server (aiosmtpd), with TLS from the first byte and with
# STARTTLS: it arrives as Python's own parser wants it and says what a person needs; a
# certificate of somebody else, a server without encryption, a wrong password, an address
# that is refused are told, never the password; a webhook that fails costs it nothing.
#
# timeout: 180
own_mounts=1
. "$(dirname "$0")/../lib/guest.sh"
. tests/lib/clawback.sh

[ "$(id -u)" = 0 ] || skip "not root"
# Debian's python has Debian's modules, whichever else is in PATH.
python=/usr/bin/python3
$python -c 'import aiosmtpd' 2>/dev/null || skip "aiosmtpd is not installed: run scripts/bootstrap"
clawback_begin "$work/repository" open
make_disk disk 4M
clawback_volume v "$disk" "rpo = 1s" "provider = none"

# ---- certificates, and the server ---------------------------------------------------
make_authority() {
	openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj "/CN=$1" \
		-keyout "$work/$1.key" -out "$work/$1.pem" 2>/dev/null
}
make_authority ours
make_authority other
openssl req -newkey rsa:2048 -nodes -subj /CN=mail -keyout "$work/mail.key" -out "$work/mail.csr" 2>/dev/null
openssl x509 -req -in "$work/mail.csr" -CA "$work/ours.pem" -CAkey "$work/ours.key" -days 2 \
	-extfile <(echo "subjectAltName=IP:127.0.0.1") -out "$work/mail.pem" 2>/dev/null
password=sesame-$RANDOM$RANDOM
cat >"$work/server.py" <<'PY'
# Three servers: tls (smtps), starttls (required, with login), plain (neither). A line of
# JSON for each message. The address refused@… is.
import email, email.policy, json, socket, ssl, sys, time
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, AuthResult, LoginPassword

folder, password = sys.argv[1], sys.stdin.readline().strip()

class Handler:
    def __init__(self, name):
        self.name = name
    async def handle_RCPT(self, server, session, envelope, address, options):
        if address.startswith("refused@"):
            return "550 no such user"
        envelope.rcpt_tos.append(address)
        return "250 OK"
    async def handle_DATA(self, server, session, envelope):
        message = email.message_from_bytes(envelope.content, policy=email.policy.default)
        with open(folder + "/received", "a") as log:
            json.dump({"server": self.name, "tls": session.ssl is not None or
                       server.transport.get_extra_info("sslcontext") is not None,
                       "user": session.authenticated, "from": envelope.mail_from,
                       "to": envelope.rcpt_tos, "headers": dict(message.items()),
                       "names": [n for n, _ in message.items()],
                       "defects": [str(d) for d in message.defects],
                       "addresses": [a.addr_spec for a in message["to"].addresses],
                       "date": message["date"].datetime.timestamp(),
                       "body": message.get_content()}, log)
            log.write("\n")
        return "250 taken"

def login(server, session, envelope, mechanism, data):
    good = isinstance(data, LoginPassword) and data.login == b"clawback" and \
        data.password == password.encode()
    return AuthResult(success=good, handled=good)

context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(folder + "/mail.pem", folder + "/mail.key")
auth = dict(authenticator=login, auth_required=True)

class StartTls(Controller):
    def factory(self):
        return SMTP(self.handler, hostname="mail", tls_context=context,
                    require_starttls=True, **auth)

def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]

servers = [Controller(Handler("tls"), "127.0.0.1", free_port(), ssl_context=context,
                      auth_require_tls=False, **auth),
           StartTls(Handler("starttls"), "127.0.0.1", free_port()),
           Controller(Handler("plain"), "127.0.0.1", free_port())]
for server in servers:
    server.start()
with open(folder + "/ports", "w") as ports:
    ports.write("%d %d %d\n" % tuple(s.port for s in servers))
time.sleep(300)
PY
: >"$work/received"
$python "$work/server.py" "$work" <<<"$password" >"$work/server.log" 2>&1 &
defer clawback_stop $!
wait_for 30 test -s "$work/ports"
read -r tls starttls plain <"$work/ports"

# ---- whom it tells -------------------------------------------------------------------
(umask 077 && echo "$password" >"$work/password")
cat >>"$clawback_config" <<END

[notify]
mail_to = admin@example.org, night@example.org
mail_from = backup@example.org
smtp = smtps://127.0.0.1:$tls
smtp_user = clawback
smtp_password_file = $work/password
ca_file = $work/ours.pem
on = failure,warning,recovery,success
interval = off
END
received() { jq -s "[.[] | select($1)] | length" "$work/received"; }
was_received() { [ "$(received "$1")" -ge 1 ]; }
write_some() {
	head -c 20K /dev/urandom | dd of="$disk" bs=4K seek=$((RANDOM % 1000)) conv=notrunc,fsync \
		iflag=fullblock status=none
}
# tell [OPTION]...: one run that stores, and what is said of it.
tell() {
	write_some
	sleep 1
	: >"$work/received"
	clawback protect --once -o notify.on=failure,success "$@" >"$work/told" 2>&1 || fail "it failed: $(cat "$work/told")"
	! grep -q -e "$password" "$work/told" || fail "the password is told"
}
told() { grep -q -e "$1" "$work/told" || fail "it did not say '$1': $(cat "$work/told")"; }

echo "== with TLS from the first byte"
before=$(date +%s)
tell
! grep -q "not delivered" "$work/told" || fail "$(cat "$work/told") $(cat "$work/server.log")"
assert_equal 2 "$(received '.server == "tls" and .tls and .user')" "messages"
assert_equal '["admin@example.org"] ["night@example.org"]' \
	"$(jq -c .to "$work/received" | sort | tr '\n' ' ' | sed 's/ $//')" "recipients"
jq -e -s --argjson before "$before" --arg host "$(hostname)" 'all(.[];
	.from == "backup@example.org" and .defects == [] and
	.addresses == ["admin@example.org", "night@example.org"] and
	(.names | length) == (.names | unique | length) and
	.headers.Subject == "[clawback] \($host): volume v: a point was stored" and
	(.headers["Message-ID"] | test("^<[0-9a-f-]{36}@example.org>$")) and
	.date >= $before - 1 and .date <= $before + 60 and
	(.body | test("Last good point: [0-9-]{10} [0-9:]{8} UTC")))' "$work/received" >/dev/null ||
	fail "$(cat "$work/received")"

echo "== with STARTTLS"
tell -o "notify.smtp=smtp://127.0.0.1:$starttls" -o notify.mail_to=admin@example.org
assert_equal 1 "$(received '.server == "starttls" and .tls and .user')" "messages"

echo "== a server without encryption"
tell -o "notify.smtp=smtp://127.0.0.1:$plain"
told "not delivered by mail: to .*: it offers no encryption (STARTTLS)"
assert_equal 0 "$(received true)" "messages"
# On this host, if it is said, and without the password.
sed '/^smtp_user/d; /^smtp_password_file/d' "$clawback_config" >"$work/plain.conf"
write_some
sleep 1
"$clawback_program" protect --once --config "$work/plain.conf" -o notify.on=success -o notify.smtp_tls=none \
	-o "notify.smtp=smtp://127.0.0.1:$plain"
assert_equal 2 "$(received '.server == "plain" and (.tls | not)')" "messages"

echo "== another's certificate, under another's name"
tell -o "notify.ca_file=$work/other.pem"
told "not delivered by mail: .*SSL peer certificate"
tell -o "notify.ca_file=$work/other.pem" -o "notify.smtp=smtp://127.0.0.1:$starttls"
told "not delivered by mail: .*SSL peer certificate"
tell -o "notify.smtp=smtps://localhost:$tls"
told "not delivered by mail: .*SSL peer certificate"
assert_equal 0 "$(received true)" "messages"

echo "== a wrong password, and a file that others can read"
(umask 077 && echo "sesame-wrong" >"$work/wrong")
tell -o "notify.smtp_password_file=$work/wrong"
told "not delivered by mail: .*does not take user and password (status 535)"
! grep -q sesame "$work/told" || fail "it is told"
clawback doctor >"$work/doctor" 2>&1 || true
grep -q "notify *what it names is there" "$work/doctor" || fail "doctor: $(cat "$work/doctor")"
chmod 644 "$work/password"
clawback doctor >"$work/doctor" 2>&1 || true
grep -q "notify.*others may access it" "$work/doctor" || fail "doctor: $(cat "$work/doctor")"
tell
told "refusing $work/password: others may access it (mode 0644)"
chmod 600 "$work/password"
assert_equal 0 "$(received true)" "messages"

echo "== an address that is refused"
tell -o notify.mail_to=refused@example.org,night@example.org
told "not delivered by mail: to refused@example.org: .*(status 550)"
assert_equal 1 "$(received '.to == ["night@example.org"]')" "messages"

echo "== a command that hangs, a webhook that fails: each has its own outcome"
cat >"$work/command" <<END
#!/bin/sh
cat >>$work/commanded
sleep 60
END
chmod 755 "$work/command"
: >"$work/received"
write_some
clawback_start protect -o "agent.metrics=$work/metrics.prom" -o "notify.command=$work/command" -o notify.webhook=https://127.0.0.1:1/
mount --bind "$work/repository" "$work/repository"
defer umount -l "$work/repository"
messages() { sed -n "s/^clawback_messages_total{target=\"$1\",result=\"$2\"} //p" "$work/metrics.prom"; }
some() { [ "$(messages "$@")" -gt 0 ]; } 2>/dev/null
wait_for 30 was_received '.headers.Subject | test("a point was stored")'
wait_for 30 test -s "$work/commanded"
mount -o remount,bind,ro "$work/repository"
write_some
wait_for 30 was_received '(.headers.Subject | test("runs fail$")) and (.body |
	test("Error: .*Read-only file system") and test("Since: .* UTC") and
	test("Last good point: .* s before this message") and
	test("What to do: Nothing is lost") and test("clawback status v"))'
wait_for 30 was_received '.headers.Subject | test("its objective is missed$")'
# While all of them are at work.
for file in /proc/[0-9]*/cmdline; do
	! grep -q -a -e "$password" "$file" 2>/dev/null || fail "the password is in $file"
done
wait_for 30 grep -q "not delivered by the webhook" "$work/background.err"
wait_for 30 some webhook failed
wait_for 30 some mail delivered
assert_equal "0 0" "$(messages webhook delivered) $(messages mail failed)" "messages"
mount -o remount,bind,rw "$work/repository"
wait_for 30 was_received '.headers.Subject | test("its objective is met again$")'
kill -TERM "$clawback_pid"
clawback_wait
! grep -r -q -e "$password" "$work/background.err" "$work/background.out" "$work/state" ||
	fail "the password is told"

if is_full; then
	echo "== a message that ends while a run has a copy of what its end is seen by"
	printf '#!/bin/sh\necho ready\nread -r line\nsleep 3\n' >"$work/hold"
	printf '#!/bin/sh\ncat >/dev/null\nsleep 4\n' >"$work/command"
	chmod 755 "$work/hold"
	clawback_start protect -o "volume v.hook=$work/hold" -o "notify.command=$work/command"
	for _ in {1..15}; do
		write_some
		sleep 1
	done
	# Of 15 s; a loop that does not sleep takes some hundred.
	ticks=$(awk '{ print $14 + $15 }' "/proc/$clawback_pid/stat")
	[ "$ticks" -lt 30 ] || fail "the daemon took $ticks ticks"
	kill -TERM "$clawback_pid"
	clawback_wait
fi
clawback_end
