#!/usr/bin/env bash
# trimtab serve: test_serve.sh TRIMTAB GOLDEN-FOLDER MODEL-FOLDER. The real model is not needed.
exec python3 "$(dirname "$0")/cli/serve.py" "$1" "$2"
