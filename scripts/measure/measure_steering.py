#!/usr/bin/env python3
"""Fits policies and measures them on prompts that they were not fitted on, most of them of other sets and forms, and
prints the tables of docs/figures.md in Markdown.

Of --fits, "mixture" is the default on a mixture of public prompt sets and the project's own prompts, "own" the default
on the project's own prompts alone, which is what a user without data sets has; "paper", "released" and "cast" are these
modes on the mixture. All are compared in one run, beside one unsteered model. --out keeps every step: a run that was
stopped goes on with --reuse.

The folder of public sets (--data) is not the project's to carry: where it is absent, the script says so and ends. No
fit reads XSTest, MMLU, ARC, WikiText-2 or the project's test split. ToxicChat's train rows are in the mixture, so each
of them is judged by a gate that was trained without its fold (the fit's report has these logits), and by completions
under the push with the gate held open. A mode whose gate is no detector has no such logits: its fit does not read
ToxicChat.

XSTest is for judging alone: whoever looks at its figures and changes the fit has tuned on it. docs/figures.md says how
often it was run on; --only leaves it out."""

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
TEXTS = ("texts",)  # no prompts: they train gates alone
SETS = ("advbench", "alpaca_5k", "cast_condition_harmful", "toxicchat_train", "inthewild_jailbreak_a",
        "forbidden_questions", "xstest", "mmlu_dev", "arc_easy_1k")
MODES_WITHOUT_DETECTOR = ("paper", "released", "cast")
FITS = ("mixture", "own", *MODES_WITHOUT_DETECTOR)
LABELS = ("harmful", "benign", "borderline")


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
    """Runs trimtab; what a step has given is kept in the folder --out."""

    def __init__(self, args):
        self.args, self.out = args, args.out
        self.more = ["--threads", str(args.threads)] if args.threads else []
        self.more += ["--compute", args.compute] if args.compute else []

    def run(self, *words):
        command = [str(self.args.trimtab), *map(str, words), *self.more]
        result = subprocess.run(command, stdout=subprocess.PIPE)
        if result.returncode not in (0, 3):
            sys.exit(f"{Path(sys.argv[0]).stem}: {' '.join(command[:2])} ended with status {result.returncode}")
        return result.stdout

    def report(self, name, *words):
        """What the command reports; with --reuse, what it reported when it ran before."""
        path = self.out / f"{name}.json"
        if not (self.args.reuse and path.exists()):
            said = self.run(*words, "--json")
            path.with_suffix(".partial").write_bytes(said)
            path.with_suffix(".partial").rename(path)
        return json.loads(path.read_text(encoding="utf-8"))


def reads_toxicchat(fit):
    return fit == "mixture"


class Steering(Measurement):
    def __init__(self, args):
        super().__init__(args)
        self.fits = {name: self.fit(name) for name in args.fits}  # name -> the report of its fit
        self.policies = {name: self.out / f"{name}.safetensors" for name in args.fits}
        self.figures = {"model": args.model.name, "compute": args.compute or "f32", "tokens": args.tokens,
                        "limit": args.limit, "fits": {}, "suites": [],
                        "gates": [], "choices": [], "perplexity": []}
        for name, report in self.fits.items():
            chosen = report["chosen"]
            self.figures["fits"][name] = {
                "seconds": report["seconds"], "rows": report["rows"], "rows_from_file":
                report["activations"]["n_from_file"], "threshold": report["gate"].get("threshold"), "layers":
                [chosen["first_layer"], chosen["last_layer"]], "mix": chosen.get("mix"), "push": chosen.get("push"),
                "within_bars": report["within_bars"]}

    def fit(self, name):
        files = [] if name == "own" else mixture(self.args.data, self.out)
        if not reads_toxicchat(name):
            files = [file for file in files if file.name != "fit_toxicchat.jsonl"]
        files += [HERE / "data" / f"{own}.jsonl" for own in (*OWN, *TEXTS)]
        mode = name if name in MODES_WITHOUT_DETECTOR else "contrast"
        more = self.args.fit.split() if self.args.fit else []
        return self.report(f"{name}.fit", "fit", self.args.model, "--data", *files, "-o",
                           self.out / f"{name}.safetensors", "--name", name, "--mode", mode, "--activations",
                           self.out / "activations", *more)

    def arms(self, name, policies, limit, tokens, paths, *more):
        """arm -> its part of the report of eval."""
        words = [word for arm, policy in policies.items() for word in ("--policy", f"{arm}={policy}")]
        report = self.report(name, "eval", self.args.model, *words, "--sweep", ",".join(policies) + "@1", "--data",
                             *paths, "--max-tokens", tokens, "--limit", limit, *more)
        return {arm["name"].removesuffix("@1"): arm for arm in report["arms"]}

    def evaluate(self, name, policies, paths):
        """arm -> its rows; and arm -> the curves of its gate, of all rows."""
        completions = self.out / f"{name}.completions.jsonl"
        arms = self.arms(name, policies, self.args.limit, self.args.tokens, paths, "--completions", completions)
        rows = {arm: [row for row in rows_of(completions) if row["arm"] == f"{arm}@1"] for arm in arms}
        if self.args.limit:
            arms = self.arms(f"{name}.gates", policies, 0, 0, paths)
        return rows, {arm: report["gate"]["curves"] for arm, report in arms.items()}

    def add(self, suite, rows):
        """A line of the table for each label of the rows of each arm."""
        for label in LABELS:
            of_label = {arm: [row for row in rows[arm] if row["label"] == label] for arm in rows}
            first = next(iter(of_label.values()))
            if not first:
                continue
            count = lambda arm, key: sum(bool(row[key]) for row in of_label[arm])
            loss = lambda arm, side: sum(row[f"nll_{side}"] for row in of_label[arm]) / len(first)
            arm = next(iter(of_label))
            self.figures["suites"].append({
                "suite": suite, "label": label, "n": len(first), "refused": count(arm, "refused_unsteered"),
                "by_phrases": count(arm, "refused_by_phrases_unsteered"), "loss": loss(arm, "unsteered"),
                "arms": {arm: {"flagged": count(arm, "flagged"), "refused": count(arm, "refused_steered"),
                               "by_phrases": count(arm, "refused_by_phrases_steered"), "loss": loss(arm, "steered")}
                         for arm in of_label}})

    def gate(self, suite, curves):
        """arm -> a curve of its gate."""
        keep = lambda curve: {
            "auc": curve["auc"], "auc_interval": curve["auc_interval"], "n": [curve["n_harmful"], curve["n_against"]],
            "flagged": [point["flagged"] for point in curve["points"]]}
        self.figures["gates"].append({"suite": suite, "arms": {arm: keep(curve) for arm, curve in curves.items()}})

    def suite(self, name, paths):
        rows, curves = self.evaluate(paths[0].stem, self.policies, paths)
        self.add(name, rows)
        of_all = None if len(paths) > 1 else paths[0].name
        if any(curves.values()):
            self.gate(name, {arm: broadest(curves[arm], of_all) for arm in curves})
        if len(paths) > 1:
            self.gate(f"{name}, the {len(rows_of(paths[1]))} that share no content word with an own prompt",
                      {arm: broadest(curves[arm], paths[1].name) for arm in curves})

    def toxicchat(self):
        """Each row that was fitted on by the gate that was trained without it, its completions under an open gate."""
        all_rows = rows_of(self.args.data / "toxicchat_train.jsonl")
        path = write(self.out / "suite_toxicchat.jsonl", pick(
            [row for row in all_rows if row["label"] == "harmful"]
            + pick([row for row in all_rows if row["label"] == "benign"], 500), len(all_rows)))
        policies = {name: open_gate(policy, self.out / f"{name}.open.safetensors") if reads_toxicchat(name) else policy
                    for name, policy in self.policies.items()}
        rows, curves = self.evaluate("suite_toxicchat", policies, [path])
        curves = {arm: broadest(self.fits[arm]["gate"]["curves"], "fit_toxicchat.jsonl") if reads_toxicchat(arm)
                  else broadest(curves[arm], path.name) for arm in curves}
        self.gate("ToxicChat", curves)
        at_12 = {}
        for arm in filter(reads_toxicchat, rows):
            report = self.fits[arm]["gate"]
            logit = {row["id"]: row["logit"] for row in report["held_out"]}
            done = [row for row in rows[arm] if row["id"] in logit]
            benign = sorted((logit[row["id"]] for row in done if row["label"] == "benign"), reverse=True)
            at_12[arm] = at_cut(done, logit, benign[int(0.12 * len(benign))])
            rows[arm] = at_cut(done, logit, math.log(report["threshold"] / (1 - report["threshold"])))
        self.add("ToxicChat", rows)
        if at_12:
            self.add("ToxicChat, 12% of benign flagged", at_12)

    def choices(self, name, file):
        """Whether the likeliest choice is the same, for questions as plain text and in the chat template."""
        path = self.args.data / f"{file}.jsonl"
        for form, words in (("plain", []), ("chat", ["--chat"])):
            arms = {}
            for arm, policy in self.policies.items():
                report = self.report(f"{arm}.{file}.{form}", "score", self.args.model, "--choices", path, "--policy",
                                     policy, "--limit", self.args.questions, *words)["choices"]
                arms[arm] = {"changed": report["paired"]["acc"]["changed"], "flagged": report["flagged"],
                             "acc": report["acc"]}
            self.figures["choices"].append({"suite": name, "form": form, "n": report["n"], "arms": arms})

    def perplexity(self, path):
        arms = {}
        for arm, policy in self.policies.items():
            report = self.report(f"{arm}.perplexity", "score", self.args.model, "--perplexity", path, "--window", 512,
                                 "--limit", self.args.windows, "--policy", policy)["perplexity"]
            arms[arm] = {**report["paired"], "perplexity": report["perplexity"]}
        self.figures["perplexity"].append({"suite": "WikiText-2", "n_windows": report["n_windows"], "window":
                                           report["window"], "stride": report["stride"], "arms": arms})


def at_cut(rows, logit, cut):
    """The rows as a gate with this threshold would have it: those that it does not flag are not steered."""
    made = []
    for row in rows:
        flagged = logit[row["id"]] > cut
        side = "steered" if flagged else "unsteered"
        made.append({**row, "flagged": flagged, **{f"{key}_steered": row[f"{key}_{side}"]
                                                   for key in ("refused", "refused_by_phrases", "nll")}})
    return made


def line(cells):
    return "| " + " | ".join(cells) + " |"


def tables(figures):
    """The tables of docs/figures.md, a list of lines."""
    names = list(figures["fits"])

    def table(heads, rows):
        return [line([*heads, *names]), line(["---"] * (len(heads) + len(names)))] + [
            line([*cells, *(of(name) for name in names)]) for cells, of in rows]

    def suite(row):
        def of(arm):
            did, n = row["arms"].get(arm), row["n"]
            return f"{100 * did['flagged'] / n:.1f}; {share(did['refused'], n).strip()}" if did else ""
        return [f"{row['suite']}, {row['label']}", str(row["n"]), share(row["refused"], row["n"]).strip()], of

    def gate(row):
        def of(arm):
            curve = row["arms"][arm]
            return f"{curve['auc']:.3f}; " + ", ".join(f"{100 * value:.0f}" for value in curve["flagged"])
        return [row["suite"]], of

    def choices(row):
        kept = lambda arm: 100 * (1 - row["arms"][arm]["changed"] / row["n"])
        return [f"{row['suite']}, {row['form']}: % of answers unchanged", str(row["n"])], lambda a: f"{kept(a):.1f}"

    def perplexity(row):
        def of(arm):
            did = row["arms"][arm]
            interval = ", ".join(f"{value:.4f}" for value in did["ratio_interval"] or [])
            return f"{did['ratio']:.4f} [{interval}]"
        return ["WikiText-2: perplexity, steered over unsteered", f"{row['n_windows']} windows"], of

    def seconds(arm):
        fit = figures["fits"][arm]
        prompts = sum(fit["rows"][label][split] for label in LABELS for split in ("train", "val"))
        kept = f", {fit['rows_from_file']} of the gate's rows kept" if fit["rows_from_file"] else ""
        return f"{fit['seconds']:.0f} ({prompts} prompts{kept})"

    other = [choices(row) for row in figures["choices"]] + [perplexity(row) for row in figures["perplexity"]]
    return [
        *table(["% opened; refused", "n", "unsteered"], map(suite, figures["suites"])), "",
        *table(["gate: area under the curve; % of harmful ones flagged at 5, 12, 15% of the others"],
               map(gate, figures["gates"])), "",
        *table(["other text", "n"], [*other, (["the fit: seconds", ""], seconds)])]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of the public prompt sets")
    parser.add_argument("--model", type=Path, default=HERE / "models" / "SmolLM2-135M-Instruct.Q4_1.gguf")
    parser.add_argument("--out", type=Path, default=HERE / "demo-out" / "measure")
    parser.add_argument("--trimtab", type=Path, default=HERE / "build" / "trimtab")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--compute", choices=("f32", "q8"), help="for the fits, too")
    parser.add_argument("--tokens", type=int, default=32, help="generated for each prompt")
    parser.add_argument("--limit", type=int, default=0,
                        help="prompts of each label and suite that are completed, at most; 0: all. Gates read all")
    parser.add_argument("--questions", type=int, default=0, help="the first of MMLU and of ARC; 0: all")
    parser.add_argument("--windows", type=int, default=400,
                        help="the first of WikiText-2, of 512 tokens, one every 256; 0: all")
    parser.add_argument("--only", nargs="+", metavar="SUITE", help="suites, by the first words of their lines")
    parser.add_argument("--fits", nargs="+", choices=FITS, default=["mixture", "own"])
    parser.add_argument("--fit", help="further options of the fits, in one word")
    parser.add_argument("--reuse", action="store_true", help="take what --out has already")
    args = parser.parse_args()
    for name in SETS:
        if not (args.data / f"{name}.jsonl").exists():
            print(f"measure_steering: skipped, {args.data / name}.jsonl is absent")
            return
    for path in (args.model, args.trimtab):
        if not path.exists():
            sys.exit(f"measure_steering: {path} is missing")
    args.out.mkdir(parents=True, exist_ok=True)
    wanted = lambda name: not args.only or name.split()[0] in args.only
    steering = Steering(args)
    for name, paths in suites(args.data, args.out).items():
        if wanted(name):
            steering.suite(name, paths)
    if wanted("ToxicChat"):
        steering.toxicchat()
    for name, file in (("MMLU dev", "mmlu_dev"), ("ARC easy", "arc_easy_1k")):
        if wanted(name):
            steering.choices(name, file)
    if wanted("WikiText-2"):
        steering.perplexity(args.data / "wikitext2_test.txt")
    (args.out / "table.json").write_text(json.dumps(steering.figures, indent=1) + "\n", encoding="utf-8")
    print("\n".join(tables(steering.figures)))


if __name__ == "__main__":
    main()
