#!/usr/bin/env python3
"""What `trimtab serve` promises, counted: measure_serve.py TRIMTAB [--bodies N] [--requests N]

  bodies     random bodies, each whole and streamed, at 1, 32 and 256 at a time: choices, steering and usage equal to
             those that `trimtab batch` gives
  steering   wrong values of `steering`: each is a 400 that names the field, streamed or not
  overload   requests at ten times what the engine takes: each ends in 200 or 429, and memory stays flat
  shadows    with --model and --policy alone: the time to the first token of a prompt of 512 tokens under four shadows,
             over the time without them, in turns, by the clock and of the processor; the tokens must be the same

A JSON object a line. The model is the tests' tiny one. A minute."""

import argparse
import collections
import concurrent.futures
import json
import os
import pathlib
import random
import statistics
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("trimtab")
parser.add_argument("--bodies", type=int, default=1000)
parser.add_argument("--requests", type=int, default=10000)
parser.add_argument("--only", help="parts, with commas between them")
parser.add_argument("--model")
parser.add_argument("--policy", type=os.path.abspath)
parser.add_argument("--turns", type=int, default=30)
options = parser.parse_args()

sys.path.insert(0, str(ROOT / "tests/cli"))
sys.argv = [sys.argv[0], os.path.abspath(options.trimtab), str(ROOT / "tests/golden")]
import program  # noqa: E402
from program import check, make_policy, read_rows, works, write_lines  # noqa: E402
from serve_client import Server, put_together, without_extras  # noqa: E402

CHAT, TEXT = "/v1/chat/completions", "/v1/completions"
WORDS = "lock pick cake lemon a the of é 世界 👋 \n run write".split(" ")


def random_body(draw):
    text = " ".join(draw.choices(WORDS, k=draw.randint(1, 30)))
    body = {"max_tokens": draw.randint(1, 24), "seed": draw.randint(-5, 1 << 40), "n": draw.choice([1, 1, 1, 2, 3]),
            "temperature": draw.choice([0, 1, .7]), "top_p": draw.choice([1, .9])}
    if draw.random() < .2:
        body["stop"] = draw.choices(["e", " t", "a", "\n"], k=draw.randint(1, 4))
    if draw.random() < .2:
        body["ignore_eos"] = True
    policies = [{"name": draw.choice("pq"), "scale": draw.choice([0, .5, 1, -1])} for _ in range(draw.randint(0, 3))]
    body["steering"] = draw.choice([False, {"policies": policies},
                                    {"policies": policies, "when": draw.choice(["generation", "last", "all"])}])
    if draw.random() < .5:
        if draw.random() < .3:
            body |= {"logprobs": True, "top_logprobs": draw.randint(0, 20)}
        return CHAT, body | {"messages": [{"role": "user", "content": text}]}
    if draw.random() < .3:
        body["logprobs"] = draw.randint(0, 20)
    if draw.random() < .2:
        body["echo"] = True
    return TEXT, body | {"prompt": draw.choice([text, [text, "b"], [[1, 2, 3], [4]], [5, 6]])}


def measure_bodies():
    draw = random.Random(1)
    asked = [random_body(draw) for _ in range(options.bodies)]
    write_lines("in.jsonl", [{"custom_id": str(i), "method": "POST", "url": path, "body": body}
                             for i, (path, body) in enumerate(asked)])
    policies = ("--policy", "p=p.st", "--policy", "q=q.st")
    works("-i", "in.jsonl", "-o", "out.jsonl", *policies)
    wanted = [row["response"]["body"] for row in read_rows("out.jsonl")]
    equal = collections.Counter()
    with Server(*policies, "--max-batch", 256, "--behind-proxy") as server:
        def same(i, streams):
            path, body = asked[i]
            if streams:
                events = server.stream(path, body)
                # Of the first choice, as of a whole answer; another prompt's may come before it.
                facts = next(event["steering"] for event in events if event["choices"][0]["index"] == 0)
                choices = put_together(events)
            else:
                whole = server.works(path, body)
                if "choices" not in whole:
                    return False
                facts, choices = whole["steering"], without_extras(whole["choices"])
                if whole["usage"] != wanted[i]["usage"]:
                    return False
            told = [{key: entry[key] for key in other} for entry, other in
                    zip(facts or [], wanted[i]["steering"] or [], strict=True)]
            return choices == without_extras(wanted[i]["choices"]) and told == (wanted[i]["steering"] or [])
        for at_once in (1, 32, 256):
            with concurrent.futures.ThreadPoolExecutor(at_once) as pool:
                for streams in (False, True):
                    done = pool.map(lambda i, s=streams: same(i, s), range(len(asked)))
                    equal[f"{'streamed' if streams else 'whole'}, {at_once} at a time"] = sum(done)
    check(all(n == len(asked) for n in equal.values()), f"not equal: {equal}")
    return {"measure": "bodies", "n": len(asked), "equal": equal}


def wrong_steerings(draw):
    """A value, and the field that is at fault."""
    junk = [None, True, 0, -1, 1.5, "", "p", "../p.st", [], {}, [{}], "x" * 300]
    for _ in range(50):
        yield draw.choice([True, 1, 1.5, "p", "", [], ["p"], [{"name": "p"}]]), "steering"
        key = draw.choice(["polices", "policy", "path", "vector", "scale", "name", "layers", "label", "Policies"])
        yield {"policies": [{"name": "p"}], key: draw.choice(junk)}, "steering"
        yield {"policies": draw.choice([None, True, 0, "p", {}, {"name": "p"}, [{"name": "p"}] * 5])}, \
            "steering.policies"
        n = draw.randint(0, 3)
        entry, field = draw.choice([
            ({"name": draw.choice(["r", "P", "p ", " p", "", "../p.st", "p.st", "q" * 300])}, ".name"),
            ({"name": draw.choice([1, True, [], {}, 1.5])}, ".name"), ({}, ".name"), ({"scale": 1}, ".name"),
            ({"name": "p", "scale": draw.choice(["1", True, [], 1e7, -1e7, {}])}, ".scale"),
            ({"name": "p", "version": draw.choice(["", "0" * 64, "0" * 12, 1, True, []])}, ".version"),
            ({"name": "p", draw.choice(["label", "when", "path", "vector", "alpha", "Scale"]): draw.choice(junk)}, ""),
            (draw.choice(["p", 1, None, True, [], ["p"]]), "")])
        yield {"policies": [{"name": "p"}] * n + [entry]}, f"steering.policies[{n}]{field}"
        yield {"policies": [], "when": draw.choice(["", "never", "All", "all ", 1, True, [], {}])}, "steering.when"


def measure_steering():
    named = n = 0
    with Server("--policy", "p=p.st", "--policy", "q=q.st") as server:
        for value, field in wrong_steerings(random.Random(2)):
            for streams in (False, True):
                body = {"prompt": "x", "max_tokens": 2, "stream": streams, "steering": value}
                status, answer = server.ask(TEXT, body)
                right = status == 400 and answer["error"]["param"] == field
                check(right, f"{value}: {status} {str(answer)[:200]} instead of {field}")
                named += right
                n += 1
    return {"measure": "steering", "n": n, "refused_by_name": named}


def measure_overload():
    """First what the engine can take, then ten times as many at once."""
    body = {"prompt": "x", "max_tokens": 16, "ignore_eos": True, "seed": 1}
    statuses = collections.Counter()
    with Server("--max-batch", 8, "--behind-proxy") as server:
        def ask(_):
            status, _ = server.ask(TEXT, body)
            statuses[status] += 1
        with concurrent.futures.ThreadPoolExecutor(400) as pool:
            list(pool.map(ask, range(options.requests // 10)))
            before = server.memory()
            begun = time.monotonic()
            list(pool.map(ask, range(options.requests)))
            took = time.monotonic() - begun
        grown = server.memory() / before - 1
        waits = {name.split("{")[0]: value for name, value in server.metrics().items()}
    check(set(statuses) <= {200, 429} and statuses[429] > 0, f"{statuses}")
    check(grown < .05, f"memory grew by {grown:.3f}")
    check(waits["vllm:num_requests_running"] == waits["vllm:num_requests_waiting"] == 0, "something is left")
    return {"measure": "overload", "statuses": statuses, "seconds": round(took, 1), "memory_grown": round(grown, 4)}


def interval(values):
    """95% of the median, by 2,000 draws."""
    draw = random.Random(5)
    medians = sorted(statistics.median(draw.choices(values, k=len(values))) for _ in range(2000))
    return [round(medians[i], 4) for i in (50, 1949)]


def measure_shadows():
    draw, clock, processor = random.Random(4), [], []
    shadows = [argument for i in range(4) for argument in ("--policy", f"p{i}={options.policy}", "--shadow", f"p{i}")]
    with Server("-t", 1, model=options.model) as plain, Server("-t", 1, *shadows, model=options.model) as shadowed:
        for turn in range(options.turns + 1):
            body = {"prompt": [draw.randint(1000, 40000) for _ in range(512)], "max_tokens": 1, "temperature": 0}
            took, spent, text = {}, {}, {}
            for server in draw.sample([plain, shadowed], 2):
                begun, before = time.monotonic(), server.processor_time()
                answer = server.works(TEXT, body)
                took[server], text[server] = time.monotonic() - begun, answer["choices"][0]["text"]
                spent[server] = server.processor_time() - before
                check(len(answer.get("shadow", [])) == 4 * (server is shadowed), "shadows spoke")
            check(text[plain] == text[shadowed], "another token under shadows")
            if turn:  # the first warms
                clock.append(took[shadowed] / took[plain])
                processor.append(spent[shadowed] / spent[plain])
    return {"measure": "shadows", "turns": len(clock), "clock": round(statistics.median(clock), 4),
            "clock_interval": interval(clock), "processor": round(statistics.median(processor), 4),
            "processor_interval": interval(processor)}


def main():
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        make_policy("p.st", "gate.b=3")
        make_policy("q.st", "trimtab.when=generation")
        parts = {"bodies": measure_bodies, "steering": measure_steering, "overload": measure_overload}
        if options.model and options.policy:
            parts["shadows"] = measure_shadows
        for name, measure in parts.items():
            if options.only and name not in options.only.split(","):
                continue
            print(json.dumps(measure()), flush=True)
        os.chdir("/")
    program.end()


main()
