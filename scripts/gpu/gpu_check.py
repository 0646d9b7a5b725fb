#!/usr/bin/env python3
"""Proves and times trimtab's CUDA kernels on the machine's GPU: primitives against their C bodies, every op and whole
tiny models against what they must give, compute-sanitizer, timings. Needs python3 and a driver, nothing else; PyTorch
and cuBLAS are used where they are. Writes DATE-GPU.json and DATE-GPU.md after each part.

    gpu-check [--results FOLDER] [--only PART,..] [--seconds N]
    gpu-check --rehearse BUILD [...]  the same on BUILD's emulator, where that is possible: no GPU is needed

It ends within 8 minutes. Exit 0: nothing failed."""

import argparse
import datetime
import glob
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import time

import gpu_report

HERE = os.path.dirname(os.path.abspath(__file__))
SKIPPED = 77  # exit status of a program that had nothing to run on


class Skipped(Exception):
    """Why a part was not run."""


class Failed(Exception):
    """A part's finding, and its last lines."""

    def __init__(self, note, lines=()):
        super().__init__(note)
        self.lines = list(lines)


class Check:
    def __init__(self, arguments):
        self.until = time.monotonic() + arguments.seconds
        self.rehearsed = arguments.rehearse
        # In a bundle everything lies beside this file; in a checkout, where it belongs.
        self.bundle = read_json(os.path.join(HERE, "bundle.json"))
        self.root = HERE if self.bundle else os.path.dirname(os.path.dirname(HERE))
        self.golden = os.path.join(self.root, "tests")
        self.report = {
            "schema": "trimtab-gpu-check/1",
            "date": datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ"),
            "rehearsed": bool(self.rehearsed),
            "bundle": self.bundle,
            "machine": {},
            "parts": [],
        }

    def program(self, name):
        if self.rehearsed:
            folder = "tests/emu" if name == "primitives" else "tests/gpu"
            name = os.path.join(self.rehearsed, folder, name + "-emu")
        else:
            name = os.path.join(HERE, "bin", name)
        if not os.path.exists(name):
            raise Skipped(f"there is no {os.path.basename(name)}")
        return name

    def run(self, command, limit, environment=None):
        """Status and output lines of a command, within its limit and the whole run's."""
        limit = min(limit, self.until - time.monotonic())
        if limit < 1:
            raise Skipped("no time was left")
        try:
            done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=limit, cwd=HERE,
                                  env={**os.environ, **(environment or {})}, check=False)
        except subprocess.TimeoutExpired as late:
            raise Failed(f"not done after {limit:.0f} s", text_lines(late.stdout)[-20:]) from late
        except OSError as error:
            raise Skipped(f"{os.path.basename(command[0])}: {error.strerror}") from error
        lines = text_lines(done.stdout)
        if done.returncode == SKIPPED:
            raise Skipped(lines[0] if lines else "it was skipped")
        return done.returncode, lines


def text_lines(output):
    return (output or b"").decode("utf-8", "replace").splitlines()


def read_json(path):
    try:
        with open(path, encoding="utf-8") as file:
            return json.load(file)
    except (OSError, ValueError):
        return None


def machine(check):
    """The machine that the figures were taken on."""
    fields = ["name", "driver_version", "memory.total", "clocks.max.sm", "clocks.max.memory", "clocks.sm",
              "power.limit",
              "persistence_mode", "mig.mode.current"]
    found = check.report["machine"]
    found["cpus"] = os.cpu_count()
    found["python"] = sys.version.split()[0]
    try:
        status, lines = check.run(["nvidia-smi", "--query-gpu=" + ",".join(fields), "--format=csv,noheader"], 20)
        if status == 0 and lines:
            found.update(zip(fields, [value.strip() for value in lines[0].split(",")]))
    except Skipped as reason:
        found["nvidia-smi"] = str(reason)
    status, lines = check.run([check.program("gpu-bench"), "--machine"], 30)
    if status:
        raise Failed("gpu-bench --machine", lines)
    found.update(json.loads("\n".join(lines)))
    return found.get("name") or found["device"]


def primitives(check):
    """Each primitive's PTX against what its C body gave."""
    folder = check.root if check.bundle else os.path.join(check.rehearsed or "build", "tests/emu")
    status, lines = check.run([check.program("primitives"), os.path.join(folder, "primitives.bin")], 60)
    if lines and lines[0] == "no CUDA device":
        raise Skipped(lines[0])
    passed = sum(line.endswith(" pass") for line in lines)
    if status or not passed:
        raise Failed("a primitive differs", lines)
    return f"{passed} primitives, bit for bit"


def suites(check, filters, limit):
    """Tests of gpu-suites by pattern."""
    command = [check.program("gpu-suites"), "--data", check.golden, "--timeout", "60"]
    for pattern in filters:
        command += ["--filter", pattern]
    status, lines = check.run(command, limit)
    if status or not lines:
        shown = [line for line in lines if not line.startswith(("pass", "skip"))]
        raise Failed(lines[-1] if lines else "no output", shown)
    return lines[-1]


def ops(check):
    """Every op against its references: what the emulator's suites hold it against."""
    every = ["emu_product*", "emu_attention.*", "emu_control.*", "emu_pool.*", "emu_sample.*"]
    return suites(check, ["emu_product.*", "emu_control.*"] if check.rehearsed else every, 120)


def models(check):
    """Whole tiny models against PyTorch's logits, steered and not, in every batch and chunk."""
    every = ["forward.*", "steering.*", "strict.*", "emu_engine.*"]
    return suites(check, ["forward.hugging*"] if check.rehearsed else every, 100)


def sanitizer(check):
    """A tiny model under compute-sanitizer."""
    tool = shutil.which("compute-sanitizer")
    if check.rehearsed or not tool:
        raise Skipped("the emulator has checks of its own" if check.rehearsed else "there is no compute-sanitizer")
    model = os.path.join(check.golden, "golden/tiny-llama/tiny-llama.q8_0.gguf")
    command = [tool, "--error-exitcode", "99", check.program("trimtab"), "generate", model, "--raw", "-p", "ab",
               "-n", "8",
               "--device", "cuda"]
    status, lines = check.run(command, 90)
    if status == 99:
        raise Failed("compute-sanitizer found errors", lines[-40:])
    if status or not any("ERROR SUMMARY: 0 errors" in line for line in lines):
        raise Skipped("compute-sanitizer is refused here: " + (lines[-1] if lines else "no output"))
    return "0 errors in a generation of 8 tokens"


def libraries():
    """Where pip put cuBLAS, if it did; the loader looks in its own places anyway."""
    spec = importlib.util.find_spec("nvidia")
    folders = [folder for root in (spec.submodule_search_locations if spec else [])
               for folder in glob.glob(os.path.join(root, "*", "lib"))]
    known = [os.environ["LD_LIBRARY_PATH"]] if os.environ.get("LD_LIBRARY_PATH") else []
    return {"LD_LIBRARY_PATH": ":".join(known + folders)} if folders else {}


def timed(check, name, arguments, limit, key):
    """A benchmark program's report into check.report[key]."""
    path = os.path.join(check.results, f".{key}.json")
    command = [check.program(name), *arguments, "--json", path]
    status, lines = check.run(command, limit, libraries())
    check.report[key] = read_json(path)
    if os.path.exists(path):
        os.remove(path)
    if status or not check.report[key]:
        raise Failed(f"{name} failed", lines[-20:])
    return f"{len(check.report[key]['cases'])} cases"


def kernels(check):
    """Each kernel's time beside a copy, a matrix product and cuBLAS."""
    return timed(check, "gpu-bench", ["--kernels"] + (["--tiny"] if check.rehearsed else []), 100, "kernels")


def decode(check):
    """Whole models with random weights: decode and prefill, steered and not."""
    size = ["--tiny"] if check.rehearsed else ["--seconds", "100"]
    return timed(check, "gpu-bench", ["--decode", *size], 160, "decode")


def torch(check):
    """The same shapes in plain PyTorch."""
    if importlib.util.find_spec("torch") is None:
        raise Skipped("there is no PyTorch")
    path = os.path.join(check.results, ".torch.json")
    script = os.path.join(check.root, "torch_decode.py" if check.bundle else "bench/peers/torch_decode.py")
    command = [sys.executable, script, "--json", path]
    status, lines = check.run(command + (["--tiny"] if check.rehearsed else ["--seconds", "80"]), 110)
    check.report["torch"] = read_json(path)
    if os.path.exists(path):
        os.remove(path)
    if status or not check.report["torch"]:
        raise Failed("torch_decode.py failed", lines[-20:])
    return f"{len(check.report['torch']['cases'])} cases"


PARTS = [machine, primitives, ops, models, sanitizer, kernels, decode, torch]


def run_part(check, part):
    began = time.monotonic()
    entry = {"name": part.__name__, "what": part.__doc__.splitlines()[0], "lines": []}
    try:
        entry["outcome"], entry["note"] = "pass", part(check)
    except Skipped as reason:
        entry["outcome"], entry["note"] = "skipped", str(reason)
    except Failed as reason:
        entry["outcome"], entry["note"], entry["lines"] = "fail", str(reason), reason.lines
    entry["seconds"] = round(time.monotonic() - began, 1)
    check.report["parts"].append(entry)
    print(f"{entry['outcome']:8}{entry['name']:12}{entry['seconds']:7.1f} s  {entry['note']}", flush=True)
    for line in entry["lines"]:
        print("        " + line)


def has_device(check):
    try:
        status, lines = check.run([check.program("gpu-suites"), "--filter", "none", "--list"], 30)
        status, lines = check.run([check.program("primitives"), os.devnull], 60)
        return not lines or lines[0] != "no CUDA device"
    except (Skipped, Failed):
        return False


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", default=os.path.join(HERE, "results"), metavar="FOLDER")
    parser.add_argument("--only", metavar="PART,..", help="of " + ", ".join(part.__name__ for part in PARTS))
    parser.add_argument("--seconds", type=float, default=470, help="for everything (default: 470)")
    parser.add_argument("--rehearse", metavar="BUILD")
    arguments = parser.parse_args()
    wanted = arguments.only.split(",") if arguments.only else [part.__name__ for part in PARTS]
    unknown = set(wanted) - {part.__name__ for part in PARTS}
    if unknown:
        parser.error("no such part: " + ", ".join(sorted(unknown)))
    check = Check(arguments)
    if not check.rehearsed and not has_device(check):
        print("gpu-check: no CUDA device: every part is skipped")
        return 0
    os.makedirs(arguments.results, exist_ok=True)
    check.results = os.path.abspath(arguments.results)
    for part in PARTS:
        if part.__name__ in wanted:
            run_part(check, part)
            gpu = check.report["machine"].get("name") or check.report["machine"].get("device") or "unknown"
            name = check.report["date"][:10] + "-" + re.sub("[^a-z0-9]+", "-", gpu.lower()).strip("-")
            gpu_report.write(check.report, os.path.join(check.results, name))
    print(f"written: {os.path.join(check.results, name)}.json and .md")
    return any(part["outcome"] == "fail" for part in check.report["parts"])


if __name__ == "__main__":
    sys.exit(main())
