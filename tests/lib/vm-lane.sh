# shellcheck shell=bash disable=SC2154
# The vm lane of scripts/test, which sources this: tests that want the same guest
# share one boot; a guest that dies takes only the test down that ran in it; the
# kernels' guests run side by side, for much of a test is waiting.

# Lines "NAME KERNEL GUEST...": what is to be run.
vm_list() {
	local name kernel wanted
	for name in $(scripts vm); do
		wanted=$(test_header "tests/vm/$name.sh" kernels "6.1 6.12")
		[ $full = 1 ] || [ -n "$kernels_asked" ] ||
			wanted=$(test_header "tests/vm/$name.sh" quick-kernels "$wanted")
		[ -z "$here" ] || wanted=here
		for kernel in $wanted; do
			[ -n "$here" ] || case " $kernels " in *" $kernel "*) ;; *) continue ;; esac
			wants_test "$name" || wants_test "$name@$kernel" || continue
			echo "$name $kernel $(test_header "tests/vm/$name.sh" guest plain)"
		done
	done
}

# vm_options GUEST...: sets vm_arguments for scripts/vm, vm_disks (their sizes).
vm_options() {
	local word asked letters=({a..z})
	vm_arguments=() vm_disks=() vm_kind=plain vm_nodes=
	for word; do
		case $word in
		plain|udev|systemd|host) vm_kind=$word ;;
		cpus=*) vm_arguments+=(--cpus "${word#cpus=}") ;;
		disk=*)
			vm_nodes="$vm_nodes /dev/vd${letters[${#vm_disks[@]}]}"
			vm_disks+=("${word#disk=}")
			vm_arguments+=(--disk "${word#disk=}") ;;
		*M) vm_arguments+=(--memory "${word%M}") ;;
		*) return 1 ;;
		esac
	done
	case $vm_kind in udev|systemd) vm_arguments+=("--$vm_kind") ;; esac
	# How long, how often: what some tests' headers let one choose.
	for asked in $(compgen -e CLAWBACK_SOAK_) $(compgen -e CLAWBACK_LATENCY_); do
		vm_arguments+=(--env "$asked")
	done
}

# vm_boot KERNEL FOLDER NAME...: guest-tests.sh in a guest, or here.
vm_boot() {
	local kernel=$1 folder=$2 name limit=180
	shift 2
	for name; do
		limit=$((limit + 30 + $(test_limit "tests/vm/$name.sh" 300)))
	done
	export CLAWBACK_KERNEL=$kernel
	if [ "$kernel" = here ]; then
		vm_here "$folder" "$@"
		return
	fi
	# A signal to this process is one to the guest.
	exec scripts/vm --kernel "$kernel" "${vm_arguments[@]}" --timeout $limit --share "$folder" \
		--ignore-dmesg --log "$folder/kernel.log" --env CLAWBACK_FULL --env CLAWBACK_BUILD \
		--env CLAWBACK_KERNEL --env CLAWBACK_SEED --env CLAWBACK_DISKS="$vm_nodes" \
		-- tests/lib/guest-tests.sh "$folder" "$@"
}

# On the running kernel, scratch disks are loop devices.
vm_here() {
	local folder=$1 nodes='' node index size sector code=0
	shift
	for index in "${!vm_disks[@]}"; do
		size=${vm_disks[index]}
		case $size in *,4k) sector=4096 ;; *) sector=512 ;; esac
		truncate -s "${size%,4k}" "$folder/disk$index"
		node=$(losetup --find --show --sector-size "$sector" "$folder/disk$index") || return 1
		nodes="$nodes $node"
	done
	CLAWBACK_DISKS=$nodes tests/lib/guest-tests.sh "$folder" "$@" || code=$?
	for node in $nodes; do
		losetup --detach "$node"
	done
	return $code
}

# vm_once_more TEST LOG: whether TEST is to run again, for what ended it was the
# emulator's fault by scripts/vm's evidence, and the first such.
vm_once_more() {
	grep -q "the emulator's fault" "$2" || return
	[ ! -e "$run_folder/again-$1" ] || return
	touch "$run_folder/again-$1"
	echo "again    vm      $1: $(grep -m 1 "the emulator's fault" "$2")"
}

# vm_share_cpu FOLDER NAME: writes into its result what NAME took of the host's processors:
# its part of the whole boot's, by the guest's own count, which runs on while the host's
# processors are busy elsewhere.
vm_share_cpu() {
	local verdict seconds cpu reason before after all
	[ -e "$1/$2.busy" ] && [ "$kernel" != here ] || return 0
	read -r verdict seconds cpu reason <"$1/$2.result"
	read -r before after <"$1/$2.busy"
	all=$(sort -n -k 2 "$1"/*.busy | tail -n 1)
	cpu=$((boot_cpu * (after - before) / ${all#* }))
	echo "$verdict $seconds $((cpu / 10)).$((cpu % 10)) $reason" >"$1/$2.result"
}

# vm_settle KERNEL FOLDER NAME...: publishes what a boot brought; sets vm_rest to
# the tests that it did not come to.
vm_settle() {
	local kernel=$1 folder=$2 name log progress=0
	shift 2
	vm_rest=()
	if [ -s "$folder/boot.complaints" ]; then
		no_test vm "guest@$kernel" FAILED "the kernel complained before any test" \
			"$folder/boot.complaints"
	fi
	for name; do
		log=$logs/vm-$name@$kernel.log
		[ ! -e "$folder/$name.log" ] || cp "$folder/$name.log" "$log"
		if [ -e "$folder/$name.result" ]; then
			vm_share_cpu "$folder" "$name"
			publish vm "$name@$kernel" "$folder/$name.result" "$log"
			progress=1
		elif [ -e "$folder/$name.started" ] && vm_once_more "$name@$kernel" "$folder/boot.log"; then
			vm_rest+=("$name")
			progress=1
		elif [ -e "$folder/$name.started" ]; then
			cat "$folder/boot.log" "$folder/kernel.log" >>"$log" 2>/dev/null
			echo "FAILED $((SECONDS - boot_started)).0 $((boot_cpu / 10)).$((boot_cpu % 10)) the guest did not survive: $(head -n 1 "$folder/boot.log")" \
				>"$folder/$name.result"
			publish vm "$name@$kernel" "$folder/$name.result" "$log"
			progress=1
		else
			vm_rest+=("$name")
		fi
	done
	[ $progress = 1 ] && return
	# A boot that came to nothing would do so again.
	cat "$folder/boot.log" "$folder/kernel.log" >"$logs/vm-boot@$kernel.log" 2>/dev/null
	for name in "${vm_rest[@]}"; do
		no_test vm "$name@$kernel" FAILED "no guest: $(head -n 1 "$folder/boot.log")" \
			"$logs/vm-boot@$kernel.log"
	done
	vm_rest=()
}

# vm_host_test NAME KERNEL: a test that boots its guests itself.
vm_host_test() {
	local test=$1@$2 log=$logs/vm-$1@$2.log limit
	limit=$(test_limit "tests/vm/$1.sh" 300)
	export CLAWBACK_KERNEL=$2
	test_run "$limit" "$log" "$run_folder/result-$test" bash "tests/vm/$1.sh"
	if grep -q ^FAILED "$run_folder/result-$test" && vm_once_more "$test" "$log"; then
		test_run "$limit" "$log" "$run_folder/result-$test" bash "tests/vm/$1.sh"
	fi
	publish vm "$test" "$run_folder/result-$test" "$log"
}

# vm_group KERNEL "GUEST" NAME...: tests that want the same guest.
vm_group() {
	local kernel=$1 guest=$2 folder boot_started boot_cpu name
	shift 2
	# shellcheck disable=SC2086
	if ! vm_options $guest; then
		for name; do
			no_test vm "$name@$kernel" FAILED "its header asks for an unknown guest: $guest"
		done
		return
	fi
	if [ "$kernel" = here ]; then
		case $vm_kind in
		systemd|host) set -- "$@" '' ;;
		udev) [ -e /run/udev/control ] || set -- "$@" '' ;;
		esac
		if [ -z "${!#}" ]; then
			for name in "${@:1:$#-1}"; do
				no_test vm "$name@here" skipped "wants a guest with $vm_kind"
			done
			return
		fi
	fi
	if [ "$vm_kind" = host ]; then
		for name; do
			vm_host_test "$name" "$kernel"
		done
		return
	fi
	while [ $# -gt 0 ]; do
		folder=$(mktemp -d "$run_folder/guest-$kernel.XXXXXX")
		boot_started=$SECONDS
		test_cpu "$folder/times"
		boot_cpu=$test_cpu_tenths
		vm_boot "$kernel" "$folder" "$@" >"$folder/boot.log" 2>&1 &
		wait $!
		test_cpu "$folder/times"
		boot_cpu=$((test_cpu_tenths - boot_cpu))
		vm_settle "$kernel" "$folder" "$@"
		rm -rf "$folder"
		set -- "${vm_rest[@]}"
	done
}

vm_kernel() {
	local kernel=$1 guest names
	trap 'stop_all; exit 130' INT TERM HUP
	trap - EXIT
	if [ "$kernel" != here ]; then
		# Devices of the lanes beside it are not its tests' leftovers, nor theirs its.
		export CLAWBACK_SHARED_MACHINE=1 TMPDIR=$run_folder/vm-$kernel
		unset CLAWBACK_TEST_BESIDE
		mkdir -m 755 "$TMPDIR"
	fi
	while read -r guest; do
		names=$(vm_list | awk -v kernel="$kernel" -v guest="$guest" \
			'$2 == kernel { name = $1; $1 = $2 = ""; sub(/^ +/, ""); if ($0 == guest) print name }')
		# shellcheck disable=SC2086
		vm_group "$kernel" "$guest" $names
	done < <(vm_list | awk -v kernel="$kernel" '$2 == kernel { $1 = $2 = ""; sub(/^ +/, ""); print }' | sort -u)
}

# vm_lane_start: begins, and returns; vm_lane_wait: returns once all of it ended.
vm_pids=()
vm_lane_start() {
	local kernel
	if [ "$(id -u)" != 0 ]; then
		skip_lane vm "not root"
		return
	fi
	if [ -n "$here" ]; then
		if ! dmsetup targets >/dev/null 2>&1; then
			skip_lane vm "the running kernel has no device-mapper"
			return
		fi
		# The same kernel's devices: nothing else may be at work.
		vm_kernel here
		return
	fi
	if ! command -v qemu-system-x86_64 >/dev/null || [ ! -x /usr/lib/qemu/virtiofsd ]; then
		skip_lane vm "no QEMU or virtiofsd: run scripts/bootstrap"
		return
	fi
	for kernel in $kernels; do
		vm_kernel "$kernel" </dev/null &
		vm_pids+=($!)
		[ "$(nproc)" -gt 1 ] || wait $!
	done
}

vm_lane_wait() {
	[ ${#vm_pids[@]} = 0 ] || wait "${vm_pids[@]}"
}
