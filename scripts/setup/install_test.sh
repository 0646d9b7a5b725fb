#!/usr/bin/env bash
# Uses a build's library as others would: installed into a prefix, which is then moved, by pkg-config and by CMake's
# find_package; installed without the shared library; and fetched into another project's build. Then uninstalls it.
#   install_test.sh BUILD
set -euo pipefail
build=$(realpath "$1")
cd "$(dirname "$0")/../.."
tree=$PWD
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
model=tests/golden/tiny-llama/tiny-llama.q8_0.gguf

say() { echo "install-test: $*"; }
fail() {
	say "$*" >&2
	exit 1
}
quietly() { "$@" >"$work/log" 2>&1 || { tail -n 30 "$work/log" >&2; fail "$* failed"; }; }
runs() { "$1" "$model" "ab" >/dev/null || fail "$1 does not run"; }
setting() { sed -n "s/^$1:[A-Z]*=//p" "$build/CMakeCache.txt"; }
flags=(-std=c11 -Wall -Wextra -Wshadow -Wpedantic -Werror)

# ---- A prefix that was moved

quietly cmake --install "$build" --prefix "$work/first"
mv "$work/first" "$work/prefix"
pc=$(find "$work/prefix" -name trimtab.pc)
export PKG_CONFIG_PATH=${pc%/trimtab.pc}
lib=$(pkg-config --variable=libdir trimtab)
lib=$(realpath "$lib")
include=$work/prefix/include/trimtab

printf '#include <trimtab.h>\n' | cc -E -P -DTT_API=__exported__ -I"$include" -x c - | tr '\n' ' ' |
	grep -oE '__exported__[^;]*' | grep -oE 'tt_[a-z_]+\(' | tr -d '(' | sort -u >"$work/declared"
nm -D --defined-only "$lib/libtrimtab.so" | awk '$2 != "A" { sub(/@.*/, "", $3); print $3 }' | sort -u >"$work/exported"
diff "$work/declared" "$work/exported" >&2 || fail "trimtab.h declares and libtrimtab.so exports other functions"
[ "$(wc -l <"$work/exported")" -gt 50 ] || fail "libtrimtab.so exports too little"
readelf -d "$lib/libtrimtab.so" | grep -q 'SONAME.*\[libtrimtab.so.0\]' || fail "the soname is not libtrimtab.so.0"
! readelf -d "$lib/libtrimtab.so" "$work/prefix/bin/trimtab" | grep -qE 'RPATH|RUNPATH' || fail "there is an rpath"
say "libtrimtab.so.0 exports the $(wc -l <"$work/exported") functions of trimtab.h"

for example in minimal device stream; do
	# shellcheck disable=SC2046
	cc "${flags[@]}" "examples/$example.c" -o "$work/$example" -Wl,-rpath,"$lib" \
		$(pkg-config --cflags --libs trimtab)
done
readelf -d "$work/minimal" | grep -q 'NEEDED.*libtrimtab.so.0' || fail "minimal is not linked to the shared library"
runs "$work/minimal"
"$work/stream" "$model" tests/golden/vectors/repeng.gguf ab "Hello there" >"$work/said" || fail "stream does not run"
# Every token but the last runs, and the vector, which has no gate, steers all.
steered=$(sed -n 's/^\[[01]\] done: \([0-9]*\) tokens ran, \1 of them steered$/\1/p' "$work/said" | sort -n | paste -s)
[ "$steered" = "$(printf '50\t54')" ] || fail "stream says: $(tail -n 2 "$work/said")"
# shellcheck disable=SC2046
quietly cc -static "${flags[@]}" examples/minimal.c -o "$work/static" $(pkg-config --cflags --libs --static trimtab)
runs "$work/static"
# shellcheck disable=SC2046
printf '#include <trimtab.h>\nint main() { tt_chat_options o = {}; return o.now + tt_version()[0] == 0; }\n' |
	c++ -std=c++17 -Wall -Wextra -Wpedantic -Werror $(pkg-config --cflags trimtab) -fsyntax-only -x c++ -
say "examples compile by pkg-config in a prefix that was moved, shared and static, and run"

# The other ranks' program, by the program and by both libraries.
"$work/prefix/bin/trimtab" generate "$model" --device cpu --tp 2 --raw -n 2 -p ab >/dev/null ||
	fail "the program finds no ranks"
cat >"$work/ranks.c" <<'END'
#include <stdio.h>
#include <trimtab.h>
int main(int argc, char **argv)
{
	struct tt_engine_options options;
	struct tt_engine *engine = NULL;
	struct tt_error err = {0};
	tt_engine_options_default(&options);
	options.device = "cpu";
	options.n_ranks = 2;
	int status = tt_engine_open(&engine, argv[argc - 1], &options, &err);
	tt_engine_close(engine);
	return status ? fprintf(stderr, "%s\n", err.message), 1 : 0;
}
END
# shellcheck disable=SC2046
cc "${flags[@]}" "$work/ranks.c" -o "$work/ranks" -Wl,-rpath,"$lib" $(pkg-config --cflags --libs trimtab)
"$work/ranks" "$model" || fail "the shared library finds no ranks"
mkdir "$work/prefix/bin/own"
# shellcheck disable=SC2046
cc -static "${flags[@]}" "$work/ranks.c" -o "$work/prefix/bin/own/ranks" \
	$(pkg-config --cflags --libs --static trimtab) 2>"$work/log" || fail "$(cat "$work/log")"
"$work/prefix/bin/own/ranks" "$model" || fail "the static library finds no ranks"
rm -r "$work/prefix/bin/own"
mv "$work/prefix/libexec" "$work/away"
"$work/ranks" "$model" 2>"$work/said" && fail "a rank runs without its program"
grep -q "trimtab-rank, the program of ranks other than the first (--tp), is missing" "$work/said" ||
	fail "without the ranks' program: $(cat "$work/said")"
mv "$work/away" "$work/prefix/libexec"
say "ranks are started from the prefix, by the program and both libraries, and missed by name"

# The manual and the completions, where the shells look.
for file in man/man1/trimtab.1 man/man1/trimtab-generate.1 bash-completion/completions/trimtab \
	zsh/site-functions/_trimtab fish/vendor_completions.d/trimtab.fish doc/trimtab/LICENSE doc/trimtab/cli.md \
	doc/trimtab/vectors_to_gguf.py; do
	[ -s "$work/prefix/share/$file" ] || fail "share/$file is not installed"
done
bash -c '. "$1" && complete -p trimtab' - "$work/prefix/share/bash-completion/completions/trimtab" >/dev/null ||
	fail "bash does not take the completion"
pages=$(find "$work/prefix/share/man/man1" -name 'trimtab*.1' | wc -l)
[ "$pages" -gt 10 ] || fail "there are $pages manual pages"
say "$pages manual pages, completions of three shells"

said=$(scripts/setup/check_device.sh "$work/device" "$work/prefix/bin/trimtab" "$model") || fail "of the device: $said"
cuda=ON
if "$work/prefix/bin/trimtab" version | grep -q '^CUDA: *none'; then
	cuda=OFF
	[ "$(setting TT_CUDA)" != ON ] || fail "a build with CUDA says that it has none"
fi
say "$said"

# ---- CMake's packages

# As BUILD was compiled, so that ccache knows the objects.
launcher=$(setting TT_CCACHE)
case $launcher in /*) launcher="env;CCACHE_NOHASHDIR=1;$launcher" ;; *) launcher= ;; esac
same=(-DCMAKE_BUILD_TYPE=Release "-DCMAKE_C_COMPILER_LAUNCHER=$launcher" "-DTT_WERROR=$(setting TT_WERROR)"
	-DTT_CUDA=OFF)

# A project that makes `minimal`: project FOLDER FIND..., lines that give it trimtab::trimtab.
project() {
	mkdir "$1"
	printf '%s\n' 'cmake_minimum_required(VERSION 3.25)' 'project(user LANGUAGES C)' "${@:2}" \
		"add_executable(minimal $tree/examples/minimal.c)" \
		'target_link_libraries(minimal PRIVATE trimtab::trimtab)' >"$1/CMakeLists.txt"
}
make_project() {
	quietly cmake -S "$1" -B "$1/build" "${@:2}"
	quietly cmake --build "$1/build" -j "$(nproc)"
	runs "$1/build/minimal"
}
for component in shared static; do
	project "$work/found-$component" "find_package(trimtab 0.1 REQUIRED COMPONENTS $component)"
	make_project "$work/found-$component" "-DCMAKE_PREFIX_PATH=$work/prefix"
	found=$(readelf -d "$work/found-$component/build/minimal" | grep -c 'NEEDED.*libtrimtab.so.0' || true)
	[ "$component$found" = shared1 ] || [ "$component$found" = static0 ] || fail "$component is another library"
done
say "find_package(trimtab) finds the shared and the static library"

project "$work/fetched" 'include(FetchContent)' "FetchContent_Declare(trimtab SOURCE_DIR $tree)" \
	'FetchContent_MakeAvailable(trimtab)'
make_project "$work/fetched" "${same[@]}"
others=$(find "$work/fetched/build" -type f -perm -u+x ! -path '*/CMakeFiles/*' ! -name minimal)
[ -z "$others" ] || fail "the other project got programs, too: $others"
say "FetchContent gives another project the library alone"

# ---- Without a shared library

# With BUILD's archive, which such a build would only compile once more.
quietly cmake -S . -B "$work/alone" "${same[@]}" -DTT_CUDA=$cuda -DBUILD_TESTING=OFF -DTT_PROGRAMS=OFF -DTT_SHARED=OFF
cp "$build/libtrimtab.a" "$work/alone/"
quietly cmake --install "$work/alone" --prefix "$work/static-only"
pc=$(find "$work/static-only" -name trimtab.pc)
export PKG_CONFIG_PATH=${pc%/trimtab.pc}
# shellcheck disable=SC2046
cc "${flags[@]}" examples/minimal.c -o "$work/minimal" $(pkg-config --cflags --libs trimtab)
runs "$work/minimal"
project "$work/found-alone" 'find_package(trimtab REQUIRED)'
make_project "$work/found-alone" "-DCMAKE_PREFIX_PATH=$work/static-only"
say "where there is no shared library, the static one needs no --static"

# ---- Away again

export DESTDIR=$work/stage
quietly cmake --install "$build" --prefix /opt/trimtab
touch "$DESTDIR/opt/trimtab/include/trimtab/stranger.h"
(cd "$work" && DESTDIR=stage "$OLDPWD/scripts/setup/uninstall.sh" "$build" /opt/trimtab)
[ ! -d "$DESTDIR/opt/trimtab/lib/cmake/trimtab" ] || fail "uninstalling leaves empty folders of trimtab's"
left=$(find "$DESTDIR" ! -type d -printf '%P ')
[ "$left" = "opt/trimtab/include/trimtab/stranger.h " ] || fail "after uninstalling there is: $left"
say "uninstalling leaves other files alone"
