#!/usr/bin/env python3
"""Runs `trimtab batch` as several processes that share a job: shards.py TRIMTAB GOLDEN [TEST]..."""

import json
import os
import random
import resource
import sys
import tempfile
import time

import program
from program import check, golden, make_policy, read, refused, run, works, write_lines
from shared_job import FILES, SharedJob, remove_job, reseal, shared_rows, tree


def test_same_bytes():
    """4 shards, and 3 then 5 of which one was killed each: the files of one process."""
    job = SharedJob(shared_rows(600), "-n", "2", end="")
    job.shards(4)
    job.merge()
    job.same("4 shards")
    job.begin()
    job.kill("--shard", "0/3")
    job.shards(3, [2])
    job.kill("--shard", "1/5")
    job.kill("--shard", "1/5")
    job.shards(5)
    works(*job.command(), "--shard", "0/3")  # there is nothing left for it
    job.merge()
    job.same("3 shards, then 5")


def test_random_kills():
    """Shards of random numbers, killed at random moments, and then one run: make cluster-check has more of it."""
    rng = random.Random(5)
    job = SharedJob(shared_rows(600), "-n", "2", end="")
    for _ in range(6):
        n = rng.choice([1, 2, 3, 5])
        shards = [job.start("--shard", f"{i}/{n}") for i in range(n)]
        time.sleep(rng.uniform(0, 0.3))
        rng.choice(shards).kill()
        if rng.random() < 0.5:
            for shard in shards:
                shard.kill()
        for shard in shards:
            shard.wait()
    job.shards(2)
    job.merge()
    job.same("random kills")


def test_sweep():
    """Cases of one line may lie in several parts."""
    job = SharedJob([{"id": str(i), "prompt": "x"} for i in range(260)], "-n", "1", "--sweep", "p@0,1,2")
    job.kill("--shard", "0/1")
    job.shards(2)
    job.merge()
    job.same("a sweep")


def test_baselines_of_before():
    """A job begun when a sweep had a case of scale 0 for each policy goes on, and is merged, with those cases."""
    make_policy("q.st", "trimtab.alpha=0.7")
    job = SharedJob([{"id": str(i), "prompt": "x"} for i in range(6)], "-n", "1", "--policy", "q=q.st", "--sweep",
                    "p,q@0,1")
    check(json.loads(read("out.job").splitlines()[0])["cases"] == 3, "a sweep has one baseline")
    reseal("out.job", lambda head: (head.update(cases=4), head["job"].pop("baselines")))
    refused(1, "24 of the 24 rows of out are missing", *job.command(), "--merge")
    job.shards(2)
    job.merge()
    ids = [row["custom_id"] for row in program.read_rows("out")]
    check(ids[:4] == ["0#p@0", "0#p@1", "0#q@0", "0#q@1"] and len(ids) == 24, f"{len(ids)}: {ids[:4]}")
    job.same("baselines of before")  # one process too goes on with its journal
    check("24 were there already" in works(*job.command(), "--merge").stdout, "merging twice")
    check("24 were there already" in works(*job.command(), "--shard", "0/2").stdout, "a shard of what is merged")
    works(*job.command(), "--restart")
    check([row["custom_id"] for row in program.read_rows("out")][:4] == ["0#p@0", "0#p@1", "0#q@1", "1#p@0"],
          "a job that starts over has one baseline")


def test_missing():
    job = SharedJob([{"id": str(i), "prompt": "x"} for i in range(600)], "-n", "1")
    job.shards(3, [1])
    before = tree()
    refused(1, "344 of the 600 rows of out are missing", *job.command(), "--merge")
    done = run(*job.command(), "--merge", "--missing")
    check(done.returncode == 1 and done.stdout == "unit 0: rows 1 to 256\nunit 2: rows 513 to 600\n", done.stdout)
    done = run(*job.command(), "--merge", "--missing", "--json")
    check([json.loads(line) for line in done.stdout.splitlines()] ==
          [{"unit": 0, "first_row": 0, "rows": 256}, {"unit": 2, "first_row": 512, "rows": 88}], done.stdout)
    check(tree() == before, "what only looks changed a file")
    job.shards(3, [0, 2])
    check(works(*job.command(), "--merge", "--missing").stdout == "", "rows that are there were called missing")
    job_file = read("out.job")
    job.merge()
    with open("out.job", "wb") as file:  # as a merge leaves it that is killed at its end
        file.write(job_file)
    check("600 were there already" in works(*job.command(), "--shard", "1/3").stdout, "a shard after a killed merge")
    check(not os.path.exists("out.parts"), "a shard answers again what is merged")
    job.merge()
    check("600 were there already" in works(*job.command(), "--merge").stdout, "merging twice")
    check("600 were there already" in works(*job.command(), "--shard", "1/3").stdout, "a shard of what is merged")
    check(not os.path.exists("out.job"), "a shard of what is merged made a job file")


def test_environment():
    write_lines("in.jsonl", [{"id": str(i), "prompt": "x"} for i in range(300)])
    array = {"SLURM_ARRAY_TASK_ID": "4", "SLURM_ARRAY_TASK_MIN": "3", "SLURM_ARRAY_TASK_MAX": "4",
             "SLURM_ARRAY_TASK_COUNT": "2"}
    for variables, shard, part in ((array, "env", "0-1"), ({"JOB_COMPLETION_INDEX": "0"}, "env/2", "0-0")):
        os.environ.update(variables)
        works("-i", "in.jsonl", "-o", "out", "-n", "1", "--shard", shard)
        check(os.path.exists(f"out.parts/{part}.jsonl"), f"the shard that {variables} says")
        if shard == "env":
            os.environ["SLURM_ARRAY_TASK_COUNT"] = "1"  # of an array with gaps
            refused(2, "give env/N", "-i", "in.jsonl", "-o", "x", "--shard", "env")
        for name in variables:
            del os.environ[name]
    works("-i", "in.jsonl", "-o", "out", "-n", "1", "--merge")
    refused(2, "is a number", "-i", "in.jsonl", "-o", "x", "--shard", "env/2")
    for shard in ("", "1", "/2", "1/", "1/0", "a/2", "1/2x", "-1/2", "env/", "99999999999/2"):
        refused(2, "is not I/N", "-i", "in.jsonl", "-o", "x", "--shard", shard)
    refused(2, "no shard 2 of 2", "-i", "in.jsonl", "-o", "x", "--shard", "2/2")
    refused(2, "remove x.job", "-i", "in.jsonl", "-o", "x", "--shard", "0/2", "--restart")
    refused(2, "takes no --shard", "-i", "in.jsonl", "-o", "x", "--shard", "0/2", "--merge")
    refused(2, "--missing is for", "-i", "in.jsonl", "-o", "x", "--missing")
    refused(2, "has names", "-i", "in.jsonl", "-o", "-", "--shard", "0/2")
    refused(2, "the input", "-i", "x.job", "-o", "x")
    refused(1, "nothing to merge", "-i", "in.jsonl", "-o", "x", "--merge")


def test_other_job():
    """Under another model, policy, version or probe: refused by name, and nothing is changed."""
    rows = [{"id": str(i), "prompt": "x"} for i in range(300)]
    job = SharedJob(rows, "-n", "1")
    job.shards(2)
    before = tree()

    def unchanged(what):
        check(tree() == before, f"{what}: a file was changed")

    make_policy("q.st", "trimtab.alpha=0.7")
    before = tree()
    command = job.command()
    for what, arguments, model in (("--policy p", command[:-1] + ["p=q.st"], program.tiny),
                                   ("--max-tokens (1 there, 2 here)", [*command, "-n", "2"], program.tiny),
                                   ("the model (", command[:-2], os.path.join(golden, "tiny-llama3")),
                                   ("--telemetry", command[:4] + command[6:], program.tiny)):
        refused(1, what, *arguments, "--shard", "0/2", model=model)
        unchanged(what)
    refused(1, "--telemetry", *command[:4], *command[6:], "--merge")
    refused(1, "Go on with --shard", *command)
    refused(1, "Go on with --shard", *command, "--restart")
    write_lines("in2.jsonl", rows[1:])
    refused(1, "is not the input of out.job", "-i", "in2.jsonl", *command[2:], "--merge")
    os.unlink("in2.jsonl")
    unchanged("merging what is not the job's")
    changes = {"trimtab (": lambda head: head["job"].update(version="0.0.9"),
               "how the processor rounds": lambda head: head["job"]["model"].update(probe="0" * 64),
               "--policy p (": lambda head: head["job"]["policies"].update(p="0" * 64),
               "the model's weights": lambda head: head["job"]["model"].update(weights_digest="0" * 64),
               "begun at another time": lambda head: head.update(created=5)}
    for what, change in changes.items():
        saved = read("out.parts/0-1.jsonl.journal")
        reseal("out.parts/0-1.jsonl.journal", change)
        before = tree()
        for arguments in (["--merge"], ["--shard", "0/2"]):
            done = run(*command, *arguments)
            check(done.returncode == 1 and "0-1.jsonl is" in done.stderr and what in done.stderr,
                  f"{what}: {done.returncode}: {done.stderr}")
        unchanged(what)
        with open("out.parts/0-1.jsonl.journal", "wb") as file:
            file.write(saved)
    job.merge()
    job.same("after all refusals")


def put(files):
    for path, data in files.items():
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb") as file:
            file.write(data)


def test_killed_merge():
    """A merge that was killed, before each of its renames and after the last, is called again."""
    job = SharedJob(shared_rows(300), "-n", "2", end="")
    job.shards(2)
    shared = tree()
    job.merge()
    job.same("a merge")
    merged = {path: read(path) for path in FILES}
    for n_renamed in range(4):
        remove_job()
        put(shared)
        for i, path in enumerate(("out.journal", "tokens", "out")):
            name = path if i < n_renamed else "out.tmp.journal" if i == 0 else path + ".tmp"
            put({"./" + name: merged[path]})
        job.merge()
        job.same(f"killed after {n_renamed} renames")
        check(not [path for path in tree() if ".tmp" in path], f"killed after {n_renamed} renames: .tmp stays")
    remove_job()
    put(shared)
    os.mkdir("tokens")  # the second rename fails
    for _ in range(2):
        done = run(*job.command(), "--merge")
        check(done.returncode == 1 and not [path for path in tree() if ".tmp" in path], f"a failed rename: {done}")
    os.rmdir("tokens")
    job.merge()
    job.same("after a rename that failed")


def test_merged_names():
    """Names that a merge needs are not another's, and files that are no merge's stay."""
    job = SharedJob([{"id": str(i), "prompt": "x"} for i in range(300)], "-n", "1")
    for output, telemetry in (("a", "a.tmp"), ("a", "a.tmp.journal"), ("a.tmp", "a"), ("a", "in.jsonl.tmp")):
        arguments = ["-o", output, "--telemetry", telemetry, "-n", "1", "--shard", "0/2"]
        if telemetry == "in.jsonl.tmp":
            arguments[3] = "in.jsonl"
        refused(2, "would be both", "-i", "in.jsonl", *arguments)
    job.shards(2)
    works("-i", "in.jsonl", "-o", "out.tmp", "-n", "2")
    before = tree()
    refused(1, "out.tmp is another job's", *job.command(), "--merge")
    check(tree() == before, "a batch of the name out.tmp was changed")
    os.unlink("out.tmp.journal")
    before = tree()
    refused(1, "out.tmp is there and has no journal", *job.command(), "--merge")
    open("out.journal", "wb").close()  # of nobody
    refused(1, "out.tmp is there and has no journal", *job.command(), "--merge")
    os.unlink("out.journal")
    os.unlink("out.tmp")
    job.merge()
    job.same("after other names")


def test_merged_is_whole():
    """Without a job file, --merge says of an output that it is merged only where it is all that is asked for."""
    job = SharedJob([{"id": str(i), "prompt": "x"} for i in range(260)], "-n", "1", "--sweep", "p@0,1")
    job.shards(2)
    job.merge()
    command = job.command()
    check("520 were there already" in works(*command, "--merge").stdout, "merging twice")
    write_lines("in2.jsonl", [{"id": "1", "prompt": "x"}])
    saved = {"./" + path: read(path) for path in FILES}
    refused(1, "in2.jsonl is not the input of out", "-i", "in2.jsonl", *command[2:], "--merge")
    refused(1, "with --telemetry", *command[:4], *command[6:], "--merge")
    records = [line for line in saved["./out.journal"].splitlines(True) if b"synced" not in line]
    put({"./out.journal": b"".join(records[:-1])})
    for arguments in (["--merge"], ["--merge", "--missing"]):
        refused(1, "out has 519 of its 520 rows", *command, *arguments)
    put(saved)
    with open("out", "r+b") as file:
        file.truncate(len(saved["./out"]) - 5)
    refused(1, "row 520 of out is no longer what was written", *command, "--merge")
    put(saved)
    works(*command, "--merge")


def test_wrong_sizes():
    """A job file whose checksums hold and whose numbers do not."""
    job = SharedJob([{"id": str(i), "prompt": "x"} for i in range(300)], "-n", "1")
    saved = read("out.job")
    for cases in (2, 1 << 46):
        reseal("out.job", lambda head, n=cases: head.update(cases=n))
        before = tree()
        for arguments in (["--shard", "0/2"], ["--merge"], ["--merge", "--missing"]):
            done = run(*job.command(), *arguments, before=lambda: resource.setrlimit(resource.RLIMIT_CPU, (20, 20)))
            check(done.returncode == 1 and f"has 1 cases, not {cases}" in done.stderr,
                  f"{cases} cases: {arguments}: {done.returncode}: {done.stderr}")
        check(tree() == before, f"{cases} cases: a file was changed")
    reseal("out.job", lambda head: (head.update(cases=1), head["job"].update(sweep="nobody@1")))
    refused(1, "describes no sweep", *job.command(), "--merge")
    with open("out.job", "wb") as file:
        file.write(saved)
    job.shards(2)
    job.merge()
    job.same("after wrong sizes")


def test_strangers():
    """Files that are not the job's, and bytes that somebody changed."""
    job = SharedJob([{"id": str(i), "prompt": "x"} for i in range(300)], "-n", "1")
    job.shards(2)
    damages = {"out.parts/0-0.jsonl": "row 8 of", "out.parts/0-0.jsonl.journal": "is damaged",
               "out.parts/0-1.telemetry.jsonl": "is no longer what was written", "out.job": "is not what was written"}
    for path, what in damages.items():
        saved = read(path)
        at = saved.index(b"\n") + 30 if path == "out.job" else 0
        for _ in range(0 if path == "out.job" else 7):
            at = saved.index(b"\n", at) + 1
        with open(path, "wb") as file:
            file.write(saved[:at + 9] + bytes([saved[at + 9] ^ 1]) + saved[at + 10:])
        before = tree()
        refused(1, what, *job.command(), "--merge")
        refused(1, what, *job.command(), "--shard", "0/2")
        check(tree() == before, f"{path}: a file was changed")
        with open(path, "wb") as file:
            file.write(saved)
    for path in ("out", "tokens"):
        with open(path, "w", encoding="utf-8") as file:
            file.write("precious\n")
        refused(1, "has no journal to go on with", *job.command(), "--merge")
        check(read(path) == b"precious\n", f"{path} was overwritten")
        os.unlink(path)
    job.merge()
    job.same("after strangers")
    works("-i", "in.jsonl", "-o", "alone", "-n", "1")
    refused(1, "alone is another job's", "-i", "in.jsonl", "-o", "alone", "-n", "2", "--shard", "0/2")
    with open("alone.journal", "r+b") as file:
        file.truncate(sum(map(len, read("alone.journal").splitlines(True)[:9])))
    refused(1, "was begun by one process", "-i", "in.jsonl", "-o", "alone", "-n", "1", "--shard", "0/2")
    check(not os.path.exists("alone.job"), "a job file was made beside another's output")


def main():
    names = sys.argv[3:]
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        program.run_tests(globals(), names)
        os.chdir("/")
    program.end()


main()
