#!/usr/bin/env bash
# TLS of trimtab serve: test_serve_tls.sh TRIMTAB GOLDEN-FOLDER MODEL-FOLDER. The real model is not needed.
exec python3 "$(dirname "$0")/cli/serve_tls.py" "$1" "$2"
