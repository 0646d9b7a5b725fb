#!/usr/bin/env bash
# trimtab serve: test_serve.sh TRIMTAB GOLDEN-FOLDER MODEL-FOLDER. The real model is not needed.
failed=0
for script in serve serve_queue serve_end; do
	python3 "$(dirname "$0")/cli/$script.py" "$1" "$2" || failed=1
done
exit $failed
