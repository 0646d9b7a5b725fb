#!/usr/bin/env bash
# A talk, its commands and its steering: test_cli_chat.sh TRIMTAB GOLDEN-FOLDER MODEL-FOLDER. The real model is not
# needed.
exec python3 "$(dirname "$0")/cli/chat.py" "$1" "$2"
