#!/usr/bin/env python3
"""How `trimtab serve` ends, and another one takes its place: serve_end.py TRIMTAB GOLDEN [TEST]..."""

import json
import signal
import socket
import sys
import threading
import time

import program
from program import check
from serve_client import LONG, WAIT, Answer, Server, completion, read_all, read_until, soon
from serve_wire import AGAIN, POST

TEXT = "/v1/completions"


def test_drain():
    with Server("--max-batch", "2") as server:
        with server.open(TEXT, completion(max_tokens=450, ignore_eos=True, stream=True)) as running, \
                server.send(AGAIN) as idle:
            read_until(running, b"data: ")
            read_until(idle, b"}")
            server.signal()
            check(read_all(idle) == b"", "an idle connection stays")
            rest = read_all(running)
            check(b"[DONE]" in rest and b"error" not in rest, f"a drained stream: {rest[-300:]}")
        server.ends()
    with Server("--max-batch", "1", "--drain-seconds", "0.3") as server:
        with server.open(TEXT, completion(**LONG, stream=True)) as running, \
                server.open(TEXT, completion(**LONG)) as whole:
            read_until(running, b"data: ")
            server.signal()
            soon(lambda: server.ask("/health/ready")[0] == 503, "not ready")
            check(server.ask("/health/live")[0] == 200, "alive")
            check(server.refuses(503, None, TEXT, completion())["code"] == "draining", "no new work")
            check(server.begin(TEXT).startswith(b"HTTP/1.1 503"), "a body is asked for that will be refused")
            rest = read_all(running)
            check(b'"code":"draining"' in rest and b"[DONE]" in rest, f"cut at the end of draining: {rest[-300:]}")
            check(Answer(read_all(whole)).status == 503, "whole, at the end of draining")
        server.ends()
    with Server("--max-batch", "1") as server:
        with server.open(TEXT, completion(**LONG, stream=True)) as running:
            read_until(running, b"data: ")
            server.signal(signal.SIGINT)
            soon(lambda: server.ask("/health")[0] == 503, "draining by SIGINT")
            server.signal(signal.SIGINT)
            server.ends()


def test_drain_under_load():
    """Clients that come again and again do not keep a server from its end when all is answered."""
    for host in ((), ("--host", "unix:here.sock")):
        with Server("--max-batch", "2", "--behind-proxy", *host) as server:
            statuses, ended = [], []

            def send(body, by_path=bool(host), server=server):
                text = json.dumps(body).encode()
                connection = socket.socket(socket.AF_UNIX) if by_path else server.connect()
                if by_path:
                    connection.connect("here.sock")
                connection.sendall(POST + b"Connection: close\r\nContent-Length: %d\r\n\r\n%b" % (len(text), text))
                return connection

            def come_again(send=send, statuses=statuses, ended=ended):
                try:
                    while True:
                        with send(completion()) as connection:
                            statuses.append(Answer(read_all(connection)).status)
                except (ConnectionRefusedError, FileNotFoundError):  # nobody listens
                    ended.append(True)
                except (OSError, IndexError) as error:  # it was let in, and nothing was said
                    check(False, f"cut off at the end: {error!r}")
            with send(completion(max_tokens=450, ignore_eos=True, stream=True)) as running:
                read_until(running, b"data: ")
                threads = [threading.Thread(target=come_again) for _ in range(16)]
                for thread in threads:
                    thread.start()
                server.signal()
                check(b"[DONE]" in read_all(running), "a drained stream")
            server.ends()
            for thread in threads:
                thread.join()
            check(set(statuses) <= {200, 429, 503} and len(ended) == 16, f"{set(statuses)}")


def test_takeover():
    """A second server with the same listener takes over from the first: no request is refused or broken."""
    with socket.create_server(("127.0.0.1", 0), backlog=128) as listener:
        shared = ("--host", f"fd:{listener.fileno()}")
        statuses, ends = [], threading.Event()

        def ask(port):
            while not ends.is_set():
                with socket.create_connection(("127.0.0.1", port), timeout=WAIT) as connection:
                    body = json.dumps(completion(max_tokens=30, ignore_eos=True)).encode()
                    connection.sendall(POST + b"Connection: close\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))
                    statuses.append(Answer(read_all(connection)).status)
        first = Server(*shared, pass_fds=[listener.fileno()])
        with first.send(AGAIN[:5]) as early, first.open(TEXT, completion(**{**LONG, "n": 4}, stream=True)) as long, \
                Server(*shared, pass_fds=[listener.fileno()]) as second:
            read_until(long, b"data: ")
            first.signal()
            soon(lambda: first.ask("/health/ready", port=first.admin_port)[0] == 503, "the first is draining")
            before = sum(value for name, value in first.metrics().items() if "http_connections" in name)
            held = [second.send(AGAIN[:5]) for _ in range(20)]
            time.sleep(0.1)
            after = sum(value for name, value in first.metrics().items() if "http_connections" in name)
            check(after <= before, f"the first accepts still: {before}, then {after}")
            # What it had accepted is answered.
            early.sendall(AGAIN[5:])
            check(Answer(read_all(early)).status == 200, "a connection from before")
            for connection in held:
                connection.close()
        first.ends()
        first = Server(*shared, pass_fds=[listener.fileno()])
        with Server(*shared, pass_fds=[listener.fileno()]) as second:
            threads = [threading.Thread(target=ask, args=(second.port,)) for _ in range(16)]
            for thread in threads:
                thread.start()
            time.sleep(0.2)
            first.signal()
            first.ends()
            n = len(statuses)
            soon(lambda: len(statuses) > n, "the second answers")
            ends.set()
            for thread in threads:
                thread.join()
            check(set(statuses) == {200} and len(statuses) > n > 0, f"{len(statuses)} {set(statuses)}")


program.main_with_server(globals(), sys.argv[3:])
