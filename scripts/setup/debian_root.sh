#!/bin/sh
# Prints the archive of a fresh Debian as mmdebstrap makes it, with nothing but what is essential and apt; made where it
# is not there yet, in .cache/debian/.
#   debian_root.sh SUITE     bookworm, trixie
set -eu
cd "$(dirname "$0")/../.."
suite=$1
archive=$PWD/.cache/debian/$suite.tar
if [ ! -f "$archive" ]; then
	mkdir -p "$PWD/.cache/debian"
	echo "debian_root: making $archive" >&2
	new=$(mktemp "$PWD/.cache/debian/.$suite.XXXXXX")
	trap 'rm -f "$new"' EXIT
	trap 'exit 1' HUP INT TERM
	mmdebstrap --quiet --variant=minbase --format=tar "$suite" "$new" >&2
	chmod 644 "$new"
	mv "$new" "$archive"
fi
echo "$archive"
