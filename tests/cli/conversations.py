#!/usr/bin/env python3
"""Chat templates that the caller gives, and rows that hold a conversation: conversations.py TRIMTAB GOLDEN [TEST]..."""

import hashlib
import json
import os
import sys
import tempfile

import program
from program import check, golden, make_policy, read_rows, refused, run, works, write_lines

TALK = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "the mill"},
        {"role": "assistant", "content": "on a hill"}, {"role": "user", "content": "one two"}]
# Another form than the model's own, written by hand: `rendered` says what it makes.
OWN = "{% for m in messages %}[{{ m.role }}] {{ m.content }}\n{% endfor %}" \
      "{% if add_generation_prompt %}[assistant] {% endif %}"
SMALL = ["--judge-prompts", "2", "--judge-tokens", "4", "--max-candidates", "1"]


def rendered(messages):
    return "".join(f"[{m['role']}] {m['content']}\n" for m in messages) + "[assistant] "


def write_template(path="own.jinja", text=OWN):
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)
    return hashlib.sha256(text.encode()).hexdigest()


def write_talk(messages, path="talk.json"):
    with open(path, "w", encoding="utf-8") as file:
        json.dump(messages, file)


def generated(*arguments):
    return json.loads(works("-n", "6", "--json", *arguments, command="generate").stdout)


def test_template():
    """The prompt's ids are those of the text that the template makes, and the report has its digest."""
    sha256 = write_template()
    write_talk(TALK)
    with_it = generated("--messages", "talk.json", "--chat-template", "own.jinja")
    raw = generated("--raw", "--no-special", "-p", rendered(TALK))
    check(with_it["prompt_ids"] == raw["prompt_ids"] and with_it["ids"] == raw["ids"], "own.jinja is not what is read")
    check(with_it["chat_template"] == sha256 and "chat_template" not in raw, f"{with_it.get('chat_template')}")
    # tiny-llama's own template is this one.
    check(generated("-p", "the mill", "--chat-template", "chatml")["prompt_ids"] ==
          generated("-p", "the mill")["prompt_ids"], "chatml")
    check(generated("-p", "the mill", "--chat-template", "phi3")["prompt_ids"] ==
          generated("--raw", "--no-special", "-p", "<|user|>\nthe mill<|end|>\n<|assistant|>\n")["prompt_ids"], "phi3")
    done = run("--messages", "talk.json", model="chatml", command="template")
    check(done.stdout == "".join(f"<|im_start|>{m['role']}\n{m['content']}<|im_end|>\n" for m in TALK) +
          "<|im_start|>assistant\n", f"template chatml: {done.stdout}")
    write_talk({"role": "user"}, "no_talk.json")
    refused(1, "no_talk.json: a conversation has messages", "--messages", "no_talk.json", command="generate")
    write_template("bad.jinja", "{% for m in")
    write_template("empty.jinja", "")
    for path, why in (("nosuch", "nosuch"), ("bad.jinja", "bad.jinja"), ("empty.jinja", "empty")):
        refused(1, why, "-p", "x", "--chat-template", path, command="generate")


def test_journal():
    """A batch does not go on under another template, and says which; nothing writes over a template."""
    write_template()
    write_lines("in.jsonl", [{"id": str(i), "prompt": "the mill"} for i in range(2)])
    batch = ["-i", "in.jsonl", "-o", "out.jsonl", "-n", "4"]
    works(*batch, "--chat-template", "own.jinja")
    rows = read_rows("out.jsonl")
    wanted = generated("--raw", "--no-special", "-n", "4", "-p", rendered([{"role": "user", "content": "the mill"}]))
    check(rows[0]["response"]["body"]["choices"][0]["message"]["content"] == wanted["text"], f"{rows[0]}")
    works(*batch, "--chat-template", "own.jinja")
    for other in ([], ["--chat-template", "chatml"]):
        refused(1, "differs in --chat-template", *batch, *other)
    refused(1, "--chat-template (", *batch, model=os.path.join(golden, "tiny-llama3"))  # also beside another model
    refused(2, "own.jinja", "-i", "in.jsonl", "-o", "own.jinja", "--chat-template", "own.jinja")
    works("-i", "in.jsonl", "-o", "chatml", "-n", "1", "--chat-template", "chatml")  # a name is no file


def test_rows():
    """eval of rows with messages is generate's of the same conversation; text before it reaches the model."""
    make_policy("p.st")
    sha256 = write_template()
    write_lines("in.jsonl", [{"id": "a", "messages": TALK, "label": "harmful"},
                             {"id": "b", "prompt": "one two", "label": "benign"},
                             {"id": "c", "messages": TALK[3:], "prompt": None, "label": "benign"},
                             {"id": "d", "messages": [TALK[0] | {"role": "developer"}, *TALK[1:]], "prompt": None,
                              "label": "harmful"},
                             {"id": "e", "messages": None, "prompt": "one two", "label": "benign"}])
    for template in ([], ["--chat-template", "own.jinja"]):
        done = works("--policy", "p.st", "--data", "in.jsonl", "-n", "6", "--json", "--completions", "out.jsonl",
                     "--html", "page.html", *template, command="eval")
        check(json.loads(done.stdout).get("chat_template") == (sha256 if template else None), "the report's template")
        rows = {row["id"]: row for row in read_rows("out.jsonl")}
        write_talk(TALK)
        for side, policy in (("unsteered", []), ("steered", ["--policy", "p.st"])):
            talk = generated("--messages", "talk.json", *policy, *template)
            check(rows["a"][side] == talk["text"], f"{side}: {rows['a'][side]!r}, not {talk['text']!r}")
            check(rows["d"][side] == talk["text"], f"developer, {side}: {rows['d'][side]!r}")
            alone = generated("-p", "one two", *policy, *template)["text"]
            check(all(rows[i][side] == alone for i in "bce"), f"alone, {side}: {rows}")
        check(rows["a"]["unsteered"] != rows["b"]["unsteered"], "what was said before does not count")
        check(rows["a"]["messages"] == TALK and "prompt" not in rows["a"] and rows["c"]["prompt"] == "one two" and
              "messages" not in rows["c"], f"{rows}")
        works("--policy", "p.st", "--data", "out.jsonl", "-n", "6", "--completions", "again.jsonl", *template,
              command="eval")
        check(read_rows("again.jsonl") == read_rows("out.jsonl"), "completions are not read as they are written")
        page = program.read("page.html")
        check(page.count(b"one two") >= 5, "the page does not show what was asked in a conversation")


def test_fit():
    """fit takes them, and learns from what was said before: the prompt's own words are the same in both labels."""
    rows = []
    for row in read_rows(os.path.join(golden, "policy/rows.jsonl")):
        rows.append({key: value for key, value in row.items() if key != "prompt"} | {
            "messages": [{"role": "user", "content": row["prompt"]}, {"role": "assistant", "content": "on"},
                         {"role": "user", "content": "one two"}]})
    write_lines("rows.jsonl", rows)
    sha256, template = write_template(), ["--chat-template", "own.jinja"]
    done = run("--data", "rows.jsonl", "-o", "talk.st", "--report", "fit.json", *SMALL, *template, command="fit")
    check(done.returncode in (0, 3), f"fit: {done.returncode}: {done.stderr}")
    with open("fit.json", encoding="utf-8") as file:
        auc = json.load(file)["gate"]["auc"]
    check(auc > 0.9, f"the gate has an area of {auc}")
    sources = json.loads(program.metadata("talk.st")[0]["trimtab.fitted_on"])
    check(all(source["chat_template"] == sha256 for source in sources), f"{sources}")
    done = works("--policy", "talk.st", "--data", "rows.jsonl", "--max-tokens", "0", "--review", "review.jsonl",
                 "--review-rows", "8", *template, command="eval")
    other = works("--policy", "talk.st", "-n", "1", "-p", "one two", command="generate")
    check("another chat template" not in done.stderr and f"({sha256[:12]}... there, the model's here)" in other.stderr,
          f"{done.stderr}{other.stderr}")
    by_id, review = {row["id"]: row for row in rows}, read_rows("review.jsonl")
    check(len(review) == 8 and all(row["messages"] == by_id[row["id"]]["messages"] and "prompt" not in row
                                   for row in review), f"{review}")
    write_lines("judged.jsonl", [row | {"verdict": "keep", "id": f"r{row['id']}"} for row in review])
    more = ["--continue", "talk.st", "--data", "judged.jsonl", "--replay", "rows.jsonl", "-o", "more.st", "--report",
            "more.json"]
    refused(1, "under another chat template", *more, command="fit")
    works(*more, *template, command="fit")
    with open("more.json", encoding="utf-8") as file:
        check(json.load(file)["continued"]["replaced"] == 8, "of equal conversations those that were judged stay")


def test_refused():
    """With the line and what is wrong with it."""
    make_policy("p.st")
    for messages, why in (([], "not an empty one"), ("x", "must be a list"), (TALK[:3], "a user's"),
                          (TALK[:3] + [{"role": "user", "content": ""}], "not empty"),
                          ([{"role": "user"}], "messages[0]"), ([{"content": "x"}], "messages[0]"),
                          ([7], "messages[0]")):
        write_lines("in.jsonl", [{"id": "a", "messages": messages, "label": "harmful"}])
        refused(1, why, "--policy", "p.st", "--data", "in.jsonl", command="eval")
    write_lines("in.jsonl", [{"id": "a", "messages": TALK, "positive": ["Yes"], "negative": ["No"]}])
    refused(1, "in.jsonl:1: messages", "--contrast", "in.jsonl", "-o", "x.st", command="fit")
    write_lines("in.jsonl", [{"id": "a", "label": "harmful"}])
    refused(1, "prompt is missing", "--policy", "p.st", "--data", "in.jsonl", command="eval")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as work:
        os.chdir(work)
        program.run_tests(dict(globals()), sys.argv[3:])
        os.chdir("/")
    program.end()
