#!/usr/bin/env bash
# bench's tables: test_cli_bench.sh TRIMTAB GOLDEN-FOLDER MODEL-FOLDER. The real model is not needed.
exec python3 "$(dirname "$0")/cli/benching.py" "$1" "$2"
