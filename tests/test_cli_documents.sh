#!/usr/bin/env bash
# The manual and the completions say what --help says, and what documents type is right usage: test_cli_documents.sh
# TRIMTAB. zsh, fish and man where they are.
set -uo pipefail
trimtab=$1
tree=$(cd "$(dirname "$0")/.." && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work" || exit 1
n_failed=0
fail() {
	n_failed=$((n_failed + 1))
	printf 'FAILED: %.400s\n' "$*" >&2
}

mkdir man1
"$trimtab" man -o man1 || fail "man -o"
for shell in bash zsh fish; do
	"$trimtab" completion "$shell" >"$shell" || fail "completion $shell"
	"$trimtab" completion "$shell" -o again || fail "completion $shell -o"
	cmp -s "$shell" again || fail "completion $shell -o writes something else"
done
commands=$("$trimtab" --help | sed -n '/^Commands:/,/^$/s/^  \([a-z]*\) .*/\1/p')
[ "$(wc -w <<<"$commands")" -ge 13 ] || fail "too few commands: $commands"
[ "$(find man1 -name 'trimtab-*.1' | wc -l)" = "$(wc -w <<<"$commands")" ] || fail "pages: $(ls man1)"

# words LINE...: what bash offers for the last of these words.
# shellcheck source=/dev/null
. ./bash || fail "bash refuses the completion"
words() {
	COMP_WORDS=("$@") COMP_CWORD=$(($# - 1)) COMPREPLY=()
	_trimtab
	echo "${COMPREPLY[*]}"
}
compopt() { COMPREPLY=(files); }

[ "$(words trimtab gen)" = generate ] || fail "gen: $(words trimtab gen)"
[ "$(words trimtab generate --when '')" = "policy generation last all" ] || fail "--when"
[ "$(words trimtab generate --when g)" = generation ] || fail "--when g"
[ "$(words trimtab generate --policy '')" = files ] || fail "--policy offers no files"
[ "$(words trimtab generate model.gguf)" = files ] || fail "an argument offers no files"
[ -z "$(words trimtab generate --prompt '')" ] || fail "--prompt offers something"
[ "$(words trimtab generate --show)" = --show-steering ] || fail "--show"
for command in $commands; do
	page=man1/trimtab-$command.1
	offered=" $(words trimtab "$command" -) "
	[ -f "$page" ] || fail "$command has no page"
	options=$("$trimtab" "$command" --help | sed -n '/^Options:/,/^$/p' |
		grep -oE '^ {2}(-., |    )--[a-z-]+(, --[a-z-]+)?' | grep -oE -- '--[a-z-]+')
	for option in $options; do
		[[ $offered == *" $option "* ]] || fail "bash does not complete $command $option"
		grep -qF -- "\\fB${option//-/\\-}\\fR" "$page" || fail "$page lacks $option"
		grep -q -- "'\**${option}\[" zsh || fail "zsh does not complete $command $option"
		grep -qE "from $command' .*-l ${option#--}( |$)" fish || fail "fish does not complete $command $option"
	done
	grep -q '^\.SH EXAMPLES' "$page" || fail "$page has no examples"
	! grep -vE '^\.(TH|SH|PP|TP|BR|nf|fi)( |$)' "$page" | grep -q '^\.' || fail "$page has a line that roff takes"
	if command -v groff >/dev/null; then
		[ -z "$(groff -man -ww -Tutf8 -Z "$page" 2>&1 >/dev/null)" ] ||
			fail "$page: $(groff -man -ww -Tutf8 -Z "$page" 2>&1 >/dev/null | head -n 2)"
	fi
done
! command -v zsh >/dev/null || zsh -n zsh || fail "zsh refuses the completion"
! command -v fish >/dev/null || fish --no-execute fish || fail "fish refuses the completion"
for wrong in "man nonsense" "completion tcsh" "completion"; do
	# shellcheck disable=SC2086
	"$trimtab" $wrong >out 2>err
	[ $? = 2 ] && [ ! -s out ] && [ "$(wc -l <err)" = 1 ] || fail "$wrong: $(cat err)"
done
python3 "$tree/tests/cli/doc_commands.py" "$trimtab" "$tree" || fail "what the documents type"
[ "$n_failed" = 0 ] && echo "all passed"
exit $((n_failed > 0))
