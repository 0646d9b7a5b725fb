#!/usr/bin/env python3
"""What the audit log promises, counted: measure_audit.py BUILD [--kills N] [--entries N] [--changes N] [--replays N]

  kills     SIGKILL at random moments of a server under load: all that a client has seen is in the log, what has begun
            has an end, the log verifies
  recorder  the recorder alone at 2,000 requests a second, on how much of a core; and as fast as it takes them
  verify    a log of so many entries: how long verifying it takes, and opening it
  changes   random bytes of a log changed, in its database, its bundles, its checkpoint: each is found, or is none of
            the log (every value of every row is what it was)
  go        Go's own tlog and note (scripts/measure/check_log.go), where Debian's golang-golang-x-mod-dev is
  replays   requests of all kinds, side by side, then replayed, by one thread and two, and by each body of this machine
  cost      tokens a second with the log and without, in turns; processor time, of all threads and of all but the
            model's, to which the log does nothing
  erased    texts erased: no byte of them in any file, and all proofs hold
  full      files that may not grow: until requests are refused, and until they are answered again (20 times)

A JSON object a line; 1 where a promise is broken. BUILD is a folder with tests; the model is the tests' tiny one."""

import argparse
import collections
import contextlib
import functools
import json
import os
import pathlib
import random
import re
import resource
import shutil
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import threading
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("build")
parser.add_argument("--only", help="parts, with commas between them")
parser.add_argument("--kills", type=int, default=200)
parser.add_argument("--entries", type=int, default=1000000)
parser.add_argument("--changes", type=int, default=1000)
parser.add_argument("--replays", type=int, default=500)
parser.add_argument("--rounds", type=int, default=7, help="of cost")
parser.add_argument("--erased", type=int, default=1000)
parser.add_argument("--model", help="of cost, instead of the tiny one")
parser.add_argument("--tokens", type=int, default=128, help="of an answer of cost")
options = parser.parse_args()
build = pathlib.Path(options.build).resolve()

sys.path.insert(0, str(ROOT / "tests/cli"))
sys.argv = [sys.argv[0], str(build / "trimtab"), str(ROOT / "tests/golden")]
import program  # noqa: E402
from program import check, make_policy  # noqa: E402
from serve_client import Server, read_all  # noqa: E402

TEXT = "/v1/completions"


def audit(verb, *arguments, state="state"):
    return subprocess.run([program.trimtab, "audit", verb, *map(str, arguments), "--state", state],
                          stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)


def holds(state="state"):
    done = audit("verify", "--json", state=state)
    check(done.returncode == 0, done.stderr)
    return json.loads(done.stdout) if done.returncode == 0 else {}


def together(calls):
    threads = [threading.Thread(target=call) for call in calls]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def interval(values):
    """95% of the median, by 2,000 draws."""
    draw = random.Random(5)
    medians = sorted(statistics.median(draw.choices(values, k=len(values))) for _ in range(2000))
    return [round(medians[i], 4) for i in (50, 1949)]


def load(state, n, *rate):
    done = subprocess.run([build / "tests/audit_load", state, str(n), *map(str, rate)], capture_output=True, text=True,
                          check=True)
    return json.loads(done.stdout)


def kills():
    draw, seen, openings = random.Random(1), [], []
    for _ in range(options.kills):
        begun = time.monotonic()
        server = Server("--state", "state", "--max-batch", 8)
        openings.append(time.monotonic() - begun)

        def ask():
            while True:
                body = {"prompt": "Hello", "max_tokens": 30, "stream": draw.random() < .5}
                try:
                    with server.open(TEXT, body) as connection:
                        data = read_all(connection)
                except OSError:
                    return
                whole = b"[DONE]" in data if body["stream"] else data.rstrip().endswith(b"}")
                seen.extend((json.loads(found), whole) for found in re.findall(rb'"audit":(\{[^}]*\})', data))
        killer = threading.Timer(draw.uniform(.01, .5), server.process.kill)
        killer.start()
        together([ask] * 8)
        server.process.wait()
        server.process.stderr.close()
    with Server("--state", "state"):
        pass
    report = holds()
    with contextlib.closing(sqlite3.connect("state/trimtab.db")) as db:
        log = [json.loads(body) for (body,) in db.execute("SELECT body FROM log_entry ORDER BY seq")]
    kinds = collections.Counter(entry["kind"] for entry in log)
    over = {entry["begin"]: entry["kind"] for entry in log if "begin" in entry}
    lost = [r for r, whole in seen if r["seq"] + 1 >= len(log) or log[r["seq"] + 1]["prev"] != r["leaf"] or
            over.get(r["seq"]) not in (("end",) if whole else ("end", "interrupted"))]
    check(not lost and report.get("open") == 0 and kinds["begin"] == kinds["end"] + kinds["interrupted"], "kills")
    return {"kills": options.kills, "acknowledged": len(seen), "lost": len(lost), "begun": kinds["begin"],
            "interrupted": kinds["interrupted"], "without_end": report.get("open"),
            "start_seconds": round(max(openings), 2)}


def recorder():
    paced, free = load("paced", 20000, 2000), load("free", 100000)
    core = paced["processor_seconds"] * 2000 / paced["requests"]  # however slow the disk is meanwhile
    check(core < 1, f"{paced}")
    return {"core_at_2000_a_second": round(core, 3), "paced": paced, "free": free}


def verify():
    load("long", options.entries // 2)
    begun, used = time.monotonic(), resource.getrusage(resource.RUSAGE_CHILDREN)
    report = holds("long")
    took, after = time.monotonic() - begun, resource.getrusage(resource.RUSAGE_CHILDREN)
    processor = after.ru_utime + after.ru_stime - used.ru_utime - used.ru_stime
    opened = load("long", 1)["opening_seconds"]
    check(processor < 10 * options.entries / 1e6 + 1, f"{processor} s")  # the disk may have other things to do
    return {"entries": report["entries"], "verify_seconds": round(took, 2), "processor_seconds": round(processor, 2),
            "opening_seconds": opened, "bytes": os.path.getsize("long/trimtab.db")}


def rows_of(state):
    """Every value of every row, or why they cannot be read."""
    with contextlib.closing(sqlite3.connect(f"file:{state}/trimtab.db?mode=ro&immutable=1", uri=True)) as db:
        tables = [name for (name,) in db.execute("SELECT name FROM sqlite_schema WHERE type = 'table' AND "
                                                 "name LIKE 'log%' AND name NOT LIKE 'log_payload'")]
        return {name: sorted(db.execute(f"SELECT * FROM {name}").fetchall(), key=repr) for name in sorted(tables)}


def changes():
    """Half of them in the database, the others in bundles and the checkpoint of an export."""
    draw, found = random.Random(2), collections.Counter()
    load("good", 600)
    load("fresh", 600)
    audit("seal", state="good")
    audit("head", state="good")
    audit("export", "--out", "copy", state="good")
    good = rows_of("fresh")
    files = [path for path in pathlib.Path("copy").rglob("*") if path.is_file() and path.name != "audit.pub"]
    sealed = [path for path in pathlib.Path("good/tile").rglob("*") if path.is_file()]
    database = pathlib.Path("fresh/trimtab.db")
    for i in range(options.changes):
        path = database if i % 2 == 0 else draw.choice(files if i % 4 == 1 else sealed)
        state = path.parts[0]
        data = path.read_bytes()
        at = draw.randrange(len(data))
        changed = bytearray(data)
        changed[at] ^= draw.randint(1, 255)
        path.write_bytes(changed)
        done = audit("verify", state=state)
        if done.returncode == 0 and path == database:
            try:
                same = rows_of("fresh") == good
            except sqlite3.Error:
                same = False
            found["no value of the log" if same else "missed"] += 1
            check(same, f"byte {at} of {path} is missed")
        elif done.returncode == 0:
            found["missed"] += 1
            check(False, f"byte {at} of {path} is missed")
        else:
            found["found in the database" if path == database else "found in files"] += 1
            check(len(done.stderr.strip()) > 20, done.stderr)
        path.write_bytes(data)
        for end in ("-wal", "-shm"):
            pathlib.Path(f"{state}/trimtab.db{end}").unlink(missing_ok=True)
    holds("good")
    holds("fresh")
    return {"changes": options.changes, **found}


def go():
    if not shutil.which("go") or not os.path.isdir("/usr/share/gocode/src/golang.org/x/mod/sumdb/tlog"):
        return {"skipped": "golang-golang-x-mod-dev is not installed"}
    load("forgo", 2600)
    audit("head", state="forgo")
    audit("export", "--out", "forgo-copy", state="forgo")
    paths = []
    for seq in range(0, 5200, 52):
        paths.append(f"proof-{seq}")
        pathlib.Path(paths[-1]).write_text(audit("prove", seq, state="forgo").stdout, encoding="utf-8")
    environment = os.environ | {"GO111MODULE": "off", "GOPATH": "/usr/share/gocode",
                                "GOCACHE": os.path.abspath("gocache")}
    done = subprocess.run(["go", "run", ROOT / "scripts/measure/check_log.go", "forgo-copy", *paths], env=environment,
                          capture_output=True, text=True, check=False)
    check(done.returncode == 0, done.stderr)
    return json.loads(done.stdout) if done.returncode == 0 else {}


def replays():
    model = ROOT / "tests/golden/tiny-linear"  # whose context is longer than the pages of a place
    make_policy("p.safetensors", model=model)
    make_policy("q.safetensors", "trimtab.alpha=0.5", model=model)
    files = ["--policy", "p=p.safetensors", "--policy", "q=q.safetensors", "--policy", "r=q.safetensors"]

    def ask(server, i):
        draw = random.Random(i)
        stack = [{"name": draw.choice("pq"), "scale": draw.choice([0, .5, 1, -1])} for _ in range(draw.randint(0, 3))]
        body = {"prompt": draw.choice(["shared prefix " * 9, "", "x " * 40]) + str(i % 7),
                "max_tokens": draw.choice([7, 30, 800, 800]), "ignore_eos": draw.random() < .5,
                "n": draw.choice([1, 1, 2]), "temperature": draw.choice([0, 1]), "stream": draw.random() < .5,
                "steering": draw.choice([None, False, {"policies": stack, "when": draw.choice(["last", "all"])}])}
        status = 429
        while status == 429:
            status, _ = server.ask(TEXT, body)
        check(status == 200, f"{body}: {status}")
    # Pages are for 512 tokens a place: longer requests lose theirs to older ones.
    with Server(*files, "--shadow", "r", "--state", "replays", "--keep-text", "all", "--max-batch", 8,
                model=model) as server:
        for first in range(0, options.replays, 50):
            together([functools.partial(ask, server, i) for i in range(first, first + 50)])
        preemptions = server.metrics()['vllm:num_preemptions_total{model_name="tiny-linear",engine="0"}']
    check(preemptions > 0, "nothing was pre-empted")
    out = {}
    for threads, body in ((1, None), (2, None), (1, "portable"), (1, "avx2"), (1, "avx512"), (1, "neon")):
        command = [build / "tests/trimtab-body" if body else program.trimtab, "audit", "replay", model, *files,
                   "--state", "replays", "--sample", options.replays, "--threads", threads, "--max-batch", 8]
        done = subprocess.run([str(word) for word in command], stdin=subprocess.DEVNULL, capture_output=True, text=True,
                              env=os.environ | {"TT_TEST_BODY": body or ""}, check=False)
        if body not in (None, "portable") and "this machine has no" in done.stderr:
            continue
        check(done.returncode == 0 and f"{options.replays} of {options.replays} requests" in done.stdout,
              done.stdout[-500:] + done.stderr)
        out[body or f"threads_{threads}"] = done.stdout.strip().splitlines()[-1:]
    return {"preemptions": preemptions, **out}


def cost():
    """Batches of 32 streams at once, with the log and without, in turns; whichever of two begins is drawn. By the
    clock, and by processor time, which other programs move less."""
    draw, rates, firsts = random.Random(3), collections.defaultdict(list), collections.defaultdict(list)
    spent, beside, model = collections.defaultdict(list), collections.defaultdict(list), options.model or program.tiny

    def times(server):
        """Processor time of all threads, and of all but the model's, which has the most of it."""
        threads = server.thread_times()
        return sum(threads), sum(threads) - max(threads)

    def ask(server, first, text):
        begun = time.monotonic()
        with server.open(TEXT, {"prompt": text, "max_tokens": options.tokens, "ignore_eos": True,
                                "stream": True}) as connection:
            connection.recv(1)
            first.append(time.monotonic() - begun)
            read_all(connection)
    with Server("--max-batch", 32, "-t", 1, model=model) as plain, \
            Server("--max-batch", 32, "-t", 1, "--state", "cost", model=model) as logged:
        for i in range(options.rounds + 1):
            for name, server in draw.sample([("plain", plain), ("logged", logged)], 2):
                first, begun, before = [], time.monotonic(), times(server)
                together([functools.partial(ask, server, first, f"{i} {k} Hello") for k in range(32)])
                after = times(server)
                if i:  # the first warms
                    rates[name].append(32 * options.tokens / (time.monotonic() - begun))
                    firsts[name].append(statistics.median(first))
                    spent[name].append(after[0] - before[0])
                    beside[name].append(after[1] - before[1])
    shares = [1 + (b - a) / all_of for a, b, all_of in zip(beside["plain"], beside["logged"], spent["plain"])]
    check(interval(shares)[1] <= 1.01, f"{shares}")
    ratios = [b / a for a, b in zip(rates["plain"], rates["logged"])]
    processor = [b / a for a, b in zip(spent["plain"], spent["logged"])]
    return {"model": os.path.basename(str(model)), "tokens_a_second": round(statistics.median(rates["plain"]), 1),
            "with_the_log": round(statistics.median(rates["logged"]), 1),
            "ratio": round(statistics.median(ratios), 4), "ratios": [round(ratio, 3) for ratio in ratios],
            "processor": round(statistics.median(processor), 4), "processor_interval": interval(processor),
            "without_the_models_thread": round(statistics.median(shares), 5),
            "without_the_models_thread_interval": interval(shares),
            "first_token": round(statistics.median(firsts["plain"]), 4),
            "first_token_with_the_log": round(statistics.median(firsts["logged"]), 4)}


def erased():
    with Server("--state", "erased", "--keep-text", "all", "--max-batch", 16) as server:
        seqs = []

        def ask(first):
            for i in range(first, first + options.erased // 10):
                seqs.append(server.works(TEXT, {"prompt": f"erase-me-{i:06}", "max_tokens": 2})["audit"]["seq"])
        together([functools.partial(ask, i * (options.erased // 10)) for i in range(10)])
        for i in range(0, len(seqs), 200):
            done = audit("erase", *seqs[i:i + 200], state="erased")
            check(done.returncode == 0, done.stderr)
    audit("head", state="erased")
    report, found = holds("erased"), 0
    for path in pathlib.Path("erased").rglob("*"):
        found += path.is_file() and path.read_bytes().count(b"erase-me")
    proofs = 0
    for seq in seqs[::50]:
        pathlib.Path("proof").write_text(audit("prove", seq, state="erased").stdout, encoding="utf-8")
        proofs += audit("verify", "--proof", "proof", state="erased").returncode == 0
    check(found == 0 and proofs == len(seqs[::50]), "erased")
    return {"erased": len(seqs), "found": found, "proofs": proofs, "entries": report.get("entries")}


def full():
    """The ballast goes first; it is made again once there is room, without which the next time would come sooner."""
    refused, back = [], []
    with Server("--state", "full", "--max-batch", 4) as server:
        def until(status, limit):
            resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
            begun = time.monotonic()
            while server.ask(TEXT, {"prompt": "Hello", "max_tokens": 1})[0] != status:
                check(time.monotonic() < begun + 120, f"{status} never came")
            return time.monotonic() - begun
        for _ in range(20):
            refused.append(until(503, 0))
            back.append(until(200, resource.RLIM_INFINITY))
            time.sleep(1.2)  # until the ballast is looked for
    check(max(refused) < 10, f"refused after {max(refused):.2f} s")
    check(holds("full").get("open") == 0, "full")
    return {"times": len(refused), "refused_after_most": round(max(refused), 3),
            "answered_after_most": round(max(back), 3)}


def main():
    parts = [kills, recorder, verify, changes, go, replays, cost, erased, full]
    chosen = options.only.split(",") if options.only else [part.__name__ for part in parts]
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        for part in parts:
            if part.__name__ in chosen:
                print(json.dumps({part.__name__: part()}), flush=True)
        os.chdir("/")
    program.end()


main()
