#!/bin/bash
# The recovery kit is enough: its commands, run as they are printed on a machine that has
# nothing but the recovery key, restore what was backed up; its PDF says the same, and
# its QR code is a configuration that restores as well. With the store away it has what
# the host knows. It holds no secret, replaces no file unasked.
#
# timeout: 120
own_mounts=1
. "$(dirname "$0")/../lib/guest.sh"
. tests/lib/clawback.sh

[ "$(id -u)" = 0 ] || skip "not root"
for program in pdftotext pdftoppm zbarimg; do
	type $program >/dev/null 2>&1 || skip "no $program: run scripts/bootstrap"
done

for name in data wal; do
	truncate -s 5M "$work/$name.image"
	device=$(losetup --find --show "$work/$name.image")
	defer losetup --detach "$device"
	declare "$name=$device"
	head -c 3M /dev/urandom | dd of="$device" conv=fsync status=none
done
clawback_begin "$work/it's a repository" open
clawback_volume data "$data" group=both
clawback_volume wal "$wal" group=both
cat >>"$clawback_config" <<-END

	[store away]
	url = s3://bucket/prefix
	endpoint = https://127.0.0.1:9
	region = eu-central-1
	credentials_file = $work/credentials
END
clawback backup both >/dev/null
dd if=/dev/urandom of="$data" bs=4k count=10 conv=fsync status=none
clawback backup both >/dev/null
id=$(jq -r .id "$clawback_repository/clawback.json" 2>/dev/null || true)

echo "== the page"
clawback recovery-kit >"$work/kit.txt"
[[ -z $id ]] || grep -q "id  *$id\$" "$work/kit.txt" || fail "not the repository's id: $id"
grep -q "^  fingerprint  $(cat "$work/state/repository")\$" "$work/kit.txt" || fail "no fingerprint"
grep -q "^  data .*point 2 of .*Z, 5.0 MiB, was $data, group both\$" "$work/kit.txt" ||
	fail "not the volume: $(grep data "$work/kit.txt")"
fingerprint=$(openssl pkey -pubin -in "$work/recovery.pem.pub" -outform DER |
	tail -c 32 | sha256sum | cut -d ' ' -f 1)
grep -q "^  sealed to    $fingerprint\$" "$work/kit.txt" || fail "not sealed to $fingerprint"

echo "== its commands, on a bare machine"
mkdir "$work/bare" "$work/bare/etc" "$work/bare/var" "$work/bin" "$work/room"
cp "$work/recovery.pem" "$work/room/"
ln -s "$(realpath "$clawback_program")" "$work/bin/clawback"
# The package is made and installed by another test.
printf '#!/bin/sh\necho "$*" >"%s/installed"\n' "$work/room" >"$work/bin/apt-get"
chmod +x "$work/bin/apt-get"
# bare FILE: a shell that has the host's /etc and /var no more runs FILE.
bare() {
	unshare --mount bash -ec 'mount --bind "$1/bare/etc" /etc
		mount --bind "$1/bare/var" /var
		cd "$1/room"
		PATH=$1/bin:$PATH exec bash -e "$2"' - "$work" "$1"
}
sed -n 's/^    //p' "$work/kit.txt" >"$work/commands"
bare "$work/commands" >"$work/bare.out" 2>&1 || fail "the printed commands: $(cat "$work/bare.out")"
assert_equal "install -y ./clawback_$("$clawback_program" --version | cut -d ' ' -f 2)_$(dpkg --print-architecture).deb" \
	"$(cat "$work/room/installed")" "what is installed"
assert_same "$work/room/data.img" "$data"
assert_same "$work/room/wal.img" "$wal"
clawback recovery-kit --json >"$work/kit.json"
jq -r .configuration "$work/kit.json" | diff -B - "$work/bare/etc/clawback/clawback.conf" ||
	fail "the commands wrote another configuration"

echo "== as PDF"
clawback recovery-kit --to "$work/kit.pdf" >/dev/null
assert_equal 600 "$(stat -c %a "$work/kit.pdf")" "its mode"
assert_equal 1 "$(pdfinfo "$work/kit.pdf" | sed -n 's/^Pages: *//p')" "its pages"
clawback recovery-kit --to "$work/kit2.txt" >/dev/null
# But for when it was made.
words() { sed '2s/Made [^ ]*//' | tr -s '[:space:]' '\n' | LC_ALL=C sort; }
diff <(words <"$work/kit2.txt") <(pdftotext -layout "$work/kit.pdf" - | tr -d '\f' | words) ||
	fail "the PDF says something else than the text"
pdftoppm -r 150 -png "$work/kit.pdf" "$work/sheet"
zbarimg -q --raw "$work/sheet-1.png" 2>/dev/null >"$work/code" || fail "no QR code is found"
diff -B "$work/code" <(jq -r .configuration "$work/kit.json") || fail "the QR code has something else"
clawback restore data --config "$work/code" --state "$work/elsewhere" --to "$work/from-code" \
	--recovery-key "$work/recovery.pem" >/dev/null
assert_same "$work/from-code" "$data"

echo "== what it does not do"
assert_refused 1 "give --force" clawback recovery-kit --to "$work/kit.pdf"
clawback recovery-kit --to "$work/kit.pdf" --force >/dev/null
assert_refused 2 "FILE.pdf or FILE.txt" clawback recovery-kit --to "$work/kit.doc"
clawback recovery-kit --to "$work/none.pdf" --dry-run >/dev/null
[ ! -e "$work/none.pdf" ] || fail "a dry run wrote a file"
for secret in "$work/recovery.pem" "$work/state/keys/signing.pem"; do
	body=$(sed -n 2p "$secret")
	! grep -q -F -e "$body" "$work"/kit*.txt "$work/kit.json" || fail "$secret is on the page"
done
! grep -q "$work/credentials" "$work"/kit*.txt "$work/kit.json" || fail "where credentials are"

echo "== names that a store's owner made up"
mkdir "$work/forged"
forged=$(uuidgen)
name='x; touch /tmp/owned'
jq -nj --arg id "$forged" --arg name "$name" --arg sha256 \
	"$(printf '%s %s' "$forged" "$name" | sha256sum | cut -d ' ' -f 1)" \
	'{format: "clawback volume", version: 1, $id, $name, $sha256}' >"$work/forged/$forged.json"
cp "$work/forged/$forged.json" "$clawback_repository/volumes/"
clawback recovery-kit >"$work/forged.txt"
grep -q "^  $forged  no recovery point, x; touch" "$work/forged.txt" || fail "not shown: $(cat "$work/forged.txt")"
! sed -n 's/^    //p' "$work/forged.txt" | grep touch || fail "in a command"
# Damaged, it keeps nobody from the volumes that this host knows.
echo >>"$clawback_repository/volumes/$forged.json"
clawback recovery-kit >"$work/damaged.txt" 2>"$work/damaged.err"
grep -q "is damaged" "$work/damaged.err" || fail "damage is not told of"
data_id=$(clawback show data --json | jq -r .volume_id 2>/dev/null || true)
[ -z "$data_id" ] || fail "a damaged list still gives names"
data_id=$(jq -r '.volumes[] | select(.name == "data").volume_id' "$work/kit.json")
grep -q "^    clawback restore $data_id@latest" "$work/damaged.txt" ||
	fail "not by id: $(cat "$work/damaged.txt")"
rm "$clawback_repository/volumes/$forged.json"

echo "== without the store"
mv "$clawback_repository" "$work/hidden"
mkdir "$clawback_repository" && rmdir "$clawback_repository"
code=0
clawback recovery-kit >"$work/alone.txt" 2>"$work/alone.err" || code=$?
sed 's/^/  /' "$work/alone.err"
assert_equal 3 $code "exit code without a store"
grep -q "NO STORE ANSWERED" "$work/alone.txt" || fail "it does not say so"
for pattern in "fingerprint  $(cat "$work/state/repository")" "sealed to    $fingerprint" \
	"data .*point 2 of"; do
	grep -q "$pattern" "$work/alone.txt" || fail "without a store: no $pattern"
done
diff <(sed -n 's/^    //p' "$work/kit.txt") <(sed -n 's/^    //p' "$work/alone.txt") ||
	fail "other commands without a store"
mv "$work/hidden" "$clawback_repository"
# Nor is another repository in its place worth a page.
assert_refused 13 "." clawback recovery-kit -o "repository.fingerprint=$(printf 'a%.0s' {1..64})"
[ ! -s "$work/refused.out" ] || fail "it printed a page of another repository"
clawback_end
