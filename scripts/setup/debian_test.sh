#!/usr/bin/env bash
# A fresh Debian: the tree is copied into a root that has nothing but make and ccache, its packages are built and looked
# at there, and apt installs them into a second root, where the program runs, a program links, and all is removed again.
# Then targets of the Makefile in the first root.
#   debian_test.sh SUITE [TARGET]...     bookworm, trixie; as root, with mmdebstrap
# The roots are archives that are unpacked anew each time (debian_root.sh); what apt downloads into them and ccache's
# objects are kept in .cache/debian. A model that models/ has is copied: PyPI need not be reached.
set -euo pipefail
suite=$1
shift
cd "$(dirname "$0")/../.."
say() { echo "debian-test, $suite: $*"; }
[ "$(id -u)" -eq 0 ] || {
	say "needs root" >&2
	exit 1
}
archive=$(scripts/setup/debian_root.sh "$suite")
kept=$PWD/.cache/debian/$suite
mkdir -p "$kept/archives" "$kept/ccache"
work=$(mktemp -d "$PWD/.cache/debian/.work.XXXXXX")
trap 'rm -rf --one-file-system "$work"' EXIT
trap 'exit 1' HUP INT TERM

make_root() {
	mkdir "$work/$1"
	tar -xf "$archive" -C "$work/$1" --exclude './dev/*'
	cp -L /etc/resolv.conf "$work/$1/etc/"
	echo force-unsafe-io >"$work/$1/etc/dpkg/dpkg.cfg.d/fast" # nobody needs the root after a crash
}
# Runs a command in a root, in name spaces of its own: what it mounts and starts ends with it.
in_root() {
	# shellcheck disable=SC2016
	unshare --mount --pid --ipc --uts --fork sh -ec '
		mount -t proc proc "$1/proc"
		mount -t tmpfs -o mode=755 dev "$1/dev"
		for node in null zero full random urandom tty; do cp -a "/dev/$node" "$1/dev/"; done
		ln -s /proc/self/fd "$1/dev/fd"
		mkdir -m 1777 "$1/dev/shm"
		mkdir "$1/dev/pts"
		mount -t devpts -o newinstance,ptmxmode=0666 devpts "$1/dev/pts"
		ln -s pts/ptmx "$1/dev/ptmx"
		mkdir -p "$1/root/.cache/ccache"
		mount --bind "$2/archives" "$1/var/cache/apt/archives"
		mount --bind "$2/ccache" "$1/root/.cache/ccache"
		root=$1
		shift 2
		exec chroot "$root" env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LANG=C.UTF-8 TERM=dumb \
			DEBIAN_FRONTEND=noninteractive "$@"
	' sh "$work/$1" "$kept" "${@:2}" </dev/null
}
quietly() { "$@" >"$work/log" 2>&1 || { tail -n 40 "$work/log"; say "failed: ${*:2}"; exit 1; }; }
aptly() { quietly in_root "$1" apt-get -q "${@:2}"; }

# ---- Built

make_root built
mkdir "$work/built/trimtab"
git ls-files -z --cached --others --exclude-standard | tar -c --null --ignore-failed-read -T - |
	tar -x -C "$work/built/trimtab"
if [ -d models ]; then
	mkdir "$work/built/trimtab/models"
	cp -L models/SmolLM2-*.gguf "$work/built/trimtab/models/"
fi
aptly built update
aptly built install -y --no-install-recommends ccache make
make=(in_root built make -C /trimtab JOBS="${JOBS:-$(nproc)}")
"${make[@]}" deb-test

# ---- Installed

make_root fresh
cp "$work"/built/trimtab/build-package/*.deb examples/minimal.c tests/golden/tiny-llama/tiny-llama.q8_0.gguf \
	"$work/fresh/root/"
aptly fresh update
quietly in_root fresh sh -c 'apt-get install -y --no-install-recommends /root/trimtab_*.deb'
quietly in_root fresh sh -ec 'cd /root && trimtab version && trimtab generate *.gguf --raw -n 2 -p mill'
say "installed by apt with $(in_root fresh sh -c 'ldd /usr/bin/trimtab' | wc -l) libraries: runs"
quietly in_root fresh sh -c 'apt-get install -y --no-install-recommends gcc libc6-dev pkg-config /root/libtrimtab*.deb'
# shellcheck disable=SC2016
quietly in_root fresh sh -ec 'cd /root && cc minimal.c -o minimal $(pkg-config --cflags --libs trimtab) &&
	./minimal *.gguf ab && ldd minimal | grep libtrimtab.so.0 && apt-get purge -y trimtab libtrimtab-dev libtrimtab0
	left=$(find /usr /etc /var/lib -name "*trimtab*" -not -path "/var/lib/dpkg/*")
	[ -z "$left" ] || { echo "left behind: $left"; exit 1; }'
say "the library installed, linked to, and all of it removed"

for target; do
	say "make $target"
	"${make[@]}" "$target"
done
