#!/usr/bin/env python3
"""Runs `trimtab serve` as its clients do, and as those who mean it harm: serve.py TRIMTAB GOLDEN [TEST]..."""

import functools
import hashlib
import itertools
import json
import os
import re
import resource
import signal
import socket
import subprocess
import sys
import threading
import time

import program
from program import check, make_policy, read_rows, run, works, write_lines
from serve_client import (LONG, WAIT, Answer, Server, completion, dechunk, events_of, put_together, read_all,
                          read_until, soon, without_extras)
from serve_wire import AGAIN, ANSWERED, BODY, N, ONCE, POST, REFUSED

CHAT, TEXT = "/v1/chat/completions", "/v1/completions"


def chat(text="Hello", **keys):
    return {"messages": [{"role": "user", "content": text}], "max_tokens": 8, "seed": 1, **keys}


def refused(status, pattern, *arguments):
    """It ends with that status and message, and does not serve."""
    try:
        done = subprocess.run([program.trimtab, "serve", program.tiny, *map(str, arguments)], stdin=subprocess.DEVNULL,
                              capture_output=True, text=True, timeout=WAIT, check=False)
        check(done.returncode == status and pattern in done.stderr, f"{arguments}: {done.returncode} {done.stderr}")
    except subprocess.TimeoutExpired:
        check(False, f"{arguments}: it serves")


def together(*calls):
    threads = [threading.Thread(target=call) for call in calls]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


# ---- The wire


def test_hostile():
    """Each is refused with a 4xx or 505, once, by either port, and the connection closed; what follows it is not taken
    for a request. A deadline is far longer than this waits."""
    with Server() as server:
        for (name, data), port in itertools.product(REFUSED.items(), (server.port, server.admin_port)):
            begun = time.monotonic()
            answer = server.raw(data + AGAIN * 2, port)
            took = time.monotonic() - begun
            status = Answer(answer).status
            check(400 <= status < 500 or status == 505, f"{name}: {status}: {answer[:200]}")
            check(len(re.findall(rb"HTTP/1.1 \d", answer)) == 1, f"{name}: more than one answer: {answer[:600]}")
            check(took < 5, f"{name}: took {took:.1f} s")
        print(f"{len(REFUSED)} hostile requests")


def test_answered():
    with Server() as server:
        for name, (data, n) in ANSWERED.items():
            last = b"GET /version HTTP/1.1\r\nHost: 127.1\r\nConnection: close\r\n\r\n"
            keeps = b"HTTP/1.0" not in data
            answer = server.raw(data + last * keeps)
            check(answer.count(b"HTTP/1.1 200 OK\r\n") == n + keeps, f"{name}: {answer[:900]}")
        # Byte by byte.
        for data in (ANSWERED["a request"][0], ANSWERED["a body in a chunk"][0]):
            with server.connect() as connection:
                for byte in data:
                    connection.sendall(bytes([byte]))
                check(read_until(connection, b"}").startswith(b"HTTP/1.1 200"), f"byte by byte: {data}")
        # A client that waits to be asked for the body.
        with server.send(POST + b"Expect: 100-continue\r\nContent-Length: " + N + b"\r\n\r\n") as connection:
            check(connection.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n", "100 Continue")
            connection.sendall(BODY)
            check(read_until(connection, b"}").startswith(b"HTTP/1.1 200"), "the body after 100 Continue")


def test_routes():
    with Server() as server:
        models = server.works("/v1/models")
        name = models["data"][0]["id"]
        check(models["object"] == "list" and name == "tiny-llama", f"models: {models}")
        check(server.works(f"/v1/models/{name}") == models["data"][0], "a model by its name")
        for path in ("/health", "/health/live", "/live", "/health/ready", "/ready"):
            check(server.works(path) == {"status": "ok"}, path)
        check(server.works("/version")["version"], "version")
        for path in ("/", "/v1", "/v1/models/other", "/v1/chat/completions/", "//v1/models", "/v1/./models",
                     "/v1/%6dodels", "/V1/models", "/v1/embeddings", "/v1/responses", "/etc/passwd"):
            server.refuses(404, "model" if path == "/v1/models/other" else None, path)
        server.refuses(405, None, CHAT)
        server.refuses(405, None, "/health", {})
        server.refuses(405, None, "/health", method="DELETE")
        for path, method, methods in ((CHAT, "GET", "POST"), ("/health", "DELETE", "GET, HEAD")):
            with server.open(path, method=method) as connection:
                check(Answer(read_all(connection)).fields.get("allow", "").upper() == methods, f"{path} by {method}")
        check(CHAT in server.refuses(404, None, "/v1/embeddings", {"input": "x"})["message"], "what there is instead")
        for kind in ("text/plain", "application/x-www-form-urlencoded", "application/jsonp", "multipart/form-data"):
            server.refuses(415, None, CHAT, chat(), Content_Type=kind)
        server.works(CHAT, chat(), Content_Type="Application/JSON; charset=utf-8")


def test_host():
    """Without keys a server answers no page whose site has its own name lead here; behind a proxy names are its."""
    def ask(server, host):
        return server.ask("/v1/models", Host=host)[0]
    with Server() as server:
        for host in ("localhost", "LOCALHOST:1", "127.0.0.1:8000", "10.0.0.1", "[::1]:8000", "[fe80::1]"):
            check(ask(server, host) == 200, host)
        for host in ("example.org", "localhost.example.org", "127.0.0.1.example.org", "a", "1.2.3.4a"):
            check(ask(server, host) == 403, host)
    with Server("--behind-proxy") as server:
        check(ask(server, "example.org") == 200, "behind a proxy")


def test_unix_socket():
    def ask():
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect("here.sock")
            connection.sendall(b"GET /version HTTP/1.1\r\nHost: anything\r\nConnection: close\r\n\r\n")
            return Answer(read_all(connection)).status
    for _ in range(2):
        with Server("--host", "unix:here.sock"):
            check(ask() == 200, "by a path")
            refused(1, "address already in use", "--host", "unix:here.sock", "--admin-port", "0")
        check(not os.path.exists("here.sock"), "the socket stays behind")
        with socket.socket(socket.AF_UNIX) as left:  # as a server that was killed leaves it
            left.bind("here.sock")
    refused(1, "too long", "--host", "unix:" + "x" * 200, "--admin-port", "0")
    refused(1, "nowhere/x: ", "--host", "unix:nowhere/x", "--admin-port", "0")


def test_deadlines():
    with Server("--header-seconds", "0.5", "--body-seconds", "0.5", "--idle-seconds", "0.5") as server:
        def cut(data, status, drip=b""):
            begun = time.monotonic()
            with server.send(data) as connection:
                connection.settimeout(0.1)
                answer = b""
                while True:
                    try:
                        piece = connection.recv(1000)
                        if not piece:
                            break
                        answer += piece
                    except TimeoutError:
                        if drip and not answer:
                            connection.sendall(drip)
                    except ConnectionResetError:
                        break
            took = time.monotonic() - begun
            check((Answer(answer).status if answer else 0) == status, f"deadline: {data[:60]}: {answer[:200]}")
            check(0.4 < took < 5, f"{data[:60]}: cut after {took:.2f} s")
        def idle():
            with server.send(AGAIN) as connection:
                begun = time.monotonic()
                check(read_all(connection).startswith(b"HTTP/1.1 200"), "before the idle time")
                check(0.4 < time.monotonic() - begun < 5, "idle")
        together(lambda: cut(b"", 0), lambda: cut(b"GET / HTT", 408),
                 lambda: cut(b"GET / HTTP/1.1\r\n", 408, drip=b"A: b\r\n"),
                 lambda: cut(POST + b"Content-Length: 1000\r\n\r\n", 408, drip=b"x"), idle)


def test_refused_early():
    """What the header is reason enough to refuse does not wait for its body."""
    write_text("keys", f"a {'0' * 64} A\n")
    with Server("--keys", "keys") as server:
        for status, path in ((401, CHAT), (405, "/health")):
            head = f"POST {path} HTTP/1.1\r\nHost: 127.1\r\nExpect: 100-continue\r\nContent-Length: 9\r\n\r\n"
            check(Answer(server.raw(head.encode())).status == status, f"{path}: not refused by its header")


def test_old_streams():
    """To HTTP/1.0 a stream goes as it is, until the end of the connection."""
    with Server() as server:
        body = json.dumps(completion(stream=True)).encode()
        answer = server.raw(b"POST /v1/completions HTTP/1.0\r\nHost: 127.1\r\nContent-Type: application/json\r\n"
                            b"Content-Length: %d\r\n\r\n%b" % (len(body), body))
        check(b"chunked" not in answer and len(events_of(answer.partition(b"\r\n\r\n")[2])) == 8, f"{answer[:300]}")


def test_many_connections():
    """An address has its share, and files that run out end connections, not the server."""
    with Server() as server:
        held = [server.connect() for _ in range(256)]
        check(server.raw(AGAIN) == b"", "a 257th connection")
        held.pop().close()
        # A connection that comes before the server has seen the other one leave is reset.
        soon(lambda: server.raw(ONCE).startswith(b"HTTP/1.1 200"), "after one has gone")
        for connection in held:
            connection.close()
    with Server(before=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (40, 40))) as server:
        held = [server.connect() for _ in range(60)]
        time.sleep(0.2)
        spent = server.processor_time()
        time.sleep(0.3)
        check(server.processor_time() - spent < 0.1, "it spins without files")
        for connection in held:
            connection.close()
        soon(lambda: server.raw(ONCE).startswith(b"HTTP/1.1 200"), "after files were free again")


def test_recorded_wires():
    """What clients that are not here send, as their sources have it: `vllm bench serve` at commit 02cfb534df56
    (endpoint_request_func of its benchmarks), text and chat. Each chunk with choices counts as a token there."""
    usage = {"stream": True, "stream_options": {"include_usage": True}, "ignore_eos": True}
    with Server() as server:
        for path, body in (
                (TEXT, {"model": "tiny-llama", "prompt": "Hello", "repetition_penalty": 1.0, "max_tokens": 12,
                        "logprobs": None, **usage}),
                (CHAT, {"model": "tiny-llama", "max_completion_tokens": 12, **usage,
                        "messages": [{"role": "user", "content": [{"type": "text", "text": "Hello"}]}]})):
            events = server.stream(path, body)
            check(sum(bool(event["choices"]) for event in events) == 12 == events[-1]["usage"]["completion_tokens"],
                  f"{path}: {len(events)} events")


def test_open_webui():
    """What Open WebUI sends, as the sources in its package open-webui 0.6.15 have it: the list of models, a chat with
    the settings that it knows of, the request for a chat's title. Its own keys of a body never leave it. Without a key
    it sends the word that one would stand behind."""
    settings = {"temperature": 0.8, "top_p": 0.9, "min_p": 0.0, "max_tokens": 12, "frequency_penalty": 0.5,
                "presence_penalty": 0.0, "seed": 7, "stop": ["\n\n\n"]}
    asked = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hello"},
             {"role": "assistant", "content": "Hi"}, {"role": "user", "content": [{"type": "text", "text": "Again"}]}]
    fields = {"Authorization": "Bearer ", "Accept": "*/*", "Accept-Encoding": "gzip, deflate",
              "User-Agent": "Python/3.11 aiohttp/3.11.11"}
    with Server() as server:
        listed = server.works("/v1/models", Accept="*/*")["data"]
        check([one["id"] for one in listed] == ["tiny-llama"] and listed[0]["object"] == "model", f"{listed}")
        for more in ({}, settings, {"stream_options": {"include_usage": True}}):
            body = {"stream": True, "model": "tiny-llama", "messages": asked, "max_tokens": 12, **more}
            with server.open(CHAT, body, **fields) as connection:
                answer = Answer(read_all(connection))
            check(answer.fields.get("content-type", "").startswith("text/event-stream"), f"{more}: {answer.fields}")
            events = events_of(answer.body)
            check("".join(c["delta"]["content"] for e in events for c in e["choices"]), f"{more}: no text")
            check(("stream_options" in more) == bool(events[-1].get("usage")), f"{more}: usage")
        title = {"model": "tiny-llama", "messages": asked[1:2], "stream": False, "max_tokens": 100}
        with server.open(CHAT, title, **fields) as connection:
            answer = Answer(read_all(connection))
        check(answer.status == 200 and isinstance(answer.json["choices"][0]["message"]["content"], str), "a title")


# ---- Answers


def bodies():
    """Of every kind that differs in its choices."""
    yield CHAT, chat()
    yield CHAT, chat("Grüße, 世界 👋", max_tokens=40)
    yield CHAT, chat(n=3, temperature=0.7, top_p=0.9, seed=-5)
    yield CHAT, chat(logprobs=True, top_logprobs=3, max_tokens=20)
    yield CHAT, chat(temperature=0, stop=["e", " t"], max_tokens=60)
    yield CHAT, chat([{"type": "text", "text": "in"}, {"type": "text", "text": " parts"}])
    yield TEXT, completion(max_tokens=30, ignore_eos=True)
    yield TEXT, completion(max_tokens=30, ignore_eos=True, repetition_penalty=1.3, frequency_penalty=0.25)
    yield CHAT, chat(n=2, temperature=0.9, seed=3, presence_penalty=1.5, repetition_penalty=None)
    yield TEXT, completion(["one", "two", "three"], n=2)
    yield TEXT, completion([[1, 2, 3], [4, 5]], logprobs=2)
    yield TEXT, completion("echo é", echo=True, logprobs=2, max_tokens=12)
    yield TEXT, completion("echo", echo=True, max_tokens=0)
    yield TEXT, completion("echo", echo=True, logprobs=1, max_tokens=0)
    yield TEXT, completion("stop", stop_token_ids=list(range(60, 76)), max_tokens=200, ignore_eos=True)
    yield TEXT, completion("x" * 400, max_tokens=400)  # to the end of the context
    for policies in ([{"name": "p"}], [{"name": "q", "scale": 0.5}, {"name": "p", "scale": -1}], []):
        yield CHAT, chat("steered", steering={"policies": policies}, max_tokens=20)
        yield TEXT, completion("steered", steering={"policies": policies, "when": "generation"})
    yield CHAT, chat("unsteered", steering=False)


def test_same_as_batch():
    """The same choices whole, streamed, and from `trimtab batch`, one at a time and all at once."""
    make_policy("p.st", "gate.b=3")
    make_policy("q.st", "trimtab.when=generation")
    policies = ("--policy", "p=p.st", "--policy", "q=q.st")
    asked = list(bodies())
    write_lines("in.jsonl", [{"custom_id": str(i), "method": "POST", "url": path, "body": body}
                             for i, (path, body) in enumerate(asked)])
    works("-i", "in.jsonl", "-o", "out.jsonl", *policies)
    wanted = [row["response"]["body"] for row in read_rows("out.jsonl")]
    with Server(*policies) as server:
        def same(i):
            path, body = asked[i]
            # A batch steers by what a body names alone; a server by all, if it names nothing.
            body = {"steering": False, **body}
            whole = server.works(path, body)
            check(without_extras(whole["choices"]) == without_extras(wanted[i]["choices"]),
                  f"whole: {body}: {whole['choices']}\n{wanted[i]['choices']}")
            check(whole["usage"] == wanted[i]["usage"], f"usage: {body}: {whole['usage']} {wanted[i]['usage']}")
            for entry, other in zip(whole["steering"] or [], wanted[i]["steering"] or [], strict=True):
                check(all(entry[key] == other[key] for key in other), f"steering: {entry} {other}")
            events = server.stream(path, {**body, "stream_options": {"include_usage": True}})
            check(put_together(events) == without_extras(wanted[i]["choices"]),
                  f"streamed: {body}: {put_together(events)}\n{wanted[i]['choices']}")
            check(events[-1]["usage"] == whole["usage"] and not events[-1]["choices"], f"usage: {events[-1]}")
            check(all(event["usage"] is None for event in events[:-1]), "usage before the end")
            n_generated = max(whole["usage"]["completion_tokens"], len(whole["choices"]))
            check(len(events) - 1 == n_generated or body["max_tokens"] == 0,
                  f"{len(events) - 1} events for {n_generated} tokens")
            check(events[0]["steering"] == whole["steering"] and events[0]["seed"] == whole["seed"], "facts")
        for i in range(len(asked)):
            same(i)
        together(*[functools.partial(same, i % len(asked)) for i in range(3 * len(asked))])


def test_tokens():
    with Server() as server:
        text = "Grüße, 世界"
        got = server.works("/tokenize", {"prompt": text})
        done = run("-p", text, command="tokenize")
        check(got["count"] == len(got["tokens"]) and got["max_model_len"] == 512, f"{got}")
        check(got["tokens"] == json.loads(done.stdout), f"{got} {done.stdout}")
        check(server.works("/tokenize", {"content": text})["tokens"] == got["tokens"], "content")
        check(server.works("/detokenize", {"tokens": got["tokens"]})["prompt"] == text, "and back")
        spelt = server.works("/tokenize", {"prompt": "ab", "return_token_strs": True})
        check("".join(spelt["token_strs"]).endswith("ab"), f"{spelt}")
        asked = server.works("/tokenize", {"messages": chat()["messages"]})
        check(asked["count"] == server.works(CHAT, chat())["usage"]["prompt_tokens"], "messages")
        server.refuses(404, None, "/tokenizer_info")
        for param, path, body in (("prompt", "/tokenize", {}), ("prompt", "/tokenize", {"prompt": 1}),
                                  (None, "/tokenize", {"surprise": 1}), ("messages", "/tokenize", {"messages": 1}),
                                  ("tokens", "/detokenize", {"tokens": "1"}), (None, "/tokenize", b"["),
                                  ("tokens", "/detokenize", {"tokens": [-1]}),
                                  ("tokens", "/detokenize", {"tokens": [1 << 40]})):
            server.refuses(400, param, path, body)


def test_tokenizer_info():
    with Server("--tokenizer-info") as server:
        told = server.works("/tokenizer_info")
        check(set(told) == {"eos_token", "bos_token", "chat_template"}, f"{told}")
        check("message" in told["chat_template"], f"{told}")


def test_list_policies():
    make_policy("p.st", "gate.b=3")
    make_policy("q.st")
    with Server("--policy", "p=p.st", "--policy", "q=q.st", "--served-model-name", "m", "--served-model-name", "n",
                "--list-policies") as server:
        listed = server.works("/v1/models")["data"]
        check([entry["id"] for entry in listed] == ["m", "m:p", "m:q"], f"{listed}")
        check(server.works("/v1/models/m:p") == listed[1] | {"parent": "m"}, f"{listed[1]}")
        for name, policies in (("m", ["p", "q"]), ("m:p", ["p"]), ("n:q", ["q"]), ("tiny-llama:q", ["q"])):
            answer = server.works(CHAT, chat(model=name))
            check([entry["policy"] for entry in answer["steering"]] == policies, f"{name}: {answer['steering']}")
        for name in ("m:", "m:r", "x:p", ":p", "m:p:q"):
            server.refuses(404, "model", CHAT, chat(model=name))
            server.refuses(404, "model", f"/v1/models/{name}")
        server.refuses(400, "steering", CHAT, chat(model="m:p", steering={"policies": []}))
    # A name that holds a colon is that model, whatever policies there are.
    with Server("--policy", "p=p.st", "--policy", "q=q.st", "--served-model-name", "m", "--served-model-name", "m:x",
                "--served-model-name", "m:p", "--list-policies") as server:
        for name in ("m:x", "m:p"):
            answer = server.works(CHAT, chat(model=name))
            check([entry["policy"] for entry in answer["steering"]] == ["p", "q"], f"{name}: {answer['steering']}")


def test_facts():
    make_policy("p.st", "gate.b=3")
    make_policy("q.st")
    with Server("--policy", "p=p.st", "--policy", "q=q.st") as server:
        told = server.works("/v1/steering")["policies"]
        versions = {entry["name"]: entry["version"] for entry in told}
        check(len(versions) == 2 and all(len(version) == 64 for version in versions.values()), f"{told}")
        # Both stand where a body says nothing, and null is nothing.
        for body in (chat(), chat(steering=None)):
            facts = server.works(CHAT, body)["steering"]
            check([entry["policy"] for entry in facts] == ["p", "q"], f"the standing policies: {facts}")
            for entry in facts:
                check(entry["version"] == versions[entry["policy"]] and entry["scale"] == 1 and entry["s"] == 1 and
                      entry["coef"] and entry["killed"] is False and "threshold" in entry, f"facts: {entry}")
        whole = server.works(CHAT, chat())
        check(server.works(CHAT, chat(steering=False))["steering"] is None, "unsteered")
        named = {"policies": [{"name": "p"}, {"name": "q", "version": versions["q"][:12]}]}
        check(server.works(CHAT, chat(steering=named))["choices"] == whole["choices"], "the standing, named")
        # A seed that is not given is told, and gives the same again.
        free = chat(max_tokens=30)
        del free["seed"]
        first = server.works(CHAT, free)
        again = server.works(CHAT, {**free, "seed": first["seed"]})
        check(first["choices"] == again["choices"] and first["seed"] == again["seed"], "the seed that was drawn")
        check(server.works(CHAT, free)["seed"] != first["seed"], "two seeds are the same")
        # Usage with each event.
        events = server.stream(TEXT, completion(stream_options={"continuous_usage_stats": True}))
        counts = [event["usage"]["completion_tokens"] for event in events]
        check(counts == list(range(1, len(events) + 1)), f"continuous usage: {counts}")


def test_shadow():
    """A shadow's gate speaks, and the answer is as without it."""
    make_policy("p.st", "gate.b=3")
    make_policy("q.st")
    with Server("--policy", "q=q.st") as server:
        alone = server.works(CHAT, chat(max_tokens=20))
    with Server("--policy", "p=p.st", "--policy", "q=q.st", "--shadow", "p", "--served-model-name", "a/b",
                "--served-model-name", "c", "--list-policies") as server:
        # Nobody can have a shadow steer.
        check([one["id"] for one in server.works("/v1/models")["data"]] == ["a/b", "a/b:q"], "models")
        server.refuses(404, "model", "/v1/models/a/b:p")
        check([one["name"] for one in server.works("/v1/steering")["policies"]] == ["q"], "policies")
        whole = server.works(CHAT, chat(max_tokens=20, model="c"))
        check(whole["choices"] == alone["choices"] and whole["steering"] == alone["steering"], f"{whole}")
        shadow, = whole["shadow"]
        check(shadow["policy"] == "p" and shadow["scale"] == 0 and shadow["s"] == 1 and shadow["gate"] > 0.9 and
              not shadow["coef"], f"{shadow}")
        check(server.stream(CHAT, chat())[0]["shadow"] == [shadow], "of a stream")
        free = server.works(CHAT, chat(steering=False))
        check(free["steering"] is None and free["shadow"] == [shadow], f"{free}")
        server.refuses(400, "steering.policies", CHAT, chat(steering={"policies": [{"name": "q"}] * 4}))
        check(whole["model"] == "a/b" == server.works("/v1/models")["data"][0]["id"], "the name that is served")
        server.works("/v1/models/a/b")
        server.works(CHAT, chat(model="tiny-llama"))
        server.refuses(404, "model", CHAT, chat(model="a"))
        check(any("trimtab_steer_shadow_total" in name and value == 4 for name, value in server.metrics().items()),
              "shadows are counted")


def test_keys():
    secrets = {"one": "tt_" + "1" * 64, "two": "tt_" + "2" * 64}

    def write(names):
        write_text("keys", "# who may ask\n\n" + "".join(
            f"{name} {hashlib.sha256(secrets[name].encode()).hexdigest()}  A Person\n" for name in names))
    write(["one"])
    with Server("--keys", "keys") as server:
        def asks(key, status, path=CHAT, body=None):
            fields = {"Authorization": key} if key is not None else {}
            got, answer = server.ask(path, body or chat(), **fields) if path == CHAT else server.ask(path, **fields)
            check(got == status, f"{key} {path}: not {status} but {got} {answer}")
        for key in (None, "", "Bearer", "Bearer ", "Bearer x", secrets["one"], f"Basic {secrets['one']}",
                    f"Bearer {secrets['one']}x", f"Bearer {secrets['two']}", f"Bearer {secrets['one'][:-1]}",
                    "Bearer " + hashlib.sha256(secrets["one"].encode()).hexdigest()):
            asks(key, 401)
        asks(f"Bearer {secrets['one']}", 200)
        asks(f"bearer {secrets['one']}", 200)
        for path in ("/v1/models", "/v1/steering", "/nothing"):
            asks(None, 401, path)
        asks(f"Bearer {secrets['one']}", 404, "/nothing")
        for path in ("/health", "/health/live", "/ready", "/version"):
            asks(None, 200, path)
        # One comes, one goes; a file that is wrong changes nothing.
        write(["two"])
        server.signal(signal.SIGHUP)
        soon(lambda: server.ask("/v1/models", Authorization=f"Bearer {secrets['two']}")[0] == 200, "a new key")
        asks(f"Bearer {secrets['one']}", 401)
        write_text("keys", "one two\n")
        server.signal(signal.SIGHUP)
        time.sleep(0.1)
        asks(f"Bearer {secrets['two']}", 200)
    # A share of requests for each.
    write(["one", "two"])
    with Server("--keys", "keys", "--key-requests", "2", "--max-batch", "1") as server:
        one, two = ({"Authorization": f"Bearer {secrets[name]}"} for name in ("one", "two"))
        held = [server.open(TEXT, completion(**LONG, stream=True), **one) for _ in range(2)]
        for connection in held:
            read_until(connection, b"data: ")
        check(server.refuses(429, None, TEXT, completion(), **one)["code"] == "key_busy", "a key's share")
        server.works(TEXT, completion(), **two)
        held.pop().close()
        soon(lambda: server.ask(TEXT, completion(), **one)[0] == 200, "after one has gone")
        held.pop().close()
    digest = "a" * 64
    for pattern, text in (("keys:1: not a key's", "id"), ("keys:2: not a key's", f"\nid {digest[:-1]} person"),
                          ("keys:1: not a key's", f"id {digest}"), ("keys:1: not a key's", f"id {digest[:-1]}g p"),
                          ("keys:2: an earlier", f"a {digest} p\na {'b' * 64} p"),
                          ("keys:2: an earlier", f"a {digest} p\nb {digest} p")):
        write_text("keys", text)
        refused(1, pattern, "--port", "0", "--admin-port", "0", "--keys", "keys")


def write_text(path, text):
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)


def test_wrong_bodies():
    make_policy("p.st")
    with Server("--policy", "p=p.st") as server:
        def steering(value):
            return chat(steering=value)

        def policy(**keys):
            return steering({"policies": [{"name": "p"}, {"name": "p", **keys}]})
        for param, body in (
                ("steering", steering(True)), ("steering", steering("p")), ("steering", steering([])),
                ("steering", steering(0)), ("steering", steering({"policies": [], "path": "/p.st"})),
                ("steering.policies", steering({})), ("steering.policies", steering({"policies": "p"})),
                ("steering.policies", steering({"policies": [{"name": "p"}] * 5})),
                ("steering.policies[0]", steering({"policies": ["p"]})),
                ("steering.policies[0]", steering({"policies": [None]})),
                ("steering.policies[0].name", steering({"policies": [{}]})),
                ("steering.policies[0].name", steering({"policies": [{"name": 1}]})),
                ("steering.policies[1]", policy(vector=[1, 2])),
                ("steering.policies[1].label", policy(label="production")),
                ("steering.policies[1].name", policy(name="q")), ("steering.policies[1].name", policy(name="../p")),
                ("steering.policies[1].name", policy(name="")),
                ("steering.policies[1].scale", policy(scale="1")), ("steering.policies[1].scale", policy(scale=1e7)),
                ("steering.policies[1].version", policy(version="0" * 64)),
                ("steering.policies[1].version", policy(version="")),
                ("steering.policies[1].version", policy(version=1)),
                ("steering.when", steering({"policies": [], "when": "never"})),
                ("temperature", chat(temperature=-1)), ("temperature", chat(temperature="0")),
                ("top_p", chat(top_p=2)), ("min_p", chat(min_p=-1)), ("top_k", chat(top_k=-2)), ("n", chat(n=0)),
                ("seed", chat(seed=1.5)), ("max_tokens", chat(max_tokens=0)), ("stop", chat(stop=["a"] * 5)),
                ("stop", chat(stop="")), ("stop_token_ids", chat(stop_token_ids=["a"])),
                ("stop_token_ids", chat(stop_token_ids=list(range(17)))), ("timeout", chat(timeout=-1)),
                ("stream", chat(stream=1)), ("stream_options", chat(stream_options={"include_usage": True})),
                ("stream_options", chat(stream=True, stream_options={"include": True})),
                ("messages", chat(messages=[])), ("messages", chat(messages=[{"role": "user"}])),
                ("messages", chat(messages=[{"role": "user", "content": "x", "type": "image"}])),
                ("surprise", chat(surprise=1)), ("tools", chat(tools=[{}])),
                ("repetition_penalty", chat(repetition_penalty=0)), ("min_tokens", chat(min_tokens=1)),
                ("response_format", chat(response_format={"type": "json_object"}))):
            for streams in ({}, {"stream": True}) if not param.startswith("stream") else ({},):
                server.refuses(400, param, CHAT, {**body, **streams})
        check(server.refuses(400, "surprise", CHAT, chat(surprise=1))["code"] == "unknown_parameter", "unknown")
        check(server.refuses(404, "model", CHAT, chat(model="gpt"))["code"] == "model_not_found", "the model")
        check(server.refuses(400, None, TEXT, completion([1] * 600))["code"] == "context_length_exceeded", "context")
        for text in (b"", b"{", b"[]", b"1", b"nul", b"\xff", b"{}{}", b'{"a": 1, "a": 2}', b"[" * 65, b'{"a":' * 70,
                     b'{"messages": "\\ud800"}'):
            server.refuses(400, None, CHAT, text)
        for body in (chat(repetition_penalty=1.0, stop=None, logprobs=None, stream=None, min_tokens=0, user="u",
                          skip_special_tokens=True, messages=[{"role": "user", "content": "x", "type": "text"}]),):
            server.works(CHAT, body)


def test_scales():
    """The command line's scale is that of requests that say nothing; those that name a policy say their own."""
    make_policy("p.st")
    with Server("--policy", "p.st:0.5", "--policy", "q=p.st:-1") as server:
        stands = server.works(CHAT, chat())
        check([(entry["policy"], entry["scale"]) for entry in stands["steering"]] == [("p.st", .5), ("q", -1)],
              f"{stands['steering']}")
        named = {"policies": [{"name": "p.st", "scale": 0.5}, {"name": "q", "scale": -1}]}
        check(server.works(CHAT, chat(steering=named))["choices"] == stands["choices"], "the same by name")
        one = server.works(CHAT, chat(steering={"policies": [{"name": "p.st"}]}))["steering"]
        check(one[0]["scale"] == 1, f"{one}")


def test_lenient():
    """Unknown keys are passed over and named; what is known is as strict as ever, and so is steering."""
    make_policy("p.st")
    with Server("--lenient", "--policy", "p=p.st") as server:
        for streams in (False, True):
            odd = {"chat_id": 1, "bad\r\nX: y": 2, "x" * 300: 3, "features": {}}
            with server.open(CHAT, {**chat(stream=streams), **odd}) as connection:
                answer = Answer(read_all(connection))
            told = answer.fields.get("x-trimtab-ignored", "")
            check(answer.status == 200 and {"chat_id", "features", "bad?"} == set(told.split(", ")) and
                  "x" not in answer.fields, f"{answer.fields}")
        server.refuses(400, "steering", CHAT, chat(steering={"policies": [], "odd": 1}))
        server.refuses(400, "tools", CHAT, chat(tools=[{}]))
        with server.open(CHAT, chat()) as connection:
            check("x-trimtab-ignored" not in Answer(read_all(connection)).fields, "nothing was ignored")


# ---- Those who go away, and the end


def test_disconnect():
    with Server("--max-batch", "1") as server:
        def free(what):
            begun = time.monotonic()
            server.works(TEXT, completion(max_tokens=1))
            check(time.monotonic() - begun < 5, f"{what}: the engine was busy for {time.monotonic() - begun:.1f} s")
        for streams in (True, False):
            with server.open(TEXT, completion(**LONG, stream=streams)) as running:
                if streams:
                    read_until(running, b"data: ")
                else:
                    time.sleep(0.1)
                # One that waits, and goes first.
                with server.open(TEXT, completion(**LONG, stream=streams)):
                    time.sleep(0.1)
            free(f"a client that went away, streams: {streams}")
        # A reset, rather than a good end.
        with server.open(TEXT, completion(**LONG, stream=True)) as running:
            read_until(running, b"data: ")
            running.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        free("a reset")


def test_timeout():
    with Server("--max-batch", "1") as server:
        error = server.refuses(504, None, TEXT, completion(**LONG, timeout=0.1))
        check(error["type"] == "server_error", f"{error}")
        # In a stream it is an event.
        events = server.stream(TEXT, completion(**LONG, timeout=0.3))
        check("error" in events[-1] and events[0]["choices"], f"{events[-1]}")


def test_metrics():
    make_policy("p.st", "gate.b=3")
    make_policy("q.st", "gate.b=-3")
    with Server("--policy", "p=p.st", "--policy", "q=q.st") as server:
        before = server.metrics()
        check(before['vllm:generation_tokens_total{model_name="tiny-llama",engine="0"}'] == 0, "zeros at the start")
        for streams in (False, True):
            with server.open(TEXT, completion(["a b", "b c"], n=2, max_tokens=5, stream=streams,
                                              ignore_eos=True)) as connection:
                read_all(connection)
        n_tokens = 40 + sum(server.works(CHAT, chat(steering=value))["usage"]["completion_tokens"]
                            for value in ({"policies": [{"name": "p", "scale": 0}]}, False))
        server.refuses(404, None, "/nothing")
        with server.open(TEXT, completion(**{**LONG, "n": 1}, stream=True)) as connection:
            read_until(connection, b"data: ")
        soon(lambda: server.metrics()['vllm:num_requests_running{model_name="tiny-llama",engine="0"}'] == 0,
             "a cancelled request runs")
        got = server.metrics()

        def of(name, labels=""):
            key = f'vllm:{name}{{model_name="tiny-llama",engine="0"{labels and "," + labels}}}'
            return got[key]
        ends = {reason: of("request_success_total", f'finished_reason="{reason}"')
                for reason in ("stop", "length", "abort", "error")}
        check(ends["length"] + ends["stop"] == 10 and ends["abort"] == 1 and ends["error"] == 0, f"{ends}")
        check(of("request_generation_tokens_sum") == n_tokens < of("generation_tokens_total"), "tokens")
        check(of("request_params_n_count") == 5 and of("request_params_n_sum") == 7, "n")
        for name in ("e2e_request_latency_seconds", "request_queue_time_seconds", "request_prefill_time_seconds",
                     "request_decode_time_seconds", "request_inference_time_seconds", "request_prompt_tokens",
                     "request_generation_tokens", "request_params_max_tokens",
                     "request_time_per_output_token_seconds", "request_max_num_generation_tokens"):
            check(of(f"{name}_count") == 10 == of(f"{name}_bucket", 'le="+Inf"'), f"{name}: {of(f'{name}_count')}")
        check(of("time_to_first_token_seconds_count") == 11, "first tokens")
        check(of("inter_token_latency_seconds_count") == of("generation_tokens_total") - 11 ==
              of("time_per_output_token_seconds_count"), "between tokens")
        check(of("request_prompt_tokens_sum") >= 10 and of("iteration_tokens_total_count") > 5, "prompts and steps")
        check(0 < of("e2e_request_latency_seconds_sum") < 100, "times")
        for name in ("num_requests_waiting", "kv_cache_usage_perc", "gpu_cache_usage_perc", "num_preemptions_total",
                     "prefix_cache_queries_total", "prefix_cache_hits_total"):
            of(name)
        outcomes = {}
        for key, value in got.items():
            if key.startswith("trimtab_steer_requests_total"):
                outcomes[re.search('policy="(.)"', key)[1], re.search('outcome="([a-z]*)"', key)[1]] = value
        check(outcomes[("p", "acted")] == 9 and outcomes[("p", "off")] == 1 and outcomes[("p", "closed")] == 0 and
              outcomes[("q", "closed")] == 9 and outcomes[("q", "acted")] == 0, f"{outcomes}")
        check(got['trimtab_http_refused_total{reason="404"}'] == 1 and got["process_open_fds"] > 5, "own")
        # Not for clients, unless they may; and not by another site's name.
        server.refuses(404, None, "/metrics")
        server.refuses(404, None, CHAT, chat(), port=server.admin_port)
        server.refuses(403, None, "/metrics", port=server.admin_port, Host="example.org:8001")
        server.works("/health", port=server.admin_port, Host="localhost:8001")
        server.works("/health", port=server.admin_port, Host="[::1]:1")
    with Server("--public-metrics") as server:
        check(b"vllm:" in server.works("/metrics"), "public metrics")


def test_routers():
    """What replicas are compared and chosen by."""
    def facts(*arguments):
        with Server(*arguments) as server:
            got = server.metrics()
            found = [re.fullmatch('trimtab_policy_set_info{sha256="([0-9a-f]{64})"}', name) for name in got]
            name = [match[1] for match in found if match]
            answers = [Answer(read_all(server.open(TEXT, completion(max_tokens=1, stream=streams))))
                       for streams in (False, True)]
            check(all([answer.fields["x-trimtab-policy-set"]] == name for answer in answers), f"{name}: {answers}")
            check(got["trimtab_ranks"] == 1, "ranks")
            return name[0], next(key for key in got if key.startswith("vllm:lora_requests_info")), \
                next(key for key in got if key.startswith("vllm:cache_config_info"))

    make_policy("p.st", "gate.b=3")
    make_policy("q.st", "gate.b=-3")
    sets = [facts(*arguments)[0] for arguments in
            (["--policy", "p=p.st"], ["--policy", "p=p.st:0.5"], ["--policy", "r=p.st"], ["--policy", "p=q.st"],
             ["--policy", "p=p.st", "--shadow", "p"], ["--policy", "p=p.st", "--policy", "q=q.st"],
             ["--policy", "q=q.st", "--policy", "p=p.st"], [])]
    check(len(set(sets)) == len(sets), f"two are one: {sets}")
    again, adapters, pages = facts("--policy", "p=p.st", "--policy", "q=q.st", "--max-batch", "2")
    check(again == sets[5], "the same policies are another set")
    check('max_lora="2",running_lora_adapters="p,q",waiting_lora_adapters=""' in adapters, adapters)
    check(re.search('block_size="16",num_gpu_blocks="[1-9][0-9]*"', pages), pages)


def test_ping():
    """A stream that waits for long has its status before its first token."""
    # 128 rows at once, which all end together: with 8 a fast machine had a place free in less than the ping's time.
    with Server("--max-batch", "128", "--ping-seconds", "0.05") as server:
        before = [server.open(TEXT, completion(**LONG)) for _ in range(4)]
        time.sleep(0.05)
        with server.open(TEXT, completion(stream=True)) as waiting:
            head = read_until(waiting, b": ping\n\n")
            check(head.startswith(b"HTTP/1.1 200 OK") and b"data:" not in head, f"{head}")
            for connection in before:
                connection.close()
            head, _, body = (head + read_all(waiting)).partition(b"\r\n\r\n")
            check(len(events_of(dechunk(body))) == 8, "events after a ping")


def test_usage():
    make_policy("p.st")
    for status, pattern, arguments in (
            (2, "--policy", ("--policy", "p=")), (1, "reached from outside", ("--host", "0.0.0.0")),
            (1, "reached from outside", ("--host", "::")), (1, "is no address", ("--host", "example.org")),
            (1, "no name", ("--policy", "a b=p.st")), (1, "two policies", ("--policy", "p=p.st", "--policy", "p=p.st")),
            (1, "there is no --policy", ("--policy", "p=p.st", "--shadow", "q")),
            (1, "nowhere", ("--keys", "nowhere")),
            (1, "at most 4", [argument for i in range(5) for argument in ("--policy", f"p{i}=p.st")])):
        refused(status, pattern, "--port", "0", "--admin-port", "0", *arguments)
    for number in ("", "x", "2", "3x", "99"):
        refused(1, "fd:", "--host", f"fd:{number}", "--admin-port", "0")
    with Server("--host", "localhost") as server:
        refused(1, "address already in use", "--port", server.port, "--admin-port", "0")


program.main_with_server(globals(), sys.argv[3:])
