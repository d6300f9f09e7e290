#!/bin/bash
# The Debian package: what is in it, and that it can be installed, used, upgraded, removed
# and purged; what it made is gone then, and what is the user's is not. Installed into a
# throw-away layer over this machine's own Debian, whose every change can be listed.
#
# timeout: 300
own_mounts=1
. "$(dirname "$0")/../lib/guest.sh"
. tests/lib/clawback.sh

[ "$(id -u)" = 0 ] || skip "not root"
command -v dh >/dev/null || skip "no debhelper: run scripts/bootstrap"
! dpkg-query -W clawback >/dev/null 2>&1 || skip "a package clawback is installed here"

# In a quick run of the objects that are there; a full one compiles with Debian's flags.
echo "== built"
is_full && objects=() || objects=(DEB_OBJECTS="$CLAWBACK_BUILD")
make -s BUILD="$work/out" deb "${objects[@]}"
deb=$(echo "$work"/out/deb/clawback_*.deb)
[ -s "$deb" ] || fail "no package"

echo "== what is in it"
version=$("$clawback_program" --version | grep -o '[0-9.]*' | head -n 1)
assert_equal "$version" "$(dpkg-deb -f "$deb" Version)" "its version"
dpkg-deb -f "$deb" Depends | tr ',' '\n' | sed 's/^ *//; s/ .*//' | sort >"$work/depends"
for package in dmsetup udev libblkid1 libbpf1 libc6 libcurl4 libdevmapper1.02.1 \
	libini-config5 libmicrohttpd12 liburing2 libzstd1; do
	grep -qx "$package" "$work/depends" || fail "it does not depend on $package"
done
dpkg-deb -c "$deb" | awk '$2 == "root/root" && $1 !~ /^d/ { sub(/^\.\//, "", $6); print $6, $1 }' |
	grep -v '^usr/share/\(doc\|lintian\)/' | sort >"$work/files"
sort >"$work/wanted" <<-END
	etc/default/grub.d/clawback.cfg -rw-r--r--
	lib/systemd/system-shutdown/clawback -rwxr-xr-x
	lib/systemd/system/clawback-backup@.service -rw-r--r--
	lib/systemd/system/clawback-backup@.timer -rw-r--r--
	lib/systemd/system/clawback-handover-root.service -rw-r--r--
	lib/systemd/system/clawback-handover.service -rw-r--r--
	lib/systemd/system/clawback-protect.service -rw-r--r--
	$(cd scripts/hooks && printf 'usr/lib/clawback/hooks/%s -rwxr-xr-x\n' *)
	usr/lib/clawback/nbdkit-clawback-plugin.so -rw-r--r--
	usr/lib/clawback/rescue-image -rwxr-xr-x
	$(cd scripts/rescue && for file in *; do
		echo "usr/lib/clawback/rescue/$file -rw$([ -x "$file" ] && echo xr-xr-x || echo -r--r--)"
	done)
	usr/sbin/clawback -rwxr-xr-x
	usr/share/initramfs-tools/hooks/clawback -rwxr-xr-x
	usr/share/initramfs-tools/scripts/local-premount/clawback -rwxr-xr-x
	usr/share/man/man5/clawback.conf.5.gz -rw-r--r--
	usr/share/man/man8/clawback.8.gz -rw-r--r--
END
diff "$work/wanted" "$work/files" || fail "its files: wanted (<), there (>)"
dpkg-deb -e "$deb" "$work/control"
assert_equal /etc/default/grub.d/clawback.cfg "$(cat "$work/control/conffiles")" "its conffiles"
grep -q '^activate-noawait update-initramfs$' "$work/control/triggers"
if command -v lintian >/dev/null; then
	lintian --allow-root --fail-on error,warning "$work"/out/deb/clawback_*.changes ||
		fail "lintian complains"
else
	echo "  no lintian here: it was not asked"
fi

echo "== installed"
root=$work/root
mkdir "$work/over" "$root"
mount -t tmpfs -o mode=755 over "$work/over"
defer umount "$work/over"
mkdir "$work/over/upper" "$work/over/work"
mount -t overlay -o "lowerdir=/,upperdir=$work/over/upper,workdir=$work/over/work" root "$root" ||
	skip "this kernel has no overlayfs"
defer umount "$root"
for folder in proc sys dev; do
	mount --rbind "/$folder" "$root/$folder"
	mount --make-rslave "$root/$folder"
	defer umount -R "$root/$folder"
done
mount -t tmpfs -o mode=755 run "$root/run"
defer umount "$root/run"
cp "$deb" "$root/opt/clawback.deb"

in_root() { chroot "$root" env DEBIAN_FRONTEND=noninteractive LC_ALL=C.UTF-8 "$@"; }
package() {
	in_root dpkg --no-triggers "$@" >"$work/dpkg.log" 2>&1 && return
	cat "$work/dpkg.log"
	return 1
}
# changed: the files in the layer, but for what dpkg and systemd keep of every package.
changed() {
	(cd "$work/over/upper" && find . ! -type d | sed 's|^\./||') |
		sed -E '/^(opt\/|var\/(lib|cache|log)\/(dpkg|apt|man|debconf|ldconfig)|etc\/ld.so.cache)/d' |
		sort
}
users() {
	(cd "$root" && find srv/repository etc/clawback var/lib/clawback/mine -type f \
		-exec sha256sum {} + | sort)
}
package -i /opt/clawback.deb
assert_equal "$version" "$(in_root clawback --version | grep -o '[0-9.]*' | head -n 1)" "what it says"
in_root systemd-analyze verify /lib/systemd/system/clawback-{protect,handover,handover-root}.service \
	>"$work/verify" 2>&1 || fail "systemd-analyze verify: $(cat "$work/verify")"
! grep clawback "$work/verify" || fail "systemd-analyze verify complains"
exposure=$(in_root systemd-analyze security --offline=true /lib/systemd/system/clawback-protect.service |
	sed -n 's/.*exposure level for.*: \([0-9.]*\) .*/\1/p')
echo "  exposure of the daemon's unit: $exposure"
# Another systemd may count otherwise.
! systemctl --version | grep -q '^systemd 252' || grep -q "exposure at $exposure " docs/clawback.8 ||
	fail "clawback(8) names another figure"
! changed | grep 'wants/' || fail "a unit is enabled"
gunzip -c "$root/usr/share/man/man5/clawback.conf.5.gz" | grep '/usr/local/lib' &&
	fail "the man page names another folder"
changed >"$work/installed"

echo "== used"
make_disk disk 8M
(umask 077 && echo "a passphrase for tests only" >"$root/opt/passphrase")
mkdir "$root/srv/repository"
in_root clawback keygen --out /etc/clawback/recovery.pem --passphrase-file /opt/passphrase >/dev/null
printf '%s\n' '[repository]' 'url = file:///srv/repository' \
	'recipient = /etc/clawback/recovery.pem.pub' '[volume v]' "device = $disk" 'rpo = 1h' \
	>"$root/etc/clawback/clawback.conf"
in_root clawback init >/dev/null
# This kernel may have no device-mapper.
in_root clawback doctor >"$work/doctor" 2>&1 ||
	[ "$(grep BAD "$work/doctor" | grep -vc device-mapper)" = 0 ] || fail "doctor: $(cat "$work/doctor")"
# With what the daemon's unit leaves it, a hook can become another user and be ended then.
printf '%s\n' '#!/bin/sh' 'setpriv --reuid=postgres --regid=postgres --init-groups id -un >/opt/who' \
	'echo ready' 'read -r _' 'exec setpriv --reuid=postgres --regid=postgres --init-groups sleep 100' \
	>"$root/opt/hook"
chmod 755 "$root/opt/hook"
sed -n 's/^CapabilityBoundingSet=//p' "$root/lib/systemd/system/clawback-protect.service" |
	xargs | tr 'A-Z ' 'a-z,' | sed 's/cap_/+/g' >"$work/may"
in_root setpriv --no-new-privs --inh-caps=-all --bounding-set="-all,$(cat "$work/may")" \
	timeout 20 clawback backup v -o "volume v.hook=/opt/hook" -o "volume v.hook_timeout=1s" \
	>/dev/null 2>"$work/hook.err" || fail "with $(cat "$work/may"): $(cat "$work/hook.err")"
assert_equal postgres "$(cat "$root/opt/who")" "who the hook became"
grep -q "did not end within 1 s" "$work/hook.err" || fail "the hook was not ended: $(cat "$work/hook.err")"
in_root timeout 20 clawback protect --once >"$work/once" 2>&1 || fail "protect: $(cat "$work/once")"
in_root systemctl enable clawback-protect.service clawback-handover.service \
	clawback-backup@v.timer 2>/dev/null
[ -d /sys/fs/bpf/clawback ] || fail "nothing is tracked"
changed | grep -c 'wants/clawback' >/dev/null || fail "no unit could be enabled"

echo "== upgraded: it stays tracked"
fill "$disk" 1 4
package -i /opt/clawback.deb
assert_equal tracked "$(in_root clawback status v --json | jq -r '.volumes[].trust')" "the trust in v"
in_root clawback backup v --json >"$work/backup.json"
assert_kind incremental

echo "== not removed under an adopted partition"
touch "$root/etc/udev/rules.d/62-clawback-files.rules"
assert_exit 1 package -r clawback >/dev/null
grep -q "clawback release files" "$work/dpkg.log" || fail "it does not say what to do"
[ -x "$root/usr/sbin/clawback" ] || fail "it was removed"
rm "$root/etc/udev/rules.d/62-clawback-files.rules"

echo "== removed: configuration and state stay"
package -r clawback
[ ! -e /sys/fs/bpf/clawback ] || fail "the tracker is still in the kernel"
for file in srv/repository/clawback.json etc/clawback/clawback.conf \
	var/lib/clawback/volumes/v/state.json etc/default/grub.d/clawback.cfg; do
	[ -e "$root/$file" ] || fail "$file is gone"
done
! changed | grep -E '^(usr|lib)/' || fail "files are left"

echo "== purged: only what is the user's stays"
# A repository at a bad place.
cp -r "$root/srv/repository" "$root/var/lib/clawback/mine"
users >"$work/before"
package -P clawback
users | diff "$work/before" - || fail "what is the user's: before (<), after (>)"
changed | grep -v -E '^(srv/repository|etc/clawback|var/lib/clawback/mine)/' >"$work/left" || true
[ ! -s "$work/left" ] || fail "left behind: $(cat "$work/left")"

echo "== with nothing of the user's, nothing stays"
rm -rf "$root/srv/repository" "$root/etc/clawback" "$root/var/lib/clawback"
package -i /opt/clawback.deb
assert_equal "$(cat "$work/installed")" "$(changed)" "what is installed the second time"
package -P clawback
assert_equal "" "$(changed)" "what is left"
for folder in etc/clawback var/lib/clawback usr/lib/clawback usr/share/doc/clawback; do
	[ ! -e "$root/$folder" ] || fail "folder $folder is left"
done
