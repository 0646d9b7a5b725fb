#!/usr/bin/env bash
# Checks deploy/container without Docker and without a registry: hadolint; buildah builds both stages, on a Debian that
# mmdebstrap made; and what came out runs as its user, who is not root: it generates, and on a root that cannot be
# written it answers /ready, serves, and ends with status 0 when told to. The images that it is made from elsewhere are
# not tried.
#   container_test.sh HADOLINT     as root, with buildah and mmdebstrap
set -euo pipefail
hadolint=$1
cd "$(dirname "$0")/../.."
say() { echo "deploy-check: $*"; }
fail() {
	say "$*" >&2
	exit 1
}
[ "$(id -u)" -eq 0 ] || fail "needs root"
mkdir -p .cache
work=$(mktemp -d "$PWD/.cache/container.XXXXXX")
trap 'rm -rf --one-file-system "$work"' EXIT
trap 'exit 1' HUP INT TERM
file=deploy/container/Containerfile
model=tests/golden/tiny-llama/tiny-llama.q8_0.gguf
quietly() { "$@" >"$work/log" 2>&1 || { tail -n 40 "$work/log" >&2; fail "$* failed"; }; }

"$hadolint" "$file"
say "hadolint says nothing"

# All that buildah keeps is in the folder of this run; what debian_test.sh keeps is used too: the tree is in the same
# place there.
kept=$PWD/.cache/debian/bookworm
mkdir -p "$kept/archives" "$kept/ccache"
builder=(buildah --root "$work/store" --runroot "$work/run" --storage-driver vfs)
export BUILDAH_ISOLATION=chroot
mkdir "$work/base"
ln "$(scripts/setup/debian_root.sh bookworm)" "$work/base/root.tar"
printf '%s\n' 'FROM scratch' 'ADD root.tar /' 'RUN apt-get update && apt-get install -y ccache' \
	>"$work/base/Containerfile"
quietly "${builder[@]}" bud -v "$kept/archives:/var/cache/apt/archives" -t debian "$work/base"
mkdir "$work/tree"
git ls-files -z --cached --others --exclude-standard | tar -c --null -T - | tar -x -C "$work/tree"
quietly "${builder[@]}" bud -v "$kept/archives:/var/cache/apt/archives" -v "$kept/ccache:/root/.cache/ccache" \
	--build-arg BUILD=localhost/debian --build-arg RUN=localhost/debian \
	--build-arg JOBS="${JOBS:-$(nproc)}" --build-arg CMAKE_FLAGS="${CMAKE_FLAGS:-}" \
	--ignorefile "$file.dockerignore" -f "$file" -t trimtab "$work/tree"
user=$("${builder[@]}" inspect --type image --format '{{.OCIv1.Config.User}}' trimtab)
entry=$("${builder[@]}" inspect --type image --format '{{.OCIv1.Config.Entrypoint}}' trimtab)
[ "$user $entry" = "65532:65532 [trimtab]" ] || fail "the image's user and entry are $user and $entry"
container=$("${builder[@]}" from trimtab)
say "both stages built: $(du -sm "$("${builder[@]}" mount "$container")" | cut -f 1) MB unpacked"

mkdir -m 1777 "$work/shared"
cp "$model" "$work/shared/model.gguf"
chmod 644 "$work/shared/model.gguf"
in_container() { "${builder[@]}" run -v "$work/shared:/shared" "$container" -- "$@"; }
[ "$(in_container id -u)" = 65532 ] || fail "the container runs as root"
in_container sh -c '! command -v cc && ! command -v make' >/dev/null || fail "the image has what only the build needs"
in_container trimtab version
quietly in_container trimtab generate /shared/model.gguf --raw -n 2 -p mill

# As Kubernetes runs it: the user by number, and a root that is read alone. What unshare starts has its process number.
root=$("${builder[@]}" mount "$container")
mkdir -p "$root/shared"
# shellcheck disable=SC2016
read_only() {
	exec unshare --mount sh -ec 'root=$1; mount --bind "$root" "$root"; mount --bind "$2" "$root/shared"
		mount --rbind /proc "$root/proc"; mount --bind /dev "$root/dev"
		mount -o remount,bind,ro "$root"; shift 2; exec chroot --userspec=65532:65532 "$root" "$@"' \
		sh "$root" "$work/shared" "$@"
}
[ "$(read_only id -u)" = 65532 ] || fail "the user is another one"
(read_only sh -c '! touch /tmp/file /usr/file 2>/dev/null') || fail "the root can be written"
read_only trimtab serve /shared/model.gguf --host unix:/shared/socket >"$work/served" 2>&1 &
served=$!
until [ -S "$work/shared/socket" ]; do
	kill -0 "$served" 2>/dev/null || { cat "$work/served" >&2; fail "the server does not start"; }
	sleep 0.1
done
python3 - "$work/shared/socket" <<'PY' || fail "the server does not answer"
import http.client, json, socket, sys

class Local(http.client.HTTPConnection):
    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(sys.argv[1])

def ask(method, path, body=None):
    connection = Local("localhost")
    connection.request(method, path, body and json.dumps(body), {"Content-Type": "application/json"} if body else {})
    answer = connection.getresponse()
    text = answer.read()
    assert answer.status == 200, (path, answer.status, text)
    return json.loads(text)

assert ask("GET", "/ready") == {"status": "ok"}
models = ask("GET", "/v1/models")
said = ask("POST", "/v1/completions", {"model": models["data"][0]["id"], "prompt": "mill", "max_tokens": 4})
assert said["usage"]["completion_tokens"] == 4, said
PY
kill "$served"
wait "$served" || { cat "$work/served" >&2; fail "the server ends with status $?"; }
say "runs as $user: generates; on a root that is read alone it is ready, serves, and ends when told to"
