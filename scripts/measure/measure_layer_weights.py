#!/usr/bin/env python3
"""Compares where a push is put, at equal length of the whole push, on harmful prompts that no fit has read: the best
single site, a band of a fifth of the layers, and layer weights that are learned, for the policy and by the prompt.

All four act with an open gate, so that what is compared is the push alone. The prompts are AdvBench from 260 on and the
harmful ones of the project's test split, --limit of each file."""

import argparse
import json
import struct
import sys
from pathlib import Path

from measure_steering import HERE, OWN, TEXTS, Measurement, mixture, pick, rows_of, share, write


def at_push(source, out, factor):
    """A copy of a policy whose coefficients are factor times as large."""
    raw = source.read_bytes()
    (size,) = struct.unpack_from("<Q", raw)
    header = json.loads(raw[8:8 + size])
    alpha = float(header["__metadata__"]["trimtab.alpha"]) * factor
    header["__metadata__"]["trimtab.alpha"] = f"{alpha:.9g}"
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    out.write_bytes(struct.pack("<Q", len(text)) + text + raw[8 + size:])
    return out


def width(candidate):
    return candidate["last_layer"] - candidate["first_layer"] + 1


def even(candidate):
    return all(weight == 1 for weight in candidate["weights"])


class Comparison(Measurement):
    def fit_weights(self, how):
        """The report of a fit with layer weights of this kind, and the folder of its candidates."""
        folder, report = self.out / f"candidates_{how}", self.out / f"fit_{how}.json"
        if not (self.args.reuse and report.exists()):
            files = [] if self.args.own_only else mixture(self.args.data, self.out)
            files += [HERE / "data" / f"{name}.jsonl" for name in (*OWN, *TEXTS)]
            self.run("fit", self.args.model, "--data", *files, "-o", self.out / f"{how}.safetensors", "--report",
                     report, "--layer-weights", how, "--candidates", folder, "--activations", self.args.activations)
        return json.loads(report.read_text(encoding="utf-8")), folder

    def arm(self, name, candidate, folder, push):
        path = folder / f"{candidate['policy']}.safetensors"
        weights = ", ".join(f"{weight:.2f}" for weight in candidate["weights"])
        print(f"{name:10} layers {candidate['first_layer']}-{candidate['last_layer']} ({weights}), "
              f"D + {candidate['mix']:.2f} E, tried at push {candidate['push']:.2f}, compared at {push:.2f}")
        return at_push(path, self.out / f"arm_{name}.safetensors", push / candidate["push"])

    def arms(self):
        searched, folder = self.fit_weights("search")
        by_prompt, prompt_folder = self.fit_weights("prompt")
        candidates = searched["candidates"]
        ranked = sorted((c for c in candidates if even(c)), key=lambda c: (-c["n_harmful"], -c["score"]))
        site = next((c for c in ranked if c["chosen"]), ranked[0])
        n_layers = len(searched["directions"]["norms"])
        band = next(c for c in ranked if width(c) == round(n_layers / 5) and c["mix"] == site["mix"])
        push = site["push"]
        paths = {"site": self.arm("site", site, folder, push), "band": self.arm("band", band, folder, push)}
        learned = [c for c in candidates if not even(c)]
        if learned:
            paths["searched"] = self.arm("searched", learned[-1], folder, push)
        learned = [c for c in by_prompt["candidates"] if not even(c)]
        if learned:
            paths["by-prompt"] = self.arm("by-prompt", learned[-1], prompt_folder, push)
        return paths

    def compare(self):
        paths = self.arms()
        own = [row for name in OWN for row in rows_of(HERE / "data" / f"{name}.jsonl")
               if row["split"] == "test" and row["label"] == "harmful"]
        files = [
            write(self.out / "unseen_advbench.jsonl",
                  pick([row for row in rows_of(self.args.data / "advbench.jsonl") if row["id"] >= "advbench-00260"],
                       10**6)),
            write(self.out / "unseen_own.jsonl", pick(own, 10**6)),
        ]
        policies = [word for name, path in paths.items() for word in ("--policy", f"{name}={path}")]
        report = json.loads(self.run("eval", self.args.model, *policies, "--sweep", f"{','.join(paths)}@1", "--data",
                                     *files, "--limit", self.args.limit, "--max-tokens", self.args.tokens, "--json"))
        (self.out / "layer_weights.json").write_text(json.dumps(report, indent=1), encoding="utf-8")
        self.show(report)

    def show(self, report):
        print(f"\n{'arm':12}{'n':>5}  {'refused':18}{'against site: gained, lost, p':32}{'repeated':>9}{'loss':>7}")
        for arm in report["arms"]:
            row = next(row for row in arm["labels"] if row["label"] == "harmful")
            pairs = row["paired_with_first"] and row["paired_with_first"]["refused"]
            against = f"{pairs['gained']:4}{pairs['lost']:6}   {pairs['p']:.3g}" if pairs else ""
            print(f"{arm['name']:12}{row['n']:5}  {share(row['n_refused']['steered'], row['n']):18}{against:32}"
                  f"{row['repeated_fourgrams']['steered']:9.3f}{row['nll']['steered']:7.2f}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of the public prompt sets")
    parser.add_argument("--model", type=Path, default=HERE / "models" / "SmolLM2-135M-Instruct.Q4_1.gguf")
    parser.add_argument("--out", type=Path, default=HERE / "demo-out" / "layer_weights")
    parser.add_argument("--activations", type=Path, required=True, help="file that keeps what the gates read")
    parser.add_argument("--trimtab", type=Path, default=HERE / "build" / "trimtab")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--tokens", type=int, default=32, help="generated for each prompt")
    parser.add_argument("--limit", type=int, default=0, help="prompts of each file, at most; 0: all")
    parser.add_argument("--reuse", action="store_true", help="take the fits that --out has already")
    parser.add_argument("--own-only", action="store_true", help="fit on the project's own prompts alone")
    parser.set_defaults(compute=None)
    args = parser.parse_args()
    if not (args.data / "toxicchat_train.jsonl").exists():
        print(f"measure_layer_weights: skipped, {args.data} has not the public prompt sets")
        return
    for path in (args.model, args.trimtab):
        if not path.exists():
            sys.exit(f"measure_layer_weights: {path} is missing")
    args.out.mkdir(parents=True, exist_ok=True)
    Comparison(args).compare()


if __name__ == "__main__":
    main()
