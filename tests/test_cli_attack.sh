#!/usr/bin/env bash
# Attacks on a gate: test_cli_attack.sh TRIMTAB GOLDEN-FOLDER MODEL-FOLDER. The real model is not needed.
exec python3 "$(dirname "$0")/cli/attack.py" "$1" "$2"
