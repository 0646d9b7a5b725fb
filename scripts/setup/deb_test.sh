#!/usr/bin/env bash
# Looks at the packages of make deb as their users would: lintian without errors; unpacked into a folder, the program
# runs, its manual is readable and a program links; and, as root where mmdebstrap is there, apt installs them into a
# fresh Debian, where the same holds.
#   deb_test.sh FOLDER [SUITE]     the folder with the .deb files; a Debian for mmdebstrap, bookworm if not said
set -euo pipefail
folder=$(realpath "$1") suite=${2:-bookworm}
cd "$(dirname "$0")/../.."
work=$(mktemp -d)
trap 'rm -rf --one-file-system "$work"' EXIT
model=tests/golden/tiny-llama/tiny-llama.q8_0.gguf

say() { echo "deb-test: $*"; }
fail() {
	say "$*" >&2
	exit 1
}
quietly() { "$@" >"$work/log" 2>&1 || { tail -n 30 "$work/log" >&2; fail "$* failed"; }; }

for package in trimtab libtrimtab0 libtrimtab-dev; do
	[ "$(find "$folder" -maxdepth 1 -name "${package}_*.deb" | wc -l)" = 1 ] || fail "there is not one $package"
done
if command -v lintian >/dev/null; then
	lintian --fail-on error "$folder"/*.deb >"$work/lintian" 2>/dev/null ||
		fail "lintian: $(grep '^E: ' "$work/lintian")"
	say "lintian has no errors ($(grep -c '^W: ' "$work/lintian" || true) warnings)"
fi

# ---- Unpacked

for deb in "$folder"/*.deb; do dpkg-deb -x "$deb" "$work/root"; done
root=$work/root/usr
"$root/bin/trimtab" generate "$model" --raw -n 2 -p "the mill" >/dev/null || fail "the program does not run"
commands=$("$root/bin/trimtab" --help | sed -n 's/^  \([a-z]*\)  *[a-z].*/\1/p' | grep -vx trimtab)
for command in $commands; do
	page=$root/share/man/man1/trimtab-$command.1.gz
	[ -f "$page" ] || fail "$command has no manual page"
done
pc=$(find "$root" -name trimtab.pc)
export PKG_CONFIG_PATH=${pc%/trimtab.pc}
lib=$(realpath "$(pkg-config --variable=libdir trimtab)")
# shellcheck disable=SC2046
cc examples/minimal.c -o "$work/minimal" -Wl,-rpath,"$lib" $(pkg-config --cflags --libs trimtab)
"$work/minimal" "$model" "ab" >/dev/null || fail "what is linked to the packages' library does not run"
say "unpacked: runs, links, and has $(echo "$commands" | wc -l) manual pages beside trimtab(1)"

# ---- Installed

if [ "$(id -u)" -ne 0 ] || ! command -v mmdebstrap >/dev/null; then
	say "not installed into a fresh Debian, which needs root and mmdebstrap"
	exit 0
fi
debian=$work/debian
quietly mmdebstrap --variant=minbase --include=gcc,libc6-dev,pkg-config "$suite" "$debian"
cp "$folder"/*.deb examples/minimal.c "$model" "$debian/root/"
quietly chroot "$debian" sh -c 'apt-get update && apt-get install -y --no-install-recommends /root/*.deb'
# shellcheck disable=SC2016
quietly chroot "$debian" sh -c 'cd /root && trimtab generate *.gguf --raw -n 2 -p mill &&
	cc minimal.c -o minimal $(pkg-config --cflags --libs trimtab) && ./minimal *.gguf ab &&
	dpkg -r trimtab libtrimtab-dev libtrimtab0'
say "installed into $suite by apt: runs, links, and is removed"
