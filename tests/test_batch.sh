#!/usr/bin/env bash
# trimtab batch: test_batch.sh TRIMTAB GOLDEN-FOLDER MODEL-FOLDER. The real model is not needed.
exec python3 "$(dirname "$0")/cli/batch.py" "$1" "$2"
