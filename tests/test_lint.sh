#!/usr/bin/env bash
# The findings of scripts/lint in a tree of a few files: nothing in a good one, and each kind of fault where it is
# planted.
set -euo pipefail
scripts=$(cd "$(dirname "$0")/../scripts/lint" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
trap 'echo "test_lint: failed in line $LINENO"' ERR
cd "$work"
python=(python3 -B)

# The good tree: a long row of a table, a link, strings that look like names, and everything at its limit.
make_tree() {
	rm -rf tree
	mkdir -p tree/cmake tree/low tree/high tree/docs
	printf '%s\n' '# Rooms.' 'low:' 'high/face.h: low' 'high: low high/face.h' 'top: high/face.h' \
		'<zlib.h>: low' >tree/cmake/rooms.txt
	mkdir tree/top
	printf '/* See low/low.c and face.h. */\nint tt_low(void);\n' >tree/low/low.h
	printf '#include "low/low.h"\n#include <zlib.h>\n\nint tt_low(void)\n{\n\treturn 1; /* low.h */\n}\n' \
		>tree/low/low.c
	printf 'int tt_high(void);\n' >tree/high/face.h
	printf '#include "face.h"\n\n#include "low/low.h"\n\nint tt_hidden(void)\n{\n\treturn 3;\n}\n\n' \
		>tree/high/high.c
	printf 'int tt_high(void)\n{\n' >>tree/high/high.c
	# shellcheck disable=SC2183
	printf '\t(void)0;\n%.0s' {1..76} >>tree/high/high.c
	printf '\treturn tt_low();\n}\n' >>tree/high/high.c
	printf '#include "high/face.h"\n\nconst char *top(void)\n{\n\treturn tt_high() ? "gone.c" : "";\n}\n' \
		>tree/top/top.c
	printf '| %0118d |\n\n[long](https://example.org/%0120d)\n\nSee `high.c` and ../low/low.c.\n' 0 0 \
		>tree/docs/page.md
	printf '# top.c\nsay() { echo gone.sh; }\n' >tree/say.sh
}

# red PROGRAM LINE: it fails and prints just that.
red() {
	if output=$("${python[@]}" "$scripts/$1" --root tree "${@:3}" 2>/dev/null); then
		echo "test_lint: $1 did not see: $2"
		exit 1
	fi
	[ "$output" = "$2" ] || { printf 'test_lint: expected\n%s\nbut %s said\n%s\n' "$2" "$1" "$output"; exit 1; }
	make_tree
}

make_tree
"${python[@]}" "$scripts/lint.py" --root tree 2>counts
grep -q '^lint: 1 table rows ' counts
grep -q '^lint: 1 links ' counts
"${python[@]}" "$scripts/layers.py" --root tree

printf '#!/bin/sh\n' >tree/run.sh
red lint.py 'run.sh: begins with #! and is not executable'
printf '/* %0115d */\n' 0 >>tree/low/low.h
red lint.py 'low/low.h:3: 121 columns, 120 at most'
printf '\t/* %0107d */\n' 0 >>tree/low/low.h
red lint.py 'low/low.h:3: 121 columns, 120 at most'
printf 'x%.0s' {1..121} >>tree/docs/page.md
red lint.py 'docs/page.md:6: 121 columns, 120 at most'
printf 'a %.0s' {1..60} >>tree/docs/page.md
printf '[b](https://example.org)\n' >>tree/docs/page.md
red lint.py 'docs/page.md:6: 144 columns, 120 at most'
printf '\n%.0s' {1..149} >>tree/low/low.h
red lint.py 'low/low.h:151: 151 lines, 150 at most'
printf '\n%.0s' {1..794} >>tree/low/low.c
red lint.py 'low/low.c:801: 801 lines, 800 at most'
sed -i 's/^\treturn tt_low/\t(void)0;\n&/' tree/high/high.c
red lint.py 'high/high.c:10: a function of 81 lines, 80 at most'
sed -i 's/^int tt_high(void)$/int tt_high(\n\tvoid)/' tree/high/high.c
red lint.py 'high/high.c:10: a function of 81 lines, 80 at most'
printf '// as in low/gone.c\n' >>tree/low/low.c
red lint.py 'low/low.c:8: names low/gone.c, which does not exist'
printf '# gone.py says more\n' >>tree/say.sh
red lint.py 'say.sh:3: names gone.py, which does not exist'
printf 'See `docs/gone.md`.\n' >>tree/docs/page.md
red lint.py 'docs/page.md:6: names docs/gone.md, which does not exist'
printf '"""About\ngone.c"""\n' >tree/a.py
red lint.py 'a.py:2: names gone.c, which does not exist'

printf '#include "high/face.h"\n' >>tree/low/low.h
red layers.py 'low/low.h:3: low includes high/face.h: low may not use high/face.h'
printf '#include "low/low.h"\n' >>tree/top/top.c
red layers.py 'top/top.c:7: top includes low/low.h: top may not use low'
printf '#include "docs/x.h"\n' >>tree/top/top.c
touch tree/docs/x.h
red layers.py 'top/top.c:7: top includes docs/x.h, which is in no room of cmake/rooms.txt'
printf '#include <zlib.h>\n' >>tree/top/top.c
red layers.py 'top/top.c:7: <zlib.h> in top, which cmake/rooms.txt does not allow'
printf 'low: high\n' >>tree/cmake/rooms.txt
red layers.py 'cmake/rooms.txt:7: low has a line already'
sed -i 's/^low:/low: high/' tree/cmake/rooms.txt
red layers.py 'cmake/rooms.txt:2: high is no room of a line above'
printf 'attic: low\n' >>tree/cmake/rooms.txt
red layers.py 'cmake/rooms.txt:7: there is no attic'

# Calls, which need no include: up, and past the header that is lent.
compile() {
	rm -rf build
	for source in low/low high/high top/top; do
		mkdir -p "build/x.dir/${source%/*}"
		(cd tree && cc -I. -c "$source.c" -o "../build/x.dir/$source.c.o")
	done
	find build -name '*.o' >list
}
sed -i '/zlib/d' tree/low/low.c
compile
"${python[@]}" "$scripts/layers.py" --root tree --build build --list list
# As CMake lays out the objects of a target that is made in a folder of the tree.
mkdir -p build/top/CMakeFiles/x.dir/__/high
mv build/x.dir/top/top.c.o build/top/CMakeFiles/x.dir/top.c.o
mv build/x.dir/high/high.c.o build/top/CMakeFiles/x.dir/__/high/high.c.o
find build -name '*.o' >list
"${python[@]}" "$scripts/layers.py" --root tree --build build --list list
sed -i '/zlib/d; s/return 1/extern int tt_high(void); return tt_high()/' tree/low/low.c
compile
red layers.py 'low/low.c: low calls tt_high of high/high.c: low may not use high' --build build --list list
sed -i '/zlib/d' tree/low/low.c
sed -i 's/return /extern int tt_hidden(void); return tt_hidden() + /; s/ ? "gone.c" : ""/ ? "a" : ""/' tree/top/top.c
sed -i 's/tt_hidden() + tt_high()/tt_hidden()/' tree/top/top.c
compile
red layers.py 'top/top.c: top calls tt_hidden of high/high.c: top may not use high' --build build --list list
echo "test_lint: passed"
