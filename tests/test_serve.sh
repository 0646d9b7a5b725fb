#!/usr/bin/env bash
# trimtab serve: test_serve.sh TRIMTAB GOLDEN-FOLDER MODEL-FOLDER. The real model is not needed.
set -e
for script in serve serve_end; do
	python3 "$(dirname "$0")/cli/$script.py" "$1" "$2"
done
