#!/bin/sh
# Installs what is missing of a set of packages of Debian 12, Debian 13 or Ubuntu 24.04: `build`, `test` (build and what
# the tests, clang, the fuzz targets and the checks need), `fetch` (what fetch_models.sh and virtual environments need),
# or what the target of the Makefile needs that has the set's name. Without root or passwordless sudo it prints the line
# to run.
set -eu

say() { echo "install_packages: $*" >&2; }

build="build-essential cmake pkg-config libjansson-dev libpcre2-dev libutf8proc-dev libssl-dev"
build="$build libuv1-dev llhttp libsqlite3-dev"
test="libcriterion-dev clang clang-format clang-runtime lld ccache git openssl python3"
coverage="llvm"
arm="gcc-aarch64-linux-gnu libc6-dev-arm64-cross qemu-user python3"
audit="golang-go golang-golang-x-mod-dev"
cluster="libopenmpi-dev openmpi-bin"
deb="dpkg-dev fakeroot file"
debtest="$deb lintian"
debian="git mmdebstrap"
deploy="buildah haproxy munge shellcheck slurm-wlm"
fetch="python3 python3-venv python3-pip"
page="chromium"
demo="python3"
demoserve="$fetch curl"
python="$fetch python3-dev"

case "${1:-}" in
build) wanted=$build ;;
test) wanted="$build $test" ;;
coverage) wanted="$build $test $coverage" ;;
arm) wanted="$build $arm" ;;
audit) wanted="$build $test $audit" ;;
cluster) wanted="$build $test $cluster" ;;
deb) wanted="$build $deb" ;;
debtest) wanted="$build $debtest" ;;
debian) wanted=$debian ;;
deploy) wanted="$build $test $cluster $debian $fetch $deploy" ;;
page) wanted="$build $test $fetch $page" ;;
demo) wanted="$build $demo" ;;
demoserve) wanted="$build $demoserve" ;;
fetch) wanted=$fetch ;;
python) wanted="$build $python" ;;
*)
	echo "usage: $0 $(sed -n 's/^\([a-z]*\)) wanted=.*/\1/p' "$0" | paste -s -d "|")" >&2
	exit 2
	;;
esac

if ! command -v dpkg-query >/dev/null || ! command -v apt-get >/dev/null; then
	say "no apt here; the equivalents of these are needed: $wanted"
	exit 0
fi

# clang-runtime is no package's name: clang's sanitizers and libFuzzer are in one that bears clang's version, where
# there is none without it. clang merely recommends it, and --no-install-recommends leaves it out.
has_runtime() {
	folder=$(clang -print-resource-dir 2>/dev/null) && ls "$folder"/lib/*/libclang_rt.fuzzer*.a >/dev/null 2>&1
}
is_known() { apt-cache show "$1" >/dev/null 2>&1; }
# Nor is llhttp: Debian 12 and Ubuntu 24.04 have its C source in a package for node, Debian 13 a library.
has_llhttp() { [ -n "$(ls /usr/share/llhttp/llhttp.c /usr/include/llhttp.h 2>/dev/null)" ]; }
llhttp_package() {
	for package in libllhttp-dev node-llhttp; do
		if is_known "$package"; then
			echo "$package"
			return
		fi
	done
	say "apt knows no package of llhttp: the program will have no server"
}
runtime_package() {
	# The package that clang depends on, or will: clang-14.
	version=$(apt-cache depends clang 2>/dev/null | sed -n 's/^ *Depends: clang-\([0-9][0-9]*\)$/\1/p' | head -n 1)
	for package in libclang-rt-dev "libclang-rt-$version-dev" "libclang-common-$version-dev"; do
		if is_known "$package"; then
			echo "$package"
			return
		fi
	done
	say "apt knows no package of clang's runtime: the sanitizers will not link"
}

missing=
for package in $wanted; do
	if [ "$package" = clang-runtime ]; then
		has_runtime || missing="$missing clang-runtime"
		continue
	fi
	if [ "$package" = llhttp ]; then
		has_llhttp || missing="$missing llhttp"
		continue
	fi
	# shellcheck disable=SC2016
	status=$(dpkg-query -W -f='${db:Status-Status}' "$package" 2>/dev/null) || status=
	[ "$status" = installed ] || missing="$missing $package"
done
[ -n "$missing" ] || exit 0

# The names that apt knows, of those that are missing.
named() {
	for package in $missing; do
		[ "$package" != clang-runtime ] || package=$(runtime_package)
		[ "$package" != llhttp ] || package=$(llhttp_package)
		printf ' %s' "$package"
	done
}

if [ "$(id -u)" -eq 0 ]; then
	as_root="env"
elif command -v sudo >/dev/null && sudo -n true 2>/dev/null; then
	as_root="sudo -n env"
else
	say "packages are missing and this user may not install them; run: sudo apt-get install -y$(named)"
	exit 1
fi

log=$(mktemp)
trap 'rm -f "$log"' EXIT
trap 'exit 1' HUP INT TERM

# Another apt may hold the lock, as on a machine that has just started: wait for it.
apt() { $as_root DEBIAN_FRONTEND=noninteractive apt-get -q -o DPkg::Lock::Timeout=300 "$@" >"$log" 2>&1; }

say "reading the package lists"
# Old lists may still do; if not, the installation says so.
apt update || say "apt-get update failed: $(grep -m1 '^[EW]:' "$log" || tail -n1 "$log")"
missing=$(named)
say "installing$missing"
# shellcheck disable=SC2086
if ! apt install -y --no-install-recommends $missing; then
	say "apt-get install failed: $(grep -m1 '^E:' "$log" || tail -n1 "$log")"
	exit 1
fi
say "done"
