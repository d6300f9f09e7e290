#!/bin/busybox sh
# shellcheck shell=dash
# Process 1 of the guest, in the initramfs: puts the host's root, read-only,
# under an overlay that forgets (or lies on a disk), completes the mounts and goes there. All with
# busybox: starting a program through virtiofs costs an emulated CPU 50 ms.
# Started by scripts/vm, whose orders are in /vm (listed in guest-main.sh).
PATH=/bin
/bin/busybox --install -s /bin
give_up() {
	echo "guest-init: $*" >/dev/kmsg
	sleep 1
	echo b >/proc/sysrq-trigger
	sleep 60
}

mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
for module in /modules/*; do
	insmod "$module" || give_up "insmod $module failed"
done

mount -t virtiofs -o ro hostroot /lower || give_up "no root through virtiofs"
if [ -e /vm/root-disk ]; then
	mount -t ext4 "$(cat /vm/root-disk)" /over || give_up "no ext4 on the root disk"
else
	mount -t tmpfs -o "mode=755,size=$(cat /vm/overlay-size)" overlay /over
fi
mkdir -p /over/upper /over/work
mount -t overlay -o lowerdir=/lower,upperdir=/over/upper,workdir=/over/work overlay /root ||
	give_up "no overlay"

mount -t tmpfs -o mode=755,size=256M run /root/run
cp -r /vm /root/run/clawback-vm
mkfifo /root/run/clawback-vm/out /root/run/clawback-vm/err
mkdir -p /root/run/lock /root/run/user /root/run/postgresql
chmod 1777 /root/tmp /root/run/lock
postgres=$(sed -n 's/^postgres:[^:]*:\([0-9]*:[0-9]*\):.*/\1/p' /root/etc/passwd)
[ -z "$postgres" ] || chown "$postgres" /root/run/postgresql

mkdir -p /dev/pts /dev/shm
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

version=$(uname -r)
mkdir -p "/root/lib/modules/$version"
mount --bind "/root/$(cat /vm/modules)/$version" "/root/lib/modules/$version"
while read -r tag path; do
	mkdir -p "/root/$path"
	mount -t virtiofs "$tag" "/root/$path" || give_up "cannot share $path"
done </vm/shares

hostname clawback-guest
ip link set lo up
mount --move /proc /root/proc
mount --move /sys /root/sys
mount --move /dev /root/dev
exec switch_root /root /run/clawback-vm/guest-main.sh
