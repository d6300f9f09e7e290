#!/bin/bash
# No secret shows: after a whole session on a folder and on a real S3 server, with
# things going wrong, passphrase, S3 secret, recovery key, host's keys and every
# point's data key are looked for in all output, in command lines and environments,
# in the state folder, in the repository, and in a core file that must not come.
# The data keys are opened by openssl's program from the format's description alone.
#
# timeout: 400
own_mounts=1
. "$(dirname "$0")/../lib/guest.sh"
. tests/lib/clawback.sh

[ "$(id -u)" = 0 ] || skip "not root"
code=0
RGW_LIFE_SECONDS=380 tests/store/rgw start "$work/rgw" || code=$?
[ $code != 77 ] || skip "the S3 server's packages are not installed"
[ $code = 0 ] || fail "the S3 server did not start"
defer tests/store/rgw stop "$work/rgw"
# shellcheck source=/dev/null
. "$work/rgw/env"
export -n RGW_SECRET_KEY RGW_ACCESS_KEY 2>/dev/null	# not ours to hand on
cp "$RGW_CA" "$work/ca.pem"
cp -p "$RGW_CREDENTIALS" "$work/credentials"
make_disk disk 24M

# ---- watching --------------------------------------------------------------------
# Command lines and environments of every process of the program, as often as it goes.
cat >"$work/watch.py" <<'END'
import os, sys, time
program, out, stop = sys.argv[1:]
seen = set()
with open(out, "ab") as record:
    while not os.path.exists(stop):
        for pid in filter(str.isdigit, os.listdir("/proc")):
            try:
                if os.readlink(f"/proc/{pid}/exe") != program:
                    continue
                for what in ("cmdline", "environ", "comm"):
                    with open(f"/proc/{pid}/{what}", "rb") as file:
                        data = file.read()
                    if data not in seen:
                        seen.add(data)
                        record.write(data + b"\n")
            except OSError:
                pass
        time.sleep(0.001)
END
python3 "$work/watch.py" "$(realpath "$clawback_program")" "$work/seen" "$work/stop" &
watcher=$!
defer clawback_stop $watcher

mkdir "$work/out"
outputs=0
# say CODE VERB [ARG]...: everything it prints is kept, at the most talkative.
say() {
	local wanted=$1 code=0
	shift
	outputs=$((outputs + 1))
	clawback "$@" --verbose >"$work/out/$outputs.out" 2>"$work/out/$outputs.err" || code=$?
	[ "$wanted" = any ] || [ $code = "$wanted" ] || fail "exit code $code, not $wanted: $* $(cat "$work/out/$outputs.err")"
}

# ---- a session --------------------------------------------------------------------
passphrase=hunter2-$RANDOM$RANDOM$RANDOM
clawback_begin "$work/repository"
rm "$work"/recovery.pem*
(umask 077 && echo "$passphrase" >"$work/passphrase")
say 0 keygen --out "$work/recovery.pem" --passphrase-file "$work/passphrase"
rm -r "$work/repository" "$work/state"
say 0 init
clawback_volume v "$disk"
say any doctor
say 0 attach v
fill "$disk" 16
say 0 backup v
fill "$disk" 2 20
say 0 backup v --json
say 0 status v --json
say 0 points v --json
say 0 show v --json
say 0 verify --data "${clawback_key[@]}" --json
say 0 restore v --to "$work/restored" "${clawback_key[@]}"
exec 3<"$work/passphrase"
say 0 restore v --to "$work/restored" --force --recovery-key "$work/recovery.pem" --passphrase-fd 3
exec 3<&-

echo "== things go wrong"
(umask 077 && echo "${passphrase}x" >"$work/wrong")
say 12 restore v --to "$work/restored" --force --recovery-key "$work/recovery.pem" \
	--passphrase-file "$work/wrong"
say 12 verify --data --recovery-key "$work/passphrase" --passphrase-file "$work/passphrase"
cp -p "$work/state/keys/signing.pem" "$work/signing"
cp -p "$work/state/keys/map.key" "$work/map"
cp "$work/map" "$work/state/keys/signing.pem"
say 12 backup v
cp -p "$work/signing" "$work/state/keys/signing.pem"
cp "$work/signing" "$work/state/keys/map.key"
code=0
clawback backup v >"$work/out/map.out" 2>&1 || code=$?
[ $code != 0 ] || fail "a backup with a wrong map key"
cp -p "$work/map" "$work/state/keys/map.key"
s3=(--repository "s3://$RGW_BUCKET/secrets" -o "repository.endpoint=$RGW_HTTPS"
	-o "repository.ca_file=$work/ca.pem" -o "repository.credentials_file=$work/credentials"
	-o repository.path_style=yes -o repository.retries=1 --state "$work/s3-state"
	-o repository.timeout=5)
for damage in 's/ *= */ /' 's/^aws_secret/secret/' 's/$/\x01/' '1d' 's/\(secret_access_key.*\)/\1 \1/' \
	's/^\(aws_secret_access_key *= *\)./\1/'; do
	(umask 077 && sed "$damage" "$work/credentials" >"$work/damaged")
	outputs=$((outputs + 1))
	clawback init "${s3[@]}" -o "repository.credentials_file=$work/damaged" --verbose \
		>"$work/out/$outputs.out" 2>&1 || true
done
say 2 points v -o "repository.credentials_file" "${s3[@]}"
cp "$work/credentials" "$work/as.conf"
outputs=$((outputs + 1))
"$clawback_program" points --config "$work/as.conf" >"$work/out/$outputs.out" 2>&1 || true
cp "$work/passphrase" "$work/as.conf"
"$clawback_program" points --config "$work/as.conf" >>"$work/out/$outputs.out" 2>&1 || true

echo "== on S3"
say 0 init "${s3[@]}"
say 0 backup v "${s3[@]}"
fill "$disk" 1
say 0 backup v "${s3[@]}" --json
say 0 verify --data "${s3[@]}" "${clawback_key[@]}"
say 1 points v "${s3[@]}" -o repository.endpoint=https://127.0.0.1:1
tests/store/rgw stop "$work/rgw"
fill "$disk" 1
say 1 backup v "${s3[@]}"

echo "== killed by a signal that leaves a core file"
fill "$disk" 12
mkdir "$work/cores"
(cd "$work/cores" && ulimit -c unlimited && exec "$clawback_program" backup v \
	--config "$clawback_config" -o agent.read_rate=2M) >"$work/out/core.out" 2>&1 &
pid=$!
is_reading() { [ -e "$work/state/volumes/v/pending" ]; }
wait_for 20 is_reading
[ ! -r "/proc/$pid/environ" ] || [ "$(stat -c %u /proc/$pid/environ)" = 0 ] || fail "it can be traced"
kill -SEGV $pid
code=0
wait $pid || code=$?
[ $code = 139 ] || fail "exit code $code after SIGSEGV"
assert_equal "" "$(ls "$work/cores")" "core files"
# That this shell's children do leave one, where the kernel writes files at all.
(cd "$work/cores" && ulimit -c unlimited && exec sleep 60) &
other=$!
sleep 0.3
kill -SEGV $other
wait $other 2>/dev/null || true
case $(cat /proc/sys/kernel/core_pattern) in
[!/\|]*) [ -n "$(ls "$work/cores")" ] || fail "no core file of another program: this proves nothing" ;;
esac
rm -rf "$work/cores"
say 0 backup v

# ---- what is secret ------------------------------------------------------------------
touch "$work/stop"
wait $watcher
[ "$(wc -c <"$work/seen")" -gt 1000 ] || fail "the watcher saw nothing"
openssl pkey -in "$work/recovery.pem" -passin "file:$work/passphrase" -out "$work/plain.pem"
cat >"$work/search.py" <<'END'
import base64, hashlib, hmac, json, os, subprocess, sys
work, s3_secret = sys.argv[1:]
path = lambda *parts: os.path.join(work, *parts)
read = lambda name: open(name, "rb").read()
run = lambda *words, **more: subprocess.run(words, check=True, capture_output=True, **more).stdout

def raw(pem):
    return run("openssl", "pkey", "-in", pem, "-outform", "DER")[-32:]

# Wrap, docs/format.md: X25519, HKDF-SHA256, AES-256-GCM with a nonce of zeros.
def open_wrap(wrap, recipient, context):
    once = wrap[:32]
    spki = bytes.fromhex("302a300506032b656e032100") + once
    open(path("once.der"), "wb").write(spki)
    shared = run("openssl", "pkeyutl", "-derive", "-inkey", path("plain.pem"),
                 "-peerkey", path("once.der"), "-peerform", "DER")
    prk = hmac.new(once + recipient, shared, hashlib.sha256).digest()
    key = hmac.new(prk, b"clawback wrap v1" + context + b"\x01", hashlib.sha256).digest()
    return run("openssl", "enc", "-d", "-aes-256-ctr", "-K", key.hex(),
               "-iv", "00" * 12 + "00000002", input=wrap[32:96])

secrets = {
    "passphrase": read(path("passphrase")).strip(),
    "S3 secret": s3_secret.encode(),
    "recovery key": raw(path("plain.pem")),
    "signing key": raw(path("signing")),
    "map key": read(path("map"))[-32:],
}
points = 0
for folder, _, names in os.walk(path("repository")):
    if not folder.endswith("/points"):
        continue
    for name in names:
        data = read(os.path.join(folder, name))
        length = int.from_bytes(data[16:20], "little")
        manifest = json.loads(data[64:64 + length])
        bare = lambda key: bytes.fromhex(manifest[key].replace("-", ""))
        context = bare("volume") + manifest["number"].to_bytes(8, "little") + bare("run")
        for entry in manifest["keys"]:
            both = open_wrap(bytes.fromhex(entry["wrap"]), bytes.fromhex(entry["recipient"]), context)
            secrets["data key of %d" % manifest["number"]] = both[:32]
            secrets["map key of %d" % manifest["number"]] = both[32:]
            points += 1
        # The keys are the right ones: the map key is what the host derives.
        prk = hmac.new(context, secrets["map key"], hashlib.sha256).digest()
        derived = hmac.new(prk, b"clawback map v1\x01", hashlib.sha256).digest()
        assert derived == both[32:], "the wrap was not opened"
assert points >= 3, points

def forms(secret):
    yield secret
    yield secret.hex().encode()
    yield secret.hex().upper().encode()
    for shift in range(3):      # inside longer base64, too
        text = base64.b64encode(b"\0" * shift + secret)
        yield text[4 if shift else 0:len(secret) // 3 * 4 - 4]

# The files that are secret themselves, and must be closed to others.
own = [path(name) for name in ("passphrase", "wrong", "credentials", "damaged", "as.conf", "plain.pem", "signing",
       "map", "image", "state/keys/signing.pem", "state/keys/map.key", "search.py", "watch.py")]
own += [path("rgw")]
for name in ("state/keys/signing.pem", "state/keys/map.key"):
    assert os.stat(path(name)).st_mode & 0o77 == 0, name
# The host's key for S3's state is another; nothing of it is looked for.
found, files, size = [], 0, 0
for folder, folders, names in os.walk(work):
    folders[:] = [f for f in folders if os.path.join(folder, f) not in own]
    for name in names:
        file = os.path.join(folder, name)
        if file in own or name.startswith("disk."):
            continue
        data = read(file)
        files, size = files + 1, size + len(data)
        for what, secret in secrets.items():
            if any(form in data for form in forms(secret)):
                found.append(f"{what} in {file[len(work) + 1:]}")
print(f"{len(secrets)} secrets in {files} files, {size >> 20} MiB: {len(found)} found")
print("\n".join(found))
END
search() { python3 "$work/search.py" "$work" "$RGW_SECRET_KEY"; }
search >"$work/found" || fail "the search failed"
cat "$work/found"
grep -q ": 0 found$" "$work/found" || fail "secrets were found"

# That the search finds what there is, in each disguise.
rm "$work/found"
(cat "$work/passphrase"; tail -c 32 "$work/map") >"$work/out/plant"
openssl pkey -in "$work/plain.pem" -outform DER | tail -c 32 | od -An -v -tx1 | tr -d " \n" >"$work/state/plant"
(printf xy; echo -n "$RGW_SECRET_KEY") | base64 -w 0 >"$work/repository/plant"
[ "$(search | grep -c ' in .*plant$')" = 4 ] || fail "planted secrets were not found"
rm "$work/out/plant" "$work/state/plant" "$work/repository/plant"
clawback_end
