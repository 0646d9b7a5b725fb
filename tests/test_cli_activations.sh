#!/usr/bin/env bash
# fit and its file of activations: test_cli_activations.sh TRIMTAB GOLDEN-FOLDER MODEL-FOLDER. The real model is not
# needed.
exec python3 "$(dirname "$0")/cli/activations.py" "$1" "$2"
