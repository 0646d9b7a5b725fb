#!/usr/bin/env bash
# Removes what cmake --install of a build puts below a prefix, and the folders of trimtab's own that are then empty.
#   uninstall.sh BUILD PREFIX     DESTDIR as for the installation
set -euo pipefail
build=$1 prefix=$2 root=${DESTDIR:+$(realpath -m -- "$DESTDIR")}
stage=$(mktemp -d)
trap 'rm -rf "$stage"' EXIT

# What would be installed, rather than the list of the last installation, which may have been to another prefix.
DESTDIR=$stage cmake --install "$build" --prefix "$prefix" >/dev/null
cd "$stage"
find . ! -type d -printf '%P\0' | while IFS= read -r -d '' path; do
	rm -f "$root/$path"
done
find . -depth -type d -path '*/trimtab*' -printf '%P\0' | while IFS= read -r -d '' path; do
	[ ! -d "$root/$path" ] || rmdir --ignore-fail-on-non-empty "$root/$path"
done
