#!/usr/bin/env bash
# deploy/slurm without Slurm: test_slurm_scripts.sh TRIMTAB GOLDEN-FOLDER MODEL-FOLDER. The real model is not needed.
exec python3 "$(dirname "$0")/cli/slurm_scripts.py" "$1" "$2"
