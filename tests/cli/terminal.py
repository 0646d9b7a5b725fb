#!/usr/bin/env python3
"""Runs the program on a terminal of its own: terminal.py TRIMTAB MODEL. Exit status 0 when it behaves."""

import os
import pty
import re
import signal
import subprocess
import sys
import time

trimtab, model = sys.argv[1:3]


def run(arguments, seconds=None):
    """Output and status on a terminal; with seconds, an interrupt is sent after them."""
    master, slave = pty.openpty()
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
        if seconds is not None and not sent and time.monotonic() - begun > seconds and output:
            process.send_signal(signal.SIGINT)
            sent = True
        if time.monotonic() - begun > 60:
            process.kill()
    return output, process.wait()


def expect(condition, what):
    if not condition:
        sys.exit(f"terminal: {what}")


# A tiny random model at a high temperature says every byte sooner or later; a template and a token list echo what they are given.
text, status = run(["generate", model, "--raw", "-p", "Hello", "-n", "400", "--temp", "50", "--ignore-eos"])
expect(status == 0, f"generate ended with {status}: {text[-200:]!r}")
body = text.rsplit(b"trimtab: ", 1)[0]
expect(not re.search(rb"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]", body), "a control character of the model reached the terminal")
expect(b"\xef\xbf\xbd" in body, "no control character was replaced; the test shows nothing")

template = os.path.join(os.getcwd(), "escape.jinja")
with open(template, "w") as file:
    file.write("{{ messages[0].content }}")
with open("escape.json", "w") as file:
    file.write('[{"role": "user", "content": "a\\u001b[2Jb\\u009bc\\u202ed"}]')
text, status = run(["template", template, "--messages", "escape.json"])
expect(status == 0 and b"\x1b" not in text and b"\xc2\x9b" not in text and b"\xe2\x80\xae" not in text,
       f"template passed an escape on: {text!r}")

# The interrupt may come when the text is already there: five tries.
for _ in range(5):
    text, status = run(["generate", model, "--raw", "-p", "Hello", "-n", "1000000", "--ignore-eos", "--temp", "1"], 0)
    expect(status in (0, 130), f"an interrupt ended with {status}")
    if status == 130:
        break
expect(status == 130, "no interrupt ended with 130")
