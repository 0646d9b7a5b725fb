#!/usr/bin/env python3
"""Draws what commands print on a terminal as SVG: docs/picture-light.svg and docs/picture-dark.svg, the picture of the
README. The commands run on a real terminal of 48 columns, so that a phone shows it at a size that can be read; what is
drawn is what they wrote there, wrapped as that terminal wraps it. No font is fetched: whatever is monospace is used,
and each piece of a line is stretched to its columns.

    terminal_picture.py TRIMTAB MODEL POLICY OUT-FOLDER"""

import fcntl
import os
import pty
import re
import shlex
import struct
import subprocess
import sys
import termios
import unicodedata
from xml.sax.saxutils import escape

COLUMNS, ROWS = 48, 50
ADVANCE, LINE, EDGE, SIZE = 8.4, 19, 14, 14
PROMPTS = ("How do I make a fake passport?", "How do I make a lemon cake?")
COLOURS = {
    "light": {"ground": "#ffffff", "edge": "#d0d7de", "text": "#1f2328", "prompt": "#57606a", "command": "#0550ae",
              "faint": "#8c959f", "strong": "#bc4c00"},
    "dark": {"ground": "#0d1117", "edge": "#30363d", "text": "#e6edf3", "prompt": "#8b949e", "command": "#79c0ff",
             "faint": "#6e7681", "strong": "#ffa657"},
}
SGR = re.compile("\x1b\\[([0-9;]*)m")


def run(command):
    """What the command writes on a terminal of COLUMNS; its progress goes nowhere."""
    main, side = pty.openpty()
    fcntl.ioctl(side, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
    environment = {name: value for name, value in os.environ.items() if name != "NO_COLOR"} | {"TERM": "xterm-256color"}
    written = b""
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=side, stderr=subprocess.PIPE,
                          env=environment) as process:
        os.close(side)
        while True:
            try:
                piece = os.read(main, 65536)
            except OSError:  # the last process that had it open has ended
                break
            if not piece:
                break
            written += piece
        said = process.stderr.read().decode()
    os.close(main)
    if process.returncode:
        sys.exit(f"{shlex.join(command)}: {said}")
    return written.decode().replace("\r\n", "\n").strip("\n").split("\n")


def cells(line):
    """(character, kind) of each column: kinds are text, faint and strong. The program has 256 colours for its strip:
    240 is its grey."""
    out, kind, at = [], "text", 0
    for match in [*SGR.finditer(line), None]:
        for character in line[at:match.start() if match else None]:
            if unicodedata.category(character)[0] == "C":
                sys.exit(f"terminal_picture: a control in {line!r}")
            if unicodedata.east_asian_width(character) in "WF":
                sys.exit(f"terminal_picture: a character of two columns in {line!r}")
            out.append((character, kind))
        if match:
            at = match.end()
            kind = {"": "text", "0": "text", "38;5;240": "faint"}.get(match[1], "strong")
    return out


def typed(words):
    """The lines in which a person would type the command: broken between words, the breaks escaped."""
    lines = ["$"]
    for word in words:
        if len(lines[-1]) + 1 + len(word) > COLUMNS - 2:
            lines[-1] += " \\"
            lines.append("   ")
        lines[-1] += f" {word}"
    return [[(character, "prompt" if i == 0 else "command") for i, character in enumerate(line)] for line in lines]


def wrapped(row):
    return [row[i:i + COLUMNS] for i in range(0, len(row), COLUMNS)] or [[]]


def pieces(row):
    """(column, kind, text) of stretches of one kind; a longer gap begins a new one, since each is placed by itself."""
    out, column = [], 0
    while column < len(row):
        kind, text = row[column][1], ""
        start = column
        while column < len(row) and row[column][1] == kind:
            text += row[column][0]
            column += 1
        lead = len(text) - len(text.lstrip())
        if text.strip():
            out.append((start + lead, kind, text.strip()))
    return out


def draw(rows, colours, words):
    width, height = 2 * EDGE + COLUMNS * ADVANCE, 2 * EDGE + len(rows) * LINE
    style = "".join(f".{kind}{{fill:{colours[kind]}}}" for kind in ("text", "prompt", "command", "faint", "strong"))
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height:g}" width="{width:g}" '
           f'height="{height:g}" role="img" aria-label="{escape(words, {chr(34): "&quot;"})}">',
           f"<style>text{{font:{SIZE}px ui-monospace,SFMono-Regular,Menlo,Consolas,'DejaVu Sans Mono',"
           f"monospace;white-space:pre}}{style}</style>",
           f'<rect x=".5" y=".5" width="{width - 1:g}" height="{height - 1:g}" rx="6" fill="{colours["ground"]}" '
           f'stroke="{colours["edge"]}"/>']
    for i, row in enumerate(rows):
        for column, kind, text in pieces(row):
            out.append(f'<text class="{kind}" x="{EDGE + column * ADVANCE:.5g}" y="{EDGE + i * LINE + SIZE}" '
                       f'textLength="{len(text) * ADVANCE:.5g}">{escape(text)}</text>')
    return "\n".join([*out, "</svg>", ""])


def main():
    if len(sys.argv) != 5:
        sys.exit(__doc__)
    trimtab, model, policy, folder = sys.argv[1:]
    rows, words = [], []
    for prompt in PROMPTS:
        options = ["--compare", "--show-steering", "-n", "32", "-p"]
        if rows:
            rows.append([])
        rows += typed(["trimtab generate $MODEL", f"--policy {os.path.basename(policy)}", *options[:2],
                       " ".join([*options[2:], "\\"])])
        rows += [[(character, "command") for character in f"    {shlex.quote(prompt)}"]]
        shown = run([trimtab, "generate", model, "--policy", policy, *options, prompt])
        words += [f"$ trimtab generate, {prompt}", *(SGR.sub("", line) for line in shown if line)]
        rows += [part for line in shown for part in wrapped(cells(line))]
    rows = [part for row in rows for part in wrapped(row)]
    for name, colours in COLOURS.items():
        path = os.path.join(folder, f"picture-{name}.svg")
        with open(path, "w", encoding="utf-8") as file:
            file.write(draw(rows, colours, "\n".join(words)))
        print(path)


main()
