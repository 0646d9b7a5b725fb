#!/usr/bin/env python3
"""Runs suites on the PTX of one target and prints which kernel each of them ran, how often, and how many instructions
(of a warp each) that took; at the end the same by kernel, as kernels/emu/PTX.md has it.

    ptx_table.py ptx|ptx80 FOLDER_OF_PTX [--but KERNEL]... PROGRAM [ARGUMENT]... [-- PROGRAM [ARGUMENT]...]...

Exit 1: a suite failed, or no suite ran an entry of the folder whose name contains none of those after --but."""

import collections
import os
import pathlib
import re
import subprocess
import sys
import tempfile


def split(arguments):
    programs = [[]]
    for argument in arguments:
        if argument == "--":
            programs.append([])
        else:
            programs[-1].append(argument)
    return programs


def readable(symbols):
    try:
        names = subprocess.run(["c++filt"], input="\n".join(symbols), capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return {symbol: symbol for symbol in symbols}
    short = [re.sub(r"^void |\(.*$", "", name) for name in names.splitlines()]
    return dict(zip(symbols, short))


def run(mode, folder, program):
    """Whether it passed, and its launches: [symbol] = launches, instructions."""
    ran = collections.defaultdict(lambda: [0, 0])
    with tempfile.TemporaryDirectory() as work:
        log = pathlib.Path(work) / "log"
        environment = dict(os.environ, TT_EMU=mode, TT_EMU_PTX=str(folder), TT_EMU_PTX_LOG=str(log))
        done = subprocess.run(program, env=environment, capture_output=True, text=True, check=False)
        if done.returncode:
            print(f"{' '.join(program)} failed:\n{(done.stdout + done.stderr)[-4000:]}")
        for line in log.read_text(encoding="utf-8").splitlines() if log.exists() else []:
            _, symbol, executed = line.split()
            ran[symbol][0] += 1
            ran[symbol][1] += int(executed)
    return done.returncode == 0, ran


def by_kernel(target, rows):
    """A line for each kernel of rows of (kernel, suite, launches, instructions, passed)."""
    kernels = {}
    for kernel, suite, launches, instructions, passed in rows:
        one = kernels.setdefault(kernel, [[], 0, 0, True])
        one[0].append(suite.removeprefix("test_emu_").removesuffix("-emu"))
        one[1:] = one[1] + launches, one[2] + instructions, one[3] and passed
    lines = [f"| kernel ({target}) | suites | launches | instructions | |", "| --- | --- | --- | --- | --- |"]
    for kernel, (suites, launches, instructions, passed) in kernels.items():
        lines.append(f"| `{kernel}` | {', '.join(sorted(set(suites)))} | {launches} | {instructions} | "
                     f"{'passed' if passed else 'FAILED'} |")
    return "\n".join(lines)


def main():
    mode, folder, arguments = sys.argv[1], pathlib.Path(sys.argv[2]).resolve(), sys.argv[3:]
    but = []
    while arguments and arguments[0] == "--but":
        but.append(arguments[1])
        arguments = arguments[2:]
    entries = {}
    for path in sorted(folder.glob("*.ptx")):
        for symbol in re.findall(r"\.entry (\w+)\(", path.read_text(encoding="utf-8")):
            entries[symbol] = path.stem
    names = readable(list(entries))
    failed, seen, rows = False, set(), []
    print(f"| kernel ({folder.name}) | suite | launches | instructions | |\n| --- | --- | --- | --- | --- |")
    for program in split(arguments):
        passed, ran = run(mode, folder, program)
        failed |= not passed
        seen |= set(ran)
        for symbol in sorted(ran, key=lambda s: (entries.get(s, ""), names.get(s, s))):
            row = (names.get(symbol, symbol), os.path.basename(program[0]), *ran[symbol], passed)
            rows.append(row)
            print("| {} | {} | {} | {} | {} |".format(*row[:4], "passed" if passed else "FAILED"), flush=True)
    print(by_kernel(folder.name, sorted(rows, key=lambda row: row[0])))
    never = [names[symbol] for symbol in entries if symbol not in seen and not any(b in names[symbol] for b in but)]
    for name in never:
        print(f"no suite ran {name}")
    print(f"{len(entries)} kernels, {len(entries) - len(set(entries) - seen)} run")
    return 1 if failed or never else 0


if __name__ == "__main__":
    sys.exit(main())
