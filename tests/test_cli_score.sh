#!/usr/bin/env bash
# score's report and rows: test_cli_score.sh TRIMTAB GOLDEN-FOLDER MODEL-FOLDER. The real model is not needed.
exec python3 "$(dirname "$0")/cli/scoring.py" "$1" "$2"
