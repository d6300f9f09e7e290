#!/bin/bash
# Process 1 of the guest once the host's root is in place (tests/lib/guest-init.sh
# did that): runs the command, reports its exit code on the port "status", ends
# the guest.
#
#   guest-main.sh           as process 1 (or hands over to systemd, if so ordered)
#   guest-main.sh command   only the command and the report: systemd's unit
#
# Orders, files written by scripts/vm: command (a shell script), init (plain,
# udev or systemd), merge (present: stderr goes the way of stdout), and for
# guest-init.sh overlay-size, root-disk (a device), modules (the host's folder for
# /lib/modules), shares (lines of tag and path).
orders=/run/clawback-vm
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
export HOME=/root LANG=C.UTF-8 TERM=dumb

# The nodes of the virtio ports by name, without needing udev's links.
declare -A ports
for entry in /sys/class/virtio-ports/*; do
	read -r name <"$entry/name"
	ports[$name]=/dev/${entry##*/}
done

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
	# The overlay has no device, and the host's file systems are not here. Who has
	# a root disk writes a table of his own.
	[ -e $orders/root-disk ] || : >/etc/fstab
	# Debian empties /tmp at a boot; here it is the host's, with the tree perhaps.
	mkdir -p /run/tmpfiles.d
	echo 'd /tmp 1777 root root -' >/run/tmpfiles.d/tmp.conf
	exec /lib/systemd/systemd --unit=clawback-vm.target --show-status=no </dev/null
}

# Waits for a child, but only so long.
wait_at_most() {
	local tenths=$1 pid=$2
	while [ "$tenths" -gt 0 ] && kill -0 "$pid" 2>/dev/null; do
		sleep 0.1
		tenths=$((tenths - 1))
	done
}

# Output goes through pipes, not straight to the ports: a port can be open only
# once, and scripts do open /dev/stderr.
run_command() {
	local code copier_out copier_err
	cat <$orders/out >"${ports[out]}" &
	copier_out=$!
	cat <$orders/err >"${ports[err]}" &
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
	wait_at_most 20 $copier_out
	wait_at_most 20 $copier_err
	return $code
}

report() {
	# In one piece: each write to a port is a round trip to QEMU.
	dmesg >$orders/dmesg
	cat $orders/dmesg >"${ports[dmesg]}"
	echo "exit $1" >"${ports[status]}"
}

if [ "${1:-}" != command ]; then
	read -r init <$orders/init
	case $init in
	systemd) start_systemd ;;
	udev) start_udev ;;
	# libdevmapper otherwise trusts udev to make the nodes, even where none runs.
	*) export DM_DISABLE_UDEV=1 ;;
	esac
fi
echo started >"${ports[status]}"
run_command
report $?
# Not waited for without limit: with a suspended device it never returns.
sync &
wait_at_most 50 $!
echo b >/proc/sysrq-trigger
sleep 60
