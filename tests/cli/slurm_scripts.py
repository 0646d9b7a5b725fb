#!/usr/bin/env python3
"""The scripts of deploy/slurm, run as Slurm would run them, with files of its programs' names in their place:
slurm_scripts.py TRIMTAB GOLDEN [TEST].. ; slurm_check.py runs them on Slurm itself."""

import os
import subprocess
import sys
import tempfile

import program
from program import check, read, tiny, trimtab
from shared_job import SharedJob, shared_rows

SCRIPTS = os.path.join(program.here, "..", "..", "deploy", "slurm")
# It says what it was given, leaves its own options out, and runs what is left.
SRUN = """#!/bin/bash
echo "$SRUN_CPUS_PER_TASK $*" >>srun.said
while [[ $1 = --* ]]; do shift; done
exec "$@"
"""
MPIRUN = """#!/bin/bash
echo "$*" >>srun.said
"""
SBATCH = """#!/bin/bash
printf '%s\\n' "$*" >>sbatch.said
echo $((100 + $(wc -l <sbatch.said)))';cluster'
"""


def programs():
    os.mkdir("bin")
    for name, text in ("srun", SRUN), ("mpirun", MPIRUN), ("sbatch", SBATCH):
        with open(f"bin/{name}", "w", encoding="ascii") as file:
            file.write(text)
        os.chmod(f"bin/{name}", 0o755)


def run(script, *arguments, **environment):
    values = {"MODEL": tiny, "INPUT": "in.jsonl", "OUTPUT": "out", "TRIMTAB": trimtab, "SLURM_CPUS_PER_TASK": "3",
              "SRUN_CPUS_PER_TASK": "", "PATH": f"{os.getcwd()}/bin:{os.environ['PATH']}", **environment}
    return subprocess.run(["bash", f"{SCRIPTS}/{script}", *arguments], env=os.environ | values, check=False,
                          stdin=subprocess.DEVNULL, capture_output=True, text=True)


def test_array():
    """The tasks of an array that does not begin with 0, and the merge: the files of one process."""
    programs()
    job = SharedJob(shared_rows(600), "-n", "2")
    options = ["--telemetry", "tokens", *job.arguments]
    done = run("batch-merge.sbatch", *options)
    check(done.returncode == 1, f"a merge before there are parts: {done.returncode}")
    for task in range(4, 7):
        done = run("batch-array.sbatch", *options, SLURM_ARRAY_TASK_ID=str(task), SLURM_ARRAY_TASK_MIN="4",
                   SLURM_ARRAY_TASK_MAX="6", SLURM_ARRAY_TASK_COUNT="3")
        check(done.returncode == 0, f"task {task}: {done.returncode}: {done.stderr[-300:]}")
    done = run("batch-merge.sbatch", *options)
    check(done.returncode == 0, f"the merge: {done.returncode}: {done.stderr[-300:]}")
    job.same("an array")
    done = run("batch-array.sbatch", "--no-such-option", SLURM_ARRAY_TASK_ID="0")
    check(done.returncode == 2, f"wrong options: {done.returncode}")
    said = read("srun.said").decode().splitlines()
    check(said[1].startswith("3 ") and "--container" not in said[1], f"srun: {said[1]}")
    run("batch-array.sbatch", CONTAINER="image.sqsh", MOUNTS="/a b:/c")
    said = read("srun.said").decode().splitlines()[-1]
    check("--container-image=image.sqsh --container-mounts=/a b:/c" in said, f"srun: {said}")


def test_submit():
    """The array first, then the merge behind it, both with the same options."""
    programs()
    done = run("submit-batch.sh", "-n", "2", ARRAY="--partition=gpu --cpus-per-task=4", MERGE="--mem=1G")
    check(done.stdout == "array 101, merge 102\n", f"{done.stdout} {done.stderr}")
    array, merge = read("sbatch.said").decode().splitlines()
    check(array == f"--parsable --partition=gpu --cpus-per-task=4 {os.path.realpath(SCRIPTS)}/batch-array.sbatch -n 2",
          array)
    check(merge == "--parsable --mem=1G --dependency=afterok:101 --kill-on-invalid-dep=yes "
          f"{os.path.realpath(SCRIPTS)}/batch-merge.sbatch -n 2", merge)
    check(run("submit-batch.sh", INPUT="").returncode != 0, "a call without input")


def test_ranks():
    """batch-mpi.sbatch starts them in either way."""
    programs()
    for launch, word in ("srun", "--mpi=pmix"), ("mpirun", "--bind-to"):
        done = run("batch-mpi.sbatch", "--shard", "0/1", LAUNCH=launch, TRIMTAB="true")
        check(done.returncode == 0, f"{launch}: {done.returncode}: {done.stderr}")
        said = read("srun.said").decode().splitlines()[-1]
        check(word in said and said.endswith(f"true batch {tiny} -i in.jsonl -o out --shard 0/1"), said)


def main():
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        program.run_tests(globals(), sys.argv[3:])
        os.chdir("/")
    program.end()


main()
