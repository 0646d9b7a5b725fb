#!/usr/bin/env bash
# bench/compare on programs with made-up times: test_compare.sh TRIMTAB GOLDEN-FOLDER MODEL-FOLDER.
exec python3 "$(dirname "$0")/cli/comparing.py" "$1" "$2"
