#!/usr/bin/env python3
"""TLS of `trimtab serve`, spoken with by Python's ssl and by `openssl s_client`, and by those who do not speak it:
serve_tls.py TRIMTAB GOLDEN [TEST]..."""

import contextlib
import ctypes
import ctypes.util
import hashlib
import hmac
import itertools
import json
import os
import random
import re
import signal
import socket
import ssl
import subprocess
import sys
import time

import program
from program import check
from serve_client import (WAIT, Answer, Server, dechunk, events_of, read_all, read_until, soon, without_extras)
from serve_wire import AGAIN, ANSWERED, BODY, N, ONCE, POST, REFUSED

CHAT, TEXT = "/v1/chat/completions", "/v1/completions"
LONG = {"prompt": "Hello", "seed": 1, "n": 128, "max_tokens": 450, "ignore_eos": True}
FILES = ("--tls-cert", "chain.pem", "--tls-key", "key.pem")


def make_certificate(name="localhost", kind=("ec", "-pkeyopt", "ec_paramgen_curve:P-256"), chain="chain.pem",
                     key="key.pem"):
    subprocess.run(["openssl", "req", "-x509", "-newkey", *kind, "-nodes", "-days", "2", "-subj", f"/CN={name}",
                    "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1", "-keyout", key, "-out", chain],
                   check=True, capture_output=True)


def client(**options):
    """A context that trusts the certificate at hand, and no other."""
    context = ssl.create_default_context(cafile="chain.pem")
    for name, value in options.items():
        setattr(context, name, value)
    return context


def serve(*arguments):
    return Server(*FILES, *arguments, tls=client())


def plain(server, data, port=None):
    """What comes back to bytes that are sent as they are, and how long it took until the end."""
    begun = time.monotonic()
    with socket.create_connection(("127.0.0.1", port or server.port), timeout=WAIT) as connection:
        answer = b""
        with contextlib.suppress(ConnectionResetError, BrokenPipeError):
            connection.sendall(data)
            answer = read_all(connection)
    return answer, time.monotonic() - begun


def is_alert(data):
    """Nothing but an alert that ends the connection, or nothing."""
    return data == b"" or (data[:1] == b"\x15" and len(data) == 7 and data[5:6] == b"\x02")


def s_client(server, *arguments, port=None, said=b"Q\n"):
    done = subprocess.run(["openssl", "s_client", "-connect", f"127.0.0.1:{port or server.port}",
                           "-CAfile", "chain.pem", *arguments],
                          input=said, capture_output=True, timeout=WAIT, check=False)
    return done.stdout.decode(errors="replace") + done.stderr.decode(errors="replace")


def in_memory(server):
    """A client whose records pass through the test's hands: its ssl object, what it sends and gets, and its socket."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    speaker = client().wrap_bio(to_client, to_server, server_hostname="localhost")
    connection = socket.create_connection(("127.0.0.1", server.port), timeout=WAIT)
    while True:
        try:
            speaker.do_handshake()
            connection.sendall(to_server.read())
            return speaker, to_server, to_client, connection
        except ssl.SSLWantReadError:
            connection.sendall(to_server.read())
            to_client.write(connection.recv(1 << 16))


def encrypt(key, nonce, bound, text):
    """AES-128-GCM by libcrypto, which Python does not offer: the ciphertext and its tag."""
    crypto = ctypes.CDLL(ctypes.util.find_library("crypto"))
    crypto.EVP_CIPHER_CTX_new.restype = crypto.EVP_aes_128_gcm.restype = ctypes.c_void_p
    context, out, n = ctypes.c_void_p(crypto.EVP_CIPHER_CTX_new()), ctypes.create_string_buffer(len(text) + 16), \
        ctypes.c_int()
    tag = ctypes.create_string_buffer(16)
    good = [crypto.EVP_EncryptInit_ex(context, ctypes.c_void_p(crypto.EVP_aes_128_gcm()), None, key, nonce),
            crypto.EVP_EncryptUpdate(context, None, ctypes.byref(n), bound, len(bound)),
            crypto.EVP_EncryptUpdate(context, out, ctypes.byref(n), text, len(text)),
            crypto.EVP_EncryptFinal_ex(context, None, ctypes.byref(n)),
            crypto.EVP_CIPHER_CTX_ctrl(context, 0x10, 16, tag)]
    crypto.EVP_CIPHER_CTX_free(context)
    check(good == [1] * 5, f"libcrypto: {good}")
    return out.raw[:len(text)] + tag.raw


class Speaker12:
    """A client of TLS 1.2 that can send records of any kind, because it knows the keys."""

    def __init__(self, server):
        with contextlib.suppress(FileNotFoundError):
            os.remove("secrets")
        context = client(maximum_version=ssl.TLSVersion.TLSv1_2, keylog_filename="secrets")
        context.set_ciphers("ECDHE-ECDSA-AES128-GCM-SHA256")
        to_server, to_client, said = ssl.MemoryBIO(), ssl.MemoryBIO(), b""
        speaker = context.wrap_bio(to_client, to_server, server_hostname="localhost")
        self.connection = socket.create_connection(("127.0.0.1", server.port), timeout=WAIT)
        while True:
            try:
                speaker.do_handshake()
                break
            except ssl.SSLWantReadError:
                self.connection.sendall(to_server.read())
                piece = self.connection.recv(1 << 16)
                said += piece
                to_client.write(piece)
        with open("secrets", encoding="ascii") as file:
            words = next(line.split() for line in file if line.startswith("CLIENT_RANDOM "))
        secret, seed = bytes.fromhex(words[2]), b"key expansion" + said[11:43] + bytes.fromhex(words[1])
        keys = after = b""
        while len(keys) < 40:
            after = hmac.digest(secret, after or seed, "sha256")
            keys += hmac.digest(secret, after + seed, "sha256")
        self.key, self.salt, self.n_records = keys[:16], keys[32:36], 1  # "finished" was the first

    def send(self, kind, data):
        number = self.n_records.to_bytes(8, "big")
        head = bytes([kind]) + b"\3\3"
        sealed = encrypt(self.key, self.salt + number, number + head + len(data).to_bytes(2, "big"), data)
        self.n_records += 1
        self.connection.sendall(head + (8 + len(sealed)).to_bytes(2, "big") + number + sealed)


def test_handshakes():
    """Of TLS 1.2, whoever begins another handshake while a stream runs is cut at the first message of it."""
    make_certificate()
    text = json.dumps({**LONG, "stream": True}).encode()
    with serve() as server:
        before = server.memory()
        for n_refused, n_hellos in enumerate((1, 4000), 1):
            speaker = Speaker12(server)
            with speaker.connection:
                speaker.send(23, POST + b"Content-Length: %d\r\n\r\n" % len(text) + text)
                check(speaker.connection.recv(1 << 16)[:1] == b"\x17", "the stream does not run")
                with contextlib.suppress(ConnectionResetError, BrokenPipeError):
                    for _ in range(min(n_hellos, 20)):
                        speaker.send(22, b"\1\0\0\0" * n_hellos)  # a hello is that little
                soon(lambda n=n_refused: server.metrics()["trimtab_tls_refused_total"] == n, f"{n_hellos} hellos")
        soon(lambda: server.metrics()['vllm:num_requests_running{model_name="tiny-llama",engine="0"}'] == 0,
             "what was cut runs on")
        check(server.memory() - before < 32 << 20, "memory of what was cut")


def test_answers():
    """The same answers as without TLS, whole and streamed, and each connection ends as TLS has it."""
    make_certificate()
    bodies = [(CHAT, {"messages": [{"role": "user", "content": "Grüße, 世界 👋"}], "max_tokens": 40, "seed": 1}),
              (TEXT, {"prompt": ["one", "two"], "n": 2, "max_tokens": 30, "seed": 2, "logprobs": 2}),
              (TEXT, {"prompt": "x" * 300, "max_tokens": 3, "seed": 2, "echo": True, "logprobs": 5})]
    with Server() as server:
        wanted = [server.works(*body) for body in bodies]
    with serve() as server:
        for body, other in zip(bodies, wanted, strict=True):
            check(without_extras(server.works(*body)["choices"]) == without_extras(other["choices"]), f"{body}")
        events = server.stream(TEXT, {**bodies[1][1], "logprobs": None})
        text = ["".join(choice["text"] for event in events for choice in event["choices"] if choice["index"] == i)
                for i in range(4)]
        check(text == [choice["text"] for choice in wanted[1]["choices"]], f"streamed: {text}")
        check(server.ask("/health", port=server.admin_port)[0] == 200, "the operators' port")
        check(server.metrics()["trimtab_tls_refused_total"] == 0, "none was refused")
        # A body of many records, and an answer of many.
        asked = json.dumps({"prompt": "lock " * 1500, "return_token_strs": True}).encode() + b" " * 500000
        long = server.works("/tokenize", asked)
        check(long["count"] == len(long["tokens"]) > 1500 and "".join(long["token_strs"]).count("lock") == 1500,
              f"a long body: {long['count']}")
        # A socket in the file system has no wire, and needs none.
    with Server(*FILES, "--host", "unix:here.sock"), socket.socket(socket.AF_UNIX) as connection:
        connection.connect("here.sock")
        connection.sendall(ONCE)
        check(Answer(read_all(connection)).status == 200, "a socket in the file system")


def test_wire():
    """What is hostile without TLS is so with it, and what is answered is answered."""
    make_certificate()
    with serve() as server:
        for name, data in REFUSED.items():
            with server.send(data + AGAIN * 2) as connection:
                answer = b""
                with contextlib.suppress(ConnectionResetError, BrokenPipeError, ssl.SSLError):
                    while piece := connection.recv(1 << 16):
                        answer += piece
            status = Answer(answer).status
            once = len(re.findall(rb"HTTP/1.1 \d", answer)) == 1
            check((400 <= status < 500 or status == 505) and once, f"{name}: {answer[:200]}")
        for name, (data, n) in ANSWERED.items():
            keeps = b"HTTP/1.0" not in data
            with server.send(data + ONCE * keeps) as connection:
                answer = read_all(connection)
            check(answer.count(b"HTTP/1.1 200 OK\r\n") == n + keeps, f"{name}: {answer[:900]}")
        for data in (AGAIN, ONCE):  # and the client's end in the same piece
            speaker, to_server, to_client, connection = in_memory(server)
            with connection:
                speaker.write(data)
                with contextlib.suppress(ssl.SSLWantReadError):
                    speaker.unwrap()
                connection.sendall(to_server.read())
                to_client.write(read_all(connection))
                answer = b""
                with contextlib.suppress(ssl.SSLWantReadError, ssl.SSLZeroReturnError):
                    answer = speaker.read(1 << 16)
            check(answer.startswith(b"HTTP/1.1 200 OK\r\n"), f"a request and the end at once: {answer}")
        with server.connect() as connection:
            for byte in AGAIN + POST + b"Content-Length: " + N + b"\r\n\r\n" + BODY:
                connection.sendall(bytes([byte]))
            check(read_until(connection, b'"choices"').count(b"HTTP/1.1 200") == 2, "a byte a record")


def test_s_client():
    make_certificate()
    with serve() as server:
        for port in (server.port, server.admin_port):
            for version, option in (("TLSv1.3", "-tls1_3"), ("TLSv1.2", "-tls1_2")):
                said = s_client(server, option, "-alpn", "http/1.1,http/1.0", port=port)
                for pattern in (f"New, {version}", "Verify return code: 0", "ALPN protocol: http/1.1"):
                    check(pattern in said, f"{version}: no {pattern}: {said}")
                check("Secure Renegotiation IS NOT" not in said or version == "TLSv1.3", "renegotiation")
        check("No ALPN negotiated" in s_client(server), "without a word on protocols")
        for what, arguments in (("TLS 1.1", ("-tls1_1", "-cipher", "ALL@SECLEVEL=0")),
                                ("TLS 1.0", ("-tls1", "-cipher", "ALL@SECLEVEL=0")),
                                ("HTTP/2 alone", ("-alpn", "h2")),
                                ("a cipher of CBC", ("-tls1_2", "-cipher", "ECDHE-ECDSA-AES256-SHA"))):
            said = s_client(server, *arguments)
            check("Cipher is (NONE)" in said and "alert" in said, f"{what}: {said}")
        said = s_client(server, "-quiet", "-verify_quiet", "-ign_eof", said=ONCE)
        check(said.startswith("HTTP/1.1 200 OK\r\n") and "unexpected eof" not in said, f"a request: {said}")
        # New keys in the middle ("K": the server is to make some too), and no ticket to come again by.
        said = s_client(server, "-tls1_3", said=b"K\nk\n")
        check("KEYUPDATE" in said and "alert" not in said, f"new keys: {said}")
        check("New Session Ticket arrived" not in said, "a ticket")


class Updater:
    """A client of TLS 1.3 by libssl itself, which can ask for new keys, as Python's cannot, and reads when told to."""

    def __init__(self, server):
        self.ssl = ctypes.CDLL(ctypes.util.find_library("ssl"))
        for name in ("TLS_client_method", "SSL_CTX_new", "SSL_new"):
            getattr(self.ssl, name).restype = ctypes.c_void_p
        self.connection = socket.create_connection(("127.0.0.1", server.port), timeout=WAIT)
        self.connection.settimeout(None)  # libssl has the file alone
        self.context = ctypes.c_void_p(self.ssl.SSL_CTX_new(ctypes.c_void_p(self.ssl.TLS_client_method())))
        self.speaker = ctypes.c_void_p(self.ssl.SSL_new(self.context))
        self.ssl.SSL_set_fd(self.speaker, self.connection.fileno())
        check(self.ssl.SSL_connect(self.speaker) == 1, "libssl's handshake")

    def send(self, data):
        return self.ssl.SSL_write(self.speaker, data, len(data)) == len(data)

    def update(self, asks):
        """Makes new keys, and asks the server for some too; false where the connection has ended."""
        return self.ssl.SSL_key_update(self.speaker, int(asks)) == 1 and self.ssl.SSL_do_handshake(self.speaker) == 1

    def read(self):
        """All until the end."""
        out, piece = b"", ctypes.create_string_buffer(1 << 14)
        while (n := self.ssl.SSL_read(self.speaker, piece, len(piece))) > 0:
            out += piece.raw[:n]
        return out

    def close(self):
        self.ssl.SSL_free(self.speaker)
        self.ssl.SSL_CTX_free(self.context)
        self.connection.close()


def test_new_keys():
    """Of TLS 1.3, a client may ask for new keys at any time. One that asks and asks, and reads none of what the server
    says to that, is cut; nobody else is."""
    make_certificate()
    with serve("--header-seconds", 300) as server:
        polite = Updater(server)
        for asks in (False, True, True):
            check(polite.update(asks), "new keys")
        check(polite.send(ONCE) and Answer(polite.read()).status == 200, "a request after new keys")
        polite.close()
        text = json.dumps({**LONG, "n": 1, "max_tokens": 100, "stream": True}).encode()
        streaming = Updater(server)
        check(streaming.send(POST + b"Connection: close\r\nContent-Length: %d\r\n\r\n%b" % (len(text), text)),
              "a stream")
        check(all(streaming.update(True) for _ in range(20)), "new keys while a stream runs")
        answer = streaming.read()
        check(b"[DONE]" in answer and answer.startswith(b"HTTP/1.1 200"), f"a stream with new keys: {answer[-300:]}")
        streaming.close()
        before = server.memory()
        greedy = Updater(server)
        n = next((n for n in range(1 << 17) if not greedy.update(True)), None)
        check(n is not None, "131,072 times new keys were asked for, and none was read")
        check(server.memory() - before < 4 << 20, f"{server.memory() - before} bytes for what {n} asked for")
        greedy.close()
        server.works("/v1/models")


def hostile(rng):
    """Bytes that are no TLS, or not as it is spoken here, by name."""
    to_server = ssl.MemoryBIO()
    with contextlib.suppress(ssl.SSLWantReadError):
        client().wrap_bio(ssl.MemoryBIO(), to_server, server_hostname="localhost").do_handshake()
    hello = to_server.read()
    yield "plain HTTP", AGAIN
    yield "plain HTTP, a body", POST + b"Content-Length: " + N + b"\r\n\r\n" + BODY
    yield "zeros", bytes(400)
    yield "a record longer than may be", b"\x16\x03\x01\xff\xff" + bytes(20000)
    yield "records without anything", b"\x16\x03\x01\x00\x00" * 100
    yield "application data first", b"\x17\x03\x03\x00\x20" + bytes(32)
    yield "an alert first", b"\x15\x03\x01\x00\x02\x02\x28"
    yield "a hello of SSL 2", b"\x80\x2e\x01\x00\x02" + bytes(43)
    yield "a hello twice", hello + hello
    yield "a hello and then HTTP", hello + AGAIN
    yield "a hello that says it is 16 MiB", b"\x16\x03\x01\x40\x00\x01\xff\xff\xff" + bytes(16380)
    for i in range(20):
        yield f"random bytes {i}", rng.randbytes(rng.randrange(20, 600))
        changed = bytearray(hello)
        for _ in range(rng.randrange(1, 4)):
            changed[rng.randrange(9)] ^= 1 << rng.randrange(8)  # how long, and of which kind
        yield f"a changed hello {i}", bytes(changed) + rng.randbytes(40)


def test_hostile():
    """What is no TLS gets an alert or nothing, never an answer, and is cut: at once, or when its time is over."""
    make_certificate()
    rng = random.Random(1)
    with serve("--header-seconds", "0.5") as server:
        n = 0
        for (name, data), port in itertools.product(list(hostile(rng)), (server.port, server.admin_port)):
            answer, took = plain(server, data, port)
            n += 1
            # To a hello that was not spoilt there is an answer, in TLS; nothing can be read of it.
            spoken = answer[:1] == b"\x16" and b"hello" in name.encode()
            check((is_alert(answer) or spoken) and b"HTTP/" not in answer, f"{name}: {answer[:80]}")
            check(took < 5, f"{name}: cut after {took:.1f} s")
        refused = server.metrics()["trimtab_tls_refused_total"]
        check(refused > n / 2, f"{refused} of {n} were counted")
        # Records that are changed on the way: after the handshake each is found out, at whatever place.
        for place in ("its kind", "its length", "its text", "its end"):
            speaker, to_server, _, connection = in_memory(server)
            with connection:
                speaker.write(ONCE)
                record = bytearray(to_server.read())
                at = {"its kind": 0, "its length": 4, "its text": 9, "its end": len(record) - 1}[place]
                record[at] ^= 1
                answer = b""
                with contextlib.suppress(ConnectionResetError, BrokenPipeError):
                    connection.sendall(record)
                    answer = read_all(connection)
                check(b"HTTP/" not in answer and len(answer) < 40, f"{place}: {answer[:80]}")
        # One that comes twice is one too many.
        speaker, to_server, _, connection = in_memory(server)
        with connection:
            speaker.write(AGAIN)
            record = to_server.read()
            connection.sendall(record)
            first = connection.recv(1 << 16)
            connection.sendall(record)
            check(first and len(read_all(connection)) < 40, "a record twice is answered twice")
        check(server.works("/health") == {"status": "ok"}, "it serves on")
    with serve() as server:  # in which a handshake may take longer than this waits
        pieces = [b"\x01\x01\x90\x00\x03\x03" + bytes(16378), bytes(16384), bytes(16384)]
        answer, took = plain(server, b"".join(b"\x16\x03\x01\x40\x00" + piece for piece in pieces))
        check(is_alert(answer) and took < 5, f"half a hello of 100 KiB: cut after {took:.1f} s: {answer[:80]}")
    print(f"{n + 6} hostile clients")


def test_deadlines():
    """A handshake has the time of a header, however it drips; and the rest is as without TLS."""
    make_certificate()
    with serve("--header-seconds", "0.5", "--body-seconds", "0.5", "--idle-seconds", "0.5") as server:
        to_server = ssl.MemoryBIO()
        with contextlib.suppress(ssl.SSLWantReadError):
            client().wrap_bio(ssl.MemoryBIO(), to_server, server_hostname="localhost").do_handshake()
        hello = to_server.read()
        begun = time.monotonic()
        with socket.create_connection(("127.0.0.1", server.port), timeout=WAIT) as connection:
            connection.settimeout(0.05)
            answer = None
            for byte in hello[:200]:
                with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                    connection.sendall(bytes([byte]))
                try:
                    answer = connection.recv(100)
                except TimeoutError:
                    continue
                except ConnectionResetError:
                    answer = b""
                break
        took = time.monotonic() - begun
        check(answer == b"" and 0.4 < took < 5, f"a dripping handshake: {answer} after {took:.1f} s")
        for data, status in ((b"GET / HTT", 408), (POST + b"Content-Length: 1000\r\n\r\n", 408), (AGAIN, 200)):
            begun = time.monotonic()
            with server.send(data) as connection:
                check(Answer(read_all(connection)).status == status, f"{data[:40]}: not {status}")
            check(0.4 < time.monotonic() - begun < 5, f"{data[:40]}: its time")
        with server.connect() as connection:
            check(read_all(connection) == b"", "one that says nothing")
        check(server.metrics()["trimtab_http_slow_clients_total"] == 3, "slow clients")


def test_back_pressure():
    """Of what a client does not read little is kept beside the tokens; one that is late gets all."""
    make_certificate()
    with serve("--max-batch", "24") as server:
        before = server.memory()
        slow = server.open(TEXT, {**LONG, "logprobs": 20, "stream": True})
        # Of as many tokens the events would be 20 MB.
        soon(lambda: server.metrics()['vllm:generation_tokens_total{model_name="tiny-llama",engine="0"}'] > 10000,
             "the engine waits too")
        grown = server.memory() - before
        with open(program.trimtab, "rb") as file:
            most = 40 if b"__asan_init" in file.read() else 14  # MiB; the sanitizer has its own beside each token
        check(grown < most << 20, f"{grown >> 20} MiB for a client that does not read")
        slow.close()
        with server.open(TEXT, {**LONG, "n": 16, "max_tokens": 100, "logprobs": 20, "stream": True}) as late:
            time.sleep(0.5)
            check(len(events_of(dechunk(read_all(late).partition(b"\r\n\r\n")[2]))) == 1600, "late events")
        # One that floods while it is answered is not read on.
        with server.open(TEXT, {**LONG, "stream": True}) as flood:
            flood.settimeout(0.5)
            n = 0
            with contextlib.suppress(TimeoutError, BrokenPipeError, ConnectionResetError, ssl.SSLError):
                while n < 64 << 20:
                    flood.sendall(bytes(1 << 16))
                    n += 1 << 16
            check(n < 64 << 20 and server.memory() - before < 32 << 20, f"a flood of {n >> 20} MiB was read")
        # Clients that go away free the engine.
        soon(lambda: server.metrics()['vllm:num_requests_running{model_name="tiny-llama",engine="0"}'] == 0,
             "requests of clients that have gone run on")


def test_reload():
    """SIGHUP takes a new certificate for new connections; a wrong one changes nothing; a stream goes on."""
    make_certificate()
    old = client()
    keys = "one", hashlib.sha256(b"tt_1").hexdigest()
    with open("keys", "w", encoding="ascii") as file:
        print(*keys, "A Person", file=file)
    with Server(*FILES, "--keys", "keys", tls=old) as server:
        def serial():
            with socket.create_connection(("127.0.0.1", server.port), timeout=WAIT) as connection:
                context = ssl.create_default_context()
                context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
                with context.wrap_socket(connection) as speaker:
                    return hashlib.sha256(speaker.getpeercert(True)).hexdigest()
        first = serial()
        with server.open(TEXT, {**LONG, "n": 1, "stream": True}, Authorization="Bearer tt_1") as running:
            read_until(running, b"data: ")
            # Both files, and signals in a row: the last of them counts whenever it comes.
            make_certificate("new")
            for _ in range(20):
                server.signal(signal.SIGHUP)
            soon(lambda: serial() != first, "a new certificate")
            check(b"[DONE]" in read_all(running), "a stream from before")
        second = serial()
        server.tls = client()
        server.works("/v1/models", Authorization="Bearer tt_1")
        with open("chain.pem", "w", encoding="ascii") as file:
            file.write("no certificate")
        with open("keys", "a", encoding="ascii") as file:
            print("two", hashlib.sha256(b"tt_2").hexdigest(), "B Person", file=file)
        server.signal(signal.SIGHUP)
        soon(lambda: server.ask("/v1/models", Authorization="Bearer tt_2")[0] == 200, "a new key beside it")
        check(serial() == second, "a wrong certificate changes something")
        # One of the two files is new, and of another type.
        make_certificate(kind=("rsa:2048",), key="key.rsa")
        with open("keys", "a", encoding="ascii") as file:
            print("three", hashlib.sha256(b"tt_3").hexdigest(), "B Person", file=file)
        server.signal(signal.SIGHUP)
        soon(lambda: server.ask("/v1/models", Authorization="Bearer tt_3")[0] == 200, "a chain without its key")
        check(serial() == second, "a certificate of another key changes something")
    for said in ("chain.pem: ", "key.pem is not the key of chain.pem"):
        check(f"the certificate stays as it is: {said}" in "".join(server.said), f"{said}: {server.said}")


def test_signals_in_a_row():
    """A SIGHUP that comes while another one's files are read is not lost."""
    with open("keys", "w", encoding="ascii") as file:
        file.write("")
    with Server("--keys", "keys") as server:
        for i in range(60):
            key = f"tt_{i}"
            with open("keys", "w", encoding="ascii") as file:
                for k in range(300):
                    print(f"k{k}", hashlib.sha256(f"{i} {k}".encode()).hexdigest(), "P", file=file)
            server.signal(signal.SIGHUP)
            time.sleep(0.0002 * (i % 5))
            with open("keys", "a", encoding="ascii") as file:
                print("last", hashlib.sha256(key.encode()).hexdigest(), "P", file=file)
            server.signal(signal.SIGHUP)
            soon(lambda key=key: server.ask("/v1/models", Authorization=f"Bearer {key}")[0] == 200,
                 f"signal {i} was lost")


def test_usage():
    make_certificate()
    make_certificate(chain="other.pem", key="other.key")
    make_certificate(chain="rsa.pem", key="rsa.key", kind=("rsa:2048",))
    subprocess.run(["openssl", "ec", "-in", "key.pem", "-aes256", "-passout", "pass:secret", "-out", "locked.pem"],
                   check=True, capture_output=True)
    with open("empty.pem", "wb"):
        pass
    with open("keys", "w", encoding="ascii") as file:
        print("one", hashlib.sha256(b"tt_1").hexdigest(), "A Person", file=file)
    for pattern, arguments in (
            ("--tls-cert and --tls-key go together", FILES[:2]), ("--tls-cert and --tls-key go together", FILES[2:]),
            ("nowhere: ", ("--tls-cert", "nowhere", *FILES[2:])), ("nowhere: ", (*FILES[:2], "--tls-key", "nowhere")),
            ("empty.pem: ", ("--tls-cert", "empty.pem", *FILES[2:])),
            ("key.pem: ", ("--tls-cert", "key.pem", *FILES[2:])),
            ("chain.pem: ", (*FILES[:2], "--tls-key", "chain.pem")),
            ("locked.pem: ", (*FILES[:2], "--tls-key", "locked.pem")),
            ("other.key is not the key of chain.pem", (*FILES[:2], "--tls-key", "other.key")),
            ("rsa.key is not the key of chain.pem", (*FILES[:2], "--tls-key", "rsa.key")),
            ("key.pem is not the key of rsa.pem", ("--tls-cert", "rsa.pem", *FILES[2:])),
            ("no request needs a key", (*FILES, "--host", "0.0.0.0")), ("there is no TLS", ("--host", "0.0.0.0")),
            ("there is no TLS", ("--host", "0.0.0.0", "--keys", "keys"))):
        done = subprocess.run([program.trimtab, "serve", program.tiny, "--port", "0", "--admin-port", "0", *arguments],
                              stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=WAIT, check=False)
        check(done.returncode == 1 and pattern in done.stderr, f"{arguments}: {done.returncode} {done.stderr}")
    process = subprocess.Popen([program.trimtab, "serve", program.tiny, "--port", "0", "--admin-port", "0", *FILES,
                                "--host", "0.0.0.0", "--keys", "keys"], stderr=subprocess.PIPE, text=True)
    with process:
        said = next((line for line in process.stderr if "serving" in line), "")
        check("serving https://0.0.0.0:" in said, f"on another address: {said}")
        process.send_signal(signal.SIGTERM)


if "without TLS" in subprocess.run([program.trimtab, "serve", program.tiny, "--tls-cert", "a", "--tls-key", "b"],
                                   capture_output=True, text=True, check=False).stderr:
    print("skipped: this program was built without TLS")
    sys.exit()
program.main_with_server(globals(), sys.argv[3:])
