#!/usr/bin/env python3
"""Runs the program on a terminal of its own: terminal.py TRIMTAB MODEL POLICY. Exit status 0 when it behaves."""

import fcntl
import json
import os
import pty
import re
import signal
import struct
import subprocess
import sys
import termios
import time
import unicodedata

from controls import CONTROLS, NEIGHBOURS

trimtab, model, policy = sys.argv[1:4]
# A program with CUDA in it says so where it found no GPU, before it catches interrupts.
NOTE = re.compile(rb"trimtab: on the CPU: [^\n]*\n?")


def run(arguments, seconds=None, columns=0):
    """Output and status on a terminal; with seconds, an interrupt is sent after them, once there is an answer."""
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 40 if columns else 0, columns, 0, 0))
    process = subprocess.Popen([trimtab, *arguments], stdin=subprocess.DEVNULL, stdout=slave, stderr=slave)
    os.close(slave)
    output, begun, sent = b"", time.monotonic(), False
    os.set_blocking(master, False)
    while True:
        try:
            chunk = os.read(master, 65536)
            if not chunk:
                break
            output += chunk
        except BlockingIOError:
            time.sleep(0.01)
        except OSError:  # the other end is closed
            break
        if seconds is not None and not sent and time.monotonic() - begun > seconds and NOTE.sub(b"", output):
            process.send_signal(signal.SIGINT)
            sent = True
        if time.monotonic() - begun > 60:
            process.kill()
    return output, process.wait()


def expect(condition, what):
    if not condition:
        sys.exit(f"terminal: {what}")


# A tiny random model at a high temperature says every byte sooner or later; a template and a token list echo what they
# are given.
text, status = run(["generate", model, "--raw", "-p", "Hello", "-n", "400", "--temp", "50", "--ignore-eos"])
expect(status == 0, f"generate ended with {status}: {text[-200:]!r}")
body = text.rsplit(b"trimtab: ", 1)[0]
expect(not re.search(rb"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]", body),
       "a control character of the model reached the terminal")
expect(b"\xef\xbf\xbd" in body, "no control character was replaced; the test shows nothing")

template = os.path.join(os.getcwd(), "escape.jinja")
with open(template, "w") as file:
    file.write("{{ messages[0].content }}")
with open("escape.json", "w") as file:
    json.dump([{"role": "user", "content": "".join(f"<{c}>" for c in CONTROLS + NEIGHBOURS)}], file)
text, status = run(["template", template, "--messages", "escape.json"])
expect(status == 0 and text.count("<\ufffd>".encode()) == len(CONTROLS), f"not every control was replaced: {text!r}")
for c in CONTROLS:
    expect(f"<{c}>".encode() not in text, f"template passed U+{ord(c):04X} on")
for c in NEIGHBOURS:
    expect(f"<{c}>".encode() in text, f"template did not pass U+{ord(c):04X} on")

# gated.st is test_cli.sh's policy. A narrow terminal gets the same words in short lines.
shown = {}
for columns in (120, 50):
    text, status = run(["generate", model, "--raw", "-p", "Hello", "-n", "2", "--policy", "gated.st",
                        "--show-steering"], columns=columns)
    text = re.sub(r"\x1b\[[0-9;]*m", "", text.decode()).replace("\r", "")
    shown[columns] = text[text.index("policy test x"):].split("trimtab: ")[0].splitlines()
    expect(status == 0 and max(map(len, shown[columns])) <= columns, f"lines of more than {columns}: {shown[columns]}")
expect(len(shown[120]) == 2 and len(shown[50]) > 2, f"not broken where it must be: {shown}")
expect(" ".join(shown[120]).split() == " ".join(shown[50]).split(), f"other words on a narrow terminal: {shown}")

# The interrupt may come when the text is already there: five tries.
for _ in range(5):
    text, status = run(["generate", model, "--raw", "-p", "Hello", "-n", "1000000", "--ignore-eos", "--temp", "1"], 0)
    expect(status in (0, 130), f"an interrupt ended with {status}")
    if status == 130:
        break
expect(status == 130, "no interrupt ended with 130")
expect(b"trimtab: interrupted" in text, f"an interrupt says nothing: {text[-200:]!r}")

# Colour on a terminal alone, and not where NO_COLOR is set to anything (no-color.org).
shown = ["generate", model, "--raw", "-p", "Hello", "-n", "2", "--policy", policy, "--show-steering"]
for value, wanted in ((None, True), ("", True), ("1", False)):
    os.environ.pop("NO_COLOR", None)
    if value is not None:
        os.environ["NO_COLOR"] = value
    text, status = run(shown)
    expect(status == 0 and (b"\x1b[38;5;" in text) == wanted, f"NO_COLOR={value}: {text[-200:]!r}")
os.environ.pop("NO_COLOR", None)
piped = subprocess.run([trimtab, *shown], stdin=subprocess.DEVNULL, capture_output=True, check=True)
expect(b"\x1b" not in piped.stdout + piped.stderr, "colour in a pipe")

# A fit that is ended says so and leaves nothing.
folder = os.path.dirname(model)
data = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "data", "prompts.jsonl")
for number, wanted in ((signal.SIGINT, 130), (signal.SIGTERM, 143)):
    process = subprocess.Popen([trimtab, "fit", folder, "--data", data, "-o", "ended.st"], stdin=subprocess.DEVNULL,
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    process.stderr.readline()  # it has begun
    process.send_signal(number)
    out, errors = process.communicate()
    expect(process.returncode == wanted and errors.endswith(b"trimtab: interrupted\n") and not out,
           f"fit ended with {process.returncode}: {errors[-200:]!r}")
    expect(not os.path.exists("ended.st"), "a fit that was ended has written a policy")

# Columns stand below one another, whatever is written in them: by Python's own table of widths, and a skin tone takes
# no place of its own.
keys = ["ab", "Ünï", "e\u0301", "漢字", "\u26a1\u23f0", "\u274e", "\u2055", "\U0001f680", "\U0001f44d\U0001f3fd"]
header = json.dumps({"__metadata__": {key: "here" for key in keys}}, ensure_ascii=False).encode()
with open("widths.st", "wb") as file:
    file.write(struct.pack("<Q", len(header)) + header)
shown = subprocess.run([trimtab, "inspect", "widths.st"], capture_output=True, check=True).stdout.decode()
found = [line.split("here")[0] for line in shown.splitlines() if line.endswith("here")]


def columns(text):
    return sum(0 if unicodedata.combining(c) or "\U0001f3fb" <= c <= "\U0001f3ff" else
               2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text)


expect(len(found) == len(keys) and len({columns(text) for text in found}) == 1, f"columns: {shown}")
