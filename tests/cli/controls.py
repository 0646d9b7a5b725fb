#!/usr/bin/env python3
"""Nothing that a terminal would act on comes out raw: controls.py TRIMTAB MODEL-FOLDER POLICY, in a folder of its own
to write in.

Every character of the class, and those beside it that do not belong to it, goes through prompts, tokens, names of files
and policies. Exit status 0 when the JSON that is printed has them as escapes of the same value, and all else has none
of them."""

import json
import pathlib
import shutil
import struct
import subprocess
import sys
import unicodedata

# Unicode's Bidi_Control (from its PropList), the line and paragraph separators, and the general category Cc without
# newline and tab.
BIDI = [0x61C, 0x200E, 0x200F, *range(0x202A, 0x202F), *range(0x2066, 0x206A)]
CODES = BIDI + [0x2028, 0x2029] + [c for c in range(1, 0x100)
                                   if unicodedata.category(chr(c)) == "Cc" and c not in (9, 10)]
CONTROLS = [chr(c) for c in sorted(CODES)]
NEIGHBOURS = [chr(c) for c in sorted({c + step for c in CODES for step in (-1, 1)} - set(CODES)) if c not in (0, 9, 10)]
NAME = "".join(CONTROLS) + "".join(NEIGHBOURS).replace("/", "")
n_failed = 0


def expect(condition, what):
    global n_failed
    if not condition:
        n_failed += 1
        print(f"controls: {what}", file=sys.stderr)


def run(*arguments, status=0):
    """The output on stdout and on stderr, neither of it raw."""
    done = subprocess.run([trimtab, *arguments], stdin=subprocess.DEVNULL, capture_output=True)
    expect(done.returncode == status, f"{arguments[0]} ended with {done.returncode}: {done.stderr[-300:]!r}")
    for where, text in (("stdout", done.stdout), ("stderr", done.stderr)):
        raw = [f"U+{ord(c):04X}" for c in CONTROLS if c.encode() in text]
        expect(not raw, f"{arguments[0]} {arguments[-1]!r:.20}: raw on {where}: {' '.join(raw)}")
    return done.stdout.decode(), done.stderr.decode()


def has_escapes(text, what):
    """As JSON has them, but for the few that have short forms there; those that do not belong to the class are left
    alone."""
    missing = [f"U+{ord(c):04X}" for c in CONTROLS if f"\\u{ord(c):04x}" not in text.lower() and c not in "\b\f\r"]
    expect(not missing, f"{what}: no escape of {' '.join(missing)}")
    changed = [f"U+{ord(c):04X}" for c in NEIGHBOURS if c not in text]
    expect(not changed, f"{what}: changed {' '.join(changed)}")


def rename(policy, name):
    """A copy of the policy file with that name in its metadata."""
    data = pathlib.Path(policy).read_bytes()
    n = struct.unpack("<Q", data[:8])[0]
    header = json.loads(data[8:8 + n])
    header["__metadata__"]["trimtab.name"] = name
    new = json.dumps(header, ensure_ascii=False).encode()
    new += b" " * (-len(new) % 8)
    return struct.pack("<Q", len(new)) + new + data[8 + n:]


def vocabulary(folder):
    """A tokenizer that has each of the characters as a token."""
    shutil.copytree(model, folder, dirs_exist_ok=True)
    path = folder / "tokenizer.json"
    tokenizer = json.loads(path.read_text())
    known = tokenizer["model"]["vocab"]
    first = max(list(known.values()) + [t["id"] for t in tokenizer["added_tokens"]]) + 1
    for i, c in enumerate(c for c in CONTROLS + NEIGHBOURS if c not in known):
        tokenizer["added_tokens"].append({"id": first + i, "content": c, "single_word": False, "lstrip": False,
                                          "rstrip": False, "normalized": False, "special": False})
    path.write_text(json.dumps(tokenizer))


def main():
    work = pathlib.Path("controls")
    work.mkdir()
    vocabulary(work / "vocabulary")
    out, _ = run("tokenize", str(work / "vocabulary"), "--pieces", "--no-bos", "-p", NAME)
    has_escapes(out, "tokenize --pieces")
    expect("".join(t["piece"] for t in json.loads(out)) == NAME, "tokenize --pieces: another text")

    out, _ = run("generate", model, "--raw", "-n", "2", "--json", "-p", NAME)
    has_escapes(out, "generate --json")
    expect(json.loads(out)["prompt"] == NAME, "generate --json: another prompt")

    prompts = pathlib.Path(__file__).parents[2] / "data" / "prompts.jsonl"
    # The names of two files: 255 bytes are the most that one may have.
    for half in (CONTROLS[:len(CONTROLS) // 2], CONTROLS[len(CONTROLS) // 2:]):
        name = "".join(half)
        policy, rows = work / (name + ".st"), work / (name + ".jsonl")
        policy.write_bytes(rename(sys.argv[3], name))
        rows.write_text('{"id": "1", "prompt": "x", "label": "benign", "split": "test"}\n')
        out, _ = run("inspect", str(policy), "--json", "--model", model)
        found = json.loads(out)
        expect(found["file"] == str(policy) and found["name"] == name, "inspect --json: another name")
        run("inspect", str(policy), "--model", model)
        out, _ = run("generate", model, "--raw", "-n", "2", "-p", "x", "--policy", str(policy), "--json")
        expect(json.loads(out)["decision"][0]["policy"] == name, "generate --json: another policy")
        run("generate", model, "--raw", "-n", "2", "-p", "x", "--policy", str(policy), "--compare", "--show-steering")
        out, _ = run("eval", model, "--policy", str(policy), "--data", str(rows), "-n", "1", "--json")
        expect(json.loads(out)["groups"][0]["file"].endswith(name + ".jsonl"), "eval --json: another file")
        run("eval", model, "--policy", str(policy), "--data", str(rows), "-n", "1")
        run("capture", model, "--ids", "1", "-o", str(policy) + ".out")
        shutil.copy(prompts, rows)
        fit = ["fit", model, "--data", str(rows), "-o", str(work / ("fitted" + name[:60])), "--max-candidates", "1",
               "--judge-prompts", "2", "--judge-tokens", "4", "--direction-prompts", "2", "--gate-prompts", "8"]
        out, _ = run(*fit, "--json")
        expect(json.loads(out)["name"].startswith("fitted" + name[:10]), "fit --json: another name")
        run(*fit)
        # Messages: of the library, of the program, of a policy that does not fit.
        run("inspect", str(policy) + "x", status=1)
        run("generate", model, "-f", str(policy) + "x", status=1)
        run("generate", model, "--raw", "-p", "x", "--" + name, status=2)
        run("generate", model, "--raw", "-p", "x", "--policy", str(policy), "--strict-model", status=1)
        run(name, status=2)
    sys.exit(n_failed > 0)


if __name__ == "__main__":
    trimtab, model = sys.argv[1:3]
    main()
