#!/usr/bin/env python3
"""What the operators' page of `trimtab serve` is made of and asks for: serve_live.py TRIMTAB GOLDEN [TEST]...
scripts/measure/check_pages.py looks at it in a browser."""

import json
import math
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
        n = 0
        for role, key in keys.items():
            staff, text = role != "user", role in ("reviewer", "auditor")
            live = look(server, LIVE, 200 if staff else 403, key)
            look(server, LOG, 200 if staff else 403, key)
            look(server, f"{MAP}{number}", 200 if text else 403, key)
            n += 3
            if staff:
                may = {"person": role, "kill": role in ("editor", "approver", "operator"), "resume": role == "approver",
                       "text": text}
                check({right: live["you"][right] for right in may} == may, f"{live['you']}")
        for path in (LIVE, LOG, f"{MAP}{number}"):
            with Server.open(server, path, port=server.admin_port) as connection:
                check(Answer(read_all(connection)).status == 401, f"{path} without a key")
            check(server.ask(path, key="tt_" + "0" * 64, port=server.admin_port)[0] == 401, f"{path}: a wrong key")
            check(server.ask(path, key=keys["reviewer"])[0] == 404, f"{path} on the clients' port")
        print(f"{n} of {n} cells")


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
    with Store(user) as server, server.open(TEXT, body(max_tokens=400, stream=True, ignore_eos=True)) as stream:
        begun = read_until(stream, b"\n\ndata: ")
        facts = json.loads(begun.split(b"data: ")[1].split(b"\n\n")[0])["steering"]
        soon(lambda: look(server, key=reviewer)["running"], "it runs")
        (row,) = look(server, key=reviewer)["running"]
        check(row["steering"] == facts and row["stream"] and row["stage"] == "running", f"{row} {facts}")
        check(row["tokens"] >= 1 and row["seq"] > 0, f"{row}")
        server.admin("policy/kill", "olga", reason="a try")
        live = look(server, key=reviewer)
        check(live["killed"], "it shows that steering is stopped")
        check(all(one["killed"] for row in live["running"] for one in row["steering"]), f"{live['running']}")
        check(look(server, LOG, key=reviewer)["changes"][0]["fields"]["reason"] == "a try", "the change")


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


if __name__ == "__main__":
    program.main_with_server(globals(), sys.argv[3:])
