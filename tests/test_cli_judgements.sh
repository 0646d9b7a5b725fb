#!/usr/bin/env bash
# eval and a judge: test_cli_judgements.sh TRIMTAB GOLDEN-FOLDER MODEL-FOLDER. The real model is not needed.
exec python3 "$(dirname "$0")/cli/judgements.py" "$1" "$2"
