#!/usr/bin/env bash
# trimtab policy, key and serve --state: test_serve_store.sh TRIMTAB GOLDEN-FOLDER MODEL-FOLDER. The real model is not
# needed.
exec python3 "$(dirname "$0")/cli/serve_store.py" "$1" "$2"
