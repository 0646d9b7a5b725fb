#!/usr/bin/env bash
# What commands write: test_outputs.sh TRIMTAB GOLDEN-FOLDER MODEL-FOLDER. The real model is not needed.
exec python3 "$(dirname "$0")/cli/outputs.py" "$1" "$2"
