#!/usr/bin/env bash
# bench/compare_results on made-up files and on those of the program: tests/cli/comparing_results.py.
exec python3 "$(dirname "$0")/cli/comparing_results.py" "$1" "$2"
