# shellcheck shell=bash disable=SC2154
# The host's side of stories about a real Debian's root file system; sourced after
# tests/lib/guest.sh, clawback.sh and debian-image.sh.
#
#   root_story KIND STEPS       the machine's disks, in $work; clawback and a recovery key
#                               are to be installed by step_install of tests/lib/root-step.sh,
#                               which the steps, a file in tests/lib, may use
#   boot STEP [ARG]...          with the kernel's $parameters
#   saved WORD                  what the end of the last boot said of its saving
#   restores                    the latest point restores to what its snapshot was
root_story() {
	debian_image
	mkdir -p "$work/data/install"
	(umask 077 && echo "a passphrase for tests only" >"$work/passphrase")
	"$clawback_program" keygen --out "$work/recovery.pem" --passphrase-file "$work/passphrase" >/dev/null
	make -s BUILD="$CLAWBACK_BUILD" DESTDIR="$work/data/install" PREFIX=/usr install
	cp "$work/recovery.pem.pub" "$work/data/install/etc/clawback/"
	cat tests/lib/root-step.sh "tests/lib/$2" >"$work/data/step"
	debian_disks "$work" "$1"
}

boot() {
	echo "==== boot: $*, $SECONDS s"
	debian_boot "$work" "${parameters:-}" "$@"
}

saved() {
	grep -a 'clawback: ' "$work/console" || true
	grep -aq "clawback: .*$1" "$work/console" || fail "the console does not say '$1'"
}

# The repository is taken off the machine's disk.
restores() {
	rm -rf "$work/taken"
	mkdir "$work/taken"
	debugfs -R "rdump /repository $work/taken" "$work/data.img" >/dev/null 2>&1
	printf '[repository]\nurl = file://%s\nrecipient = %s\n[agent]\nstate = %s\n[volume root]\ndevice = /dev/null\n' \
		"$work/taken/repository" "$work/recovery.pem.pub" "$work/state" >"$clawback_config"
	assert_restores root@latest
}
