#!/usr/bin/env bash
# The files that commands write: test_cli_outputs.sh TRIMTAB GOLDEN-FOLDER MODEL-FOLDER. The real model is not needed.
exec python3 "$(dirname "$0")/cli/outputs.py" "$1" "$2"
