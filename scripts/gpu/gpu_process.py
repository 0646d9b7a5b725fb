"""Commands of gpu-check: each in a process group of its own and within its time, with all that it says in one log as it
comes. Nothing here waits for a process longer than it was told to, not even for one that cannot be killed, as one
inside a GPU's driver cannot."""

import os
import selectors
import shlex
import signal
import subprocess
import time
from typing import NamedTuple

# What the log keeps of a part: its beginning and its end. A file that is carried away from the machine may have a limit
# of some MiB, and a part that repeats itself must not cost the others their logs.
FIRST_BYTES = 1 << 20
LAST_BYTES = 1 << 16
KEPT_BYTES = 8 << 20  # of one command's output, for who reads its results
POLL = 0.05  # seconds
UNKILLABLE = 3  # seconds after which a killed process is left to itself


class Ended(NamedTuple):
    """How a command ended: its exit status, negative by a signal, None when it was ended for its time."""
    status: "int | None"
    lines: list
    seconds: float

    def how(self):
        if self.status is None:
            return f"not done after {self.seconds:.0f} s"
        return f"ended by signal {-self.status}" if self.status < 0 else f"exit status {self.status}"


class Log:
    """The log of all parts, a section each. It is kept in memory until its file has a name."""

    def __init__(self):
        self.file, self.held, self.left, self.last, self.dropped = None, [], FIRST_BYTES, b"", 0

    def open(self, path):
        self.file = open(path, "wb", buffering=0)  # what is written is in the file, whatever becomes of this process
        for data in self.held:
            self.file.write(data)
        self.held = []

    def _put(self, data):
        if self.file:
            self.file.write(data)
        else:
            self.held.append(data)

    def begin(self, title):
        self.end()
        self._put(f"\n==== {title}\n".encode())

    def end(self):
        """Ends a section with what was held back of it."""
        if self.dropped:
            self._put(f"\n[{self.dropped} bytes are left out]\n".encode())
        self._put(self.last)
        self.left, self.last, self.dropped = FIRST_BYTES, b"", 0

    def write(self, data):
        if isinstance(data, str):
            data = data.encode("utf-8", "replace")
        self._put(data[:self.left])
        rest = self.last + data[self.left:]
        self.left -= min(self.left, len(data))
        self.dropped += max(0, len(rest) - LAST_BYTES)
        self.last = rest[-LAST_BYTES:]


def group_states(group):
    """The processes of a group with their states; R is one that computes or spins, D one that the kernel holds."""
    found = []
    for entry in os.listdir("/proc"):
        try:
            with open(f"/proc/{entry}/stat", encoding="utf-8", errors="replace") as file:
                name, rest = file.read().split("(", 1)[1].rsplit(")", 1)
        except (OSError, IndexError):
            continue
        state, _, process_group = rest.split()[:3]
        if int(process_group) == group:
            found.append(f"{name} {state}")
    return ", ".join(found) or "gone"


def kill_group(process):
    """Kills what is left of the group. False: its first process cannot be killed."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
    try:
        process.wait(UNKILLABLE)
    except subprocess.TimeoutExpired:
        return False
    return True


def read_some(pipe):
    """What there is to read; b"" at the end, None for nothing at present."""
    try:
        return os.read(pipe.fileno(), 1 << 16)
    except BlockingIOError:
        return None


def listen(process, until, quiet, hear):
    """Hears what the process says until it ends. False: its time was over, or it said nothing for so many seconds."""
    heard = time.monotonic()
    with selectors.DefaultSelector() as ready:
        ready.register(process.stdout, selectors.EVENT_READ)
        while True:
            now = time.monotonic()
            over = min(until, heard + quiet if quiet else until)
            if now >= over:
                return False
            if ready.get_map():
                ready.select(min(over - now, POLL))
            else:
                time.sleep(POLL)
            data = read_some(process.stdout) if ready.get_map() else None
            if data:
                heard = time.monotonic()
                hear(data)
            elif process.poll() is not None:
                return True
            elif data == b"":  # it closed its output, and runs on
                ready.unregister(process.stdout)


def run(command, seconds, log, quiet=None, environment=None, folder=None):
    """Runs a command for at most so many seconds. OSError where it cannot be started."""
    began = time.monotonic()
    log.write(f"$ {shlex.join(command)}\n")
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                               cwd=folder, env={**os.environ, **(environment or {})}, start_new_session=True)
    os.set_blocking(process.stdout.fileno(), False)
    output = bytearray()

    def hear(data):
        log.write(data)
        output.extend(data)
        if len(output) > KEPT_BYTES:  # its beginning and its end are wanted
            del output[KEPT_BYTES // 2:KEPT_BYTES * 3 // 4]

    ended = False
    try:
        ended = listen(process, began + seconds, quiet, hear)
    finally:  # also when gpu-check itself is being ended
        states = "" if ended else group_states(process.pid)
        killed = kill_group(process)
        while data := read_some(process.stdout):
            hear(data)
        process.stdout.close()
        spent = time.monotonic() - began
        if not ended:
            log.write(f"\n[ended after {spent:.1f} s; its processes were: {states}]\n")
        if not killed:
            log.write("[it cannot be killed]\n")
    return Ended(process.returncode if ended else None, output.decode("utf-8", "replace").splitlines(), spent)
