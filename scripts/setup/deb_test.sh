#!/usr/bin/env bash
# Looks at the packages of make deb as their users would, on the machine that made them: lintian without errors;
# unpacked into a folder, the program runs, its manual is readable and a program links. How apt installs them into a
# fresh Debian: debian_test.sh.
#   deb_test.sh FOLDER     the folder with the .deb files
set -euo pipefail
folder=$(realpath "$1")
cd "$(dirname "$0")/../.."
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
model=tests/golden/tiny-llama/tiny-llama.q8_0.gguf

say() { echo "deb-test: $*"; }
fail() {
	say "$*" >&2
	exit 1
}

for package in trimtab libtrimtab0 libtrimtab-dev; do
	[ "$(find "$folder" -maxdepth 1 -name "${package}_*.deb" | wc -l)" = 1 ] || fail "there is not one $package"
done
lintian --fail-on error "$folder"/*.deb >"$work/lintian" 2>"$work/log" ||
	fail "lintian: $(grep '^E: ' "$work/lintian" || cat "$work/log")"
say "lintian $(lintian --print-version) has no errors ($(grep -c '^W: ' "$work/lintian" || true) warnings)"
grep '^W: ' "$work/lintian" || true

for deb in "$folder"/*.deb; do dpkg-deb -x "$deb" "$work/root"; done
root=$work/root/usr
"$root/bin/trimtab" generate "$model" --raw -n 2 -p "the mill" >/dev/null || fail "the program does not run"
[ -x "$root/libexec/trimtab-rank" ] || fail "the program of ranks is not in the package"
"$root/bin/trimtab" generate "$model" --device cpu --tp 2 --raw -n 2 -p "the mill" >/dev/null ||
	fail "the program finds no ranks"
commands=$("$root/bin/trimtab" --help | sed -n 's/^  \([a-z]*\)  *[a-z].*/\1/p' | grep -vx trimtab)
for command in $commands; do
	page=$root/share/man/man1/trimtab-$command.1.gz
	[ -f "$page" ] || fail "$command has no manual page"
done
pc=$(find "$root" -name trimtab.pc)
export PKG_CONFIG_PATH=${pc%/trimtab.pc}
lib=$(realpath "$(pkg-config --variable=libdir trimtab)")
for example in minimal device; do
	# shellcheck disable=SC2046
	cc "examples/$example.c" -o "$work/$example" -Wl,-rpath,"$lib" $(pkg-config --cflags --libs trimtab)
done
"$work/minimal" "$model" "ab" >/dev/null || fail "what is linked to the packages' library does not run"
say "unpacked: runs, links, and has $(echo "$commands" | wc -l) manual pages beside trimtab(1)"
said=$(scripts/setup/check_device.sh "$work/device" "$root/bin/trimtab" "$model") || fail "of the device: $said"
say "a program linked to it says: $said"
