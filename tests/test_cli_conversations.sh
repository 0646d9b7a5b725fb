#!/usr/bin/env bash
# Chat templates that the caller gives, and rows that hold a conversation: tests/cli/conversations.py.
exec python3 "$(dirname "$0")/cli/conversations.py" "$1" "$2"
