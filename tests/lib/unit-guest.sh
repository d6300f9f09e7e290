#!/bin/bash
# The guest's side of tests/vm/unit.sh: systemd is process 1, clawback is installed in
# $INSTALL, /dev/vda is empty.
. "$(dirname "$0")/guest.sh"
. tests/lib/clawback.sh
clawback_config=/etc/clawback/clawback.conf
unit=clawback-protect.service

repository=/srv/repository
point_count() { find $repository -path '*/points/*' -type f | wc -l; }
has_points() { [ "$(point_count)" -ge "$1" ]; }
new_points() { wait_for 120 has_points $(($(point_count) + $1)); }
# writing COMMAND...: the same, after a write, so that there is something to make a point of.
writing() {
	dd if=/dev/urandom of="$data" bs=4k count=1 seek=$((2000 + RANDOM % 1000)) oflag=direct \
		conv=notrunc status=none
	"$@"
}
written_point() { wait_for 120 writing has_points $(($(point_count) + 1)); }
property() { systemctl show -P "$1" $unit; }
journal() { journalctl --no-pager -o cat -u $unit; }
said() { journal | grep -q -e "$1"; }
tell_journal() { journal | tail -n 12; }
defer tell_journal

# As systemd does it, but where it takes this for a container, for the host is one.
mount --make-rshared /
cp -a "$INSTALL/." /
modprobe -q -a dm-snapshot loop || true
make_linear_volume data data /dev/vda $((48 * 2048))
mkfs.ext4 -q -E lazy_itable_init=0 "$data"
mkdir -p /srv/data /srv/late /var/lib/node
mount_volume "$data" /srv/data

# A hook that becomes somebody else, and finds out what it may.
cat >/usr/local/sbin/lab-hook <<-'END'
	#!/bin/bash
	[ ! -e /srv/hang ] || exec setpriv --reuid=postgres --regid=postgres --init-groups sleep 300
	[ ! -e /srv/probed ] || { echo ready; read -r _; exit 0; }
	for folder in /usr /etc /root /opt /boot /srv /var/lib /tmp; do
		touch "$folder/lab-hook" 2>/dev/null && echo "may write to $folder"
	done
	unshare --mount true 2>/dev/null && echo "may unshare"
	grep -E '^(NoNewPrivs|Seccomp):' /proc/self/status
	setpriv --reuid=postgres --regid=postgres --init-groups sh -c 'echo "became $(id -un)"'
	: >/srv/probed
	echo ready
	read -r _
END
chmod 755 /usr/local/sbin/lab-hook
cat >$clawback_config <<-END
	[repository]
	url = file://$repository
	recipient = /etc/clawback/recovery.pem.pub
	[agent]
	metrics = /var/lib/node/clawback.prom
	[volume data]
	device = /dev/mapper/data
	rpo = 2s
	hook = /usr/local/sbin/lab-hook
	hook_timeout = 1min
END
clawback_program=/usr/local/sbin/clawback
clawback_key=(--recovery-key /etc/clawback/recovery.pem)
clawback init >/dev/null
systemctl daemon-reload

echo "== $SECONDS s: points come from the sandbox"
systemctl start $unit
while :; do
	echo $SECONDS >/srv/data/file
	sync /srv/data/file
	sleep 0.5
done &
writer=$!
defer clawback_stop $writer
new_points 3
assert_equal active "$(property ActiveState)" "the unit's state"
[[ $(property StatusText) =~ (Protecting|Running) ]] || fail "its status: $(property StatusText)"
grep -q '^clawback_up 1' /var/lib/node/clawback.prom || fail "no metrics"
assert_equal "data tracked true" "$(clawback status --json |
	jq -r '.volumes[] | "\(.name) \(.trust)"') $(clawback show data@latest --json | jq '.kind == "incremental"')" \
	"what others see of its tracker, and the kind of the point"
assert_equal application "$(clawback show data@latest --json | jq -r .consistency)" "the consistency"

echo "== what a hook may"
journal | sed -n 's/^.*hook lab-hook: //p' | sort -u >"$work/may"
cat "$work/may"
sort <<-'END' | tr -s ' ' >"$work/wanted"
	may write to /srv
	may write to /tmp
	may write to /var/lib
	became postgres
	NoNewPrivs: 1
	Seccomp: 2
END
tr '\t' ' ' <"$work/may" | diff "$work/wanted" - || fail "wanted (<), got (>)"

echo "== $SECONDS s: it holds no mount of the system's"
kill $writer
wait $writer 2>/dev/null || true
dmsetup create late --table "0 $((16 * 2048)) linear /dev/vda $((64 * 2048))"
mkfs.ext4 -q -E lazy_itable_init=0 /dev/mapper/late
pid=$(property MainPID)
[ "$(readlink /proc/self/ns/mnt)" != "$(readlink "/proc/$pid/ns/mnt")" ] || fail "it has no mounts of its own"
# /mnt is a mount in the sandbox, a folder outside.
for folder in /srv/late /mnt; do
	mount /dev/mapper/late $folder
	grep -q " $folder .*/dev/mapper/late " "/proc/$pid/mountinfo" || fail "it does not see what was mounted since"
	umount $folder
	! grep /dev/mapper/late "/proc/$pid/mountinfo" || fail "it still has what was unmounted from $folder"
done
dmsetup remove late || fail "a volume that was mounted later is held"
is_unmounted() { umount /srv/data; }
wait_for 20 is_unmounted
unused() { [ "$(dmsetup info -c --noheadings -o open data)" = 0 ]; }
wait_for 30 unused
! grep -q ' /srv/data ' "/proc/$pid/mountinfo" || fail "it still has what was unmounted"
clawback restore data@latest --to "$work/restored" "${clawback_key[@]}" >/dev/null

echo "== $SECONDS s: a hook that became somebody else is ended"
touch /srv/hang
sed -i 's/^hook_timeout = .*/hook_timeout = 3s/' $clawback_config
systemctl reload $unit
wait_for 120 writing said "it was not ready within 3 s"
no_sleeper() { ! pgrep -u postgres -x sleep >/dev/null; }
wait_for 15 no_sleeper
rm /srv/hang
sed -i 's/^hook_timeout = .*/hook_timeout = 1min/' $clawback_config
systemctl reload $unit
written_point

echo "== $SECONDS s: killed, it comes back; stopped, it ends well"
kill -KILL "$(property MainPID)"
restarted() { [ "$(property NRestarts)" = 1 ] && [ "$(property ActiveState)" = active ]; }
wait_for 120 restarted
written_point
systemctl stop $unit
assert_equal success "$(property Result)" "its result"
grep -q '^clawback_up 0' /var/lib/node/clawback.prom || fail "the metrics do not say that it ended"
assert_no_helpers
clawback backup data -o "volume data.hook_failure=continue" >/dev/null
clawback restore data@latest --to "$work/restored" --force "${clawback_key[@]}" >/dev/null
assert_same "$work/restored" "$data" $((48 << 20))

echo "== $SECONDS s: a folder that is not its own is refused, with what to do"
repository=/opt/repository
sed -i "s|^url = .*|url = file://$repository|" $clawback_config
clawback init --state "$work/other" >/dev/null
systemctl reset-failed $unit 2>/dev/null || true
sed -i "s|^\[agent\]|[agent]\nstate = /var/lib/other|" $clawback_config
cp -a "$work/other" /var/lib/other
systemctl start $unit
wait_for 120 said "ReadWritePaths="
systemctl stop $unit
mkdir -p /etc/systemd/system/$unit.d
printf '[Service]\nReadWritePaths=/opt/repository\n' >/etc/systemd/system/$unit.d/paths.conf
systemctl daemon-reload
systemctl start $unit
written_point
systemctl stop $unit
clawback detach --all >/dev/null
assert_no_helpers
systemd-analyze security --no-pager $unit | tail -n 1
