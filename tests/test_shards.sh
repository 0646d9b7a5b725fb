#!/usr/bin/env bash
# A batch that several processes share: test_shards.sh TRIMTAB GOLDEN-FOLDER MODEL-FOLDER. The real model is not needed.
exec python3 "$(dirname "$0")/cli/shards.py" "$1" "$2"
