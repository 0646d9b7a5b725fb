#!/usr/bin/env python3
"""Proves and times trimtab's CUDA kernels on the machine's GPU: primitives against their C bodies, every op and whole
tiny models against what they must give, timings, profiles, compute-sanitizer. Needs python3 and a driver, nothing else;
PyTorch, cuBLAS, ncu and compute-sanitizer are used where they are.

    gpu-check [--results FOLDER] [--only PART,..] [--seconds N]
    gpu-check --ranks N [...]         only what N GPUs of this machine do together (--tp)
    gpu-check --rehearse BUILD [...]  the same on BUILD's emulator, where that is possible: no GPU is needed

Each part has a limit, and a process group that is killed with it; all limits together are less than --seconds. What a
part says is in DATE-GPU.log as it comes, and what was found in DATE-GPU.json and .md after each part. Exit 0: nothing
failed, or there is no GPU; 1: something failed, a driver that is too old included."""

import argparse
import datetime
import json
import os
import re
import signal
import subprocess
import sys
import time
import traceback
from typing import Callable, NamedTuple

import gpu_parts
import gpu_process
import gpu_report
from gpu_parts import Failed, NoDevice, Skipped

HERE = os.path.dirname(os.path.abspath(__file__))
SECONDS = 330  # two runs with a fix between them fit into a quarter of an hour


class Part(NamedTuple):
    run: Callable
    seconds: "float | None"  # of SECONDS; None: what is left at the end

    @property
    def name(self):
        return self.run.__name__


# First what says whether the device works at all, and what decides how kernels are to be made; then what is right; then
# why it is slow. What remains of SECONDS is for ending parts that hang and asking whether the device still answers.
PARTS = [
    Part(gpu_parts.machine, 20),
    Part(gpu_parts.primitives, 6),
    Part(gpu_parts.probe, 15),
    Part(gpu_parts.smoke, 12),
    Part(gpu_parts.kernels, 50),
    Part(gpu_parts.decode, 38),
    Part(gpu_parts.quants, 16),
    Part(gpu_parts.ops, 52),
    Part(gpu_parts.models, 44),
    Part(gpu_parts.profile, 32),
    Part(gpu_parts.sanitizer, 34),
    Part(gpu_parts.small_models, None),
    Part(gpu_parts.arms, None),
    Part(gpu_parts.torch, None),
    Part(gpu_parts.small_kernels, None),
]

# Of --ranks, in their place.
RANKS_PARTS = [
    PARTS[0],
    Part(gpu_parts.ranks_bits, 150),
    Part(gpu_parts.ranks_decode, 150),
]


class Check:
    """What the parts share: the programs, the log, the report, and the running part's time."""

    SKIPPED = 77  # exit status of a program that had nothing to run on

    def __init__(self, arguments):
        self.scale = arguments.seconds / SECONDS
        self.end = time.monotonic() + arguments.seconds
        self.until = self.end
        self.ranks = arguments.ranks
        self.rehearsed = arguments.rehearse and os.path.abspath(arguments.rehearse)
        # In a bundle everything lies beside this file; in a checkout, where it belongs.
        self.bundle = read_json(os.path.join(HERE, "bundle.json"))
        self.root = HERE if self.bundle else os.path.dirname(os.path.dirname(HERE))
        self.golden = os.path.join(self.root, "tests")
        self.log = gpu_process.Log()
        self.stem = None
        self.report = {
            "schema": "trimtab-gpu-check/2",
            "date": datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ"),
            "rehearsed": bool(self.rehearsed),
            "bundle": self.bundle,
            "seconds": arguments.seconds,
            "ranks": arguments.ranks,
            "machine": {},
            "parts": [],
        }

    def program(self, name):
        if self.rehearsed and name == "trimtab":
            path = os.path.join(self.rehearsed, name)
        elif self.rehearsed:
            folder = "tests/emu" if name == "primitives" else "tests/gpu"
            path = os.path.join(self.rehearsed, folder, name + "-emu")
        else:
            path = os.path.join(HERE, "bin", name)
        if not os.path.exists(path):
            raise Skipped(f"there is no {os.path.basename(path)}")
        return path

    def left(self):
        """Seconds of the running part."""
        return self.until - time.monotonic()

    def run(self, command, limit=None, quiet=None, environment=None):
        """A command within the part's time."""
        seconds = min(self.left(), limit or self.left())
        if seconds < 0.5 * self.scale:
            raise Skipped("no time was left")
        try:
            return gpu_process.run(command, seconds, self.log, quiet, environment, HERE)
        except OSError as error:
            raise Skipped(f"{os.path.basename(command[0])}: {error.strerror}") from error

    def open_files(self, folder):
        """Names the three files, after the GPU, so that nothing is overwritten."""
        os.makedirs(folder, exist_ok=True)
        gpu = self.report["machine"].get("name") or self.report["machine"].get("device") or "unknown"
        name = self.report["date"][:10] + "-" + re.sub("[^a-z0-9]+", "-", str(gpu).lower()).strip("-")
        stem, n = os.path.join(os.path.abspath(folder), name), 1
        while any(os.path.exists(f"{stem}.{kind}") for kind in ("json", "md", "log")):
            n += 1
            stem = os.path.join(os.path.abspath(folder), f"{name}-{n}")
        self.stem = stem
        self.log.open(stem + ".log")

    def write(self):
        if self.stem:
            gpu_report.write(self.report, self.stem)


def read_json(path):
    try:
        with open(path, encoding="utf-8") as file:
            return json.load(file)
    except (OSError, ValueError):
        return None


def run_part(check, part):
    """Runs a part and records whatever comes of it, also when gpu-check is being ended."""
    began = time.monotonic()
    limit = check.end - began if part.seconds is None else part.seconds * check.scale
    check.until = min(check.end, began + limit)
    entry = {"name": part.name, "what": part.run.__doc__.splitlines()[0], "limit": round(limit, 1), "lines": []}
    check.log.begin(f"{part.name}, {limit:.1f} s")
    check.report["parts"].append(entry)
    try:
        if part.seconds is None and limit < 15 * check.scale:
            raise Skipped("no time was left")
        entry["outcome"], entry["note"] = "pass", str(part.run(check))
    except Skipped as reason:
        entry["outcome"], entry["note"] = "skipped", str(reason)
    except Failed as reason:
        entry["outcome"], entry["note"], entry["lines"] = "fail", str(reason), reason.lines
    except NoDevice:
        raise
    except BaseException as error:  # a fault in gpu-check must not cost what was found
        entry["outcome"], entry["note"] = "fail", f"gpu-check itself: {type(error).__name__}: {error}"
        entry["lines"] = traceback.format_exc().splitlines()
        if not isinstance(error, Exception):
            raise
    finally:
        entry["seconds"] = round(time.monotonic() - began, 1)
        if "outcome" in entry:
            check.log.write(f"[{entry['outcome']}: {entry['note']}]\n")
        check.log.end()
        check.write()
    show(entry)
    return entry["outcome"]


def show(entry, most=30):
    print(f"{entry['outcome']:8}{entry['name']:13}{entry['seconds']:7.1f} s  {entry['note']}", flush=True)
    for line in entry["lines"][:most]:
        print("        " + line[:200])
    if len(entry["lines"]) > most:
        print(f"        ({len(entry['lines']) - most} more lines in the report)", flush=True)


class Hold:
    """A process with a context, so that the driver need not start anew for each part: where it is not persistent, that
    takes seconds."""

    def __init__(self, check):
        self.process = None
        try:
            self.process = subprocess.Popen([check.program("gpu-bench"), "--hold"], stdin=subprocess.PIPE,
                                            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                                            start_new_session=True)
        except (OSError, Skipped):
            pass

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process:
            self.process.stdin.close()
            gpu_process.kill_group(self.process)


def run_all(check, parts):
    """The parts after the first, as long as the device answers."""
    dead = False
    for part in parts:
        if dead:
            check.report["parts"].append({"name": part.name, "what": part.run.__doc__.splitlines()[0], "lines": [],
                                          "outcome": "skipped", "seconds": 0, "limit": 0,
                                          "note": "the device does not answer any more"})
            check.write()
            show(check.report["parts"][-1])
        elif run_part(check, part) == "fail":
            check.until = check.end
            dead = not gpu_parts.is_alive(check)


def terminated(number, _frame):
    raise SystemExit(128 + number)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", default=os.path.join(HERE, "results"), metavar="FOLDER")
    parser.add_argument("--only", metavar="PART,..", help="of " + ", ".join(part.name for part in PARTS[1:]))
    parser.add_argument("--seconds", type=float, default=SECONDS, help=f"for everything (default: {SECONDS}); "
                        "the parts' limits are in proportion")
    parser.add_argument("--ranks", type=int, default=1, metavar="N")
    parser.add_argument("--rehearse", metavar="BUILD")
    arguments = parser.parse_args()
    parts = RANKS_PARTS if arguments.ranks > 1 else PARTS
    wanted = arguments.only.split(",") if arguments.only else [part.name for part in parts]
    unknown = set(wanted) - {part.name for part in parts}
    if unknown:
        parser.error("no such part: " + ", ".join(sorted(unknown)))
    signal.signal(signal.SIGTERM, terminated)
    check = Check(arguments)
    try:
        outcome = run_part(check, PARTS[0])  # its figures belong to all others
    except NoDevice as reason:
        print(f"gpu-check: no CUDA device: every part is skipped ({reason})")
        return 0
    except BaseException:
        check.open_files(arguments.results)
        check.write()
        raise
    check.open_files(arguments.results)
    check.write()
    if outcome != "fail":
        with Hold(check):
            run_all(check, [part for part in parts[1:] if part.name in wanted])
    print(f"written: {check.stem}.json, .md and .log")
    return any(part["outcome"] == "fail" for part in check.report["parts"])


if __name__ == "__main__":
    sys.exit(main())
