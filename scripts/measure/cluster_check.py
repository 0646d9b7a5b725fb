#!/usr/bin/env python3
"""A batch on several processes, and on the ranks of Open MPI: the files must be those of one process.

    cluster_check.py TRIMTAB GOLDEN TRIMTAB-MPI [TEST].. [--kills N] [--rows N] [--seed S]

--kills N    only: kills a random rank, or a random shard, N times at random moments, then lets one run end

Ranks are processes of this machine with a tiny model; what several machines or GPUs do is not shown by this."""

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "tests", "cli"))
# pylint: disable=wrong-import-position
import program
from program import check, read, read_rows, tiny, trimtab
from shared_job import FILES, SharedJob, digest, shared_rows, written

parser = argparse.ArgumentParser()
parser.add_argument("trimtab")
parser.add_argument("golden")
parser.add_argument("mpi")
parser.add_argument("tests", nargs="*")
parser.add_argument("--kills", type=int)
parser.add_argument("--rows", type=int, default=5000)
parser.add_argument("--seed", type=int, default=int(time.time()))
options = parser.parse_args()
trimtab_mpi = os.path.abspath(options.mpi)

# As root and with more ranks than cores Open MPI wants to be told twice. Ranks of one machine need no network.
environment = os.environ | {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}
MPIRUN = ["mpirun", "--oversubscribe", "--bind-to", "none", "--mca", "btl", "self,vader"]


def start_ranks(n, *arguments, before=(), env=None):
    return subprocess.Popen([*MPIRUN, "-np", str(n), *before, trimtab_mpi, "batch", tiny, *arguments],
                            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                            env=env or environment, start_new_session=True)


def finish(process, what, seconds=600):
    """Its output; the exit status is that of a batch with error rows, or without."""
    out, err = process.communicate(timeout=seconds)
    check(process.returncode in (0, 4), f"{what}: {process.returncode}: {err[-600:]}")
    return out


def children(pid):
    """Processes that it started."""
    try:
        return [int(child) for child in read(f"/proc/{pid}/task/{pid}/children").split()]
    except FileNotFoundError:
        return []


def ranks_of(process, n):
    """The processes of mpirun's n ranks, in their order."""
    found = {}

    def look():
        for pid in children(process.pid):
            try:
                for entry in read(f"/proc/{pid}/environ").split(b"\0"):
                    if entry.startswith(b"OMPI_COMM_WORLD_RANK="):
                        found[int(entry.split(b"=")[1])] = pid
            except (FileNotFoundError, ProcessLookupError):
                pass
        return len(found) == n or process.poll() is not None
    check(wait_for(look) and len(found) == n, f"{len(found)} of {n} ranks started")
    return [found[rank] for rank in sorted(found)]


def processor_seconds(pid):
    fields = read(f"/proc/{pid}/stat").rsplit(b")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def wait_for(holds, seconds=60):
    """Whether it comes to hold."""
    end = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > end:
            return False
        time.sleep(0.005)
    return True


def kill_rank(process, rng):
    """SIGKILL to one of mpirun's ranks; True where one was there. mpirun then ends the others."""
    ranks = children(process.pid)
    if not ranks:
        return False
    try:
        os.kill(rng.choice(ranks), signal.SIGKILL)
    except ProcessLookupError:
        return False
    try:
        process.communicate(timeout=300)
    except subprocess.TimeoutExpired:
        # Open MPI 4.1.4: now and then mpirun stays, with none of its ranks alive.
        left = [pid for pid in children(process.pid) if b") Z " not in read(f"/proc/{pid}/stat")]
        check(not left, f"ranks that outlive a killed one: {left}")
        print("mpirun stayed when all its ranks were gone")
        process.kill()
        process.communicate()
    return process.returncode not in (0, 4)


# ---- What is checked


def test_links():
    """What cluster.md promises of trimtab: no MPI, no NCCL."""
    libraries = subprocess.run(["ldd", trimtab], capture_output=True, text=True, check=True).stdout
    check("mpi" not in libraries and "nccl" not in libraries, f"trimtab links {libraries}")
    libraries = subprocess.run(["ldd", trimtab_mpi], capture_output=True, text=True, check=True).stdout
    check("libmpi" in libraries, "trimtab-mpi does not link libmpi")


def test_one_digest():
    """1 process, 4 shards, 4 ranks, 3 ranks and then 5 after a kill: one SHA-256 for output and telemetry."""
    job = SharedJob(shared_rows(options.rows), "-n", "2", end="")
    job.shards(4)
    job.merge()
    job.same("4 shards")
    said = json.loads(finish(start_ranks(4, *job.command(), "--json"), "all is there"))
    check(said["earlier"] == said["rows"], f"ranks answer what is merged again: {said}")
    job.begin()
    said = json.loads(finish(start_ranks(4, *job.command(), "--json"), "4 ranks"))
    check(sum(rank["rows"] for rank in said["ranks"]) == said["rows"] and len(said["ranks"]) == 4 and
          all(rank["rows"] and rank["tokens_per_second"] > 0 for rank in said["ranks"]), f"4 ranks: {said}")
    job.same("4 ranks")
    job.begin()
    process = start_ranks(3, *job.command())
    check(wait_for(lambda: written() > 50000 or process.poll() is not None), "3 ranks wrote nothing")
    check(kill_rank(process, random.Random(1)), "3 ranks were done before one was killed")
    n = written()
    finish(start_ranks(5, *job.command()), "5 ranks")
    job.same("3 ranks, then 5")
    print(f"{options.rows} rows: 1 process, 4 shards, 4 ranks, 3 ranks killed at {n} bytes and then 5: "
          f"{digest('out')[:16]} {digest('tokens')[:16]}")


def test_long_lines():
    """16 MiB exactly, and one byte more, on both sides of a border between units."""
    limit = 16 << 20
    short = [{"id": str(i), "prompt": "x"} for i in range(254)]
    lines = [f'{{"id": "{name}", "no": "'.ljust(limit + more - 2, "x") + '"}' for name, more in (("a", 0), ("b", 1))]
    job = SharedJob(short + [lines[0], lines[1], {"id": "a", "prompt": "x"}], "-n", "1")
    job.shards(2)
    job.merge()
    job.same("long lines")
    codes = [row["error"] and row["error"]["code"] for row in read_rows("out")[254:]]
    check(codes == ["invalid_request", "line_too_long", "duplicate_custom_id"], f"{codes}")


def test_ranks_and_shards():
    """Ranks go on where shards were, and shards where ranks were."""
    job = SharedJob(shared_rows(900), "-n", "2")
    job.kill("--shard", "0/2")
    process = start_ranks(4, *job.command())
    n = written()
    wait_for(lambda: written() > n or process.poll() is not None)
    kill_rank(process, random.Random(2))
    if os.path.exists("out.job"):
        job.shards(3)
        job.merge()
    job.same("shards, ranks, shards")


def test_alone():
    """Without mpirun, and without an environment or terminal."""
    job = SharedJob(shared_rows(300), "-n", "1")
    done = subprocess.run([trimtab_mpi, "batch", tiny, *job.command()], env={"PATH": "/usr/bin:/bin", "HOME": "/tmp"},
                          stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    check(done.returncode == 4, f"alone: {done.returncode}: {done.stderr}")
    job.same("alone")
    job.begin()
    clean = {"PATH": "/usr/bin:/bin", "HOME": "/tmp"} | {k: v for k, v in environment.items() if k.startswith("OMPI_A")}
    finish(start_ranks(2, *job.command(), env=clean), "a clean environment")
    job.same("a clean environment")


def test_interrupt():
    """SIGINT to mpirun ends all, and the same command goes on."""
    job = SharedJob(shared_rows(3000), "-n", "2")
    process = start_ranks(4, *job.command())
    check(wait_for(lambda: written() > 20000), "nothing was written")
    ranks = ranks_of(process, 4)
    begun = time.monotonic()
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=120)
    took = time.monotonic() - begun
    gone = wait_for(lambda: not any(os.path.exists(f"/proc/{pid}") for pid in ranks), 30)
    check(took < 30 and gone, f"SIGINT: {took:.1f} s")
    finish(start_ranks(4, *job.command()), "after SIGINT")
    job.same("after SIGINT")
    print(f"SIGINT ended 4 ranks in {took:.1f} s")


def test_waiting():
    """A rank that waits takes little of a core: rank 0, which hands out, is stopped meanwhile."""
    job = SharedJob(shared_rows(3000), "-n", "2")
    process = start_ranks(4, *job.command())
    check(wait_for(lambda: written() > 20000), "nothing was written")
    ranks = ranks_of(process, 4)
    os.kill(ranks[0], signal.SIGSTOP)
    shares = []
    n = -1
    while n != (n := written()):  # until the others have done what they have
        time.sleep(1.5)
    for _ in range(2):
        before = [processor_seconds(pid) for pid in ranks[1:]]
        begun = time.monotonic()
        time.sleep(2)
        seconds = time.monotonic() - begun
        shares.append(max(processor_seconds(pid) - b for pid, b in zip(ranks[1:], before)) / seconds)
    os.kill(ranks[0], signal.SIGCONT)
    finish(process, "a stopped rank 0")
    check(min(shares) < 0.05, f"a waiting rank takes {shares} of a core")
    job.same("a stopped rank 0")
    print(f"a rank that waits takes {100 * min(shares):.1f}% of a core")


def test_refusals():
    job = SharedJob(shared_rows(600), "-n", "1")
    job.shards(3, [1])
    process = start_ranks(3, *job.command(), "-n", "2")
    err = process.communicate(timeout=120)[1]
    check(process.returncode == 1 and "--max-tokens (1 there, 2 here)" in err, f"another job: {err}")
    shard = job.start("--shard", "0/3")
    check(wait_for(lambda: os.path.exists("out.parts/0-0.jsonl.journal")), "no part")
    shard.send_signal(signal.SIGSTOP)
    if shard.poll() is None and os.path.getsize("out.parts/0-0.jsonl.journal"):
        process = start_ranks(2, *job.command())
        err = process.communicate(timeout=120)[1]
        check(process.returncode == 1 and "another run is writing it" in err, f"a part that is written: {err}")
    shard.send_signal(signal.SIGCONT)
    shard.wait()
    for argument in ("--restart", "--shard=0/2"):
        process = start_ranks(2, *job.command(), argument)
        err = process.communicate(timeout=120)[1]
        check(process.returncode == 2 and "trimtab-mpi takes no" in err, f"{argument}: {err}")
    finish(start_ranks(2, *job.command()), "after refusals")
    job.same("after refusals")


def test_stage():
    """Machines of their own, as far as name spaces make them: each has its folder, its name, and the model's bytes."""
    job = SharedJob(shared_rows(300), "-n", "1")
    finish(start_ranks(2, *job.command(), "--stage", "staged"), "staged on one machine")
    job.same("staged on one machine")
    source = os.path.join(tiny, "model.safetensors")
    check(digest("staged/tiny-llama/model.safetensors") == digest(source), "the staged model")
    shutil.rmtree("staged")
    own = subprocess.run(["unshare", "-um", "true"], check=False).returncode == 0
    if not own:
        print("stage: no name spaces here, so one machine alone was tried")
        return
    os.mkdir("staged")
    job.begin()
    script = ('mount -t tmpfs none staged && hostname node$OMPI_COMM_WORLD_RANK && { "$@" || [ $? = 4 ]; } && '
              'sha256sum staged/tiny-llama/model.safetensors >sum.$OMPI_COMM_WORLD_RANK')
    process = start_ranks(3, *job.command(), "--stage", "staged",
                          before=["unshare", "-um", "sh", "-c", script, "sh"])
    finish(process, "staged on three machines")
    job.same("staged on three machines")
    sums = [read(f"sum.{rank}").split()[0].decode() for rank in range(3)]
    check(sums == [digest(source)] * 3 and not os.listdir("staged"), f"the staged models: {sums}")


def test_kills():
    kills(6, 1000)


# ---- Killing, as long as you like

MAX_BATCH = 32  # the default of a batch


def rows_of_parts():
    """Numbers of the rows in all parts."""
    rows = []
    for name in sorted(os.listdir("out.parts")) if os.path.exists("out.parts") else ():
        if name.endswith(".journal"):
            for line in read(os.path.join("out.parts", name)).splitlines():
                if line.startswith(b'{"row":'):
                    rows.append(int(line[7:line.index(b",")]))
    return rows


def let_run(rng, start, work, going):
    """Until a random moment: of its start, or, three times of four, behind the first row that it writes."""
    if rng.random() < 0.25:
        time.sleep(rng.uniform(0, start))
        return
    n = written()
    wait_for(lambda: written() > n or not going())
    time.sleep(rng.uniform(0, work))


def life(job, rng, start, work):
    """A run of ranks or of shards that is killed at a random moment: True where it was still going."""
    if rng.random() < 0.5:
        process = start_ranks(rng.choice([2, 3, 4, 5]), *job.command())
        let_run(rng, start, work, lambda: process.poll() is None)
        return kill_rank(process, rng) or (process.communicate(), False)[1]
    n = rng.choice([1, 2, 3, 5])
    shards = [job.start("--shard", f"{i}/{n}") for i in range(n)]
    let_run(rng, start, work, lambda: any(shard.poll() is None for shard in shards))
    victim = rng.choice(shards)
    victim.kill()
    if rng.random() < 0.5:  # the others live on, or not
        for shard in shards:
            shard.kill()
    return [shard.wait() for shard in shards] and victim.returncode == -signal.SIGKILL


def kills(n, n_rows=None):
    rng = random.Random(options.seed)
    print(f"seed {options.seed}")
    job = SharedJob(shared_rows(n_rows or options.rows), "-n", "2", end="")
    begun = time.monotonic()
    finish(start_ranks(4, *job.command()), "a run that is left alone")
    seconds = time.monotonic() - begun
    job.same("a run that is left alone")
    begun = time.monotonic()
    finish(start_ranks(4, *job.command()), "a run with nothing to do")
    start = time.monotonic() - begun
    job.begin()
    hits = misses = finished = n_twice = 0
    while hits < n:
        hit = life(job, rng, start, 2 * max(seconds - start, 0) / n)
        hits += hit
        misses += not hit
        rows = rows_of_parts()
        print(f"kill {hits}: {len(rows)} rows", flush=True)
        n_twice = max(n_twice, len(rows) - len(set(rows)))
        if not os.path.exists("out.job"):
            finished += 1
            job.same("a run that was done before it was killed")
            job.begin()
    finish(start_ranks(4, *job.command()), "the last run")
    job.same(f"{hits} kills")
    # What a killed process had begun and not written is a batch, of each of 5 processes at most.
    rate = (n_rows or options.rows) / max(seconds - start, 0.01)
    twice = (n_twice + 5 * MAX_BATCH) / rate
    check(twice <= 10, f"{twice:.1f} s of rows were computed twice")
    print(f"{hits} kills hit a run, {misses} came late, {finished} times all was done before; at most {n_twice} rows "
          f"were in two parts, and {5 * MAX_BATCH} under way at a kill: {twice:.2f} s computed twice by one at most: "
          f"{digest('out')[:16]} {digest('tokens')[:16]}")


# ---- One slow rank


def preload(name, *flags):
    """A library made of tests/preload/NAME.c, for LD_PRELOAD."""
    library = os.path.abspath(name + ".so")
    if not os.path.exists(library):
        source = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "tests", "preload", name + ".c")
        compiler = [os.environ.get("CC", "cc"), "-shared", "-fPIC", "-O1", "-Wall", "-Werror"]
        subprocess.run([*compiler, "-o", library, source, *flags], check=True)
    return library


# What is printed is what docs/cluster.md has. What is checked has room for a machine with other work: it would be
# missed by far if the slow one held the others up.
STEP_MS, SHARD_MS, FACTOR = 8, 3, 10  # long beside what a step of the tiny model takes, whatever else this machine does


def slowed(factor=FACTOR, rank="", ms=STEP_MS):
    """A command's beginning: its steps are of one length; of that rank, or where there are none, of factor times
    that."""
    return ["env", f"LD_PRELOAD={preload('slow_step')}", f"SLOW_MS={ms}", f"SLOW_FACTOR={factor}", f"SLOW_RANK={rank}"]


def slow_job(n):
    """Rows of one length."""
    return SharedJob([{"id": str(i), "prompt": "x"} for i in range(n)], "-n", "8", "--max-batch", "4")


def rows_a_second(n):
    """Of one rank alone."""
    job = slow_job(n)
    said = json.loads(finish(start_ranks(1, *job.command(), "--json", before=slowed()), "one rank alone"))
    return n / said["ranks"][0]["seconds"]


def test_slow_rank():
    """Of 4 ranks one is 10 times slower. The ideal: each at the speed that it has alone, all ending at once."""
    n = 1200
    ideal = n / (rows_a_second(200) * (3 + 1 / FACTOR))
    for rank in (0, 2):
        job = slow_job(n)
        said = json.loads(finish(start_ranks(4, *job.command(), "--json", before=slowed(rank=rank)), "a slow rank"))
        seconds = max(report["seconds"] for report in said["ranks"])
        shares = [report["rows"] for report in said["ranks"]]
        print(f"rank {rank} of 4 is {FACTOR} times slower: {seconds:.1f} s, {seconds / ideal:.3f} of the ideal; rows "
              f"of each {shares}", flush=True)
        check(seconds < 2 * ideal and shares[rank] == min(shares), f"a slow rank {rank}: {seconds / ideal:.3f}")


def start_shard(job, i, n, factor):
    command = [*slowed(factor, ms=SHARD_MS), trimtab, "batch", tiny, *job.command(), "--shard", f"{i}/{n}"]
    return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def done(process, what):
    check(process.wait() in (0, 4), what)


def test_slow_shards():
    """16 shards for 4 machines, of which one is 10 times slower; each gets another when it has done one. When none is
    left the slow one is ended, and the others answer what it has left, in 3 shards anew."""
    job = SharedJob([{"id": str(i), "prompt": "x"} for i in range(16 * 256)], "-n", "2", "--max-batch", "4")
    begun = time.monotonic()
    done(start_shard(job, 0, 16, 1), "a shard alone")
    ideal = 16 * (time.monotonic() - begun) / (3 + 1 / FACTOR)
    job.begin()
    begun = time.monotonic()
    left = list(range(15))
    slow = start_shard(job, 15, 16, FACTOR)
    running = [start_shard(job, left.pop(0), 16, 1) for _ in range(3)]
    while left:
        for worker in range(3):
            if left and running[worker].poll() is not None:
                done(running[worker], "a shard")
                running[worker] = start_shard(job, left.pop(0), 16, 1)
        time.sleep(0.01)
    for process in running:
        done(process, "a shard")
    first = time.monotonic() - begun
    check(slow.poll() is None, "the slow shard was as fast as five others")
    slow.kill()
    slow.wait()
    for process in [start_shard(job, i, 3, 1) for i in range(3)]:
        done(process, "the rest of the slow shard")
    seconds = time.monotonic() - begun
    job.merge()
    job.same("a slow shard")
    print(f"16 shards, one of 4 machines {FACTOR} times slower: the others had no more to do after {first:.1f} s, "
          f"{first / ideal:.2f} of the ideal, and had answered what it left after {seconds:.1f} s, "
          f"{seconds / ideal:.2f}")
    check(seconds < 3 * ideal, f"a slow shard: {seconds / ideal:.2f} of the ideal")


def test_claims():
    """What it costs rank 0 to answer the others, in processor time of its thread."""
    job = SharedJob(shared_rows(3000), "-n", "2")
    flags = subprocess.run(["pkg-config", "--cflags", "ompi-c"], capture_output=True, text=True, check=True)
    before = ["env", f"LD_PRELOAD={preload('mpi_time', *flags.stdout.split())}",
              f"MPI_TIME={os.path.abspath('mpi_time')}"]
    finish(start_ranks(4, *job.command(), before=before), "claims")
    in_calls, whole, n = map(float, read("mpi_time").split())
    job.same("claims")
    print(f"rank 0 answered {int(n)} times in {1000 * in_calls:.1f} ms of its {1000 * whole:.0f} ms of processor time: "
          f"{100 * in_calls / whole:.2f}%")
    check(n > 20 and in_calls < 0.05 * whole, f"claims: {n}, {in_calls / whole:.4f} of rank 0's time")


def main():
    if not shutil.which("mpirun"):
        sys.exit("mpirun is missing: apt-get install openmpi-bin")
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        if options.kills:
            kills(options.kills)
        else:
            program.run_tests(globals(), options.tests)
        os.chdir("/")
    program.end()


main()
