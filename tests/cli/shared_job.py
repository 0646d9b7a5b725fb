"""A batch that several processes share, for its tests: the job, its parts, and what one process makes of it."""

import hashlib
import json
import os
import random
import subprocess
import time

from batch_rows import chat, seal, unseal
from program import check, make_policy, read, trimtab, works, write_lines

CREATED = 1700000000
FILES = ("out", "tokens", "out.journal")


def shared_rows(n, seed=11):
    """Short rows with blank lines between them, broken ones, ids of earlier units, and steered ones."""
    rng, rows = random.Random(seed), []
    for i in range(n):
        name = f"row {i - 300 if i % 89 == 40 and i > 300 else i}"
        if i % 31 == 5:
            rows.append(rng.choice(["", "   "]))
        if i % 3 == 0:
            steering = {"policies": [{"name": "p", "scale": rng.choice([0, 0.5, 1])}]}
            rows.append(chat(name, "word " * rng.randrange(1, 9), max_tokens=2, steering=steering))
        else:
            rows.append({"id": name, "prompt": "word " * rng.randrange(1, 20)} if i % 41 else "{")
    return rows


def reseal(path, change):
    """Changes the first line, a dict, and seals all lines again: those of a job file or of a journal of rows alone."""
    lines, before = [], b""
    for i, line in enumerate(read(path).splitlines()):
        text = unseal(line + b"\n")[0]
        if i == 0:
            head = json.loads(text + b"}")
            change(head)
            text = json.dumps(head, separators=(",", ":")).encode()[:-1]
        is_synced = text.startswith(b'{"synced"')
        lines.append(seal(text, head_check if is_synced else before))
        check_of_line = unseal(lines[-1])[1]
        head_check = check_of_line if i == 0 else head_check
        before = before if is_synced else check_of_line
    with open(path, "wb") as file:
        file.write(b"".join(lines))


def digest(path):
    return hashlib.sha256(read(path)).hexdigest()


def tree():
    """Every file below this folder, with its bytes."""
    return {os.path.join(folder, name): read(os.path.join(folder, name))
            for folder, _, names in os.walk(".") for name in names}


def remove_job():
    """All that a job has written."""
    for path in list(FILES) + ["out.job"]:
        if os.path.exists(path):
            os.unlink(path)
    if os.path.exists("out.parts"):
        for name in os.listdir("out.parts"):
            os.unlink(os.path.join("out.parts", name))
        os.rmdir("out.parts")


class SharedJob:
    """A job without any row yet, that began at CREATED, and what one process makes of it."""

    def __init__(self, rows, *arguments, end="\n", model=None):
        write_lines("in.jsonl", rows)
        if end != "\n":
            with open("in.jsonl", "r+b") as file:
                file.truncate(os.path.getsize("in.jsonl") - 1)
        self.model = {"model": model} if model else {}
        self.arguments = ["-t", "1", *arguments]
        if not model:
            make_policy("p.st")
            self.arguments += ["--policy", "p=p.st"]
        self.whole = None  # the files of one process
        self.begin()

    def command(self, name="out"):
        return ["-i", "in.jsonl", "-o", name, "--telemetry", name.replace("out", "tokens"), *self.arguments]

    def begin(self):
        """A shard that has no unit makes the job file."""
        remove_job()
        works(*self.command(), "--shard", "999/1000", **self.model)
        reseal("out.job", lambda head: head.update(created=CREATED))

    def start(self, *arguments):
        model = self.model.get("model")
        command = [trimtab, "batch", model or tiny_model(), *self.command(), *arguments]
        return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                                stderr=subprocess.DEVNULL)

    def shards(self, n, which=None):
        for process in [self.start("--shard", f"{i}/{n}") for i in which or range(n)]:
            check(process.wait() in (0, 4), f"a shard of {n}: {process.returncode}")

    def kill(self, *arguments):
        """Kills a shard that has written a row; it is none the worse for it if it was faster."""
        before = written()
        process = self.start(*arguments)
        while written() == before and process.poll() is None:
            time.sleep(0.002)
        process.kill()
        process.wait()

    def merge(self):
        works(*self.command(), "--merge", **self.model)
        check(not os.path.exists("out.job") and not os.path.exists("out.parts"), "a merge left parts behind")

    def same(self, what):
        """As one process writes it, which takes the merged files for its own."""
        if self.whole is None:
            # It goes on from the first line of the merged journal, since that has the time.
            for path, data in (("whole.out.journal", read("out.journal").splitlines(True)[0]), ("whole.out", b""),
                               ("whole.tokens", b"")):
                with open(path, "wb") as file:
                    file.write(data)
            works(*self.command("whole.out"), **self.model)
            self.whole = {path: read("whole." + path) for path in FILES}
            check(str(CREATED).encode() in self.whole["out"], "the rows do not say when the job was begun")
        for path in FILES[:2]:
            check(read(path) == self.whole[path], f"{what}: {path} is not what one process writes")
        records, whole = ([line for line in data.splitlines() if b"synced" not in line]
                          for data in (read("out.journal"), self.whole["out.journal"]))
        check(records == whole, f"{what}: the journal is not that of one process")
        before = tree()
        done = works(*self.command(), "--json", **self.model)
        summary = json.loads(done.stdout)
        check(summary["rows"] == summary["earlier"] == len(records) - 1, f"{what}: {summary}")
        check(tree() == before, f"{what}: a run with nothing to do changed a file")


def tiny_model():
    from program import tiny
    return tiny


def written():
    """Bytes of rows in all parts."""
    folder, n = "out.parts", 0
    for name in os.listdir(folder) if os.path.exists(folder) else ():
        if name.endswith(".jsonl") and "telemetry" not in name:
            try:
                n += os.path.getsize(os.path.join(folder, name))
            except FileNotFoundError:
                pass
    return n
