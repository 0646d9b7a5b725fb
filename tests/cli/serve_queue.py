#!/usr/bin/env python3
"""Who waits at `trimtab serve`, who is told to come again, and who does not read: serve_queue.py TRIMTAB GOLDEN
[TEST]..."""

import json
import socket
import sys
import threading
import time

import program
from program import check
from serve_client import LONG, WAIT, Answer, Server, completion, dechunk, events_of, read_all, read_until, soon

CHAT, TEXT = "/v1/chat/completions", "/v1/completions"


def in_engine(server):
    """Requests that run, and that wait."""
    got = server.metrics()
    return tuple(got[f'vllm:num_requests_{what}{{model_name="tiny-llama",engine="0"}}'] for what in
                 ("running", "waiting"))


def by_path(body):
    """Asks by a socket of a path, whose buffers are small."""
    connection = socket.socket(socket.AF_UNIX)
    connection.settimeout(WAIT)
    connection.connect("here.sock")
    text = json.dumps(body).encode()
    connection.sendall(b"POST /v1/completions HTTP/1.1\r\nHost: here\r\nContent-Type: application/json\r\n"
                       b"Connection: close\r\nContent-Length: %d\r\n\r\n%b" % (len(text), text))
    return connection


def test_queue():
    """Of more than fit, some wait and the others are told to come again, by their headers; all is well afterwards."""
    with Server("--max-batch", "1") as server:
        # All at once, since a fast machine is done with some before it has heard of many; the last ones are refused.
        waiting = [server.open(TEXT, completion(**LONG)) for _ in range(40)]
        status, answer = 0, None
        for connection in reversed(waiting):
            connection.settimeout(0.3)
            try:
                answer = Answer(read_all(connection))
                status = answer.status
            except TimeoutError:
                pass
            if status == 429:
                break
        check(status == 429 and answer.json["error"]["code"] == "queue_full" and
              answer.fields.get("retry-after-ms"), f"a full queue: {status}")
        waiting += [server.open(TEXT, completion(**LONG)) for _ in range(8)]
        soon(lambda: sum(in_engine(server)) == 5, "the queue is full")
        for path in (TEXT, CHAT):
            check(server.begin(path).startswith(b"HTTP/1.1 429"), f"{path}: a body is asked for that will be refused")
        check(server.begin("/tokenize").startswith(b"HTTP/1.1 100"), "/tokenize needs no place in the queue")
        server.refuses(415, None, TEXT, completion(), Content_Type="text/plain")
        for connection in waiting:
            connection.close()
        soon(lambda: server.ask(TEXT, completion())[0] == 200, "after a full queue")


def test_queue_of_choices():
    """Bodies of many choices, which are submitted two at a time here, do not fill the queue beyond its end together,
    though their number is even and what was there is odd."""
    with Server("--max-batch", "2") as server:
        first = server.open(TEXT, completion(**{**LONG, "n": 1, "max_tokens": 500}))
        soon(lambda: sum(in_engine(server)) == 1, "the first one runs")
        asked = [server.open(TEXT, completion(**{**LONG, "n": 16})) for _ in range(40)]
        soon(lambda: sum(in_engine(server)) >= 10, "the queue is full")
        most = max(sum(in_engine(server)) for _ in range(20))
        check(most == 10, f"{most} are there, and two may run and eight wait")
        soon(lambda: server.metrics()['trimtab_http_refused_total{reason="429"}'] >= 30, "the others are refused")
        for connection in (first, *asked):
            connection.close()


def test_unread():
    """Streams that nobody reads keep nobody else out once the engine is done with them, and end at their deadline."""
    unread = {"n": 2, "max_tokens": 400, "ignore_eos": True, "logprobs": 20, "stream": True}
    with Server("--max-batch", "2", "--host", "unix:here.sock") as server:
        held = [by_path(completion(f"{i}", **unread)) for i in range(5)]
        for connection in held:
            connection.recv(1)
        soon(lambda: sum(in_engine(server)) == 0, "the engine is done")
        check(Answer(read_all(by_path(completion()))).status == 200, "streams that nobody reads fill the queue")
        # What was not read is still there.
        events = events_of(dechunk(read_all(held[0]).partition(b"\r\n\r\n")[2]))
        check(len(events) == 800, f"{len(events)} events came late")
        for connection in held:
            connection.close()
        with by_path(completion(**unread, timeout=2)) as late:
            late.recv(1)
            soon(lambda: server.works("/v1/admin/live", port=server.admin_port)["running_of"] == 0, "its deadline")
            rest = read_all(late)
            check(b'"code":"deadline"' in rest and b"[DONE]" in rest, f"not ended at its deadline: {rest[-300:]}")


def test_long_texts():
    """A text is read up to sixteen contexts, and one that cannot be that few tokens is not read at all."""
    most = 16 * 512
    with Server() as server:
        ids = server.works("/tokenize", {"prompt": "ab" * 100, "add_special_tokens": False})["tokens"]
        check(len(ids) < most, "a short text")
        check(len(server.works("/detokenize", {"tokens": [ids[0]] * most})["prompt"]) > 0, "as long as it may be")
        messages = [{"role": "user", "content": "é" * (8 * most)}]
        for param, path, body in (("tokens", "/detokenize", {"tokens": [ids[0]] * (most + 1)}),
                                  ("prompt", "/tokenize", {"prompt": "é世" * most}),
                                  ("content", "/tokenize", {"content": "x" * (16 * most)}),
                                  ("messages", "/tokenize", {"messages": messages})):
            error = server.refuses(400, param, path, body)
            check(error.get("code") == "context_length_exceeded" and "16 contexts" in error["message"], f"{error}")
        # Four at once: of many some are answered and the others told to come again, and none fails otherwise.
        body, statuses = {"prompt": "a b " * 2000}, []
        threads = [threading.Thread(target=lambda: statuses.append(server.ask("/tokenize", body)[0]))
                   for _ in range(64)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        check(len(statuses) == 64 and set(statuses) <= {200, 429} and 200 in statuses, f"{statuses}")
        server.works("/tokenize", {"prompt": "afterwards"})


def test_slow_reader():
    """A client that does not read does not hold up the others, nor does what it leaves unread grow without end."""
    with Server("--max-batch", "8") as server:
        before = server.memory()
        slow = server.open(TEXT, completion(**LONG, logprobs=20, stream=True))
        time.sleep(1)
        for _ in range(5):
            server.works(TEXT, completion(max_tokens=2))
        grown = server.memory() - before
        check(grown < 16 << 20, f"{grown >> 20} MiB for a client that does not read")
        slow.close()
        # One that reads late gets all of it.
        with server.open(TEXT, completion(n=16, max_tokens=100, ignore_eos=True, logprobs=20, stream=True)) as late:
            time.sleep(0.5)
            events = events_of(dechunk(read_all(late).partition(b"\r\n\r\n")[2]))
        check(len(events) == 1600, f"{len(events)} events came late")


program.main_with_server(globals(), sys.argv[3:])
