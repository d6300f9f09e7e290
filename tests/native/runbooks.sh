#!/bin/bash
# The commands in docs/runbooks.md, run as they stand there, in a deployment with the names
# that are used there: PostgreSQL on a volume, a store and a further one, and what each
# runbook is for done to them before. What "systemctl" starts and stops is PostgreSQL itself.
#
# timeout: 240
own_mounts=1
. "$(dirname "$0")/../lib/guest.sh"
. tests/lib/clawback.sh
. tests/lib/pages.sh

[ "$(id -u)" = 0 ] || skip "not root"
[ -x /usr/lib/postgresql/15/bin/initdb ] || skip "no PostgreSQL 15"
page=docs/runbooks.md

# ---- the pages -----------------------------------------------------------------------
mapfile -t names < <(page_names "$page")
page_check "$page"
# What stands in this one is run by tests/vm/bare-metal.sh, which takes long.
lost=docs/runbooks/lost-server.md
page_check "$lost"
assert_equal "$(page_names "$lost")" "$(sed -n 's/^# runs: //p' tests/vm/bare-metal.sh | tr ' ' '\n' | sort)" \
	"blocks of $lost, and those that are run"

# ---- the deployment ----------------------------------------------------------------------
mkdir "$work/over"
mount -t tmpfs -o size=1G,mode=755 tmpfs "$work/over"
defer umount -l "$work/over"
over() {
	local name=${1//\//-}
	mkdir -p "$work/over/$name/up" "$work/over/$name/work"
	chmod 755 "$work/over/$name/up"
	mount -t overlay -o "lowerdir=$1,upperdir=$work/over/$name/up,workdir=$work/over/$name/work" overlay "$1"
	defer umount -l "$1"
}
for folder in /etc /var/lib /usr/local /mnt /media /srv; do over $folder; done
mkdir -p -m 700 /etc/clawback /media/key /media/key2 /srv/drill /mnt/backup /mnt/offsite /var/lib/clawback
mkdir -p /srv/pgdata /usr/local/lib/clawback/hooks /usr/local/sbin
cp scripts/hooks/drill-postgresql /usr/local/lib/clawback/hooks/
ln -sf "$clawback_program" /usr/local/sbin/clawback
# The copy's server in "wrong-delete" is found by its port, in the same folder.
mkdir -m 755 "$work/run" && chown postgres "$work/run" && chmod 755 "$work"
export PGHOST=$work/run PATH=/usr/local/sbin:$PATH
cat >/usr/local/sbin/systemctl <<END
#!/bin/bash
# start, stop SERVICE: of PostgreSQL; of clawback-protect, which does not run here, nothing.
[ "\$2" = postgresql@15-main ] || exit 0
pg() { runuser -u postgres -- /usr/lib/postgresql/15/bin/pg_ctl --silent --wait -D /srv/pgdata/main "\$@"; }
case \$1 in
start) pg start -l $work/run/log -o "-c listen_addresses=" ;;
stop) ! pg status >/dev/null 2>&1 || pg stop --mode=fast ;;
*) exit 1 ;;
esac
END
chmod +x /usr/local/sbin/systemctl
stop_all() {
	systemctl stop postgresql@15-main || :
	for folder in /srv/pgdata /mnt/copy; do
		! mountpoint -q "$folder" || umount "$folder" || umount -l "$folder"
	done
	clawback_detach
}
clawback() { "$clawback_program" "$@"; }
mountpoint -q /sys/fs/bpf || mount -t bpf bpf /sys/fs/bpf

mkdir /dev/vg0
defer rm -rf /dev/vg0
make_disk disk 128M
make_disk other 128M
ln -s "$disk" /dev/vg0/pgdata
defer stop_all
for key in key key2; do
	(umask 077 && echo "a passphrase for tests only" >/media/$key/passphrase)
	clawback keygen --out /media/$key/recovery.pem --passphrase-file /media/$key/passphrase >/dev/null
	# scrypt is slow on purpose, and a dozen times is too often for a test.
	(umask 077 && openssl pkey -in /media/$key/recovery.pem -out "$work/open.pem" \
		-passin file:/media/$key/passphrase)
	mv "$work/open.pem" /media/$key/recovery.pem
done
cp /media/key/recovery.pem.pub /etc/clawback/
cp /media/key2/recovery.pem.pub /etc/clawback/recovery-1.pem.pub
echo "SELECT count(*) > 100 FROM orders" >/media/key/drill.sql
cat >/etc/clawback/clawback.conf <<END
[repository]
url = file:///mnt/backup/clawback
recipient = /etc/clawback/recovery.pem.pub
recipient = /etc/clawback/recovery-1.pem.pub

[store offsite]
url = file:///mnt/offsite/clawback

[volume pgdata]
device = /dev/vg0/pgdata
END
clawback init >/dev/null
FINGERPRINT=$(sed -n 's/^\([0-9a-f]\{64\}\).*/\1/p' /var/lib/clawback/repository)
export FINGERPRINT
[ ${#FINGERPRINT} = 64 ] || fail "no fingerprint"

sql() { runuser -u postgres -- psql -qAt -v ON_ERROR_STOP=1 -c "$1"; }
up() { mount /dev/vg0/pgdata /srv/pgdata && systemctl start postgresql@15-main; }
down() { systemctl stop postgresql@15-main && umount /srv/pgdata; }
mkfs.ext4 -q -F "$disk"
mount "$disk" /srv/pgdata
mkdir /srv/pgdata/main && chown postgres /srv/pgdata/main
runuser -u postgres -- /usr/lib/postgresql/15/bin/initdb -D /srv/pgdata/main -U postgres -A trust \
	--no-sync >/dev/null
cat >>/srv/pgdata/main/postgresql.conf <<END
unix_socket_directories = '$work/run'
max_wal_size = 48MB
min_wal_size = 32MB
END
systemctl start postgresql@15-main
sql "CREATE TABLE orders (id int PRIMARY KEY, at timestamptz DEFAULT now())"
sql "INSERT INTO orders SELECT n FROM generate_series(1, 500) AS n"
down
clawback backup pgdata >/dev/null
clawback replicate >/dev/null

# ---- one after the other ---------------------------------------------------------------------
ran=()
# play NAME: what the page says of it.
play() {
	page_blocks "$page" "$1" >"$work/$1.sh"
	[ -s "$work/$1.sh" ] || fail "no block is called $1"
	echo "== $1"
	(cd / && bash -eu -o pipefail "$work/$1.sh") >"$work/$1.out" 2>&1 ||
		fail "$1: exit code $?: $(tail -n 20 "$work/$1.out")"
	ran+=("$1")
}
new_point() { clawback backup pgdata >/dev/null; clawback replicate >/dev/null; }

# The disk is dead: another, empty one has its name.
ln -sfn "$other" /dev/vg0/pgdata
play lost-volume
assert_equal "500|500" "$(sql "SELECT count(*), max(id) FROM orders")" "orders after a lost volume"
down
assert_equal 2 "$(clawback points pgdata --json | jq '.points | length')" "points"

# Rows are gone, and others came since.
up
sql "INSERT INTO orders SELECT n FROM generate_series(501, 600) AS n"
down
new_point
POINT=$(clawback show pgdata --json | jq -r .time)
export POINT
up
sql "DELETE FROM orders WHERE id <= 100"
sql "INSERT INTO orders VALUES (601)"
play wrong-delete
assert_equal "601|601" "$(sql "SELECT count(*), max(id) FROM orders")" "orders after a wrong DELETE"
[ ! -e /srv/drill/pgdata.img ] || fail "the copy stayed"
assert_equal 0 "$(clawback points pgdata --json | jq '[.points[] | select(.pinned)] | length')" "pinned points"
down
new_point

# An upgrade has dropped what it should not have.
POINT=$(clawback show pgdata --json | jq -r .time)
up
sql "DROP TABLE orders"
sql "CREATE TABLE orders (broken int)"
play rewind
assert_equal "601|601" "$(sql "SELECT count(*), max(id) FROM orders")" "orders after a bad upgrade"
assert_equal 1 "$(clawback points pgdata --json | jq '[.points[] | select(.pinned)] | length')" "safety points"
down
new_point

# All is encrypted, and there is a point of that.
POINT=$(clawback points pgdata --json | jq -r '.points[-1].number')
head -c 60M /dev/zero | openssl enc -aes-128-ctr -nosalt -K 00112233445566778899aabbccddeeff \
	-iv 00000000000000000000000000000000 |
	dd of=/dev/vg0/pgdata bs=1M seek=4 count=60 iflag=fullblock conv=notrunc,fsync status=none
new_point
play ransomware
assert_equal "601|601" "$(sql "SELECT count(*), max(id) FROM orders")" "orders after ransomware"
assert_equal t "$(tail -n 1 "$work/ransomware.out")" "what its query answered"
down
new_point

# The machine is gone, and with it all that was on it.
mv /var/lib/clawback "$work/over/state"
mv /etc/clawback "$work/over/etc"
clawback detach --all --config "$work/over/etc/clawback.conf" --state "$work/over/state" >/dev/null
head -c 8M /dev/zero | dd of=/dev/vg0/pgdata conv=notrunc,fsync status=none
play lost-server
assert_equal "601|601" "$(sql "SELECT count(*), max(id) FROM orders")" "orders after a lost server"
down
mv "$work/over/state" /var/lib/clawback
mv "$work/over/etc" /etc/clawback

# The first store is gone; the other lacks its newest point.
clawback backup pgdata >/dev/null
mv /mnt/backup/clawback /mnt/backup/gone
play lost-store
newest=$(clawback points pgdata --json | jq -r '.points[-1].number')
assert_equal full "$(clawback show "pgdata@$newest" --json | jq -r .kind)" "what went on in the other store"
mv /mnt/backup/gone /mnt/backup/clawback
mv /etc/clawback/clawback.conf.before /etc/clawback/clawback.conf

# A key is lost.
play lost-key
assert_equal 1 "$(clawback points pgdata --json | jq '.points | length')" "points of the new repository"
assert_equal 1 "$(clawback points pgdata --store offsite --json | jq '.points | length')" "and in its second store"

# ---- all of it ----------------------------------------------------------------------------------
assert_equal "${names[*]}" "$(printf '%s\n' "${ran[@]}" | sort | tr '\n' ' ' | sed 's/ $//')" "what was run"
clawback detach --all >/dev/null
assert_no_helpers
