#!/usr/bin/env python3
"""The audit log of `trimtab serve`, and `trimtab audit`: auditing.py TRIMTAB GOLDEN [TEST]..."""

import contextlib
import fcntl
import functools
import hashlib
import hmac
import json
import os
import re
import resource
import shutil
import sqlite3
import subprocess
import sys
import threading

import program
from program import check, make_policy
from serve_client import WAIT, Answer, Server, events_of, put_together, read_all, soon

CHAT, TEXT = "/v1/chat/completions", "/v1/completions"
STATE = "state"


def audit(verb, *arguments, status=0, state=STATE):
    """What it prints; of a failure its message."""
    done = subprocess.run([program.trimtab, "audit", verb, *map(str, arguments), "--state", state],
                          stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=600, check=False)
    check(done.returncode == status, f"audit {verb} {arguments}: {done.returncode} {done.stdout} {done.stderr}")
    return done.stderr if status else done.stdout


def verified(state=STATE, *arguments):
    return json.loads(audit("verify", "--json", *arguments, state=state))


def entries(state=STATE):
    with contextlib.closing(sqlite3.connect(f"file:{state}/trimtab.db?mode=ro", uri=True)) as db:
        return [json.loads(body) for (body,) in db.execute("SELECT body FROM log_entry ORDER BY seq")]


def change(state, sql, *values):
    with contextlib.closing(sqlite3.connect(f"{state}/trimtab.db")) as db:
        db.execute(sql, values)
        db.commit()


def of_kind(kind, state=STATE):
    return [entry for entry in entries(state) if entry["kind"] == kind]


def serve(*arguments, state=STATE, **keywords):
    return Server("--state", state, *arguments, **keywords)


def together(calls):
    threads = [threading.Thread(target=call) for call in calls]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def commitment(receipt, what, data):
    return hmac.new(bytes.fromhex(receipt["open"]), what.encode() + b"\0" + data, "sha256").hexdigest()


def sized(texts):
    return b"".join(len(text).to_bytes(8, "little") + text for text in texts)


def policies():
    make_policy("on.safetensors")
    make_policy("two.safetensors", "trimtab.alpha=0.5")
    return ["--policy", "on=on.safetensors", "--policy", "two=two.safetensors:0.5"]


def test_receipts():
    """Whoever asked can show what was asked and answered, by the receipt and the entries alone."""
    with serve(*policies()) as server:
        bodies = [{"messages": [{"role": "user", "content": "Hello"}], "max_tokens": 6, "seed": 1},
                  {"prompt": ["a b", "c"], "max_tokens": 5, "n": 2, "temperature": 0.5, "steering": False}]
        for body in bodies:
            for streams in (False, True):
                text = json.dumps({**body, "stream": streams}).encode()
                path = CHAT if "messages" in body else TEXT
                with server.open(path, text) as connection:
                    answer = Answer(read_all(connection))
                check(answer.status == 200, f"{body}: {answer.body}")
                events = events_of(answer.body) if streams else []
                first = events[0] if streams else answer.json
                choices = put_together(events) if streams else first["choices"]
                receipt = first["audit"]
                begin = entries()[receipt["seq"]]
                (end,) = [entry for entry in of_kind("end") if entry["begin"] == receipt["seq"]]
                check(begin["kind"] == "begin" and begin["seq"] == receipt["seq"], f"{begin}")
                check(begin["body"] == commitment(receipt, "trimtab-body-1", text), "the body")
                texts = [c["text"] if "text" in c else c["message"]["content"] for c in choices]
                check(end["answer"] == commitment(receipt, "trimtab-answer-1", sized(t.encode() for t in texts)),
                      "the answer")
                stack = [entry["policy"] for entry in begin["steering"]]
                check(stack == (["on", "two"] if "messages" in body else []), f"{stack}")
                check(end["choices_of"] == len(choices) == len(end["choices"]), "choices")
                check(begin["seed"] == first["seed"], "seed")
                told = end["choices"][0].get("steering")
                check(told == first["steering"], f"{told} and {first['steering']}")
                leaf = hashlib.sha256(b"\0" + json.dumps(begin, separators=(",", ":")).encode()).hexdigest()
                check(receipt["leaf"] == leaf or "e-" in json.dumps(begin), "leaf")  # Python's floats are not ours
    kinds = [entry["kind"] for entry in entries()]
    check(kinds[0] == "open" and kinds[-1] == "close" and kinds.count("begin") == kinds.count("end") == 4, f"{kinds}")
    report = verified()
    check(report["entries"] == report["signed"] == 10 and report["open"] == 0, f"{report}")


def test_replay():
    """Mixed steering, streamed and whole, sampled and greedy, side by side, and one that a client left."""
    arguments = policies()
    with serve(*arguments, "--shadow", "two", "--keep-text", "all", "--max-batch", 12) as server:
        def ask(i):
            body = {"prompt": f"{'shared ' * (i % 3)}{i}", "max_tokens": 3 + i % 9, "n": 1 + i % 2,
                    "temperature": i % 3, "stream": i % 4 == 0, "logprobs": 2 if i % 5 == 0 else None,
                    "stop": ["a"] if i % 7 == 0 else None}
            if i % 3 == 1:
                body["steering"] = {"policies": [{"name": "on", "scale": i / 10}], "when": "all"}
            elif i % 3 == 2:
                body["steering"] = False
            status, _ = server.ask(TEXT, {key: value for key, value in body.items() if value is not None})
            check(status == 200, f"{body}: {status}")
        together([functools.partial(ask, i) for i in range(24)])
        # One that is left in the middle, before it has said all: a fast machine may need another try.
        n, left = 24, []
        while not left and n < 34:
            n += 1
            with server.open(TEXT, {"prompt": "long", "n": 12, "max_tokens": 400, "ignore_eos": True, "logprobs": 5,
                                    "stream": True}) as connection:
                events = b""
                while not all(b'"index":%d,' % i in events for i in range(12)):  # until every choice has begun
                    events += connection.recv(1000)
            soon(functools.partial(lambda n: len(of_kind("end")) == n, n), "the end of what was left")
            left = [e for e in of_kind("end") if e["choices"][0]["finish"] == "abandoned"]
    check(left, "what was left")
    again = ["--policy", "on=on.safetensors", "--policy", "two=two.safetensors"]
    said = audit("replay", program.tiny, *again, "--sample", 100, "--threads", 1)
    check(f"{n} of {n} requests came out the same" in said, said)
    begins = [entry["seq"] for entry in of_kind("begin")]
    steered = next(e["seq"] for e in of_kind("begin") if e["steering"])
    said = audit("replay", program.tiny, steered, *again[:2])  # the shadow is missing
    check("cannot be replayed" in said and "is not here in that version" in said, said)
    # A store that somebody has made: each list is short enough, both together are not.
    shutil.copytree(STATE, "hostile")
    begin = entries()[steered]
    begin["steering"] = begin["shadow"] = (begin["steering"] * 4)[:4]
    change("hostile", "UPDATE log_entry SET body = ? WHERE seq = ?", json.dumps(begin).encode(), steered)
    said = audit("replay", program.tiny, steered, *again, state="hostile")
    check("more policies than a request can have" in said, said)
    os.rename("two.safetensors", "on.safetensors")
    said = audit("replay", program.tiny, steered, *again[:2])
    check("is not here in that version" in said, said)
    # A seed that was not the one.
    with contextlib.closing(sqlite3.connect(f"{STATE}/trimtab.db")) as db:
        body = db.execute("SELECT body FROM log_entry WHERE seq = ?", [begins[-1]]).fetchone()[0]
    changed = re.sub(rb'"seed":\d+', b'"seed":5', body)
    change(STATE, "UPDATE log_entry SET body = ? WHERE seq = ?", changed, begins[-1])
    make_policy("on.safetensors")
    make_policy("two.safetensors", "trimtab.alpha=0.5")
    said = audit("replay", program.tiny, begins[-1], *again, status=1)
    check("did not come out" in said, said)
    check(f"entry {begins[-1]}: it is not what was hashed" in audit("verify", status=1), "verify")


def test_brought():
    """A server that keeps no text can be held to an answer by whoever kept the body."""
    with serve() as server:
        body = json.dumps({"prompt": "Hello", "max_tokens": 5}).encode()
        answer = server.works(TEXT, body)
    seq = answer["audit"]["seq"]
    check("its text was not kept" in audit("replay", program.tiny, seq), "without its text")
    with open("body", "wb") as file:
        file.write(body)
    check("1 of 1 requests" in audit("replay", program.tiny, seq, "--body", "body"), "with its text")
    with open("body", "wb") as file:
        file.write(body.replace(b"Hello", b"Hallo"))
    check("did not come out" in audit("replay", program.tiny, seq, "--body", "body", status=1), "another text")


def test_changed():
    """A change of any stored value is found, and where it is."""
    with serve("--keep-text", "all") as server:
        for i in range(3):
            server.works(TEXT, {"prompt": "Hello", "max_tokens": 2, "n": 1 + i})
    check(verified()["entries"] == 8, "before")

    def refused(word, sql, *values):
        shutil.rmtree("changed", ignore_errors=True)
        shutil.copytree(STATE, "changed")
        change("changed", sql, *values)
        said = audit("verify", status=1, state="changed")
        check(word in said, f"{sql}: {said}")
    for place, word in {"log_entry.body": "entry 7:", "log_leaf.hash": "entry 7:", "log_leaf.seq": "entry 7:",
                        "log_leaf.begin": "entry 6:", "log_head.size": "head", "log_head.roots": "head",
                        "log_head.prev": "head", "log_head.at": "head", "log_checkpoint.note": "checkpoint 8",
                        "log_checkpoint.size": "checkpoint"}.items():
        table, column = place.split(".")
        with contextlib.closing(sqlite3.connect(f"{STATE}/trimtab.db")) as db:
            row, value = db.execute(f"SELECT rowid, {column} FROM {table} WHERE {column} IS NOT NULL "
                                    "ORDER BY rowid DESC LIMIT 1").fetchone()
        if isinstance(value, int):
            value += 1
        else:
            text = value if isinstance(value, bytes) else value.encode()
            text = text[:-9] + bytes([text[-9] ^ 1]) + text[-8:]
            value = text if isinstance(value, bytes) else text.decode()
        refused(word, f"UPDATE {table} SET {column} = ? WHERE rowid = ?", value, row)
    refused("checkpoint 8", "DELETE FROM log_leaf WHERE seq = 7")
    refused("entry 3:", "DELETE FROM log_leaf WHERE seq = 3")
    refused("tile/entries/000", "DELETE FROM log_entry WHERE seq = 3")
    refused("head", "DELETE FROM log_head")
    refused("running", "INSERT INTO log_open (begin) VALUES (1)")
    refused("hashes of parts", "INSERT INTO log_node (level, n, hash) VALUES (1, 0, x'00')")


def test_continuation():
    """Who holds a checkpoint knows whether the log goes on from it."""
    with serve("--audit-name", "example.org/a", "--audit-anchor", ".") as server:
        server.works(TEXT, {"prompt": "Hello", "max_tokens": 2})
        held = audit("head")
        check(held.startswith("example.org/a\n3\n"), held)
        server.works(TEXT, {"prompt": "Hello", "max_tokens": 2})
    with open("held", "w", encoding="utf-8") as file:
        file.write(held)
    check(verified(STATE, "--from", "held")["entries"] == 6, "a continuation")
    check(sorted(name for name in os.listdir(".") if name.startswith("checkpoint-"))[0] == "checkpoint-000000000001",
          "copies")
    with serve("--audit-name", "example.org/a", state="other") as server:
        server.works(TEXT, {"prompt": "Hello", "max_tokens": 2})
    said = audit("verify", "--from", "held", state="other", status=1)
    check("not signed" in said or "signature" in said, said)
    done = subprocess.run([program.trimtab, "serve", program.tiny, "--state", STATE, "--audit-name", "b"],
                          capture_output=True, text=True, check=False)
    check(done.returncode == 1 and "is called example.org/a" in done.stderr, done.stderr)


def test_proofs():
    with serve() as server:
        seq = server.works(TEXT, {"prompt": "Hello", "max_tokens": 2})["audit"]["seq"]
        proof = server.works(f"/v1/audit/{seq}")
        check(proof["begin"]["seq"] == seq and json.loads(proof["end"]["entry"])["begin"] == seq, f"{proof}")
        server.refuses(404, None, "/v1/audit/999")
        server.refuses(404, None, "/v1/audit/0")
        server.refuses(404, None, "/v1/audit/x")
    proof = audit("prove", seq)
    with open("proof", "w", encoding="utf-8") as file:
        file.write(proof)
    check("is in the log" in audit("verify", "--proof", "proof"), "a proof")
    changed = json.loads(proof)
    changed["entry"] = changed["entry"].replace('"n":1', '"n":2')
    with open("proof", "w", encoding="utf-8") as file:
        json.dump(changed, file)
    check("is not in the log" in audit("verify", "--proof", "proof", status=1), "a changed one")
    shown = audit("show", seq).splitlines()
    check(json.loads(shown[0])["seq"] == seq and json.loads(shown[1])["begin"] == seq and
          len(json.loads(shown[2])["open"]) == 64, f"{shown}")
    audit("prove", 99, status=1)


def test_sealed():
    """Sealing and exporting change nothing that can be proved."""
    with serve() as server:
        def ask():
            for _ in range(13):
                server.works(TEXT, {"prompt": "a", "max_tokens": 1})
        together([ask] * 10)
        check(audit("seal") == "256 entries sealed\n", "sealed")
        check(server.ask("/v1/audit/1")[0] == 200, "a sealed entry")
        server.works(TEXT, {"prompt": "a", "max_tokens": 1})
    report = verified()
    check(report["sealed"] == 256, f"{report}")
    audit("head")
    check(json.loads(audit("prove", 5))["proof"], "a proof of a sealed one")
    audit("export", "--out", "copy")
    report = verified("copy")
    check(report["entries"] == report["signed"] == 265, f"{report}")
    for path in ("tile/entries/000", "tile/entries/001.p/9", "tile/0/000", "tile/0/001.p/9", "tile/1/000.p/1",
                 "checkpoint"):
        with open(f"copy/{path}", "r+b") as file:
            data = file.read()
            file.seek(len(data) // 2)
            file.write(bytes([data[len(data) // 2] ^ 1]))
        said = audit("verify", state="copy", status=1)
        check("entry" in said or "tile" in said or "checkpoint" in said, f"{path}: {said}")
        with open(f"copy/{path}", "wb") as file:
            file.write(data)
    for path in ("tile/entries/000", "tile/0/000"):
        with open(f"{STATE}/{path}", "r+b") as file:
            data = file.read()
            file.seek(len(data) // 2)
            file.write(bytes([data[len(data) // 2] ^ 1]))
        check("entry" in audit("verify", status=1) or "tile" in audit("verify", status=1), path)
        with open(f"{STATE}/{path}", "wb") as file:
            file.write(data)
    verified()


def test_killed():
    """SIGKILL under load: nothing that a client has seen is lost, and what had begun has an end."""
    seen = []
    for round_ in range(3):
        server = serve("--max-batch", 8)
        lock = threading.Lock()

        def ask():
            while True:
                try:
                    with server.open(TEXT, {"prompt": "Hello", "max_tokens": 30, "stream": True}) as connection:
                        data = read_all(connection)
                except OSError:
                    return
                for receipt in re.findall(rb'"audit":(\{[^}]*\})', data):
                    with lock:
                        seen.append((json.loads(receipt), b"[DONE]" in data))
        threads = [threading.Thread(target=ask) for _ in range(8)]
        for thread in threads:
            thread.start()
        wanted = len(seen) + 20
        soon(lambda: len(seen) >= wanted, "answers before it is killed")
        server.process.kill()
        server.process.wait()
        server.process.stderr.close()
        for thread in threads:
            thread.join()
    with serve():
        pass
    report = verified()
    check(report["open"] == 0, f"{report}")
    log = entries()
    ended = {entry["begin"] for entry in log if entry["kind"] == "end"}
    over = ended | {entry["begin"] for entry in log if entry["kind"] == "interrupted"}
    for receipt, whole in seen:
        entry = log[receipt["seq"]]
        check(entry["kind"] == "begin" and log[receipt["seq"] + 1]["prev"] == receipt["leaf"], f"{receipt} is lost")
        check(receipt["seq"] in (ended if whole else over), f"{receipt}: no end")


def test_full():
    """A disk that takes nothing: requests are refused, and served again when it does; or are served, and counted."""
    def limit(server, n):
        resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, (n, resource.RLIM_INFINITY))
    body = {"prompt": "Hello", "max_tokens": 2}
    with serve() as server:
        server.works(TEXT, body)
        limit(server, 0)
        soon(lambda: server.ask(TEXT, body)[0] == 503, "refused")
        error = server.refuses(503, None, TEXT, body)
        check(error.get("code") == "audit_unavailable", f"{error}")
        check(server.ask("/health")[0] == 200, "health")
        limit(server, resource.RLIM_INFINITY)
        soon(lambda: server.ask(TEXT, body)[0] == 200, "served again")
    check(verified()["open"] == 0 and [e["status"] for e in of_kind("refused")], "refused")
    with serve("--audit-full", "serve", state="lost") as server:
        limit(server, 0)
        for _ in range(3):
            check(server.works(TEXT, body)["audit"] is None, "a receipt of what was not written")
        check(server.metrics()["trimtab_audit_lost_total"] == 6, "lost")
        limit(server, resource.RLIM_INFINITY)
        soon(lambda: server.works(TEXT, body)["audit"], "written again")
    check([e["entries"] for e in of_kind("gap", "lost")] == [6], f"{of_kind('gap', 'lost')}")
    check(verified("lost")["open"] == 0, "after a gap")
    # The end of what began meanwhile is lost too, and counted.
    with serve("--audit-full", "serve", "--max-batch", 1, state="late") as server:
        limit(server, 0)
        with server.open(TEXT, {**body, "n": 64, "max_tokens": 400, "ignore_eos": True, "stream": True}) as left:
            left.recv(1000)
            limit(server, resource.RLIM_INFINITY)
            soon(lambda: of_kind("gap", "late"), "written again")
        soon(lambda: server.metrics()["trimtab_audit_lost_total"] == 2, "the end is lost")
    check([e["entries"] for e in of_kind("gap", "late")] == [1, 1], f"{of_kind('gap', 'late')}")


def test_ballast():
    """What has made room on a full disk is made again."""
    with serve() as server:
        os.remove(f"{STATE}/ballast")

        def is_back():
            server.works(TEXT, {"prompt": "Hello", "max_tokens": 1})
            return os.path.exists(f"{STATE}/ballast")
        soon(is_back, "ballast")
    check(not os.path.exists(f"{STATE}/ballast"), "it goes with the server")


def test_erased():
    """No byte of a text stays, and every proof does."""
    with serve("--keep-text", "all") as server:
        words = [f"erase-me-{i:04}" for i in range(40)]
        seqs = [server.works(TEXT, {"prompt": word, "max_tokens": 1})["audit"]["seq"] for word in words]
        kept = server.works(TEXT, {"prompt": "keep me", "max_tokens": 1})["audit"]["seq"]
        audit("head")
        check(audit("erase", *seqs[:20]) == "20 requests are forgotten\n", "erased beside a server")
        server.works(TEXT, {"prompt": "later", "max_tokens": 1})
        check(audit("erase", *seqs) == "20 requests are forgotten\n", "the rest")
    for folder, _, files in os.walk(STATE):
        for name in files:
            with open(os.path.join(folder, name), "rb") as file:
                check(b"erase-me" not in file.read(), f"{folder}/{name}")
    check("its key was erased" in audit("replay", program.tiny, seqs[0]), "what was erased")
    check("1 of 1" in audit("replay", program.tiny, kept), "what was not")
    check(len(of_kind("payload.erase")) == 2 and verified()["open"] == 0, "the log")
    audit("erase", "--older-than", 1)
    audit("erase", "--key", "nobody")
    check("erase takes" in audit("erase", status=2), "nothing to erase")


def test_erasing_waits():
    """Who waits for another one that erases says so, and for whom."""
    with serve() as server:
        seq = server.works(TEXT, {"prompt": "Hello", "max_tokens": 1})["audit"]["seq"]
    with open(f"{STATE}/erase.lock", "w", encoding="ascii") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        lock.write("12345\n")
        lock.flush()
        with subprocess.Popen([program.trimtab, "audit", "erase", str(seq), "--state", STATE], text=True,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE) as erasing:
            line = erasing.stderr.readline()
            check("waiting: process 12345 erases" in line, line)
            fcntl.flock(lock, fcntl.LOCK_UN)
            out, rest = erasing.communicate(timeout=WAIT)
            check(out == "1 requests are forgotten\n" and not rest and erasing.returncode == 0, f"{out} {rest}")
    audit("erase", "--older-than", 1)


def test_one_server():
    """Two servers on one folder would each end what the other has begun."""
    with serve():
        done = subprocess.run([program.trimtab, "serve", program.tiny, "--state", STATE], capture_output=True,
                              text=True, timeout=WAIT, check=False)
        check(done.returncode == 1 and "another server" in done.stderr, done.stderr)


program.main_with_server(globals(), sys.argv[3:])
