#!/usr/bin/env python3
"""chat, which must say what generate says of the same conversation under the same steering: chat.py TRIMTAB GOLDEN
[TEST]..."""

import json
import os
import subprocess
import sys
import tempfile

from program import check, end, golden, run_tests, tiny, trimtab, works

VECTOR = os.path.join(golden, "vectors/repeng.gguf")


def talk(*lines, status=0, arguments=()):
    done = subprocess.run([trimtab, "chat", tiny, "-n", "8", *arguments], input="".join(line + "\n" for line in lines),
                          capture_output=True, text=True, check=False)
    check(done.returncode == status, f"{lines}: {done.returncode}: {done.stderr[-300:]}")
    return done


def saved(path="talk.json"):
    with open(path, encoding="utf-8") as file:
        return json.load(file)


def generated(messages, *arguments):
    with open("messages.json", "w", encoding="utf-8") as file:
        json.dump(messages, file)
    done = works("--messages", "messages.json", "-n", "8", "--json", *arguments, command="generate")
    return json.loads(done.stdout)["text"]


def test_turns():
    """Each answer is generate's, to all that was said before; what was said is in the file that /save writes."""
    done = talk("the mill", "", "//on a hill", "/save talk.json", arguments=("--system", "be brief"))
    messages = saved()
    check([m["role"] for m in messages] == ["system", "user", "assistant", "user", "assistant"], f"{messages}")
    check(messages[1]["content"] == "the mill" and messages[3]["content"] == "/on a hill", f"{messages}")
    for i in (2, 4):
        check(messages[i]["content"] == generated(messages[:i]), f"answer {i}: {messages[i]}")
    check(done.stdout == f"{messages[2]['content']}\n{messages[4]['content']}\n", done.stdout)
    talk("again", "/save more.json", arguments=("--messages", "talk.json"))
    more = saved("more.json")
    check(more[:5] == messages and more[6]["content"] == generated(more[:6]), f"{more}")


def test_steering():
    """Policies come, change their strength and go between messages; the twin is the unsteered answer."""
    done = talk(f"/policy v={VECTOR}:12", "the mill", "/save a.json", "/scale v -10", "/twin", "on a hill",
                "/policies", "/drop v", "/twin", "of rain", "/policies", "/save b.json")
    a, b = saved("a.json"), saved("b.json")
    check(a[1]["content"] == generated(a[:1], "--policy", f"{VECTOR}:12") != generated(a[:1]), f"{a}")
    check(b[3]["content"] == generated(b[:3], "--policy", f"{VECTOR}:-10"), f"{b}")
    check(b[5]["content"] == generated(b[:5]), f"{b}")
    check(f"--- unsteered\n{generated(b[:3])}\n---\nv x-10\n" in done.stdout, done.stdout)
    check(done.stdout.count("unsteered") == 1 and done.stdout.count("v x-10") == 1, done.stdout)
    done = talk("/show", "the mill", "/scale 0", "on a hill", arguments=("--policy", f"{VECTOR}:12"))
    check("policy repeng x12: s 1.000" in done.stdout and "policy repeng x0" in done.stdout, done.stdout)


def test_undo_and_mistakes():
    talk("the mill", "on a hill", "/undo", "/save one.json", "/reset", "/save none.json", "of rain", "/quit", "never",
         arguments=("--system", "be brief"))
    one = saved("one.json")
    check([m["content"] for m in one][:2] == ["be brief", "the mill"] and len(one) == 3, f"undo: {one}")
    check(saved("none.json") == [{"role": "system", "content": "be brief"}], "reset")
    for line, words in (("/nonsense", "no command"), ("/scale", "takes a number"), ("/scale w 1", "no such policy"),
                        ("/drop w", "no such policy"), ("/policy none.gguf", "none.gguf"), ("/save", "needs the name"),
                        ("/save no/such/folder", "cannot be written"), ("x" * 3000, "context")):
        done = talk(line, "the mill", "/policies", status=1)
        check(words in done.stderr and done.stdout.count("\n") >= 1, f"{line[:40]}: {done.stderr} {done.stdout}")
    for line in (("--messages", "-"), ("--messages", "x", "--system", "y")):
        talk("the mill", status=2, arguments=line)


with tempfile.TemporaryDirectory() as folder:
    os.chdir(folder)
    run_tests(globals(), sys.argv[3:])
    os.chdir("/")
end()
