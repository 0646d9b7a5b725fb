#!/usr/bin/env python3
"""Fits a policy on a mixture of public prompt sets and the project's own prompts, and measures it on prompts that it
was not fitted on, most of them of other sets and forms.

The folder of public sets (--data) is not the project's to carry: where it is absent, the script says so and ends. No
fit reads XSTest, MMLU, ARC or the project's test split. ToxicChat's train rows are fitted on, so each of them is judged
by a gate that was trained without its fold (the fit's report has these logits), and by completions under the push with
the gate held open. A mode whose gate is no detector has no such logits: its fit does not read ToxicChat."""

import argparse
import hashlib
import json
import math
import re
import struct
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parents[2]
OWN = ("prompts", "pairs", "chat")
MODES_WITHOUT_DETECTOR = ("paper", "released", "cast")


def rows_of(path):
    with open(path, encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def pick(rows, n):
    """n of the rows, by a hash of the id: the same ones whatever the file's order."""
    return sorted(rows, key=lambda row: hashlib.sha256(row["id"].encode()).hexdigest())[:n]


def write(path, rows):
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


def mixture(data, out):
    """The files of the fit. Sets of one source are one file each, since the fit weighs its rows by file."""
    advbench, alpaca = rows_of(data / "advbench.jsonl"), rows_of(data / "alpaca_5k.jsonl")
    cast = [row for row in rows_of(data / "cast_condition_harmful.jsonl") if row["split"] == "train"]
    wild, seen = [], set()
    for row in pick(rows_of(data / "inthewild_jailbreak_a.jsonl"), 10**6):  # one a cluster, none that fills a context
        if len(row["prompt"]) <= 2000 and row["cluster"] not in seen:
            seen.add(row["cluster"])
            wild.append({**row, "split": "train"})
    parts = {
        "advbench": [row for row in advbench if row["id"] <= "advbench-00259"],
        "alpaca": pick([row for row in alpaca if row["split"] in ("train", "val")], 1200),
        "cast": [row for label in ("harmful", "benign")
                 for row in pick([row for row in cast if row["label"] == label], 240)],
        "toxicchat": rows_of(data / "toxicchat_train.jsonl"),
        "wild": wild,
        "forbidden": rows_of(data / "forbidden_questions.jsonl"),
    }
    return [write(out / f"fit_{name}.jsonl", rows) for name, rows in parts.items()]


def choices(rows):
    """Multiple-choice questions as prompts."""
    def text(row):
        options = "\n".join(f"{letter}. {choice}" for letter, choice in zip("ABCDE", row["choices"]))
        return f"{row['question']}\n{options}\nAnswer:"
    return [{"id": row["id"], "prompt": text(row), "label": "benign"} for row in rows]


def suites(data, out):
    """name -> prompt files"""
    advbench, alpaca = rows_of(data / "advbench.jsonl"), rows_of(data / "alpaca_5k.jsonl")
    xstest = rows_of(data / "xstest.jsonl")
    fresh = fresh_xstest(xstest)
    made = {
        "AdvBench from 260": [[row for row in advbench if row["id"] >= "advbench-00260"]],
        "Alpaca test": [pick([row for row in alpaca if row["split"] == "test"], 500)],
        "XSTest": [[row for row in xstest if row not in fresh], fresh],
    }
    for name in OWN:
        rows = rows_of(HERE / "data" / f"{name}.jsonl")
        made[f"own {name}, test"] = [[row for row in rows if row["split"] == "test"]]
    return {name: [write(out / f"suite_{re.sub('[^a-z0-9]+', '_', name.lower())}{'_fresh' * k}.jsonl",
                         pick(rows, len(rows)))  # in an order that a limit may cut
                   for k, rows in enumerate(parts)] for name, parts in made.items()}


def open_gate(policy, out):
    """A copy of the policy whose gate is always open: its bias is far above any score."""
    raw = bytearray(policy.read_bytes())
    (size,) = struct.unpack_from("<Q", raw)
    begin, end = json.loads(raw[8:8 + size])["gate.b"]["data_offsets"]
    raw[8 + size + begin:8 + size + end] = struct.pack("<f", 1e9)
    out.write_bytes(raw)
    return out


def broadest(curves, file=None):
    """Of the curves of a report: harmful rows of a file, or of all of several, against all others that there are."""
    return [curve for curve in curves if curve.get("file") == file][-1]


def wilson(count, n):
    if n == 0:
        return 0.0, 1.0
    z, p = 1.959964, count / n
    middle, half = p + z * z / (2 * n), z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    return max(0.0, (middle - half) / (1 + z * z / n)), min(1.0, (middle + half) / (1 + z * z / n))


def share(count, n):
    low, high = wilson(count, n)
    return f"{100 * count / max(1, n):5.1f} [{100 * low:.0f},{100 * high:.0f}]"


class Table:
    def __init__(self):
        self.figures = []

    def head(self):
        print(f"{'suite':28}{'label':12}{'n':>5}  {'flagged':16}{'refused alone':16}{'refused steered':18}"
              f"{'by phrases':14}{'loss':>12}")

    def add(self, name, label, rows):
        n = len(rows)
        count = lambda key: sum(bool(row[key]) for row in rows)
        loss = [sum(row[f"nll_{side}"] for row in rows) / max(1, n) for side in ("unsteered", "steered")]
        phrases = [100 * count(f"by_phrases_{side}") / max(1, n) for side in ("unsteered", "steered")]
        print(f"{name:28}{label:12}{n:5}  {share(count('flagged'), n):16}{share(count('refused_unsteered'), n):16}"
              f"{share(count('refused_steered'), n):18}{phrases[0]:5.1f} ->{phrases[1]:5.1f}"
              f"{loss[0]:7.2f} ->{loss[1]:5.2f}")
        self.figures.append({"suite": name, "label": label, "n": n, "loss": loss,
                             **{key: count(key) for key in ("flagged", "refused_unsteered", "refused_steered")}})

    def gate(self, name, curve):
        values = [curve["auc"]] + [point["flagged"] for point in curve["points"]]
        print(f"{name:28}gate: AUC {values[0]:.3f}; harmful flagged at 5%, 12%, 15% of the others: "
              + ", ".join(f"{100 * v:.0f}%" for v in values[1:]))
        self.figures.append({"suite": name, "auc": values[0], "tpr": values[1:]})


def content_words(text):
    stop = set("""about after also and any anyone are because been before being best both but can could did does doing
        done down each even every for from get give good has have help here how into its just know like made make makes
        many may more most much must need new not now off one only other our out over own people please put really same
        say should show some someone something tell than that the their them then there these they thing this those too
        use used using very want was way were what when where which while who whom whose why will with without would
        write you your""".split())
    return {word for word in re.findall("[a-z]{3,}", text.lower()) if word not in stop}


def fresh_xstest(rows):
    """Those that share no content word with any of the project's prompts that a fit reads."""
    known = set()
    for name in ("pairs", "chat", "prompts"):
        for row in rows_of(HERE / "data" / f"{name}.jsonl"):
            if row["split"] != "test":
                known |= content_words(row["prompt"])
    return [row for row in rows if not content_words(row["prompt"]) & known]


class Measurement:
    def __init__(self, args):
        self.args, self.out = args, args.out
        self.reads_toxicchat = not args.own_only and args.mode not in MODES_WITHOUT_DETECTOR
        self.threads = ["--threads", str(args.threads)] if args.threads else []

    def run(self, *words):
        command = [str(self.args.trimtab), *map(str, words), *self.threads]
        result = subprocess.run(command, stdout=subprocess.PIPE)
        if result.returncode not in (0, 3):
            sys.exit(f"measure_steering: {' '.join(command[:2])} ended with status {result.returncode}")
        return result.stdout

    def fit(self):
        policy, report = self.out / "refuse.safetensors", self.out / "fit.json"
        if self.args.reuse and policy.exists() and report.exists():
            return policy, json.loads(report.read_text(encoding="utf-8"))
        files = [] if self.args.own_only else mixture(self.args.data, self.out)
        if not self.reads_toxicchat:
            files = [file for file in files if file.name != "fit_toxicchat.jsonl"]
        files += [HERE / "data" / f"{name}.jsonl" for name in (*OWN, "texts")]
        more = self.args.fit.split() if self.args.fit else []
        print(self.run("fit", self.args.model, "--data", *files, "-o", policy, "--report", report, "--name", "refuse",
                       "--mode", self.args.mode, *more).decode())
        return policy, json.loads(report.read_text(encoding="utf-8"))

    def evaluate(self, policy, name, *prompts):
        """The completions, and the curves of the gate."""
        completions = self.out / f"completions_{name}.jsonl"
        report = json.loads(self.run("eval", self.args.model, "--policy", policy, "--data", *prompts, "--max-tokens",
                                     self.args.tokens, "--limit", self.args.limit, "--completions", completions,
                                     "--json"))
        return normalise(rows_of(completions)), report["gate"]["curves"]

    @staticmethod
    def toxicchat_at(table, name, done, logit, cut):
        """The rows as a gate with this threshold would have it: those that it does not flag are not steered."""
        for label in ("harmful", "benign"):
            rows = []
            for row in (row for row in done if row["label"] == label):
                flagged = logit[row["id"]] > cut
                side = "steered" if flagged else "unsteered"
                rows.append({**row, "flagged": flagged,
                             **{f"{key}_steered": row[f"{key}_{side}"] for key in ("refused", "by_phrases", "nll")}})
            table.add(name, label, rows)

    def toxicchat(self, table, policy, report):
        """Each row that was fitted on by the gate that was trained without it, its completions under an open gate."""
        rows = rows_of(self.args.data / "toxicchat_train.jsonl")
        harmful = [row for row in rows if row["label"] == "harmful"]
        path = write(self.out / "suite_toxicchat.jsonl",
                     harmful + pick([row for row in rows if row["label"] == "benign"], 500))
        if not self.reads_toxicchat:
            done, curves = self.evaluate(policy, "toxicchat", path)
            table.gate("ToxicChat train", broadest(curves, path.name))
        else:
            logit = {row["id"]: row["logit"] for row in report["gate"]["held_out"]}
            threshold = report["gate"]["threshold"]
            table.gate("ToxicChat train, 5 folds", broadest(report["gate"]["curves"], "fit_toxicchat.jsonl"))
            done, _ = self.evaluate(open_gate(policy, self.out / "open.safetensors"), "toxicchat", path)
            done = [row for row in done if row["id"] in logit]
            benign = sorted((logit[row["id"]] for row in done if row["label"] == "benign"), reverse=True)
            self.toxicchat_at(table, "ToxicChat, 12% benign", done, logit, benign[int(0.12 * len(benign))])
            self.toxicchat_at(table, "ToxicChat train", done, logit, math.log(threshold / (1 - threshold)))
            return
        for label in ("harmful", "benign"):
            table.add("ToxicChat train", label, [row for row in done if row["label"] == label])


def normalise(rows):
    for row in rows:
        for side in ("unsteered", "steered"):
            row[f"by_phrases_{side}"] = row[f"refused_by_phrases_{side}"]
    return rows


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of the public prompt sets")
    parser.add_argument("--model", type=Path, default=HERE / "models" / "SmolLM2-135M-Instruct.Q4_1.gguf")
    parser.add_argument("--out", type=Path, default=HERE / "demo-out" / "measure")
    parser.add_argument("--trimtab", type=Path, default=HERE / "build" / "trimtab")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--tokens", type=int, default=32, help="generated for each prompt")
    parser.add_argument("--limit", type=int, default=0, help="prompts of each label and suite, at most; 0: all")
    parser.add_argument("--only", nargs="+", metavar="SUITE", help="suites, by the first words of their lines")
    parser.add_argument("--own-only", action="store_true", help="fit on the project's own prompts alone")
    parser.add_argument("--mode", default="contrast", help="how the policy is made (default contrast)")
    parser.add_argument("--fit", help="further options of the fit, in one word")
    parser.add_argument("--reuse", action="store_true", help="measure the policy that --out has already")
    args = parser.parse_args()
    for name in ("advbench", "alpaca_5k", "cast_condition_harmful", "toxicchat_train", "inthewild_jailbreak_a",
                 "forbidden_questions", "xstest", "mmlu_dev", "arc_easy_1k"):
        if not (args.data / f"{name}.jsonl").exists():
            print(f"measure_steering: skipped, {args.data / name}.jsonl is absent")
            return
    for path in (args.model, args.trimtab):
        if not path.exists():
            sys.exit(f"measure_steering: {path} is missing")
    args.out.mkdir(parents=True, exist_ok=True)
    measurement, table = Measurement(args), Table()
    wanted = lambda name: not args.only or name.split()[0] in args.only
    policy, report = measurement.fit()
    table.head()
    for name, paths in suites(args.data, args.out).items():
        if not wanted(name):
            continue
        rows, curves = measurement.evaluate(policy, paths[0].stem, *paths)
        labels = [label for label in ("harmful", "benign", "borderline") if any(row["label"] == label for row in rows)]
        for label in labels:
            table.add(name, label, [row for row in rows if row["label"] == label])
        if len(labels) > 1:
            table.gate(name, broadest(curves, None if len(paths) > 1 else paths[0].name))
        if name == "XSTest":
            table.gate(f"XSTest, no shared word, {len(rows_of(paths[1]))}", broadest(curves, paths[1].name))
    if wanted("ToxicChat"):
        measurement.toxicchat(table, policy, report)
    for name, file in (("MMLU dev", "mmlu_dev"), ("ARC easy", "arc_easy_1k")):
        if not wanted(name):
            continue
        path = write(args.out / f"suite_{file}.jsonl", choices(rows_of(args.data / f"{file}.jsonl")))
        rows, _ = measurement.evaluate(policy, file, path)
        changed = sum(row["steered"] != row["unsteered"] for row in rows)
        print(f"{name:28}benign      {len(rows):5}  {share(sum(row['flagged'] for row in rows), len(rows)):16}"
              f"{changed} answers changed")
        table.figures.append({"suite": name, "n": len(rows), "flagged": sum(row["flagged"] for row in rows),
                              "changed": changed})
    (args.out / "table.json").write_text(json.dumps(table.figures, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
