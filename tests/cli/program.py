"""Shared by the tests of the program: they run it in a folder of their own, with the arguments TRIMTAB GOLDEN ..."""

import importlib.machinery
import importlib.util
import json
import os
import re
import shutil
import struct
import subprocess
import sys
import tempfile
import time

trimtab = os.path.abspath(sys.argv[1])
golden = os.path.abspath(sys.argv[2])
tiny = os.path.join(golden, "tiny-llama")
here = os.path.dirname(os.path.abspath(__file__))
problems = []


def check(holds, what):
    if not holds:
        problems.append(what)
        print(f"FAILED: {what}", file=sys.stderr)


def run(*arguments, model=tiny, command="batch", before=None):
    return subprocess.run([trimtab, command, model, *map(str, arguments)], stdin=subprocess.DEVNULL,
                          capture_output=True, text=True, preexec_fn=before, check=False)


def works(*arguments, **keywords):
    """Status 0; of a batch 4 if its summary counts rows that are errors."""
    done = run(*arguments, **keywords)
    errors = re.search(r'(\d+) of them errors|"errors":(\d+)', done.stdout)
    failed = keywords.get("command", "batch") == "batch" and errors and int(errors[1] or errors[2]) > 0
    check(done.returncode == (4 if failed else 0), f"{arguments}: {done.returncode}: {done.stderr[-300:]}")
    return done


def refused(status, pattern, *arguments, **keywords):
    """That status, nothing on stdout, a last line on stderr that holds the pattern."""
    done = run(*arguments, **keywords)
    last = done.stderr.splitlines()[-1] if done.stderr else ""
    check(done.returncode == status and not done.stdout and last.startswith("trimtab: ") and pattern in last,
          f"refused {status} '{pattern}': {arguments}: {done.returncode}: {done.stderr[-300:]}")


def write_lines(path, rows):
    with open(path, "w", encoding="utf-8") as file:
        for row in rows:
            file.write((row if isinstance(row, str) else json.dumps(row)) + "\n")


def read_rows(path):
    with open(path, encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def load_script(path):
    """A Python script without .py behind its name, as a module."""
    sys.dont_write_bytecode = True
    loader = importlib.machinery.SourceFileLoader(os.path.basename(path), path)
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader(loader.name, loader))
    loader.exec_module(module)
    return module


def read(path):
    with open(path, "rb") as file:
        return file.read()


def metadata(path):
    """Of a safetensors file, and the bytes of its tensors."""
    data = read(path)
    (n,) = struct.unpack_from("<Q", data)
    return json.loads(data[8:8 + n])["__metadata__"], data[8 + n:]


def tensor(path, name):
    """The numbers of a tensor of a safetensors file."""
    data = read(path)
    (n,) = struct.unpack_from("<Q", data)
    entry = json.loads(data[8:8 + n])[name]
    begin, end = entry["data_offsets"]
    kind = {"I32": "i", "F32": "f"}[entry["dtype"]]
    return struct.unpack(f"<{(end - begin) // 4}{kind}", data[8 + n + begin:8 + n + end])


def make_policy(path, *changes, model=None):
    of = json.loads(run("--json", model=model or tiny, command="inspect").stdout)
    size = [str(of["config"][key]) for key in ("n_layers", "hidden_size")]
    subprocess.run([sys.executable, os.path.join(here, "make_policy.py"), path, *size, of["fingerprint"],
                    f"trimtab.weights_digest={of['weights_digest']}", *changes], check=True)


def run_tests(tests, names=()):
    """Runs every test_NAME of these, or those of these names, each in the emptied folder."""
    everything = {name[5:]: test for name, test in tests.items() if name.startswith("test_")}
    for name in names or everything:
        for entry in os.listdir("."):
            shutil.rmtree(entry) if os.path.isdir(entry) and not os.path.islink(entry) else os.unlink(entry)
        begun = time.monotonic()
        everything[name]()
        print(f"{name}: {time.monotonic() - begun:.1f} s")


def main_with_server(tests, names):
    """run_tests in a folder of their own, and the end; not where the program has no server."""
    if "without its server" in run(command="serve", model="nowhere").stderr:
        print("skipped: this program was built without its server")
        return
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        run_tests(tests, names)
        os.chdir("/")
    end()


def end():
    print("all passed" if not problems else f"{len(problems)} checks failed")
    sys.exit(bool(problems))
