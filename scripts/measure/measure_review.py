#!/usr/bin/env python3
"""What verdicts do for a gate: fits one on the project's own prompts, reviews half of a public set with it, continues
the policy on the verdicts, and counts the errors of both on the other half.

The reviewer is the set's own labels, which were kept aside. The set is ToxicChat's train rows (--data DIR; the folder
is not the project's to carry, and where it is absent the script says so and ends). Of the verdicts nothing but their
number differs between the rows of the table:

  chosen     eval --review knew the labels: wrong rows and near ones
  traffic    it knew none (every row was called benign), so only what the gate said counts
  random     rows by a hash of their ids
  no replay  the chosen ones, with 4 rows of each label to replay: what a gate forgets

Only gates run (--max-tokens 0), so the push of the policy is not searched for. No fit reads the project's test split,
which shows what was forgotten."""

import argparse
import hashlib
import json
import subprocess
import sys
from pathlib import Path

from measure_steering import HERE, OWN, TEXTS, broadest, pick, rows_of, share, write


def halves(path, n, longest):
    """Of all harmful rows that are not too long and n benign ones every second is reviewed; the others are fresh."""
    rows = [row for row in rows_of(path) if len(row["prompt"]) <= longest]
    seen, fresh = [], []
    for label, most in (("harmful", len(rows)), ("benign", n)):
        chosen = pick([row for row in rows if row["label"] == label], most)
        seen += chosen[0::2]
        fresh += chosen[1::2]
    return pick(seen, len(seen)), pick(fresh, len(fresh))


class Measurement:
    def __init__(self, args):
        self.args, self.out = args, args.out
        self.own = [HERE / "data" / f"{name}.jsonl" for name in (*OWN, *TEXTS)]

    def run(self, *words):
        more = ["--threads", self.args.threads] if self.args.threads else []
        command = [str(word) for word in (self.args.trimtab, words[0], self.args.model, *words[1:], *more)]
        result = subprocess.run(command, stdout=subprocess.PIPE)
        if result.returncode not in (0, 3):
            sys.exit(f"measure_review: {' '.join(command[:2])} ended with status {result.returncode}")
        return result.stdout.decode()

    def fit(self):
        policy = self.out / "before.safetensors"
        self.run("fit", "--data", *self.own, "-o", policy, "--activations", self.out / "activations",
                 "--direction-prompts", 4, "--judge-prompts", 1, "--judge-tokens", 4, "--max-candidates", 1)
        return policy

    def review(self, policy, name, rows, reviewer):
        """The rows that eval --review chooses, with the reviewer's verdicts."""
        path, chosen = write(self.out / f"seen_{name}.jsonl", rows), self.out / f"review_{name}.jsonl"
        self.run("eval", "--policy", policy, "--data", path, "--max-tokens", 0, "--review", chosen, "--review-rows",
                 self.args.verdicts)
        rows = [{**row, "verdict": reviewer[row["id"]]} for row in rows_of(chosen)]
        harmful = sum(row["verdict"] == "harmful" for row in rows)
        print(f"{name}: {len(rows)} verdicts, {harmful} harmful; by reason "
              + ", ".join(f"{sum(row['reason'] == reason for row in rows)} {reason}"
                          for reason in ("miss", "false", "near")))
        return rows

    def carry_on(self, policy, name, rows, *more):
        """The policy that is continued on the rows."""
        path, after = write(self.out / f"reviewed_{name}.jsonl", rows), self.out / f"after_{name}.safetensors"
        words = [word for own in self.own for word in ("--replay", own)]
        print(f"\n{name}")
        print(self.run("fit", "--continue", policy, "--data", path, *words, "-o", after, "--activations",
                       self.out / "activations", *more).rsplit("\n\n", 1)[0])
        return after

    def errors(self, policies, name, rows):
        path = write(self.out / f"{name}.jsonl", rows)
        words = [word for arm, policy in policies.items() for word in ("--policy", f"{arm}={policy}")]
        report = json.loads(self.run("eval", *words, "--sweep", ",".join(policies) + "@1", "--data", path,
                                     "--max-tokens", 0, "--json"))
        print(f"\n{name}, {len(rows)} prompts\n{'':14}{'missed':>22}{'false':>20}{'threshold':>12}{'AUC':>8}")
        for arm in report["arms"]:
            count = {group["label"]: (round(group["flagged"] * group["n"]), group["n"]) for group in arm["labels"]}
            flagged, n = count.pop("harmful")
            false, others = (sum(values) for values in zip(*count.values()))
            curve = broadest(arm["gate"]["curves"], path.name)
            print(f"{arm['name'].removesuffix('@1'):14}{share(n - flagged, n):>22}{share(false, others):>20}"
                  f"{arm['gate']['threshold']:12.4f}{curve['auc']:8.3f}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of the public prompt sets")
    parser.add_argument("--model", type=Path, default=HERE / "models" / "SmolLM2-135M-Instruct.Q4_1.gguf")
    parser.add_argument("--out", type=Path, default=HERE / "demo-out" / "review")
    parser.add_argument("--trimtab", type=Path, default=HERE / "build" / "trimtab")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--verdicts", type=int, default=100)
    parser.add_argument("--benign", type=int, default=300, help="benign prompts of the set")
    parser.add_argument("--longest", type=int, default=1200, help="characters of a prompt")
    parser.add_argument("--swap", action="store_true", help="review the other half")
    args = parser.parse_args()
    path = args.data / "toxicchat_train.jsonl"
    if not path.exists():
        print(f"measure_review: skipped, {path} is absent")
        return
    for path_needed in (args.model, args.trimtab):
        if not path_needed.exists():
            sys.exit(f"measure_review: {path_needed} is missing")
    args.out.mkdir(parents=True, exist_ok=True)
    measurement = Measurement(args)
    seen, fresh = halves(path, args.benign, args.longest)
    if args.swap:
        seen, fresh = fresh, seen
    reviewer = {row["id"]: row["label"] for row in seen}
    policy = measurement.fit()
    chosen = measurement.review(policy, "chosen", seen, reviewer)
    traffic = measurement.review(policy, "traffic", [{**row, "label": "benign"} for row in seen], reviewer)
    hashed = sorted(seen, key=lambda row: hashlib.sha256(b"review " + row["id"].encode()).hexdigest())
    policies = {
        "before": policy,
        "chosen": measurement.carry_on(policy, "chosen", chosen),
        "traffic": measurement.carry_on(policy, "traffic", traffic),
        "random": measurement.carry_on(policy, "random", [{**row, "verdict": "keep"}
                                                          for row in hashed[:args.verdicts]]),
        "no_replay": measurement.carry_on(policy, "no_replay", chosen, "--gate-prompts", 4),
    }
    measurement.errors(policies, "fresh", fresh)
    measurement.errors(policies, "own_test", [row for own in measurement.own for row in rows_of(own)
                                              if row["split"] == "test" and row["label"] != "text"])


if __name__ == "__main__":
    main()
