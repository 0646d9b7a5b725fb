#!/usr/bin/env bash
# Control vectors on the command line: test_cli_vectors.sh TRIMTAB GOLDEN-FOLDER MODEL-FOLDER. The real model is not
# needed.
exec python3 "$(dirname "$0")/cli/vectors.py" "$1" "$2"
