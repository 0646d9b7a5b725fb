#!/usr/bin/env bash
# eval --review and fit --continue: test_cli_review.sh TRIMTAB GOLDEN-FOLDER MODEL-FOLDER. The real model is not needed.
exec python3 "$(dirname "$0")/cli/review.py" "$1" "$2"
