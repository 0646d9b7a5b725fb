#!/usr/bin/env python3
"""Makes targets of the Makefile one after the other, until one fails, and prints what each took.

    parts.py TARGET...

The table's columns: seconds, seconds of processor time of all processes, what ctest said. The last line adds up the
tests, as ctest's own would."""

import re
import resource
import subprocess
import sys
import time

CLOSING = re.compile(r"^\d+% tests passed, (\d+) tests? failed out of (\d+)")


def processor_seconds():
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def make(part):
    """Its exit status, and ctest's closing line where there was one: (failed, tests)."""
    tests = None
    command = ["make", "--no-print-directory", part]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process:
        for line in process.stdout:
            sys.stdout.buffer.write(line)
            sys.stdout.flush()
            match = CLOSING.match(line.decode(errors="replace"))
            tests = (int(match[1]), int(match[2])) if match else tests
    return process.returncode, tests


def main():
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    rows, status, failed, all_tests = [], 0, 0, 0
    for part in sys.argv[1:]:
        print(f"== {part}", flush=True)
        start, used = time.monotonic(), processor_seconds()
        status, tests = make(part)
        said = "FAILED" if status else ""
        if tests:
            failed, all_tests = failed + tests[0], all_tests + tests[1]
            said += f"{' ' if said else ''}{tests[1] - tests[0]} of {tests[1]} tests passed"
        rows.append((part, time.monotonic() - start, processor_seconds() - used, said))
        if status:
            break
    print(f"\n{'part':16}{'seconds':>9}{'processor':>11}")
    for part, seconds, processor, said in rows:
        print(f"{part:16}{seconds:9.0f}{processor:11.0f}  {said}".rstrip())
    print(f"{'all':16}{sum(row[1] for row in rows):9.0f}{sum(row[2] for row in rows):11.0f}")
    if all_tests:
        print(f"{100 * (all_tests - failed) // all_tests}% tests passed, {failed} tests failed out of {all_tests}")
    sys.exit(1 if status else 0)


if __name__ == "__main__":
    main()
