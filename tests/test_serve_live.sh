#!/usr/bin/env bash
# The operators' page of trimtab serve: test_serve_live.sh TRIMTAB GOLDEN-FOLDER MODEL-FOLDER. The real model is not
# needed.
exec python3 "$(dirname "$0")/cli/serve_live.py" "$1" "$2"
