#!/usr/bin/env python3
"""HAProxy, by deploy/haproxy/haproxy.cfg as it is, before three replicas of `trimtab serve` on a CPU.

    rolling_restart.py TRIMTAB GOLDEN [TEST]..

How many tokens of prompts are found in pages, beside one replica; restarts of all three, one after the other, under 200
and more streams, of which none may fail or differ from what one server says; and how long a server takes to end. The
model is the tests' tiny one."""

import concurrent.futures
import contextlib
import os
import socket
import subprocess
import sys
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "tests", "cli"))
# pylint: disable=wrong-import-position
import program
from program import check
from serve_client import Answer, Server, events_of, read_all, read_until, soon

CONFIGURATION = os.path.join(program.here, "..", "..", "deploy", "haproxy", "haproxy.cfg")
CHAT, TEXT = "/v1/chat/completions", "/v1/completions"
NAMES = ["one", "two", "three"]
N_REQUESTS, N_BEGINNINGS, N_CLIENTS = 200, 20, 24
RUNNING = 'vllm:num_requests_running{model_name="tiny-llama",engine="0"}'
DRAIN = 60  # seconds; nothing here takes as long
OPTIONS = ["--behind-proxy", "--threads", "1", "--drain-seconds", str(DRAIN)]


def requests(n=N_REQUESTS):
    """Chats and texts, since each has its way to a key, that begin in twenty ways in turn."""
    made = []
    for i in range(n):
        first = f"{i % N_BEGINNINGS} is the number of this case. " + "All of it is known before. " * 6
        body = {"seed": i, "temperature": 1, "max_tokens": 64, "ignore_eos": True}
        if i % 2:
            body["messages"] = [{"role": "system", "content": first}, {"role": "user", "content": f"Question {i}?"}]
        else:
            body["prompt"] = first
        made.append((CHAT if i % 2 else TEXT, body))
    return made


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


def text_of(events):
    return "".join(choice["delta"]["content"] if "delta" in choice else choice["text"]
                   for event in events for choice in event["choices"])


class Proxy:
    """HAProxy before these ports; `client` is any server, for its way to speak HTTP."""

    def __init__(self, ports, client):
        self.port, self.client = free_port(), client
        self.socket = os.path.abspath("admin.sock")
        addresses = {f"TRIMTAB_{name.upper()}": f"127.0.0.1:{port}" for name, port in zip(NAMES, ports)}
        self.process = subprocess.Popen(
            ["haproxy", "-f", CONFIGURATION], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            env=os.environ | addresses | {"TRIMTAB_BIND": f"127.0.0.1:{self.port}", "TRIMTAB_ADMIN": self.socket})
        soon(lambda: all(self.state(name) == "UP" for name in NAMES), "HAProxy finds no replica")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait()

    def tell(self, command):
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(self.socket)
            connection.sendall(command.encode() + b"\n")
            return read_all(connection).decode()

    def stat(self, name, field):
        """Of a replica, or of BACKEND, from HAProxy's table."""
        rows = [line.split(",") for line in self.tell("show stat").lstrip("# ").splitlines()]
        found = [row for row in rows if row[:2] == ["replicas", name]]
        return found[0][rows[0].index(field)]

    def state(self, name):
        try:
            return self.stat(name, "status").split()[0]
        except (OSError, IndexError):
            return None

    def stream(self, path, body):
        """The text, or None and why."""
        try:
            with self.client.open(path, {**body, "stream": True}, port=self.port) as connection:
                answer = Answer(read_all(connection))
            if answer.status != 200:
                return None, f"{answer.status} {answer.body[:200]}"
            events = events_of(answer.body)
            errors = [event for event in events if "error" in event]
            return (None, str(errors)) if errors else (text_of(events), None)
        except (OSError, ValueError) as error:
            return None, repr(error)


def ask_all(ask, made):
    with concurrent.futures.ThreadPoolExecutor(N_CLIENTS) as pool:
        return list(pool.map(lambda request: ask(*request), made))


def hits(servers):
    metrics = [server.metrics() for server in servers]
    return [sum(value for m in metrics for name, value in m.items() if name.startswith(f"vllm:prefix_cache_{what}"))
            for what in ("hits_total", "queries_total")]


def replicas(ports):
    return [Server(*OPTIONS, "--port", port) for port in ports]


def alone(n=N_REQUESTS):
    """What one replica says to each request, and the tokens that it found in pages, of how many."""
    with Server(*OPTIONS) as server:
        said = ask_all(lambda path, body: text_of(server.stream(path, body)), requests(n))
        return said, hits([server])


def test_hits():
    """Tokens of prompts that are found in pages, where the proxy has a key and where it has none."""
    said, (n_alone, n_asked) = alone(2 * N_REQUESTS)
    shares = {}
    for way in "the digest", "none, so that replicas take turns":
        servers = replicas([free_port() for _ in NAMES])
        with Proxy([server.port for server in servers], servers[0]) as proxy:
            made = requests(2 * N_REQUESTS)
            if way != "the digest":
                for i, (path, body) in enumerate(made):  # a list of ids has no key
                    tokens = servers[0].works("/tokenize", {"prompt": body["prompt"]} if path == TEXT else
                                              {"messages": body["messages"]})["tokens"]
                    made[i] = (TEXT, {**{k: v for k, v in body.items() if k != "messages"}, "prompt": tokens})
            answers = ask_all(proxy.stream, made)
            check([text for text, _ in answers] == said, f"{way}: {[why for _, why in answers if why][:3]}")
            n, n_here = hits(servers)
            loads = [int(proxy.stat(name, "stot")) for name in NAMES]
        check(n_here == n_asked, f"{n_here} tokens of prompts, alone {n_asked}")
        shares[way] = n / n_alone
        print(f"a key of {way}: {n:.0f} of {n_here:.0f} tokens of prompts were found in pages, "
              f"{100 * shares[way]:.1f}% of what one replica found ({n_alone:.0f}); requests by replica: {loads}",
              flush=True)
        for server in servers:
            server.__exit__()
    check(shares["the digest"] >= 0.9, f"prefixes: {shares}")


def restart(proxy, server, name, drains):
    """A replica with one stream of its own, besides those that come through the proxy. The new one, the seconds from
    SIGTERM to the end of the old one, and how many requests that had then."""
    body = {"prompt": "Hello", "n": 8, "max_tokens": 450, "ignore_eos": True, "seed": 1, "stream": True}
    with server.open(TEXT, body) as connection:
        begun = read_until(connection, b"data: ")
        running = server.metrics()[RUNNING]
        if drains:
            proxy.tell(f"set server replicas/{name} state drain")
        server.signal()
        at = time.monotonic()
        events = events_of(Answer(begun + read_all(connection)).body)
        check(not any("error" in event for event in events), f"a stream that was there before: {events[-1]}")
        server.process.wait(timeout=DRAIN + 30)
    seconds = time.monotonic() - at
    server.ends()
    server = Server(*OPTIONS, "--port", server.port)
    if drains:
        proxy.tell(f"set server replicas/{name} state ready")
    soon(lambda: proxy.state(name) == "UP", f"{name} does not come back")
    return server, seconds, int(running)


def restart_all(proxy, servers, n_ended, drains):
    """One after the other, while requests end."""
    seconds, running = [], []
    for i, name in enumerate(NAMES):
        before = n_ended()
        soon(lambda before=before: n_ended() >= before + N_REQUESTS // 5, "no requests end")
        servers[i], took, n = restart(proxy, servers[i], name, drains)
        seconds.append(took)
        running.append(n)
    return seconds, running


def roll(said, drains):
    servers = replicas([free_port() for _ in NAMES])
    made, ended, failed, over = requests(), [], [], threading.Event()

    with Server(*OPTIONS) as client, Proxy([server.port for server in servers], client) as proxy:
        def load(number):
            i = number
            while not over.is_set() or len(ended) < N_REQUESTS:
                text, why = proxy.stream(*made[i % N_REQUESTS])
                if text != said[i % N_REQUESTS]:
                    failed.append(why or f"another text: {text}")
                ended.append(i)
                i += N_CLIENTS

        with concurrent.futures.ThreadPoolExecutor(N_CLIENTS) as pool:
            for number in range(N_CLIENTS):
                pool.submit(load, number)
            try:
                seconds, running = restart_all(proxy, servers, lambda: len(ended), drains)
            finally:
                over.set()
        tried_again = int(proxy.stat("BACKEND", "wretr")), int(proxy.stat("BACKEND", "wredis"))
    for server in servers:
        server.__exit__()
    way = "drained by HAProxy, then SIGTERM" if drains else "SIGTERM alone"
    print(f"{way}: {len(ended)} streams, {len(failed)} failed; running at SIGTERM {running}; from it "
          f"to the end {', '.join(f'{s:.2f}' for s in seconds)} s; {tried_again[0]} tried again, {tried_again[1]} by "
          f"another replica", flush=True)
    check(not failed, f"{way}: {failed[:3]}")
    check(len(ended) >= N_REQUESTS, f"{way}: {len(ended)} streams alone")
    check(max(seconds) < DRAIN + 5, f"{way}: {seconds}")


def test_restart():
    """Nobody notices."""
    said, _ = alone()
    for drains in True, False:
        roll(said, drains)


def test_end():
    """A server whose streams last longer than its drain ends 5 s later at most, and says so to them."""
    with Server("--threads", "1", "--drain-seconds", "1") as server, contextlib.ExitStack() as stack:
        body = {"prompt": "Hello", "n": 128, "max_tokens": 450, "ignore_eos": True, "seed": 1, "stream": True}
        connections = [stack.enter_context(server.open(TEXT, body)) for _ in range(4)]
        begun = read_until(connections[0], b"data: ")
        server.signal()
        at = time.monotonic()
        answer = Answer(begun + read_all(connections[0]))
        for connection in connections[1:]:
            read_all(connection)
        server.process.wait(timeout=60)
        seconds = time.monotonic() - at
        check(answer.status == 200 and b'"error"' in answer.body and answer.body.endswith(b"data: [DONE]\n\n"),
              f"a stream that is cut: {answer.status} {answer.body[-300:]}")
    print(f"a drain of 1 s, and more to say: from SIGTERM to the end {seconds:.2f} s", flush=True)
    check(1 <= seconds < 6, f"{seconds} s")


def main():
    program.main_with_server(globals(), sys.argv[3:])


main()
