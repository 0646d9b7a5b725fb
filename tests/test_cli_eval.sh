#!/usr/bin/env bash
# eval's arms, sampling, gates and costs: test_cli_eval.sh TRIMTAB GOLDEN-FOLDER MODEL-FOLDER. The real model is not
# needed.
exec python3 "$(dirname "$0")/cli/evaluation.py" "$1" "$2"
