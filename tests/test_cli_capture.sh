#!/usr/bin/env bash
# capture --data: test_cli_capture.sh TRIMTAB GOLDEN-FOLDER MODEL-FOLDER. The real model is not needed.
exec python3 "$(dirname "$0")/cli/capturing.py" "$1" "$2"
