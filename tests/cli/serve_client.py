"""A server under test, and a client that speaks HTTP by bytes."""

import copy
import json
import os
import re
import signal
import socket
import subprocess
import time

import program
from program import check

LONG = {"n": 128, "max_tokens": 450, "ignore_eos": True}  # of a completion, minutes
WAIT = 20  # seconds after which something is taken to hang; the machine may be busy


# The address sanitizer keeps what was freed, up to this much.
QUARANTINE = "quarantine_size_mb=1"
sanitizer = {"ASAN_OPTIONS": ":".join(filter(None, [os.environ.get("ASAN_OPTIONS"), QUARANTINE]))}


def completion(prompt="Hello", **keys):
    return {"prompt": prompt, "max_tokens": 8, "seed": 1, **keys}


class Server:
    def __init__(self, *arguments, model=None, before=None, pass_fds=(), tls=None):
        """tls: the ssl.SSLContext by which it is spoken with."""
        self.tls = tls
        command = [program.trimtab, "serve", model or program.tiny, "--port", "0", "--admin-port", "0"]
        self.process = subprocess.Popen([*command, *map(str, arguments)], stdin=subprocess.DEVNULL,
                                        stderr=subprocess.PIPE, text=True, env=os.environ | sanitizer,
                                        preexec_fn=before, pass_fds=pass_fds)
        self.said = []
        for line in self.process.stderr:
            self.said.append(line)
            found = re.search(r"serving https?://127\.0\.0\.1:(\d+)/v1", line)
            if found:
                self.port = int(found[1])
                return
            if "serving unix:" in line:
                return
            admin = re.search(r"operators: https?://127\.0\.0\.1:(\d+)/metrics", line)
            if admin:
                self.admin_port = int(admin[1])
        raise RuntimeError(f"no server: {''.join(self.said)}")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            self.process.send_signal(signal.SIGTERM)
        self.ends()

    def ends(self, status=0):
        """Waits for the end, which is a good one: a sanitizer's report would be another status."""
        try:
            _, rest = self.process.communicate(timeout=WAIT)
        except subprocess.TimeoutExpired:
            self.process.kill()
            _, rest = self.process.communicate()
            check(False, "the server did not end")
        self.said.append(rest)
        check(self.process.returncode == status, f"the server ended with {self.process.returncode}: {rest[-2000:]}")

    def signal(self, number=signal.SIGTERM):
        self.process.send_signal(number)

    def memory(self):
        """Resident bytes."""
        with open(f"/proc/{self.process.pid}/statm", encoding="ascii") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    def processor_time(self):
        """Seconds of all its threads."""
        return sum(self.thread_times())

    def thread_times(self):
        """Seconds of each of its threads."""
        times = []
        for thread in os.listdir(f"/proc/{self.process.pid}/task"):
            with open(f"/proc/{self.process.pid}/task/{thread}/schedstat", encoding="ascii") as file:
                times.append(int(file.read().split()[0]) / 1e9)
        return times

    def metrics(self):
        """Values by name and labels."""
        with self.open("/metrics", port=self.admin_port) as connection:
            answer = Answer(read_all(connection))
        check(answer.status == 200, f"metrics: {answer.status}")
        lines = [line for line in answer.body.decode().splitlines() if not line.startswith("#")]
        return {name: float(value) for name, value in (line.rsplit(" ", 1) for line in lines)}

    def connect(self, port=None):
        connection = socket.create_connection(("127.0.0.1", port or self.port), timeout=WAIT)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self.tls:
            # An end without TLS's own is an error, as one that somebody on the way has made would be.
            return self.tls.wrap_socket(connection, server_hostname="localhost", suppress_ragged_eofs=False)
        return connection

    def send(self, data, port=None):
        connection = self.connect(port)
        connection.sendall(data)
        return connection

    def raw(self, data, port=None):
        """All that comes back until the server closes."""
        with self.connect(port) as connection:
            answer = b""
            try:
                connection.sendall(data)
                while piece := connection.recv(1 << 16):
                    answer += piece
            except (BrokenPipeError, ConnectionResetError):
                pass
            except TimeoutError:
                check(False, f"left hanging: {data[:100]}")
            return answer

    def open(self, path, body=None, method=None, port=None, **fields):
        """Sends a request on a connection of its own."""
        method = method or ("GET" if body is None else "POST")
        text = b"" if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
        lines = {"Host": "127.0.0.1", "Connection": "close"}
        if body is not None:
            lines |= {"Content-Type": "application/json", "Content-Length": len(text)}
        lines |= {name.replace("_", "-"): value for name, value in fields.items()}
        head = f"{method} {path} HTTP/1.1\r\n" + "".join(f"{k}: {v}\r\n" for k, v in lines.items()) + "\r\n"
        return self.send(head.encode() + text, port)

    def begin(self, path):
        """What comes first for a header whose body is held back until it is asked for."""
        with self.send(f"POST {path} HTTP/1.1\r\nHost: 127.1\r\nContent-Type: application/json\r\n"
                       "Expect: 100-continue\r\nContent-Length: 1000\r\n\r\n".encode()) as connection:
            return connection.recv(1 << 16)

    def ask(self, path, body=None, **keywords):
        """Status and body, as JSON where it is that."""
        with self.open(path, body, **keywords) as connection:
            answer = Answer(read_all(connection))
        return answer.status, answer.json if answer.is_json else answer.body

    def works(self, path, body=None, **keywords):
        status, answer = self.ask(path, body, **keywords)
        check(status == 200, f"{path} {body}: {status} {answer}")
        return answer

    def refuses(self, status, param, path, body=None, **keywords):
        got, answer = self.ask(path, body, **keywords)
        error = answer.get("error", {}) if isinstance(answer, dict) else {}
        check(got == status and error.get("message") and error.get("param") == param,
              f"{path} {str(body)[:200]}: not {status} {param} but {got} {str(answer)[:300]}")
        return error

    def stream(self, path, body):
        """The events of a stream, without the last one, which must be [DONE]."""
        with self.open(path, {**body, "stream": True}) as connection:
            answer = Answer(read_all(connection))
        check(answer.status == 200, f"{body}: {answer.status} {answer.body[:300]}")
        return events_of(answer.body)


def read_all(connection):
    data = b""
    while piece := connection.recv(1 << 16):
        data += piece
    return data


def read_until(connection, mark):
    data = b""
    while mark not in data:
        piece = connection.recv(1 << 16)
        if not piece:
            break
        data += piece
    return data


def events_of(text):
    events = [event for event in text.decode().split("\n\n") if event and not event.startswith(":")]
    check(all(event.startswith("data: ") for event in events), f"no events: {text[:300]}")
    check(events and events[-1] == "data: [DONE]", f"a stream without an end: {text[-300:]}")
    return [json.loads(event[6:]) for event in events[:-1]]


def dechunk(data):
    body = b""
    while data:
        size, _, data = data.partition(b"\r\n")
        n = int(size, 16)
        check(data[n:n + 2] == b"\r\n", "a chunk does not end where it says")
        if n == 0:
            break
        body, data = body + data[:n], data[n + 2:]
    return body


class Answer:
    """One answer of HTTP, all of the bytes."""

    def __init__(self, data):
        head, _, body = data.partition(b"\r\n\r\n")
        lines = head.decode().split("\r\n")
        self.status = int(lines[0].split()[1]) if lines[0].startswith("HTTP/1.1 ") else 0
        self.fields = dict(line.lower().split(": ", 1) for line in lines[1:])
        self.body = dechunk(body) if self.fields.get("transfer-encoding") == "chunked" else body
        self.body = self.body[:int(self.fields.get("content-length", len(self.body)))]
        self.is_json = self.fields.get("content-type") == "application/json"
        self.json = json.loads(self.body) if self.is_json and self.body else None


def put_together(events):
    """The choices of a whole answer, from those of a stream."""
    choices = {}
    for event in events:
        for piece in event["choices"]:
            if piece["index"] not in choices:
                choices[piece["index"]] = copy.deepcopy(piece)
                continue
            choice = choices[piece["index"]]
            check(choice["finish_reason"] is None, "something after the end of a choice")
            choice["finish_reason"] = piece["finish_reason"]
            if "delta" in piece:
                choice["delta"]["content"] += piece["delta"]["content"]
                check("role" not in piece["delta"], "a second role")
            else:
                choice["text"] += piece["text"]
            for key, more in (piece["logprobs"] or {}).items():
                if more:
                    choice["logprobs"][key] += more
    for choice in choices.values():
        if "delta" in choice:
            check(choice["delta"]["role"] == "assistant", "no role")
            choice["message"] = {**choice.pop("delta"), "refusal": None}
    return [choices[i] for i in sorted(choices)]


def without_extras(choices):
    return [{key: value for key, value in choice.items() if key != "steering"} for choice in choices]


def soon(holds, what):
    """Whether it comes to hold."""
    end = time.monotonic() + WAIT
    while not (held := holds()) and time.monotonic() < end:
        time.sleep(0.005)
    check(held, what)
