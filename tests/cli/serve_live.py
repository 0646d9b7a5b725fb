#!/usr/bin/env python3
"""What the operators' page of `trimtab serve` is made of and asks for: serve_live.py TRIMTAB GOLDEN [TEST]...
scripts/measure/check_pages.py looks at it in a browser."""

import json
import math
import os
import re
import sys
import threading

import program
from program import check, make_policy, run, tensor
from serve_client import Answer, Server, read_all, read_until, soon
from serve_store import ROLES, TEXT, Store, add_approved, add_key, add_people, body, policy, set_stack, trimtab

CSP = ("default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
       "base-uri 'none'; form-action 'self'; frame-ancestors 'none'; require-trusted-types-for 'script'; "
       "trusted-types 'none'")
FILES = {"/": "text/html; charset=utf-8", "/dashboard/style.css": "text/css; charset=utf-8",
         "/dashboard/live.css": "text/css; charset=utf-8", "/dashboard/live.js": "text/javascript; charset=utf-8",
         "/dashboard/charts.js": "text/javascript; charset=utf-8"}
WIDTH = 64  # of the tiny model
LIVE, LOG, MAP = "/v1/admin/live", "/v1/admin/log", "/v1/admin/map/"


def whole(server, path, method="GET", port=None):
    with server.open(path, method=method, port=port) as connection:
        return Answer(read_all(connection))


def look(server, path=LIVE, status=200, key=None):
    got, answer = server.ask(path, key=key, port=server.admin_port) if key else server.ask(path, port=server.admin_port)
    check(got == status, f"{path}: {got}, not {status}: {str(answer)[:300]}")
    return answer


def with_policy():
    """A store whose policy `refuse` steers every request; the user's key and the reviewer's."""
    user = add_people()
    reviewer = add_key("rita", "reviewer")
    make_policy("one.st", "gate.b=3")
    policy("label", "refuse", "production", add_approved("refuse", "one.st", "--most", "2"))
    set_stack("refuse:0.5")
    return user, reviewer


# ---- The tests


def test_files():
    """The page is this server's own files, with a policy that lets nothing else in, on the operators' port alone."""
    with Server() as server:
        for path, kind in FILES.items():
            answer = whole(server, path, port=server.admin_port)
            check(answer.status == 200 and answer.fields["content-type"] == kind, f"{path}: {answer.status} {kind}")
            check(answer.fields.get("content-security-policy") == CSP, f"{path}: {answer.fields}")
            check(answer.fields.get("x-content-type-options") == "nosniff", f"{path}: {answer.fields}")
            check(whole(server, path).status == 404, f"{path} is on the clients' port")
            text = answer.body.decode()
            check(not re.search(r"https?://(?!www\.w3\.org/2000/svg)", text), f"{path} names another server")
            if path == "/":
                check(not re.search(r"<style|<script(?![^>]* src=)|\son\w+=|\sstyle=|javascript:", text), "inline code")
            check(not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(|new Function|DOMParser|"
                                r"createContextualFragment|srcdoc|setHTML", text), f"{path} makes markup of text")
        for path in ("/dashboard/", "/dashboard/live.jsx", "/dashboard/../live.js", "/index.html"):
            check(whole(server, path, port=server.admin_port).status == 404, path)
        head = whole(server, "/", "HEAD", server.admin_port)
        check(head.status == 200 and not head.body and int(head.fields["content-length"]) > 1000, f"{head.fields}")
        check(server.ask("/", {}, port=server.admin_port)[0] == 405, "the page takes no POST")
        foreign = server.ask("/", port=server.admin_port, Host="example.com")
        check(foreign[0] == 403, f"a page of another name: {foreign}")


def test_without_store():
    """Where nobody needs a key, what runs is shown to whoever reaches the port; there is no log, and no text."""
    make_policy("one.st")
    with Server("--policy", "refuse=one.st:0.5") as server:
        server.works(TEXT, body())
        live = look(server)
        check(not live["store"] and live["audit"] is None and "person" not in live["you"], f"{live}")
        check(not any(live["you"][right] for right in ("kill", "resume", "text")), f"{live['you']}")
        (one,) = live["policies"]
        check((one["policy"], one["scale"], one["acted"] + one["closed"]) == ("refuse", 0.5, 1), f"{one}")
        look(server, LOG, 404)
        look(server, MAP + "1", 404)
        check(server.ask("/v1/admin/policy/kill", {}, port=server.admin_port)[0] == 404, "no store, no switch")


def test_rights():
    """Each role at each thing that the page asks for."""
    with_policy()
    keys = {role: add_key(role, role) for role in ROLES}
    with Store(keys["user"], "--keep-text", "all") as server:
        server.works(TEXT, body())
        number = look(server, LOG, key=keys["reviewer"])["requests"][0]["seq"]
        for role, key in keys.items():
            staff, text = role != "user", role in ("reviewer", "auditor")
            live = look(server, LIVE, 200 if staff else 403, key)
            look(server, LOG, 200 if staff else 403, key)
            look(server, f"{MAP}{number}", 200 if text else 403, key)
            if staff:
                may = {"person": role, "kill": role in ("editor", "approver", "operator"), "resume": role == "approver",
                       "text": text}
                check({right: live["you"][right] for right in may} == may, f"{live['you']}")
        for path in (LIVE, LOG, f"{MAP}{number}"):
            with Server.open(server, path, port=server.admin_port) as connection:
                check(Answer(read_all(connection)).status == 401, f"{path} without a key")
            check(server.ask(path, key="tt_" + "0" * 64, port=server.admin_port)[0] == 401, f"{path}: a wrong key")
            check(server.ask(path, key=keys["reviewer"])[0] == 404, f"{path} on the clients' port")


def test_live():
    """What it says of policies, requests and counts is what answers and metrics say."""
    user, reviewer = with_policy()
    with Store(user) as server:
        answers = [server.works(TEXT, body(prompt=f"Question {i}")) for i in range(5)]
        live = look(server, key=reviewer)
        (one,) = live["policies"]
        metrics = server.metrics()
        labels = f'policy="refuse",version="{one["version"][:12]}",label="production"'
        counted = {name: metrics[f'trimtab_steer_requests_total{{{labels},outcome="{name.split("_")[0]}"}}']
                   for name in ("acted", "closed", "off", "killed_requests")}
        check({name: one[name] for name in counted} == counted and sum(counted.values()) == 5, f"{one} {counted}")
        sums = [sum(one["gate"]["counts"][:i + 1]) for i in range(len(one["gate"]["counts"]))]
        told = [metrics[f'trimtab_steer_gate_bucket{{{labels},le="{end:g}"}}'] for end in one["gate"]["bounds"]]
        check(sums[:-1] == told and sums[-1] == 5, f"{sums} {told}")
        engine = live["engine"]
        (tokens,) = [value for name, value in metrics.items() if name.startswith("vllm:generation_tokens_total")]
        check(engine["ended"] == 5 and engine["tokens"] == tokens, f"{engine} {tokens}")
        check(live["running"] == [] and one["threshold"] == answers[0]["steering"][0]["threshold"], f"{live}")
        log = look(server, LOG, key=reviewer)
        check([(row["seq"], row["steering"]) for row in log["requests"]] ==
              [(answer["audit"]["seq"], answer["steering"]) for answer in answers[::-1]], f"{log['requests'][:1]}")
        newest = log["changes"][0]
        check(newest["kind"] == "stack.approve" and newest["person"] == "bob", f"{newest}")
        text = trimtab("audit", "head").splitlines()
        log = look(server, LOG, key=reviewer)
        check(log["head"]["name"] == text[0] and log["head"]["size"] == log["head"]["signed"] == int(text[1])
              and log["head"]["root"] == text[2], f"{log['head']} {text}")


def test_running():
    """A stream shows while it runs, with what its first event says; the kill switch shows on it."""
    user, reviewer = with_policy()
    with Store(user) as server:
        def the_stream(shown):
            """Its row, not that of its neighbour, which keeps it slow."""
            return [row for row in shown["running"] if row["choices"] == 1]

        long = {"max_tokens": 500, "stream": True, "ignore_eos": True}
        for _ in range(20):  # until it runs for as long as it takes to look twice
            with server.open(TEXT, body(n=8, **long)) as neighbour, server.open(TEXT, body(**long)) as stream:
                read_until(neighbour, b"data: ")
                begun = read_until(stream, b"\n\ndata: ")
                facts = json.loads(begun.split(b"data: ")[1].split(b"\n\n")[0])["steering"]
                before = the_stream(look(server, key=reviewer))
                server.admin("policy/kill", "olga", reason="a try")
                shown = look(server, key=reviewer)
                after = the_stream(shown)
            check(shown["killed"], "it shows that steering is stopped")
            check(look(server, LOG, key=reviewer)["changes"][0]["fields"]["reason"] == "a try", "the change")
            if before and after and after[0]["steering"][0]["killed"]:
                break
            server.admin("policy/resume", "bob")
            soon(lambda: not look(server, key=reviewer)["running"], "both have ended")
        check(len(before) == len(after) == 1, f"{before} {after}")
        (row,), (killed,) = before, after
        check(row["steering"] == facts and row["stream"] and row["stage"] == "running", f"{row} {facts}")
        check(1 <= row["tokens"] <= killed["tokens"] and killed["steering"][0]["killed"], f"{row} {killed}")


def test_mandatory():
    """A policy that steers every request without being in the stack says by how much."""
    user, reviewer = add_people(), add_key("rita", "reviewer")
    make_policy("one.st", "gate.b=3")
    policy("label", "refuse", "production", add_approved("refuse", "one.st", "--floor", "0.5", "--most", "2"))
    with Store(user) as server:
        (facts,) = server.works(TEXT, body())["steering"]
        (one,) = look(server, key=reviewer)["policies"]
        check(one["mandatory"] and one["scale"] == facts["scale"], f"{one} {facts}")


def test_log_rows():
    """What shadows said, and what was to steer a request that was interrupted."""
    make_policy("one.st", "gate.b=3")
    make_policy("two.st", "gate.b=-3")
    options = ("--policy", "refuse=one.st", "--policy", "other=two.st", "--shadow", "other", "--max-batch", "1")
    with Store("no key", *options) as server:
        answer = server.works(TEXT, body())
        (row,) = look(server, LOG)["requests"]
        check((row["steering"], row["shadow"]) == (answer["steering"], answer["shadow"]), f"{row} {answer}")
        check("gate" in row["shadow"][0], f"{row['shadow']}")
        with server.open(TEXT, body(n=64, max_tokens=100, stream=True, ignore_eos=True)) as stream:
            read_until(stream, b"data: ")
            server.dies()
    with Store("no key", *options) as server:
        row = look(server, LOG)["requests"][0]
        check(row["kind"] == "interrupted" and "finish" not in row, f"{row}")
        check([one["policy"] for one in row["steering"]] == ["refuse"], f"{row}")


def check_pushes(made, facts):
    """At the first layer that is steered, where the stream is the model's own until then: the coefficient times the
    direction's length, over the stream's, which `capture` writes."""
    layer = made["layers"][1]
    run("--raw", "-p", "<b>Hello</b>", "-o", "hidden.st", command="capture")
    hidden, direction = tensor("hidden.st", f"hidden.{layer['layer']}"), tensor("one.st", f"direction.{layer['layer']}")
    push = facts["coef"][str(layer["layer"])] * math.hypot(*direction)
    want = [push / math.hypot(*hidden[i:i + WIDTH]) for i in range(0, len(hidden), WIDTH)]
    got = layer["push"][:made["n_prompt"]]
    check(len(got) == len(want) and all(abs(a - b) <= 1e-5 * b for a, b in zip(got, want)), f"{got} {want}")


def test_map():
    """A request run again, beside a busy engine: its tokens are those of prompt and answer, it is pushed where its
    facts say, and where it cannot be run again a reason is given."""
    user, reviewer = with_policy()
    with Store(user, "--keep-text", "all") as server:
        answer = server.works(TEXT, body(prompt="<b>Hello</b>", max_tokens=6))
        number, (facts,) = answer["audit"]["seq"], answer["steering"]
        plain = server.works(TEXT, body(steering=False))["audit"]["seq"]
        busy = threading.Thread(target=lambda: server.works(TEXT, body(max_tokens=64, ignore_eos=True)))
        busy.start()
        made = look(server, f"{MAP}{number}", key=reviewer)
        busy.join()
        usage = answer["usage"]
        check(made["outcome"] == "equal" and made["n_prompt"] == usage["prompt_tokens"], f"{made}")
        check(made["positions"] == len(made["tokens"]) == usage["total_tokens"] - 1, f"{made}")
        prompt = server.works("/tokenize", {"prompt": "<b>Hello</b>", "return_token_strs": True})["token_strs"]
        check(made["tokens"][:made["n_prompt"]] == prompt, f"{made['tokens']} {prompt}")
        pushed = {str(layer["layer"]) for layer in made["layers"] if max(layer["push"]) > 0}
        check(pushed == {layer for layer, coef in facts["coef"].items() if coef} and pushed, f"{pushed} {facts}")
        check_pushes(made, facts)
        check(made["most"] == max(max(layer["push"]) for layer in made["layers"]), f"{made['most']}")
        none = look(server, f"{MAP}{plain}", key=reviewer)
        check(none["outcome"] == "equal" and none["most"] == 0 and none["layers"] == [], f"{none}")
        for wrong in ("", "x", "1x", "-1", "99999999", "9" * 30):
            look(server, MAP + wrong, 404, reviewer)
        look(server, f"{MAP}0", 409, reviewer)
        trimtab("audit", "erase", number)
        look(server, f"{MAP}{number}", 409, reviewer)
        server.admin("policy/kill", "olga")
        look(server, f"{MAP}{plain}", 409, reviewer)
    with Store(user) as server:
        number = server.works(TEXT, body())["audit"]["seq"]
        look(server, f"{MAP}{number}", 409, reviewer)


def run_long(server, **keys):
    """The number of a request with many choices, and how many tokens they have."""
    answer = server.works(TEXT, body(n=8, max_tokens=300, ignore_eos=True, **keys))
    return answer["audit"]["seq"], answer["usage"]["completion_tokens"]


def begin_map(server, number, key):
    """A connection that waits for the map, which is being made."""
    connection = server.open(f"{MAP}{number}", key=key, port=server.admin_port)
    soon(lambda: look(server, key=key)["engine"]["running"], "the map runs")
    return connection


def test_abandoned():
    """Of a request whose client left, the map has what was written until then."""
    user, reviewer = with_policy()
    with Store(user, "--keep-text", "all") as server:
        rows = []
        for n in range(1, 21):  # until the client leaves before the end
            with server.open(TEXT, body(max_tokens=500, stream=True, ignore_eos=True)) as stream:
                read_until(stream, b"data: ")

            def is_told(n=n):
                rows[:] = look(server, LOG, key=reviewer)["requests"]
                return len(rows) == n and rows[0]["finish"]

            soon(is_told, "the log tells of its end")
            row = rows[0]
            if row["finish"] == "abandoned" and row["tokens"]:
                break
        check(row["finish"] == "abandoned" and row["tokens"] < 500, f"{row}")
        made = look(server, f"{MAP}{row['seq']}", key=reviewer)
        check(made["outcome"] == "equal", f"{made['why']}")
        check(made["positions"] == len(made["tokens"]) == row["prompt_tokens"] + row["tokens"] - 1, f"{row} {made}")


def test_map_ends():
    """A map whose client leaves is not run to its end."""
    user, reviewer = with_policy()
    with Store(user, "--keep-text", "all") as server:
        number, n = run_long(server)

        def tokens():
            server.works(TEXT, body())  # the counters follow with news, and round down
            return sum(value for name, value in server.metrics().items() if "iteration_tokens_total_sum" in name)

        took = []
        for _ in range(60):  # until it leaves before the map is made
            before = tokens()
            begin_map(server, number, reviewer).close()
            soon(lambda: not look(server, key=reviewer)["engine"]["running"], "it ends")
            took.append(tokens() - before)
            if took[-1] < 0.75 * n:
                break
        check(took[-1] < 0.75 * n, f"{took} tokens were run, of {n}")
        small = f"{MAP}{server.works(TEXT, body())['audit']['seq']}"
        soon(lambda: server.ask(small, key=reviewer, port=server.admin_port)[0] == 200, "the next map")
        with server.open(small, method="HEAD", key=reviewer, port=server.admin_port) as connection:
            check(Answer(read_all(connection)).status == 405, "a map is not made for a HEAD")


def test_map_killed():
    """A map of a version that has no label any more is stopped with its policy, and not begun after that."""
    user, reviewer = with_policy()
    make_policy("two.st", "gate.b=2")
    old = policy("label", "refuse", "trial", add_approved("refuse", "two.st"))
    with Store(user, "--keep-text", "all") as server:
        number, _ = run_long(server, steering={"policies": [{"name": "refuse", "label": "trial"}]})
        policy("unlabel", "refuse", "trial")
        soon(lambda: len(look(server, key=reviewer)["policies"]) == 1, f"{old} has no label")
        statuses = []
        for _ in range(60):  # until it is killed before the map is made, which takes a fast machine some milliseconds
            with begin_map(server, number, reviewer) as connection:
                server.admin("policy/kill", "olga", name="refuse")
                answer = Answer(read_all(connection))
            statuses.append(answer.status)
            look(server, f"{MAP}{number}", 409, reviewer)
            server.admin("policy/resume", "bob", name="refuse")
            if answer.status == 409:
                break
        check(statuses[-1] == 409 and "stopped" in answer.json["error"]["message"], f"{statuses} {answer.json}")


def test_failure():
    """What fails on the server's side is said to its owner, and not with its paths to who asks."""
    user, reviewer = with_policy()
    with Store(user, "--keep-text", "all") as server:
        number = server.works(TEXT, body())["audit"]["seq"]
        os.chmod("store", 0o777)  # anybody may write to it, so it is not opened
        for path in (LOG, f"{MAP}{number}"):
            message = look(server, path, 500, reviewer)["error"]["message"]
            check(message and "store" not in message, f"{path}: {message}")
        os.chmod("store", 0o700)
    check("".join(server.said).count("store can be written by others") == 2, f"{server.said}")


if __name__ == "__main__":
    program.main_with_server(globals(), sys.argv[3:])
