#!/bin/busybox sh
# Process 1 of the guest, in the initramfs: puts the host's root, read-only,
# under an overlay that forgets, and goes there. Started by scripts/vm, which
# leaves its orders in /vm (see there).
PATH=/bin
alias_all() { /bin/busybox --install -s /bin; }
give_up() { echo "guest-init: $*" >/dev/kmsg; echo o >/proc/sysrq-trigger; sleep 60; }

alias_all
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
for module in /modules/*; do
	insmod "$module" || give_up "insmod $module failed"
done

mount -t virtiofs -o ro hostroot /lower || give_up "no root through virtiofs"
mount -t tmpfs -o "mode=755,size=$(cat /vm/overlay-size)" overlay /over
mkdir /over/upper /over/work
mount -t overlay -o lowerdir=/lower,upperdir=/over/upper,workdir=/over/work overlay /root ||
	give_up "no overlay"
mount -t tmpfs -o mode=755,size=256M run /root/run
cp -r /vm /root/run/clawback-vm
mount --move /proc /root/proc
mount --move /sys /root/sys
mount --move /dev /root/dev
exec switch_root /root /run/clawback-vm/guest-main.sh
