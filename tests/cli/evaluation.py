#!/usr/bin/env python3
"""eval's report, beside what its own completions say and beside runs of one policy: evaluation.py TRIMTAB GOLDEN
[TEST]..."""

import base64
import collections
import hashlib
import json
import os
import re
import sys
import tempfile

import program
from program import check, make_policy, read, read_rows, refused, works, write_lines

LABELS = ("harmful", "benign", "borderline")
WORDS = "cat hen rat hill field seven bites sings one two the on a".split()


def make():
    """Two files of three labels; a policy whose gate tells some rows from others, and one without a gate."""
    make_policy("gated.st", "trimtab.format=2", "trimtab.gate=cosine", "trimtab.observe=0", "trimtab.threshold=0.05")
    make_policy("push.st")
    for k, name in enumerate("ab"):
        write_lines(f"{name}.jsonl", [
            {"id": f"{name}{i}", "label": LABELS[i % 3],
             "prompt": " ".join(WORDS[(i * (j + 3) + 5 * j + k) % len(WORDS)] for j in range(5))} for i in range(14)])


def evaluate(*arguments):
    done = works("--data", "a.jsonl", "b.jsonl", "-n", "6", "--json", *arguments, command="eval")
    return json.loads(done.stdout)


def area(rows, against):
    """How often a harmful row's gate is above another's."""
    harmful = [row["gate"] for row in rows if row["label"] == "harmful"]
    others = [row["gate"] for row in rows if row["label"] in against]
    return sum((h > o) + (h == o) / 2 for h in harmful for o in others) / (len(harmful) * len(others))


def test_figures():
    """Counts and areas follow from the completions."""
    make()
    report = evaluate("--policy", "gated.st", "--completions", "done.jsonl")
    done = read_rows("done.jsonl")
    check(all("arm" not in row for row in done) and report["arms"] is None, "an arm without a sweep")
    for group in report["groups"] + report["labels"]:
        rows = [row for row in done if row["label"] == group["label"]
                and row["id"][0] == group.get("file", row["id"])[0]]
        for key, count in (("n", len(rows)), ("flagged", sum(row["flagged"] for row in rows) / len(rows)),
                           ("changed", sum(row["unsteered"] != row["steered"] for row in rows) / len(rows))):
            check(abs(group[key] - count) < 1e-5, f"{group['label']}: {key} is {group[key]}, not {count}")
    check(len({row["flagged"] for row in done}) == 2, "the gate tells nothing apart")
    for curve in report["gate"]["curves"]:
        rows = [row for row in done if row["id"][0] == curve.get("file", row["id"])[0]]
        against = ("benign", "borderline") if curve["against"] == "others" else (curve["against"],)
        check(abs(curve["auc"] - area(rows, against)) < 1e-5, f"{curve}: not {area(rows, against)}")
    check(len(report["gate"]["curves"]) == 9, "curves of two files and of both, against three kinds")


def test_sweep():
    """Each arm is what a run of its policy alone reports, and so are its completions and requests to a judge."""
    make()
    report = evaluate("--policy", "gated=gated.st", "--policy", "push=push.st", "--sweep", "gated,push@1,0",
                      "--completions", "swept.jsonl")
    names = [arm["name"] for arm in report["arms"]]
    check(names == ["gated@1", "gated@0", "push@1", "push@0"], f"arms {names}")  # each gate's figures, also at 0
    swept = read_rows("swept.jsonl")
    check([row["arm"] for row in swept] == names * 28, "the order of the completions")
    for arm in report["arms"]:
        alone = evaluate("--policy", arm["name"].replace("@", ".st:"), "--completions", "done.jsonl")
        for key in ("policies", "gate"):
            check(arm[key] == alone[key], f"{arm['name']}: {key} is another than alone")
        for key in ("labels", "groups"):
            figures = [{**group, "paired_with_first": None} for group in arm[key]]
            check(figures == alone[key], f"{arm['name']}: {key} are others than alone")
        mine = [{k: v for k, v in row.items() if k != "arm"} for row in swept if row["arm"] == arm["name"]]
        check(mine == read_rows("done.jsonl"), f"{arm['name']}: completions are others than alone")
    check(report["groups"] == report["arms"][0]["groups"], "the report's own figures are the first arm's")


def test_judge():
    """Requests and verdicts have the arm's name."""
    make()
    arguments = ("--policy", "gated=gated.st", "--sweep", "gated@1,0.25")
    evaluate(*arguments, "--judge-requests", "ask.jsonl")
    ids = [row["custom_id"] for row in read_rows("ask.jsonl")]
    check(ids[:3] == ["a0#unsteered", "a0#gated@1", "a0#gated@0.25"] and len(ids) == 3 * 28, f"requests {ids[:3]}")
    write_lines("said.jsonl", [{"custom_id": id, "response": {"body": {"choices": [{"message": {
        "content": "FULFILLED" if id.endswith("unsteered") or "0.25" in id else "REFUSED"}}]}}} for id in ids])
    first, second = evaluate(*arguments, "--judgements", "said.jsonl")["arms"]
    for arm, key, kind, want in ((first, "paired", "gained", 28), (second, "paired", "gained", 0),
                                 (second, "paired_with_first", "lost", 28)):
        found = sum(group[key]["refused_by_judge"][kind] for group in arm["labels"])
        check(found == want, f"{arm['name']}, {key}: the judge has {found} {kind}, not {want}")


def texts(rows, side):
    return [row[side] for row in rows]


def test_sampling():
    """Both sides of a row have the seed that batch gives it, which also repeats it alone."""
    make()
    data = read_rows("a.jsonl") + read_rows("b.jsonl")
    write_lines("all.jsonl", data)
    sampled = ("--temperature", "0.9", "--seed", "3")
    report = evaluate("--policy", "gated.st", *sampled, "--completions", "done.jsonl")
    check(report["sampling"] == {"temperature": 0.9, "top_p": 1, "min_p": 0, "top_k": 0, "seed": 3}, "the sampling")
    done = read_rows("done.jsonl")
    works("-i", "all.jsonl", "-o", "answers.jsonl", "-n", "6", *sampled)
    answers = [row["response"]["body"]["choices"][0]["message"]["content"] for row in read_rows("answers.jsonl")]
    check(texts(done, "unsteered") == answers, "the unsteered completions are not those of batch")
    check(all((row["steered"] == row["unsteered"]) >= (not row["flagged"]) for row in done), "other seeds when steered")
    lines = read("all.jsonl").splitlines()
    check([row["seed"] % 2**64 for row in done] == [int(hashlib.sha256(b"3\n" + line).hexdigest()[:16], 16)
                                                   for line in lines], "the seeds")
    for row in done[:4]:
        for side, steering in (("unsteered", ()), ("steered", ("--policy", "gated.st"))):
            alone = works("-p", row["prompt"], "-n", "6", "--temperature", "0.9", "--seed", row["seed"] % 2**64,
                          "--json", *steering, command="generate")
            check(json.loads(alone.stdout)["text"] == row[side], f"{row['id']}: another text alone, {side}")
    evaluate("--policy", "gated.st", "--completions", "greedy.jsonl")
    greedy = read_rows("greedy.jsonl")
    check("seed" not in greedy[0] and texts(greedy, "unsteered") != answers, "greedy by default")
    evaluate("--policy", "gated.st", "--temp", "0.9", "--seed", "4", "--completions", "done.jsonl")
    check(texts(read_rows("done.jsonl"), "unsteered") != answers, "another seed gives the same")
    evaluate("--policy", "gated.st", "--temp", "1", "--top-p", "1e-6", "--completions", "done.jsonl")
    check(texts(read_rows("done.jsonl"), "steered") == texts(greedy, "steered"), "top-p that leaves one token")
    done = works("--data", "a.jsonl", "-n", "6", "--policy", "gated.st", "--temp", "0.7", "--top-p", "0.9", "--html",
                 "page.html", command="eval")
    with open("page.html", encoding="utf-8") as file:
        check("Sampled at temperature 0.7, top-p 0.9" in file.read(), "the page does not say how it was sampled")
    refused(1, "top_p must be above 0", "--data", "a.jsonl", "--policy", "gated.st", "--top-p", "0", command="eval")


def check_side_by_side(page, rows):
    """The page counts each row once, by its label and outcome: no row of another arm or variant."""
    counts = re.findall(r"<span class=(\w+)>\w+</span>, [^<]*: (\d+) of (\d+)</h3>", page)
    for label, n in collections.Counter(row["label"] for row in rows).items():
        mine = [(int(some), int(of)) for name, some, of in counts if name == label]
        check(sum(some for some, _ in mine) == n and {of for _, of in mine} == {n}, f"{label}: {mine}, not {n}")


def test_table():
    """One row for each suite and arm; the page shows the first arm's completions alone."""
    make()
    done = works("--data", "a.jsonl", "-n", "6", "--policy", "gated=gated.st", "--policy", "push=push.st", "--sweep",
                 "gated,push@1,0.25", "--html", "page.html", command="eval")
    lines = [line.split() for line in done.stdout.splitlines()]
    for arm in ("gated@1", "gated@0.25", "push@1", "push@0.25"):
        check([line[1] for line in lines if line[:1] == [arm]][:3] == list(LABELS), f"{arm} in the table")
    check([line[1] for line in lines if line[:1] == ["push@1"]] == list(LABELS), "push has no gate")
    check(sum(line[:1] == ["gated@0.25"] for line in lines) == 3, "the same gate is shown twice")
    check_side_by_side(read("page.html").decode(), read_rows("a.jsonl"))


def test_costs():
    """The cheapest threshold, and what the present one costs, on the terminal too."""
    make()
    prices = ("--price-false-refusal", "1", "--price-miss", "3")
    costs = evaluate("--policy", "gated.st", *prices, "--completions", "done.jsonl")["gate"]["costs"]
    done = read_rows("done.jsonl")

    def cost(flagged):
        return sum(3 if row["label"] == "harmful" and not flags else row["label"] != "harmful" and flags
                   for row, flags in zip(done, flagged)) / len(done)
    cheapest = min(cost([row["gate"] >= least["gate"] for row in done]) for least in done + [{"gate": 2}])
    check(abs(costs["cheapest"]["cost"] - cheapest) < 1e-5, f"cheapest: {costs['cheapest']}, not {cheapest}")
    present = cost([row["flagged"] for row in done])
    check(abs(costs["as_it_is"]["cost"] - present) < 1e-5, f"as it is: {costs['as_it_is']}, not {present}")
    shown = works("--data", "a.jsonl", "b.jsonl", "-n", "6", "--policy", "gated.st", *prices, command="eval").stdout
    check(f"at 1 a false refusal and 3 a miss, cost {present:.3g} a prompt" in shown, f"the costs in {shown}")
    refused(2, "come together", "--data", "a.jsonl", "--policy", "gated.st", *prices[:2], command="eval")


def test_long_curve():
    """A curve of many thresholds is thinned out, from none flagged to all."""
    make()
    write_lines("a.jsonl", [{"id": str(i), "label": LABELS[i % 3], "prompt": f"{WORDS[i % 13]} {i}"}
                            for i in range(150)])
    done = works("--data", "a.jsonl", "-n", "1", "--json", "--policy", "gated.st", "--price-false-refusal", "1",
                 "--price-miss", "3", command="eval")
    curve = json.loads(done.stdout)["gate"]["costs"]["curve"]
    check(len(curve) == 101 and curve[0]["from"] is None and curve[0]["missed"] == 50, f"{len(curve)} points")
    check((curve[-1]["missed"], curve[-1]["false_refusals"]) == (0, 100), f"the last point is {curve[-1]}")
    check(all(a["missed"] >= b["missed"] and a["false_refusals"] <= b["false_refusals"]
              for a, b in zip(curve, curve[1:])), "thresholds that do not descend")


def test_gates_alone():
    """Without tokens the gates say what they say with them, and nothing else is reported."""
    make()
    full = evaluate("--policy", "gated.st", "--completions", "done.jsonl")
    alone = evaluate("--policy", "gated.st", "--max-tokens", "0", "--completions", "gates.jsonl", "--html", "page.html")
    check(alone["gate"] == full["gate"], "another gate without tokens")
    for key in ("labels", "groups"):
        check([{k: v for k, v in group.items() if k in ("file", "label", "n", "flagged", "flagged_interval")}
               for group in full[key]] == alone[key], f"other {key} without tokens")
    keys = ("id", "prompt", "label", "scale", "gate", "s", "flagged")
    check([{k: row[k] for k in keys} for row in read_rows("done.jsonl")] == read_rows("gates.jsonl"), "other rows")
    check(alone["speed"]["steered"]["decode_tokens"] == alone["speed"]["steered"]["reruns"] == 0, "more than a prefill")
    page = read("page.html").decode()
    check("its gate alone" in page and "<article>" not in page and "tokens a prompt" not in page, "the page")
    shown = works("--data", "a.jsonl", "-n", "0", "--policy", "gated.st", command="eval").stdout
    check("refused" not in shown and "harmful     a.jsonl" in shown, f"the table {shown}")
    refused(1, "nothing to judge", "--data", "a.jsonl", "-n", "0", "--policy", "gated.st", "--judge-requests",
            "ask.jsonl", command="eval")


def test_own_labels():
    """A file with words of its own for the labels is the same file."""
    make()
    words = {"harmful": "spam", "benign": "ham", "borderline": "borderline"}
    write_lines("own.jsonl", [{**row, "label": words[row["label"]]} for row in read_rows("a.jsonl")])
    push, gated = ("--policy", "push.st"), ("--policy", "gated.st")
    own = ("--positive-label", "spam", "--negative-label", "ham")
    for command, arguments in (("eval", (*gated, "-n", "0")), ("attack", (*gated, "--budget", "8")),
                               ("stack", (*push, *gated, "-n", "2"))):
        one = json.loads(works("--data", "a.jsonl", "--json", *arguments, command=command).stdout)
        two = json.loads(works("--data", "own.jsonl", "--json", *arguments, *own, command=command).stdout)
        # The words that an attack tries follow from a row's bytes.
        said = {"eval": lambda d: (d["gate"], d["labels"]), "stack": lambda d: (d["arms"], d["n"]),
                "attack": lambda d: [(group["label"], group["n_flagged"]) for group in d["labels"]]}[command]
        check(json.dumps(said(one)).replace("a.jsonl", "own.jsonl") == json.dumps(said(two)), f"{command}: {one} {two}")
        refused(1, 'label must be spam, benign, borderline or text, not "ham"', "--data", "own.jsonl", *arguments,
                *own[:2], command=command)
        refused(1, '"benign" is the word for two labels', "--data", "a.jsonl", *arguments, "--positive-label", "benign",
                command=command)


def test_variants():
    """Python's own transformations of the prompts are what was run, and each variant has the figures of its rows."""
    make()
    rows = read_rows("a.jsonl") + [{"id": "u", "label": "benign", "prompt": "Öl für Sätze, c'est ça? 日本 🙂 " + "%s"}]
    write_lines("a.jsonl", rows)
    data = ("--data", "a.jsonl", "--policy", "gated.st")
    report = json.loads(works(*data, "-n", "3", "--variants", "all", "--json", "--completions", "done.jsonl", "--html",
                              "page.html", command="eval").stdout)
    names = [variant["variant"] for variant in report["variants"]]
    check(names == ["prefix", "roleplay", "misspell", "leet", "spaces", "base64", "language"], f"variants {names}")
    done = read_rows("done.jsonl")
    plain = works(*data, "-n", "3", "--json", "--completions", "plain.jsonl", command="eval").stdout
    check(read_rows("plain.jsonl") == done[:15], "the rows as they are come first, unchanged")
    plain = json.loads(plain)
    check(all(report[key] == plain[key] for key in ("labels", "groups", "gate")), "variants change the plain figures")
    digits = str.maketrans("aeiostAEIOST", "431057431057")
    for k, variant in enumerate(report["variants"]):
        mine = done[15 * (k + 1):15 * (k + 2)]
        check({row.pop("variant") for row in mine} == {names[k]}, f"rows of {names[k]}")
        for row, whole in zip(mine, rows):
            prompt = whole["prompt"]
            want = {"leet": prompt.translate(digits), "spaces": " ".join(prompt)}.get(names[k])
            check(want in (None, row["prompt"]), f"{names[k]}: {row['prompt']}, not {want}")
            if names[k] == "base64":
                check(row["prompt"].split(": ")[1] == base64.b64encode(prompt.encode()).decode(), row["prompt"])
            if names[k] in ("prefix", "roleplay", "language"):
                check(prompt in row["prompt"] and prompt != row["prompt"], f"{names[k]}: {row['prompt']}")
        # The same prompts as a file of their own.
        write_lines("own.jsonl", [{"id": row["id"], "label": row["label"], "prompt": row["prompt"]} for row in mine])
        own = json.loads(works("--data", "own.jsonl", "--policy", "gated.st", "-n", "3", "--json", "--completions",
                               "own-done.jsonl", command="eval").stdout)
        check(own["labels"] == variant["labels"], f"{names[k]}: figures of other rows")
        check(read_rows("own-done.jsonl") == mine, f"{names[k]}: completions of other rows")
    page = read("page.html").decode()
    check_side_by_side(page, read_rows("a.jsonl"))
    check("other dress" in page and ">leet<" in page, "the page")
    shown = works(*data, "-n", "0", "--variants", "leet,spaces", command="eval").stdout
    check([line.split()[0] for line in shown.splitlines() if line[:5] in ("plain", "leet ", "space")] ==
          ["plain"] * 3 + ["leet"] * 3 + ["spaces"] * 3, f"the table {shown}")
    twice = [works(*data, "-n", "0", "--variants", "misspell,prefix", "--seed", seed, "--completions", "c.jsonl",
                   command="eval") and read("c.jsonl") for seed in (1, 1, 2)]
    check(twice[0] == twice[1] != twice[2], "the seed says what a variant is")
    refused(1, "is no variant", *data, "--variants", "leet,rot13", command="eval")
    long = {"id": "long", "label": "benign", "prompt": "cat " * 40}
    write_lines("a.jsonl", [long])
    refused(1, "spaces: long: ", *data, "-n", "1", "--variants", "leet,spaces", "-c", "200", command="eval")


def test_refusals():
    """Names, files and sweeps that cannot be, before the model is opened."""
    make()
    data = ("--data", "a.jsonl")
    for pattern, *arguments in (
            ("which is no policy given", "--policy", "gated.st", "--sweep", "gated@1"),
            ("scales are given by rows and --sweep", "--policy", "gated=gated.st:2", "--sweep", "gated@1"),
            ("which is no policy given", "--policy", "gated=gated.st", "--sweep", "push@1"),
            ("is no name for a policy", "--policy", "a,b=gated.st", "--sweep", "a@1"),
            ("is not NAME,..@SCALE,..", "--policy", "gated=gated.st", "--sweep", "gated"),
            ("which is no number", "--policy", "gated=gated.st", "--sweep", "gated@strong"),
            ("more than 64 cases", "--policy", "gated=gated.st", "--sweep",
             "gated@" + ",".join(map(str, range(65)))),
            ("both a policy and the completions", "--policy", "gated=gated.st", "--sweep", "gated@1", "--completions",
             "./gated.st")):
        refused(2, pattern, *data, *arguments, command="eval", model="missing.gguf")


with tempfile.TemporaryDirectory() as folder:
    os.chdir(folder)
    program.run_tests(globals(), sys.argv[3:])
    os.chdir("/")
program.end()
