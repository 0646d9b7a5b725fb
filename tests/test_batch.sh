#!/usr/bin/env bash
# trimtab batch: test_batch.sh TRIMTAB GOLDEN-FOLDER MODEL-FOLDER. The real model is not needed.
folder=$(dirname "$0")/cli
python3 "$folder/telemetry.py" "$1" "$2" && exec python3 "$folder/batch.py" "$1" "$2"
