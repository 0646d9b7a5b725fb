#!/usr/bin/env bash
# The audit log: test_audit.sh TRIMTAB GOLDEN-FOLDER MODEL-FOLDER. The real model is not needed.
exec python3 "$(dirname "$0")/cli/auditing.py" "$1" "$2"
