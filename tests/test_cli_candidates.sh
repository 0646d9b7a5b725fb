#!/usr/bin/env bash
# fit and its folder of candidates: test_cli_candidates.sh TRIMTAB GOLDEN-FOLDER MODEL-FOLDER. The real model is not
# needed.
exec python3 "$(dirname "$0")/cli/candidates.py" "$1" "$2"
