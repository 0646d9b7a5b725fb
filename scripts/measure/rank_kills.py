#!/usr/bin/env python3
"""Kills ranks of running engines (--tp) at random moments: each command must end by the name of the rank, soon, and
leave no process and no memory behind.

    rank_kills.py TRIMTAB GOLDEN [--kills N] [--seed S]

Every tenth kill is of rank 0, which cannot say anything: the others must end with it. Then, what
ranks that wait take of a core, for a command and in a step; SIGINT to the whole group; and a program without
trimtab-rank beside it."""

import argparse
import os
import random
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "tests", "cli"))
# pylint: disable=wrong-import-position
import program
from program import check, read, tiny, trimtab

parser = argparse.ArgumentParser()
parser.add_argument("trimtab")
parser.add_argument("golden")
parser.add_argument("--kills", type=int, default=100)
parser.add_argument("--seed", type=int, default=int(time.time()))
options = parser.parse_args()

LIMIT = 10  # seconds
WAYS = [("tiny-llama", 2), ("tiny-llama", 4), ("tiny-qwen2", 4), ("tiny-gemma3", 2)]


def children(pid):
    """Processes that threads of the process have started."""
    found = []
    try:
        for thread in os.listdir(f"/proc/{pid}/task"):
            found += [int(child) for child in read(f"/proc/{pid}/task/{thread}/children").split()]
    except (FileNotFoundError, ProcessLookupError):
        pass
    return found


def is_gone(pid):
    """Also where it has ended, and nobody waits for orphans on this machine."""
    try:
        return read(f"/proc/{pid}/stat").rsplit(b")", 1)[1].split()[0] == b"Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


def wait_for(holds, seconds):
    end = time.monotonic() + seconds
    while not (done := holds()) and time.monotonic() < end:
        time.sleep(0.002)
    return done


def processor_seconds(pid):
    fields = read(f"/proc/{pid}/stat").rsplit(b")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def start(model, n_ranks, *arguments, command="batch"):
    return subprocess.Popen([trimtab, command, os.path.join(program.golden, model), "--device", "cpu", "--tp",
                             str(n_ranks), "--threads", str(n_ranks), *arguments], stdin=subprocess.DEVNULL,
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True)


def start_batch(model, n_ranks):
    """More rows than it answers before it is killed."""
    for name in os.listdir("."):
        if name.startswith("out"):
            os.remove(name)
    return start(model, n_ranks, "-i", "../rows.jsonl", "-o", "out.jsonl", "-n", "8")


def kill_one(rng, number):
    """The seconds from the kill to the end of all, or None where the moment was before there were ranks."""
    model, n_ranks = rng.choice(WAYS)
    process = start_batch(model, n_ranks)
    if not wait_for(lambda: len(children(process.pid)) == n_ranks - 1 or process.poll() is not None, 60):
        process.kill()
    ranks = children(process.pid)
    time.sleep(rng.uniform(0, 0.3))
    first = number % 10 == 9
    victim = process.pid if first else rng.choice(ranks)
    begun = time.monotonic()
    os.kill(victim, signal.SIGKILL)
    out, err = process.communicate(timeout=120)
    gone = wait_for(lambda: all(is_gone(pid) for pid in ranks), LIMIT)
    seconds = time.monotonic() - begun
    what = f"kill {number} of {model}, {n_ranks} ranks"
    check(gone, f"{what}: a process is left")
    check(seconds < LIMIT, f"{what}: {seconds:.1f} s")
    if not first:
        check(process.returncode == 1 and "rank " in err and "was ended by signal 9" in err,
              f"{what}: {process.returncode}: {out[-200:]} {err[-400:]}")
    return seconds


def memories():
    """What could be left of shared memory: it has no name, so only a process could hold it."""
    left = os.listdir("/dev/shm") if os.path.isdir("/dev/shm") else []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            left += [link for link in (os.readlink(f"/proc/{pid}/fd/{fd}") for fd in os.listdir(f"/proc/{pid}/fd"))
                     if "trimtab-ranks" in link]
        except OSError:
            pass
    return left


def kills(n):
    rng = random.Random(options.seed)
    before = memories()
    seconds = []
    for number in range(n):
        seconds.append(kill_one(rng, number))
        if (number + 1) % 100 == 0 or number + 1 == n:
            print(f"{number + 1} kills (seed {options.seed}): from the kill until all had ended "
                  f"{statistics.median(seconds):.3f} s in the median, {max(seconds):.3f} s at most", flush=True)
    left = [name for name in memories() if name not in before]
    check(not left, f"memory is left: {left}")


def waiting():
    """Ranks that wait for a command, in a server without requests."""
    process = start("tiny-llama", 4, "--port", "0", "--admin-port", "0", command="serve")
    check(wait_for(lambda: len(children(process.pid)) == 3, 60), "no ranks")
    ranks = children(process.pid)
    time.sleep(2)
    before = [processor_seconds(pid) for pid in ranks]
    time.sleep(5)
    share = max(processor_seconds(pid) - b for pid, b in zip(ranks, before)) / 5
    check(share < 0.05, f"a waiting rank takes {100 * share:.1f}% of a core")
    print(f"a rank that waits takes {100 * share:.1f}% of a core")
    os.kill(ranks[0], signal.SIGKILL)
    err = process.communicate(timeout=60)[1]
    check(process.returncode == 70 and "rank 1 was ended by signal 9" in err,
          f"serve after a rank's end: {process.returncode}: {err[-300:]}")


def held_up():
    """Ranks that wait for one of them in the middle of a step: it is stopped, for less than is taken for its end."""
    process = start_batch("tiny-llama", 4)
    check(wait_for(lambda: len(children(process.pid)) == 3, 60), "no ranks")
    ranks = children(process.pid)
    others = [process.pid, *ranks[1:]]
    check(wait_for(lambda: os.path.exists("out.jsonl") and os.path.getsize("out.jsonl") > 0, 60), "no row")
    os.kill(ranks[0], signal.SIGSTOP)
    time.sleep(0.5)
    before, begun = [processor_seconds(pid) for pid in others], time.monotonic()
    time.sleep(2)
    seconds = time.monotonic() - begun
    share = max(processor_seconds(pid) - b for pid, b in zip(others, before)) / seconds
    os.kill(ranks[0], signal.SIGCONT)
    check(share < 0.05 and process.poll() is None, f"a rank that waits in a step takes {100 * share:.1f}% of a core")
    print(f"a rank that waits for another in a step takes {100 * share:.1f}% of a core")
    process.kill()
    process.communicate()
    check(wait_for(lambda: all(is_gone(pid) for pid in ranks), LIMIT), "ranks outlive rank 0")


def interrupt():
    """As a terminal does it: to every process of the group."""
    process = start_batch("tiny-llama", 2)
    check(wait_for(lambda: len(children(process.pid)) == 1, 60), "no rank")
    ranks = children(process.pid)
    time.sleep(0.3)
    os.killpg(process.pid, signal.SIGINT)
    process.communicate(timeout=60)
    check(wait_for(lambda: is_gone(ranks[0]), LIMIT), "SIGINT leaves a rank")


def missing():
    shutil.copy(trimtab, "alone")
    done = subprocess.run(["./alone", "generate", tiny, "--device", "cpu", "--tp", "2", "-p", "a"], check=False,
                          stdin=subprocess.DEVNULL, capture_output=True, text=True)
    line = done.stderr.splitlines()[-1]
    check(done.returncode == 1 and "trimtab-rank, the program of ranks other than the first (--tp), is missing" in line,
          f"without trimtab-rank: {done.returncode}: {line}")


def everything():
    with open("rows.jsonl", "w", encoding="utf-8") as file:
        for i in range(20000):
            file.write(f'{{"id": "{i}", "prompt": "row {i}"}}\n')
    os.mkdir("work")
    os.chdir("work")
    waiting()
    held_up()
    interrupt()
    missing()
    kills(options.kills)


def main():
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        everything()
        os.chdir("/")
    program.end()


main()
