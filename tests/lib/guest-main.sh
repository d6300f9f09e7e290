#!/bin/bash
# Process 1 of the guest once the host's root is in place: completes the mounts,
# runs the command, reports its exit code on the port "status", ends the guest.
#
#   guest-main.sh           as process 1 (or hands over to systemd, if so ordered)
#   guest-main.sh command   only the command and the report: systemd's unit
#
# Orders, written by scripts/vm: command (a shell script), init (plain, udev or
# systemd), modules (the host's folder for /lib/modules), shares (tag and path),
# merge (present: the command's stderr goes the way of its stdout).
orders=/run/clawback-vm
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
export HOME=/root LANG=C.UTF-8 TERM=dumb

# The node of a virtio port, without needing udev's links.
port() {
	local entry
	for entry in /sys/class/virtio-ports/*/name; do
		[ "$(cat "$entry")" = "$1" ] || continue
		entry=${entry%/name}
		echo "/dev/${entry##*/}"
		return
	done
}

mount_all() {
	local tag path version
	mkdir -p /dev/pts /dev/shm /run/lock /run/user /run/postgresql
	mount -t devpts -o mode=600,ptmxmode=000 devpts /dev/pts
	mount -t tmpfs -o mode=1777 shm /dev/shm
	ln -sfn /proc/self/fd /dev/fd
	ln -sfn fd/0 /dev/stdin
	ln -sfn fd/1 /dev/stdout
	ln -sfn fd/2 /dev/stderr
	mount -t cgroup2 cgroup2 /sys/fs/cgroup
	mount -t bpf bpf /sys/fs/bpf
	mount -t debugfs debugfs /sys/kernel/debug
	mount -t tracefs tracefs /sys/kernel/tracing
	chmod 1777 /run/lock
	chown postgres:postgres /run/postgresql 2>/dev/null
	chmod 1777 /tmp
	version=$(uname -r)
	mkdir -p "/lib/modules/$version"
	mount --bind "$(cat $orders/modules)/$version" "/lib/modules/$version"
	while read -r tag path; do
		mkdir -p "$path"
		mount -t virtiofs "$tag" "$path" || echo "guest-main: cannot share $path" >/dev/kmsg
	done <$orders/shares
	hostname clawback-guest
	/bin/busybox ip link set lo up
	modprobe -a dm-mod loop
}

start_udev() {
	/lib/systemd/systemd-udevd --daemon
	udevadm trigger --action=add
	udevadm settle --timeout=60
}

# A unit and a target of its own: what the host has enabled stays out.
start_systemd() {
	local units=/run/systemd/system
	mkdir -p $units
	cat >$units/clawback-vm.target <<-END
		[Unit]
		Requires=basic.target
		After=basic.target
		AllowIsolate=yes
	END
	cat >$units/clawback-vm.service <<-END
		[Unit]
		Requires=basic.target
		After=basic.target
		[Service]
		Type=oneshot
		ExecStart=$orders/guest-main.sh command
		KillMode=process
		TimeoutStartSec=infinity
	END
	mkdir -p $units/clawback-vm.target.wants
	ln -s ../clawback-vm.service $units/clawback-vm.target.wants/
	# The overlay has no device, and the host's file systems are not here.
	: >/etc/fstab
	exec /lib/systemd/systemd --unit=clawback-vm.target --show-status=no </dev/null
}

# Output goes through pipes, not straight to the ports: a port can be open only
# once, and scripts do open /dev/stderr.
run_command() {
	local out err code copier_out copier_err
	out=$(port out)
	err=$(port err)
	rm -f $orders/out $orders/err
	mkfifo $orders/out $orders/err
	cat <$orders/out >"$out" &
	copier_out=$!
	cat <$orders/err >"$err" &
	copier_err=$!
	exec 8>$orders/out 9>$orders/err
	if [ -e $orders/merge ]; then
		bash $orders/command </dev/null >&8 2>&8 8>&- 9>&-
	else
		bash $orders/command </dev/null >&8 2>&9 8>&- 9>&-
	fi
	code=$?
	exec 8>&- 9>&-
	# A daemon left behind may hold a pipe for ever.
	for _ in {1..20}; do
		kill -0 $copier_out 2>/dev/null || kill -0 $copier_err 2>/dev/null || break
		sleep 0.1
	done
	return $code
}

report() {
	# In one piece: each write to a port is a round trip to QEMU.
	dmesg >$orders/dmesg
	cat $orders/dmesg >"$(port dmesg)"
	echo "exit $1" >"$(port status)"
}

if [ "${1:-}" != command ]; then
	mount_all
	case $(cat $orders/init) in
	systemd) start_systemd ;;
	udev) start_udev ;;
	esac
fi
echo "started $(cut -d ' ' -f 1 /proc/uptime)" >"$(port status)"
run_command
code=$?
report $code
# Not waited for: with a suspended device it would never return.
timeout 10 sync &
for _ in {1..50}; do
	kill -0 $! 2>/dev/null || break
	sleep 0.1
done
echo b >/proc/sysrq-trigger
sleep 60
