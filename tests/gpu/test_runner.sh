#!/usr/bin/env bash
# The runner of gpu-suites over tests that end in every way (planted_suites.c): test_runner.sh GPU_SUITES_PLANTED
set -uo pipefail
planted=$1
fail() {
	printf '%s\n' "$output"
	echo "test_runner: $*"
	exit 1
}
has() { grep -qE -- "$1" <<<"$output" || fail "no line with $1"; }
process() { sed -n "/^pass $1 /{n;s/.*process //p}" <<<"$output"; }

for mode in "" --together; do
	# shellcheck disable=SC2086
	output=$("$planted" --timeout 1 $mode)
	[ $? = 1 ] || fail "it passed"
	has '^pass planted.first .* s$'
	has '^    note: error: at most 3e-06, where 1e-05 is allowed$'
	! grep -q 'noise' <<<"$output" || fail "what a test said that passed is no finding"
	has '^FAIL planted.has_wrong_values '
	has '^    values: 125 of 2000 differ by more than .*, from 3 to 1987; the most 3: 103, not 3$'
	has '^    19: 119, not 19$'
	has '^    .*twin.h:[0-9]+: error <= TWIN_F32: values: relative error '
	has '^pass planted.runs_after_a_failure '
	has '^FAIL planted.has_wrong_bits '
	has '^    .*planted_suites.c:[0-9]+: .*: goes on$'
	has '^    word 2: deadbeef, not 00000003$'
	has '^FAIL planted.hangs (1|2)\.'
	has '^    before the hang$'
	has '^    not done after 1 s$'
	has '^FAIL planted.crashes '
	has '^    ended by signal 11$'
	has '^skip planted.skips '
	has '^    nothing to see here$'
	has '^pass planted.leaves_an_error '
	has '^    note: the device is left with an error$'
	has '^pass planted.is_clean_again '
	has '^FAIL planted.ends_its_process '
	has '^FAIL planted.says_too_much '
	has '^    line 0 of too many$'
	has '^    line 99999 of too many$'
	has '^    .*planted_suites.c:[0-9]+: .*: the end$'
	has '^pass other.suite '
	has '^6 passed, 1 skipped, 6 failed$'
	[ "$(grep -c . <<<"$output")" -lt 6000 ] || fail "it says too much"
	[ "$(process planted.leaves_an_error)" != "$(process planted.is_clean_again)" ] || fail "an error is passed on"
	if [ -n "$mode" ]; then
		[ "$(process planted.first)" = "$(process planted.shares_a_process)" ] || fail "a process a test"
		[ "$(process planted.is_clean_again)" != "$(process other.suite)" ] || fail "two suites in a process"
	else
		[ "$(process planted.first)" != "$(process planted.shares_a_process)" ] || fail "two tests in a process"
	fi
done
output=$("$planted" --here --filter planted.first --filter planted.has_wrong_bits --filter other.suite)
[ $? = 1 ] || fail "it passed"
has '^begin planted.first$'
has '^pass planted.first$'
has '^word 2: deadbeef'
! grep -q 'other.suite' <<<"$output" || fail "it went on"
echo "passed"
