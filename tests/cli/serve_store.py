#!/usr/bin/env python3
"""Policies in a store, by `trimtab policy` and `trimtab key`, and `trimtab serve --state`, which goes by them:
serve_store.py TRIMTAB GOLDEN [TEST]..."""

import contextlib
import itertools
import json
import os
import random
import resource
import signal
import sqlite3
import ssl
import subprocess
import sys
import threading
import time

import program
from program import check, make_policy, run
from serve_client import Answer, Server, dechunk, events_of, read_all, read_until, soon

CHAT, TEXT = "/v1/chat/completions", "/v1/completions"
STORE = "store"
ROLES = ("user", "reviewer", "editor", "approver", "auditor", "operator")


def body(**keys):
    return {"prompt": "Hello", "max_tokens": 2, "seed": 1, "temperature": 0, **keys}


# ---- The command line


def trimtab(*arguments, status=0, says=""):
    done = subprocess.run([program.trimtab, *map(str, arguments), "--state", STORE], stdin=subprocess.DEVNULL,
                          capture_output=True, text=True, errors="replace", check=False)
    check(done.returncode == status and says in done.stderr,
          f"{arguments}: {done.returncode}, not {status} {says}: {done.stderr}")
    return done.stdout.strip()


def add_key(person, roles, *more, by="root.key"):
    """The key, which is also in PERSON.key."""
    with_key = ("--key", by) if os.path.exists(by) else ()
    key = trimtab("key", "add", "--person", person, "--roles", roles, *with_key, *more)
    with open(f"{person}.key", "w", encoding="ascii") as file:
        file.write(key + "\n")
    return key


def policy(*arguments, by="alice", **keywords):
    return trimtab("policy", *arguments, "--key", f"{by}.key", **keywords)


def add_approved(name, path, *more):
    version = policy("add", name, path, *more)
    policy("submit", name, version)
    policy("approve", name, version, by="bob")
    return version


def add_people():
    add_key("root", "operator,editor,approver")
    add_key("alice", "editor")
    add_key("bob", "approver")
    add_key("olga", "operator")
    return add_key("ulf", "user", "--steering", "any")


def set_stack(*entries):
    number = policy("stack", "propose", *entries)
    policy("stack", "approve", number, by="bob")


class Store(Server):
    """A server of the store, and a client with a key."""

    def __init__(self, key, *more, **keywords):
        self.key, self.is_dead = key, False
        super().__init__("--state", STORE, *more, **keywords)

    def __exit__(self, *_):
        if not self.is_dead:
            super().__exit__()

    def dies(self):
        """By SIGKILL."""
        self.process.send_signal(signal.SIGKILL)
        self.ends(-signal.SIGKILL)
        self.is_dead = True

    def open(self, path, body=None, key=None, **keywords):
        return super().open(path, body, Authorization=f"Bearer {key or self.key}", **keywords)

    def admin(self, command, by, status=200, /, **arguments):
        with open(f"{by}.key", encoding="ascii") as file:
            key = file.read().strip()
        got, answer = self.ask(f"/v1/admin/{command}", arguments, key=key, port=self.admin_port)
        check(got == status, f"{command} {arguments} by {by}: {got}, not {status}: {answer}")
        check("trimtab.db" not in str(answer) and f"{STORE}/" not in str(answer),
              f"{command}: a file's name in an answer: {answer}")
        return answer

    def may_write(self, n):
        """To files of this size at most."""
        resource.prlimit(self.process.pid, resource.RLIMIT_FSIZE, (n, resource.RLIM_INFINITY))

    def facts(self, **keys):
        """What steered a request, as its answer says."""
        return self.works(TEXT, body(**keys))["steering"]


def names(facts):
    return facts and [(one["policy"], one["version"][:12], one["label"], one["scale"]) for one in facts]


# ---- The tests


def test_life():
    """From a file to what steers, by three people, and back by one; a running server follows."""
    ulf = add_people()
    make_policy("one.st")
    make_policy("two.st", "trimtab.alpha=0.5")
    make_policy("other.st", "trimtab.fingerprint=another model")
    one = policy("add", "refuse", "one.st", "--most", 2, "--reason", "first")
    policy("approve", "refuse", one, by="alice", status=1, says="needs a key with one of the roles approver")
    policy("approve", "refuse", one, by="bob", status=1, says="is draft, not submitted")
    policy("submit", "refuse", one[:12])
    policy("approve", "refuse", one, by="root")
    policy("label", "refuse", "production", one)
    trimtab("policy", "list", status=1, says="a key of the store is needed")
    with Store(ulf) as server:
        check(server.facts() is None, "there is no default stack yet")
        set_stack("refuse:0.5")
        soon(lambda: server.facts() is not None, "the default stack steers")
        check(names(server.facts()) == [("refuse", one[:12], "production", 0.5)], f"the stack: {server.facts()}")
        two = add_approved("refuse", "two.st")
        policy("label", "refuse", "trial", two, by="olga")
        ask = {"policies": [{"name": "refuse", "label": "trial"}]}
        soon(lambda: server.ask(TEXT, body(steering=ask))[0] == 200, "a new label")
        check(names(server.facts(steering=ask)) == [("refuse", two[:12], "trial", 1)], "the label's version")
        check(server.facts(steering=False) is None, "none")
        listed = server.works("/v1/steering")
        check([(p["label"], p["least"], p["most"], p["mandatory"]) for p in listed["policies"]] ==
              [("production", 0, 2, False), ("trial", 0, 1, False)], f"{listed}")
        check(listed["default"] == [{"name": "refuse", "scale": 0.5}] and not listed["killed"], f"{listed}")
        policy("label", "refuse", "production", two)
        soon(lambda: server.facts()[0]["version"] == two, "production has moved")
        policy("rollback", "refuse", "--reason", "worse", by="olga")
        soon(lambda: server.facts()[0]["version"] == one, "production is back")
        # A version of another model is refused where that can be known, and changes nothing where it cannot.
        other = add_approved("refuse", "other.st")
        server.admin("policy/label", "alice", 409, name="refuse", label="production", version=other)
        policy("label", "refuse", "production", other)
        line = server.process.stderr.readline()
        check("stays as it was" in line, f"a note: {line}")
        check(server.facts()[0]["version"] == one, "the last good version stays")
        policy("rollback", "refuse")
        labels = server.metrics()
        check(any(f'version="{one[:12]}",label="production",outcome="acted"' in name for name in labels), "metrics")
    # Its entries are in the audit log, in the order of what was done.
    history = json.loads(policy("history", "refuse", "--json"))["changes"]
    kinds = [entry["kind"] for entry in history]
    check(kinds[:4] == ["policy.add", "policy.submit", "policy.approve", "label"] and kinds[-1] == "rollback",
          f"{kinds}")


def test_stack_of_before():
    """A stack may name the label previous where an older program approved it. A rollback takes that away: then nothing
    is answered as if it were steered, the server says why, and a new stack ends it."""
    ulf = add_people()
    make_policy("one.st")
    make_policy("two.st", "trimtab.alpha=0.5")
    for path in ("one.st", "two.st"):
        policy("label", "p", "production", add_approved("p", path))
    trimtab("policy", "stack", "propose", "p@previous", "--key", "alice.key", status=1, says="does not stay")
    set_stack("p:1")
    with contextlib.closing(sqlite3.connect(f"{STORE}/trimtab.db")) as db:
        db.execute("""UPDATE stack SET content = '[{"name":"p","label":"previous","scale":1.0}]'""")
        db.commit()
    with Store(ulf) as server:
        check(server.facts()[0]["label"] == "previous", "while it is there")
        policy("rollback", "p", by="olga")
        soon(lambda: server.ask(TEXT, body())[0] == 503, "it is not there")
        for steering in (None, False, {"policies": [{"name": "p"}]}):
            error = server.refuses(503, None, TEXT, body(steering=steering))
            check(error["code"] == "policies_unavailable", f"{error}")
        line = server.process.stderr.readline()
        check("the default stack has p by the label previous" in line, f"a note: {line}")
        set_stack("p:0.5")
        soon(lambda: server.ask(TEXT, body())[0] == 200, "a new stack")
        check(server.facts()[0]["scale"] == 0.5, "is in force")


def test_steering():
    """Wrong steering is a 400 that names the field; what a key may not choose is a 403."""
    any_key = add_people()
    names_key = add_key("nina", "user", "--steering", "names")
    none_key = add_key("dora", "user", "--steering", "default")
    small = add_key("sam", "user", "--body-tokens", 20, "--requests", 1)
    make_policy("one.st")
    make_policy("two.st", "trimtab.alpha=0.5")
    one, two = add_approved("p", "one.st", "--least", 0.1, "--most", 2), add_approved("p", "two.st")
    make_policy("three.st", "trimtab.alpha=0.25")
    q = add_approved("q", "three.st", "--least", -1)
    policy("label", "p", "production", one)
    policy("label", "p", "trial", two)
    policy("label", "q", "trial", q)

    def steering(*entries, **more):
        return {"policies": list(entries), **more}
    with Store(any_key, "--list-policies") as server:
        at = "steering.policies[0]."
        wrong = [(at + "scale", {"scale": scale}) for scale in
                 (0, 0.0999, 2.001, -1, -0.1, 3, 1e6, 1e9, -1e300, "1", [], {}, [1], True, False)]
        wrong += [(at + "label", {"label": label}) for label in
                  ("canary", "previous", "", "Production", "production ", "trial\n", 1, [], {}, True, "../p")]
        wrong += [(at + "version", {"version": v}) for v in
                  ("0" * 64, one[:11], one[:13], one.upper(), one + "0", 1, "", q,
                   one.replace(one[0], "f" if one[0] != "f" else "e"))]
        wrong += [(at + "version", {"label": "production", "version": one})]
        wrong += [(at + "name", {"name": name}) for name in ("r", "", "P", "p ", None, 1, "p/../p", "q")]
        n = 0
        for (param, change), stream, path in itertools.product(wrong, (False, True), (TEXT, CHAT)):
            asked = body(steering=steering({"name": "p", **change}), stream=stream)
            if path == CHAT:
                asked["messages"] = [{"role": "user", "content": asked.pop("prompt")}]
            server.refuses(400, param, path, asked)
            n += 1
        for param, value in (("steering.policies[1].name", steering({"name": "p"}, {"name": "p"})),
                             ("steering.policies[1].name", steering({"name": "p"}, {"name": "p", "label": "trial"})),
                             ("steering.policies", steering(*[{"name": "p"}] * 5)), ("steering", {"policy": "p"}),
                             ("steering", "p"), ("steering", 1), ("steering", True), ("steering", []),
                             ("steering.policies", {}), ("steering.policies", {"policies": {}}),
                             ("steering", steering({"name": "p"}, gate=0)), ("steering.when", steering(when="never"))):
            for stream in (False, True):
                server.refuses(400, param, TEXT, body(steering=value, stream=stream))
                n += 1
        print(f"{n} wrong values")
        for key, value, status in (
                (names_key, steering({"name": "p", "scale": 0.5}), 200), (names_key, False, 403),
                (names_key, steering({"name": "p", "label": "production"}), 200),
                (names_key, steering({"name": "p", "label": "trial"}), 403),
                (names_key, steering({"name": "p", "version": one}), 403), (none_key, None, 200),
                (none_key, False, 403), (none_key, steering({"name": "p"}), 403), (none_key, steering(), 403),
                (any_key, steering({"name": "p", "version": two[:12]}, {"name": "q", "label": "trial", "scale": -1}),
                 200)):
            got, answer = server.ask(TEXT, body(steering=value), key=key)
            check(got == status, f"{value}: {got}, not {status}: {answer}")
        for key, n in ((any_key, 3), (names_key, 1), (none_key, 0)):
            check(len(server.works("/v1/steering", key=key)["policies"]) == n, "which policies a key sees")
            # Of q no label is production, so that no body gets it by its name alone.
            models = [model["id"] for model in server.works("/v1/models", key=key)["data"]]
            check(models == ["tiny-llama", "tiny-llama:p"][:1 + (n > 0)], f"which models a key sees: {models}")
            for name in ("p", "q"):
                status = 200 if f"tiny-llama:{name}" in models else 404
                check(server.ask(f"/v1/models/tiny-llama:{name}", key=key)[0] == status, f"the model {name}")
                if status == 200:
                    server.works(TEXT, body(model=f"tiny-llama:{name}"), key=key)
        check(server.refuses(400, "max_tokens", TEXT, body(max_tokens=30), key=small)["code"] == "key_tokens", "tokens")
        server.works(TEXT, body(max_tokens=4), key=small)
        server.refuses(401, None, TEXT, body(), key="tt_" + "0" * 64)
        listed = json.loads(trimtab("key", "list", "--json", "--key", "root.key"))["keys"]
        [sam] = [key["id"] for key in listed if key["person"] == "sam"]
        trimtab("key", "revoke", sam, "--key", "root.key")
        soon(lambda: server.ask(TEXT, body(), key=small)[0] == 401, "a revoked key")


def test_files():
    """Policies of --policy beside a store of keys alone: a key that may choose nothing is shown none."""
    ulf = add_people()
    dora = add_key("dora", "user", "--steering", "default")
    make_policy("one.st")
    with Store(ulf, "--policy", "p=one.st", "--list-policies") as server:
        for key, n in ((ulf, 1), (dora, 0)):
            check(len(server.works("/v1/steering", key=key)["policies"]) == n, "which policies a key sees")
            check(len(server.works("/v1/models", key=key)["data"]) == 1 + n, "which models a key sees")
            status = server.ask(TEXT, body(model="tiny-llama:p"), key=key)[0]
            check(status == (200 if n else 403), f"asked by the policy: {status}")


def generated(rng, versions):
    """A body's steering that may try to get rid of a mandatory policy."""
    def one():
        entry = {"name": rng.choice(["safe", "safe", "style", "nothing"])}
        if rng.random() < 0.7:
            entry["scale"] = rng.choice([0, -1, 0.1, 0.49, 0.5, 0.500001, 1, 2, 3, -0.5, 1e-9, None])
        if rng.random() < 0.3:
            entry["label"] = rng.choice(["production", "old", "previous", None])
        if rng.random() < 0.3:
            entry["version"] = rng.choice(versions)
        return entry
    steering = {"policies": [one() for _ in range(rng.randrange(5))]}
    if rng.random() < 0.3:
        steering["when"] = rng.choice(["last", "generation", "all", None])
    return rng.choice([steering, steering, steering, steering, False, None])


def test_mandatory(n=500):
    """No request can remove a mandatory policy, rescale it below its floor or move it from the first place."""
    ulf = add_people()
    make_policy("safe.st")
    make_policy("old.st", "trimtab.alpha=0.1")
    make_policy("style.st", "trimtab.alpha=0.5")
    safe = add_approved("safe", "safe.st", "--floor", 0.5, "--most", 2)
    old = add_approved("safe", "old.st", "--most", 2)
    style = add_approved("style", "style.st", "--least", -1)
    policy("label", "safe", "production", safe)
    policy("label", "safe", "old", old)
    policy("label", "style", "production", style)
    set_stack("style:0.5")
    rng = random.Random(1)
    n_answered = 0
    with Store(ulf, "--max-batch", 8) as server:
        check(names(server.facts()) == [("safe", safe[:12], "production", 1), ("style", style[:12], "production", 0.5)],
              f"{server.facts()}")
        for _ in range(n):
            steering = generated(rng, [safe, old, style, old[:12]])
            got, answer = server.ask(TEXT, body(max_tokens=1, steering=steering))
            if got != 200:
                check(got == 400 and answer["error"]["param"].startswith("steering"), f"{steering}: {got} {answer}")
                continue
            n_answered += 1
            first = (answer["steering"] or [{}])[0]
            check(first.get("policy") == "safe" and first["version"] == safe and first["scale"] >= 0.5 and
                  any(first["coef"].values()) and first["when"] == "all" and
                  sum(one["policy"] == "safe" for one in answer["steering"]) == 1, f"{steering}: {answer}")
    check(n / 10 < n_answered < n, f"{n_answered} of {n} were answered")
    print(f"{n} generated requests, {n_answered} answered under the mandatory policy")


# The roles that may, for each route; docs/serve.md has the same table.
STAFF = {"reviewer", "editor", "approver", "auditor", "operator"}
MOVERS = {"editor", "approver", "operator"}
RIGHTS = {
    "policy/add": {"editor"}, "policy/edit": {"editor"}, "policy/submit": {"editor"}, "policy/approve": {"approver"},
    "policy/reject": {"approver"}, "policy/retire": {"approver"}, "policy/list": STAFF, "policy/show": STAFF,
    "policy/history": STAFF, "policy/label": MOVERS, "policy/unlabel": MOVERS, "policy/rollback": MOVERS,
    "stack/propose": {"editor"}, "stack/approve": {"approver"}, "stack/reject": {"approver"}, "stack/list": STAFF,
    "policy/kill": MOVERS, "policy/resume": {"approver"}, "policy/killed": STAFF, "key/add": {"operator"},
    "key/list": {"operator"}, "key/revoke": {"operator"}}


def test_rights():
    """Each role tries each route."""
    add_key("root", "operator,editor,approver")
    keys = {role: add_key(role, role) for role in ROLES}
    n = 0
    with Store(keys["user"]) as server:
        for command, allowed in RIGHTS.items():
            path = f"/v1/admin/{command}"
            for role, key in keys.items():
                # Arguments that none of them takes, so that nothing changes.
                got, answer = server.ask(path, {"nothing": 1}, key=key, port=server.admin_port)
                check(got == (400 if role in allowed else 403), f"{command} as {role}: {got} {answer}")
                n += 1
            server.refuses(401, None, path, {}, key="tt_" + "1" * 64, port=server.admin_port)
            server.refuses(404, None, path, {}, key=keys["operator"])
        for path in ("policy/none", "policy", "", "policy/list/", "../v1/admin/policy/list", "x" * 100):
            server.refuses(404, None, f"/v1/admin/{path}", {}, key=keys["operator"], port=server.admin_port)
        server.refuses(405, None, "/v1/admin/policy/list", key=keys["operator"], port=server.admin_port)
        server.refuses(403, None, "/v1/admin/policy/list", {}, key=keys["operator"], port=server.admin_port,
                       Host="example.org")
        made = server.admin("key/add", "operator", person="New", roles="user")
        check(server.ask(TEXT, body(), key=made["key"])[0] == 200, "a key that was just made")
        server.admin("key/add", "operator", 403, person="New", roles="approver")
        for file in ("AAAA", "A" * 4000):
            answer = server.admin("policy/add", "editor", 400, name="a", file=file)
            check(answer["error"]["message"].startswith("file: "), f"no policy: {answer}")
        server.admin("key/revoke", "operator", id=made["id"])
        check(server.ask(TEXT, body(), key=made["key"])[0] == 401, "a key that was just revoked")
    print(f"{n} of {n} cells of the table of rights")


def test_moves(n_moves=40, n_clients=4, n_requests=0):
    """No request runs under a version that was not in force when it was admitted: between its sending and its answer,
    where a move is in force at the latest when it has been answered, and at the earliest when it was asked for."""
    ulf = add_people()
    versions = []
    for i in range(3):
        make_policy(f"{i}.st", f"trimtab.alpha={0.1 + i / 10}")
        versions.append(add_approved("p", f"{i}.st"))
    policy("label", "p", "production", versions[0])
    for i, version in enumerate(versions):
        policy("label", "p", f"v{i}", version)
    set_stack("p:1")
    moves, seen, ends = [(0, 0, versions[0])], [], threading.Event()
    with Store(ulf, "--max-batch", 8) as server:
        def ask():
            while not ends.is_set():
                begun = time.monotonic()
                facts = server.facts(max_tokens=1)
                seen.append((begun, time.monotonic(), facts[0]["version"]))
        threads = [threading.Thread(target=ask) for _ in range(n_clients)]
        for thread in threads:
            thread.start()
        took = []
        for i in range(1, n_moves + 1):
            while len(seen) < n_requests * i // n_moves:
                time.sleep(0.01)
            asked = time.monotonic()
            server.admin("policy/label", "alice", name="p", label="production", version=versions[i % 3])
            moves.append((asked, time.monotonic(), versions[i % 3]))
            took.append(moves[-1][1] - asked)
            check(server.facts(max_tokens=1)[0]["version"] == versions[i % 3], "a move is in force when it is answered")
        ends.set()
        for thread in threads:
            thread.join()
    late = [one for one in seen if not any(
        version == one[2] and asked <= one[1] and (k + 1 == len(moves) or moves[k + 1][1] >= one[0])
        for k, (asked, _, version) in enumerate(moves))]
    check(not late, f"{len(late)} of {len(seen)} under a version that was not in force")
    took.sort()
    print(f"{n_moves} moves, median {1e3 * took[len(took) // 2]:.0f} ms, {len(seen)} requests meanwhile")
    return {"moves": n_moves, "median_ms": round(1e3 * took[len(took) // 2]), "requests": len(seen), "late": len(late)}


def check_killed(server, kill, what):
    """Kills while choices of a request run one after the other: those that began before it say nothing of it, all that
    began after it were never steered."""
    with server.open(TEXT, body(n=64, max_tokens=100, ignore_eos=True, stream=True)) as running:
        data = b""
        while data.count(b'"steering"') < 3:
            data += running.recv(1 << 16)
        kill()
        data += read_all(running)
    first = {}
    for event in events_of(dechunk(data.partition(b"\r\n\r\n")[2])):
        for choice in event["choices"]:
            first.setdefault(choice["index"], event.get("steering"))
    killed = [all(one["killed"] and not any(one["coef"].values()) for one in first[k]) for k in range(64)]
    n = killed.count(False)
    check(0 < n < 64 and killed == [False] * n + [True] * (64 - n), f"{what}: {killed}")


def test_kill():
    """The kill switch ends steering of what runs, holds after SIGKILL and a restart, and is ended by an approver."""
    ulf = add_people()
    make_policy("p.st", "trimtab.alpha=0.2")
    make_policy("q.st", "trimtab.alpha=0.1")
    p, q = add_approved("p", "p.st", "--floor", 0.5), add_approved("q", "q.st")
    policy("label", "p", "production", p)
    policy("label", "q", "production", q)
    set_stack("p:1", "q:1")
    with Store(ulf, "--max-batch", 1) as server:
        check_killed(server, lambda: server.admin("policy/kill", "olga", reason="smoke"), "all")
        check(all(one["killed"] for one in server.facts()), "the next request")
        server.dies()
    with Store(ulf, "--max-batch", 1) as server:
        check(all(one["killed"] and not any(one.get("coef", {}).values()) for one in server.facts()), "after a restart")
        check(server.works("/v1/steering")["killed"] and server.metrics()["trimtab_kill_switch"] == 1, "it says so")
        server.admin("policy/resume", "olga", 403)
        server.admin("policy/resume", "bob")
        check(not any(one["killed"] for one in server.facts()), "resumed")
        # One policy, even a mandatory one; the other goes on.
        check_killed(server, lambda: server.admin("policy/kill", "alice", name="p"), "one")
        facts = server.facts()
        check([one["killed"] for one in facts] == [True, False] and not any(facts[0]["coef"].values()) and
              any(facts[1]["coef"].values()), f"one of two: {facts}")
        server.dies()
    with Store(ulf, "--max-batch", 1) as server:
        check([one["killed"] for one in server.facts()] == [True, False], "one of two, after a restart")
        policy("resume", "p", by="bob")
        soon(lambda: not server.facts()[0]["killed"], "resumed by the command line")
        policy("kill", "--reason", "all", by="olga")
        soon(lambda: server.facts()[1]["killed"], "killed by the command line")


def test_kill_beside_a_full_pool():
    """What ends steering waits for no thread that reads clients' bodies: here there is one, and a pipe holds it."""
    ulf = add_people()
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
                    "-subj", "/CN=localhost", "-keyout", "key.pem", "-out", "chain.pem"], check=True,
                   capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    os.environ["UV_THREADPOOL_SIZE"] = "1"
    with Store(ulf, "--tls-cert", "chain.pem", "--tls-key", "key.pem", tls=context) as server:
        del os.environ["UV_THREADPOOL_SIZE"]
        os.unlink("chain.pem")
        os.mkfifo("chain.pem")
        server.signal(signal.SIGHUP)
        held = []

        def is_held():
            with contextlib.suppress(OSError):  # nobody reads it yet
                held.append(os.open("chain.pem", os.O_WRONLY | os.O_NONBLOCK))
            return held
        soon(is_held, "the certificate is read")
        try:
            with server.open(TEXT, body()) as waiting:
                server.admin("policy/kill", "olga", reason="a full pool")
                check(server.metrics()["trimtab_kill_switch"] == 1, "killed")
                os.close(held.pop())
                check(Answer(read_all(waiting)).status == 200, "after the pool is free")
        finally:
            for file in held:
                os.close(file)


def test_kill_full():
    """A kill acts where it cannot be written, and is resumed when it can."""
    ulf = add_people()
    make_policy("p.st", "trimtab.alpha=0.2")
    make_policy("q.st", "trimtab.alpha=0.1")
    policy("label", "p", "production", add_approved("p", "p.st"))
    policy("label", "q", "production", add_approved("q", "q.st"))
    set_stack("p:1", "q:1")
    with Store(ulf, "--audit-full", "serve") as server:
        def killed():
            return [one["killed"] for one in server.facts()]
        for arguments, expected in (({}, [True, True]), ({"name": "q"}, [False, True])):
            server.may_write(0)
            server.admin("policy/kill", "olga", 503, **arguments)
            check(killed() == expected, f"{arguments}: {killed()}")
            server.admin("policy/kill", "olga", 400, nothing=1, **arguments)
            server.may_write(resource.RLIM_INFINITY)
            policy("label", "p", "old", json.loads(policy("list", "p", "--json"))["versions"][0]["version"])
            soon(lambda: any(p["label"] == "old" for p in server.works("/v1/steering")["policies"]), "a change")
            check(killed() == expected, f"{arguments}, after a change: {killed()}")
            server.admin("policy/resume", "olga", 403, **arguments)
            server.admin("policy/resume", "bob", **arguments)
            check(killed() == [False, False], f"{arguments}: {killed()}")
            server.admin("policy/resume", "bob", 409, **arguments)
            policy("unlabel", "p", "old")
            soon(lambda: all(p["label"] != "old" for p in server.works("/v1/steering")["policies"]), "a change")


def test_not_loaded():
    """Where a version cannot be loaded, the one before goes on within its own limits, and as mandatory as it was. What
    only a full disk has kept from being loaded is loaded later."""
    ulf = add_people()
    make_policy("one.st")
    make_policy("two.st", "trimtab.alpha=0.5")
    make_policy("other.st", "trimtab.fingerprint=another model")
    one, two = add_approved("p", "one.st", "--floor", 0.5, "--most", 2), add_approved("p", "two.st", "--most", 3)
    other = add_approved("p", "other.st", "--most", 0.25)
    policy("label", "p", "production", one)
    with Store(ulf, "--audit-full", "serve") as server:
        def stays(version):
            policy("label", "p", "production", version, by="bob")
            check("stays as it was" in server.process.stderr.readline(), "a note")
            [listed] = [p for p in server.works("/v1/steering")["policies"] if p["label"] == "production"]
            check((listed["version"], listed["most"], listed["mandatory"]) == (one, 2, True), f"{listed}")
            check(names(server.facts(steering={"policies": [{"name": "p", "scale": 2}]}))[0][3] == 2, "its most")
            check(names(server.facts()) == [("p", one[:12], "production", 1)], "mandatory")
            server.refuses(400, "steering.policies[0].scale", TEXT,
                           body(steering={"policies": [{"name": "p", "scale": 0.1}]}))
        stays(other)
        policy("label", "p", "production", one)
        server.may_write(0)
        stays(two)
        server.may_write(resource.RLIM_INFINITY)
        soon(lambda: names(server.facts(steering={"policies": [{"name": "p"}]}))[0][1] == two[:12], "it is loaded")
        check(server.facts() is None, "and not mandatory")


def test_replay():
    """What ran under versions and labels of the store comes out again, by the log and the store alone."""
    ulf = add_people()
    make_policy("p.st", "trimtab.alpha=0.2")
    make_policy("q.st", "trimtab.alpha=0.1")
    p, q = add_approved("p", "p.st", "--floor", 0.5), add_approved("p", "q.st")
    policy("label", "p", "production", p)
    policy("label", "p", "old", p)
    set_stack("p:1")
    with Store(ulf, "--keep-text", "all") as server:
        server.facts()
        server.facts(steering={"policies": [{"name": "p", "scale": 0.75, "label": "old"}]})
        server.facts(steering=False, n=3)
        server.admin("policy/label", "alice", 403, name="p", label="production", version=q)
        server.admin("policy/label", "bob", name="p", label="production", version=q)
        server.admin("policy/label", "alice", name="p", label="old", version=q)
        server.facts(steering={"policies": [{"name": "p", "label": "old"}], "when": "generation"})
        check(server.facts()[0]["version"] == q, "production has moved")
    done = subprocess.run([program.trimtab, "audit", "verify", "--state", STORE], capture_output=True, text=True,
                          check=False)
    check(done.returncode == 0, f"verify: {done.stdout} {done.stderr}")
    done = subprocess.run([program.trimtab, "audit", "replay", program.tiny, "--sample", "99", "--state", STORE],
                          capture_output=True, text=True, check=False)
    check(done.returncode == 0 and "5 of 5 requests came out the same" in done.stdout, f"{done.stdout} {done.stderr}")


def ask_whole(server, key, **keys):
    with server.open(TEXT, body(ignore_eos=True, **keys), key=key) as connection:
        return Answer(read_all(connection))


def test_quotas():
    """Tokens of a minute and a day: no key has more, whatever it asks for at once; one is told when to come again."""
    ulf = add_people()
    small = add_key("small", "user", "--minute-tokens", 100)
    daily = add_key("daily", "user", "--minute-tokens", 1000, "--day-tokens", 60)
    both = add_key("both", "user", "--day-tokens", 400)
    with Store(ulf, "--max-batch", 8) as server:
        one = ask_whole(server, small, max_tokens=20)
        n_prompt = one.json["usage"]["prompt_tokens"]
        check(one.status == 200 and one.json["usage"]["completion_tokens"] == 20, f"{one.status}")
        # What is asked for at most counts before it begins; what it came to when it has ended.
        over = ask_whole(server, small, max_tokens=100 - 20 - 2 * n_prompt + 1)
        seconds, ms = int(over.fields["retry-after"]), int(over.fields["retry-after-ms"])
        check(over.status == 429 and over.json["error"]["code"] == "token_quota" and
              over.json["error"]["type"] == "rate_limit_error" and 30 < seconds <= 61 and
              0 <= 1000 * seconds - ms < 1000, f"{over.status} {over.fields} {over.json}")
        check(ask_whole(server, small, max_tokens=100 - 20 - 2 * n_prompt).status == 200, "what is left")
        check(ask_whole(server, small, max_tokens=1).status == 429, "nothing is left")
        # More than it may ever have is no matter of waiting.
        for key, n in ((small, 101), (daily, 61)):
            error = server.refuses(400, "max_tokens", TEXT, body(max_tokens=n - n_prompt), key=key)
            check(error["code"] == "key_tokens", f"{error}")
        check(ask_whole(server, daily, max_tokens=60 - n_prompt).status == 200, "a day's")
        over = ask_whole(server, daily, max_tokens=1)
        check(over.status == 429 and 23 * 3600 < int(over.fields["retry-after"]) <= 61 * 24 * 60, f"{over.fields}")
        # Another key has its own, and one without limits has none.
        check(ask_whole(server, ulf, max_tokens=400).status == 200, "without limits")
        # All at once: what comes through is what fits at its longest, and an answer that is cut off counts as it came.
        got = []
        threads = [threading.Thread(target=lambda: got.append(ask_whole(server, both, max_tokens=50).status))
                   for _ in range(16)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        fit = 400 // (50 + n_prompt)
        check(sorted(got) == [200] * fit + [429] * (16 - fit), f"{sorted(got)}, where {fit} fit")
        got = server.metrics()
        check(got['trimtab_quota_refused_total{window="minute"}'] == 2 and
              got['trimtab_quota_refused_total{window="day"}'] == 1 + 16 - fit, "refusals are counted")
        check(got["trimtab_quota_tokens_total"] == 100 + 60 + fit * (50 + n_prompt), "tokens are counted")
    cut = add_key("cut", "user", "--day-tokens", 53000)
    with Store(ulf, "--max-batch", 1) as server:
        with server.open(TEXT, body(n=120, max_tokens=440, ignore_eos=True, stream=True), key=cut) as running:
            read_until(running, b"data: ")
            over = ask_whole(server, cut, max_tokens=400)
            check(over.status == 429 and over.fields["retry-after"] == "1", f"what runs has it: {over.fields}")
        # Had it all been made, or were it all still reserved, this would be too much for a day.
        soon(lambda: ask_whole(server, cut, max_tokens=400).status == 200, "a client that has gone gives it back")


def test_usage():
    make_policy("p.st")
    check("folder of the store" in trimtab("key", "--help"), "help")
    for status, says, arguments in (
            (2, "--person and --roles", ("key", "add")), (2, "add, list or revoke", ("key", "none")),
            (1, "there is no store", ("policy", "list")), (2, "add takes name, file", ("policy", "add", "p")),
            (2, "no command of it", ("policy", "none")), (2, "--most takes a number",
                                                          ("policy", "add", "p", "p.st", "--most", "x"))):
        trimtab(*arguments, status=status, says=says)
    # Files go beside a store of keys, and not beside one of policies.
    ulf = add_people()
    # What is no number or no UTF-8 is not taken for what is absent.
    for number in ("nan", "inf", "-inf", "1e999", "0.5x", "0,5", ""):
        policy("add", "x", "p.st", "--floor", number, status=2, says="--floor takes a number")
        policy("stack", "propose", f"x:{number}", status=2, says="with a number")
    for number in ("12x", "", "x", "9" * 30):
        policy("stack", "approve", number, by="bob", status=2, says="the number of a stack")
    bad = os.fsdecode(b"\xff")
    policy("kill", by="olga")
    policy("resume", bad, by="bob", status=2, says="not UTF-8")
    check(json.loads(policy("killed", "--json"))["killed"], "it is still killed")
    policy("resume", by="bob")
    policy("kill", "--reason", bad, by="olga", status=2, says="not UTF-8")
    policy("stack", "propose", bad, status=2, says=" is not NAME")
    policy("stack", "propose", f"x@{bad}", status=2, says=" is not NAME")
    trimtab("key", "add", "--person", bad, "--roles", "user", "--key", "root.key", status=2, says="not UTF-8")
    with Store(ulf, "--policy", "p=p.st") as server:
        check([one["policy"] for one in server.facts()] == ["p"], "a file beside a store of keys")
        server.refuses(401, None, TEXT, body(), key="none")
        policy("kill", by="olga")
        soon(lambda: server.facts()[0]["killed"], "killed by the command line")
        policy("label", "p", "production", add_approved("p", "p.st"))
    for says, arguments in (("has policies of its own", ("--policy", "p=p.st")),
                            ("has keys of its own", ("--keys", "keys"))):
        with open("keys", "w", encoding="ascii"):
            pass
        done = subprocess.run([program.trimtab, "serve", program.tiny, "--state", STORE, *arguments],
                              capture_output=True, text=True, check=False)
        check(done.returncode == 1 and says in done.stderr, f"{done.stderr}")
    with open("trimtab.db", "w", encoding="ascii") as file:
        file.write("no database")
    done = subprocess.run([program.trimtab, "serve", program.tiny, "--state", "."], capture_output=True, text=True,
                          check=False)
    check(done.returncode == 1 and "is not a store of trimtab" in done.stderr, f"{done.stderr}")


def main():
    os.umask(0o022)
    program.main_with_server(globals(), sys.argv[3:])


if __name__ == "__main__":
    main()
