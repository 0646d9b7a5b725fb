#!/usr/bin/env python3
"""bench as a person calls it, and its four formats: benching.py TRIMTAB GOLDEN [TEST]..."""

import csv
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from xml.etree import ElementTree

import program
from program import check, make_policy, refused, works

PLOT = Path(__file__).resolve().parents[2] / "bench" / "plot"
SHORT = "-p", "8", "-n", "4", "-r", "3"


def bench(*arguments, **keywords):
    return works(*arguments, command="bench", **keywords).stdout


def test_table():
    """The columns that llama-bench prints for a cache in f32, then what steering costs; every test in its order."""
    lines = bench(*SHORT, "-pg", "8,4", "-d", "0,16").splitlines()
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("|")]
    check(cells[0] == ["model", "size", "params", "backend", "threads", "type_k", "type_v", "test", "t/s",
                       "t/s steered", "ratio of times"], cells[0])
    check([row[7] for row in cells[2:]] == ["pp8", "tg4", "pp8+tg4", "pp8 @ d16", "tg4 @ d16", "pp8+tg4 @ d16"], cells)
    check(len(lines[0]) == len(lines[1]) and set(lines[1]) == set("| -:"), lines[:2])
    check(all(" ± " in row[8] and " to " in row[10] for row in cells[2:]), cells)
    check(lines[-1].startswith("build: trimtab "), lines[-1])
    off = bench(*SHORT, "--off", "--kv", "f16").splitlines()
    check("steered" not in off[0] and "type_k" not in off[0], off[0])
    named = bench(*SHORT, "--off", "--kv", "fp8", "--compute", "q8").splitlines()
    check("f8_e4m3" in named[2] and " compute " in named[0] and " q8 " in named[2], named)


def test_figures():
    """Means and deviations follow from the samples; rows of JSON, JSON lines and CSV have the same fields."""
    make_policy("push.st")
    rows = json.loads(bench(*SHORT, "--limits", "--policy", "push.st:0.5", "-o", "json"))
    check([(row["n_prompt"], row["n_gen"], row["n_depth"]) for row in rows] == [(8, 0, 0), (0, 4, 0)], rows)
    for row in rows:
        n = row["n_prompt"] + row["n_gen"]
        for side in (row, row["steered"]):
            rates = [n * 1e9 / ns for ns in side["samples_ns"]]
            check(len(rates) == 3 and abs(statistics.mean(rates) / side["avg_ts"] - 1) < 1e-3 and
                  abs(statistics.stdev(rates) - side["stddev_ts"]) < 1e-2 * side["avg_ts"], side)
        ratios = sorted(a / b for a, b in zip(row["steered"]["samples_ns"], row["samples_ns"]))
        check(abs(ratios[1] / row["steered"]["ratio"]["median"] - 1) < 1e-3, row)
        check(0 < row["share_of_fma"]["median"] < 2 and row["steered"]["policy"] == "push.st", row)
    lines = [json.loads(line) for line in bench(*SHORT, "-o", "jsonl").splitlines()]
    check(len(lines) == 2 and lines[0]["model_type"] == "llama" and lines[0]["type_k"] == "f32" and
          lines[0]["compute"] == "f32", lines)
    table = list(csv.DictReader(bench(*SHORT, "-o", "csv").splitlines()))
    check(len(table) == 2 and float(table[1]["avg_ts"]) > 0 and float(table[1]["steered_ratio_low"]) > 0 and
          table[0]["n_prompt"] == "8", table)


def test_lists():
    rows = json.loads(bench("-p", "4-8+2,16-64*2", "-n", "0", "-b", "8,16", "-r", "1", "--off", "--no-warmup",
                            "-o", "json", model="dummy:tiny"))
    check([(row["n_ubatch"], row["n_prompt"]) for row in rows] ==
          [(b, p) for b in (8, 16) for p in (4, 6, 8, 16, 32, 64)], rows)


def percentile(values, p):
    """As numpy.percentile, which the machine may not have."""
    values, at = sorted(values), p / 100 * (len(values) - 1)
    below = int(at)
    return values[below] + (at - below) * (values[min(below + 1, len(values) - 1)] - values[below])


def test_serving():
    """Every figure of a serving run from the raw times beside it."""
    for options in (("--request-rate", "150"), ("--max-concurrency", "3"),
                    ("--request-rate", "300", "--max-concurrency", "2")):
        sides = json.loads(bench("--num-prompts", "9", "-p", "24", "-n", "6", "--goodput", "ttft:8,tpot:2,e2el:20",
                                 "-o", "json", *options))
        check([side["side"] for side in sides] == ["off", "steered"], sides)
        for side in sides:
            requests = side["requests"]
            values = {
                "ttft": [r["times"][0] - r["start"] for r in requests],
                "tpot": [(r["times"][-1] - r["times"][0]) / (len(r["times"]) - 1) for r in requests],
                "itl": [b - a for r in requests for a, b in zip(r["times"], r["times"][1:])],
                "e2el": [r["times"][-1] - r["start"] for r in requests]}
            for name, list_ in values.items():
                for suffix, want in (("mean", statistics.mean(list_)), ("median", statistics.median(list_)),
                                     ("std", statistics.pstdev(list_)), ("p90", percentile(list_, 90)),
                                     ("p99", percentile(list_, 99))):
                    got = side[f"{suffix}_{name}_ms"] / 1000
                    check(abs(got - want) <= 1e-12 + 1e-9 * abs(want), f"{suffix} {name}: {got}, not {want}")
            seconds, n_tokens = max(r["times"][-1] for r in requests), sum(len(r["times"]) for r in requests)
            n_good = sum(values["ttft"][i] <= 0.008 and values["tpot"][i] <= 0.002 and values["e2el"][i] <= 0.02
                         for i in range(9))
            for name, want in (("duration", seconds), ("request_throughput", 9 / seconds),
                               ("request_goodput", n_good / seconds), ("output_throughput", n_tokens / seconds),
                               ("total_token_throughput", (n_tokens + 9 * 24) / seconds)):
                check(abs(side[name] - want) <= 1e-9 * want, f"{name}: {side[name]}, not {want}")
    done = bench("--num-prompts", "3", "-p", "8", "-n", "2", "--off")
    check(done.startswith("off, ms") and "3 requests in" in done and "steered" not in done, done)


def test_matrix():
    """Every way beside none, by test and number of rows; the ratio is that of the samples."""
    cases = json.loads(bench("--matrix", "-p", "8", "-n", "2", "-r", "3", "--rows", "1,4", "-o", "json"))
    check({(case["test"], case["rows"]) for case in cases} == {("pp8", 1), ("tg2 @ p2", 1), ("tg2 @ p2", 4)}, cases)
    ways = {case["way"]: case for case in cases if case["rows"] == 4}
    for way in ("off", "idle", "add", "add, keep", "ablate", "rotate, adaptive", "add, rule", "add, 4 policies",
                "telemetry"):
        check(way in ways, f"no {way}: {list(ways)}")
    for case in ways.values():
        check(case["error"] is None and len(case["samples_ns"]) == 3, case)
        ratios = sorted(a / b for a, b in zip(case["samples_ns"], ways["off"]["samples_ns"]))
        check(case["way"] == "off" or abs(ratios[1] / case["ratio"]["median"] - 1) < 1e-3, case)
    done = bench("--matrix", "-p", "0", "-n", "2", "-r", "1", "--rows", "2")
    check(done.startswith("tg2 @ p2, 2 rows") and "pp" not in done and " at most " in done, done)
    some = json.loads(bench("--matrix", "-p", "0", "-n", "2", "-r", "1", "--rows", "1", "--way", "add, telemetry",
                            "--way", "idle", "-o", "json"))
    check([case["way"] for case in some] == ["off", "idle", "add, telemetry"], some)
    refused(1, "no way 'nix'", "--matrix", "--way", "nix", "-p", "0", command="bench")


def test_what_a_way_may_take():
    """1% and what it reads besides the weights, counted from config.json; and the report has every case."""
    cases = json.loads(bench("--matrix", "-p", "8", "-n", "2", "-r", "1", "--rows", "1,4", "-o", "json", "--report",
                             "r", "--kv", "f16"))
    with open("r", encoding="utf-8") as file:
        report = json.load(file)
    check(report["schema"] == "trimtab-bench/1" and report["commit"] and report["machine"]["cores"] > 0 and
          "--matrix" in report["command"] and report["subject"]["kv"] == "f16", report)
    check({(case["group"], case["name"]) for case in report["cases"]} ==
          {(f"{c['test']}, {c['rows']} row{'s' if c['rows'] > 1 else ''}", c["way"]) for c in cases}, "cases")
    with open(os.path.join(program.golden, "tiny-llama", "config.json"), encoding="utf-8") as file:
        config = json.load(file)
    d, n_layers, ffn = (config[key] for key in ("hidden_size", "num_hidden_layers", "intermediate_size"))
    kv = d // config["num_attention_heads"] * config["num_key_value_heads"]
    read = n_layers * d * (2 * d + 2 * kv + 3 * ffn) + config["vocab_size"] * d
    model = report["subject"]["model"]
    step = model["n_weight_bytes"] * min(1, read / model["n_parameters"])
    row, gate = 4 * d, 4 * (6 * d + 1)  # of a layer; of a probe on two vectors of three layers
    for test, rows, way, want in (
            ("tg2 @ p2", 1, "idle", 0), ("tg2 @ p2", 4, "telemetry", 0), ("tg2 @ p2", 1, "add", n_layers * row / step),
            ("tg2 @ p2", 4, "add", n_layers * row / step), ("tg2 @ p2", 1, "add, one layer", row / step),
            ("tg2 @ p2", 4, "add, 4 policies", 4 * n_layers * row / step),
            ("tg2 @ p2", 1, "add, 4 stacked", 4 * n_layers * row / step),
            ("tg2 @ p2", 4, "clamp", n_layers * (row + 4) / step),
            ("tg2 @ p2", 4, "capture of all layers", 0), ("tg2 @ p2", 1, "add, probe", n_layers * row / step),
            ("pp8", 1, "capture of all layers", 8 * n_layers * row / step),
            ("pp8", 1, "add, probe, prompts run again", 1 + (n_layers * row + gate) / step)):
        ratio = next(c["ratio"] for c in cases if (c["test"], c["rows"], c["way"]) == (test, rows, way))
        check(abs(ratio["at_most"] - 1.01 - want) < 0.01 * max(want, 0.001), f"{test} {way}: {ratio}, not {want}")
        check(ratio["within"] == ("yes" if ratio["high"] <= ratio["at_most"] else
                                  "over" if ratio["low"] > ratio["at_most"] else "open"), ratio)


def line_of(points, key):
    """The least-squares line through (x, key), by the textbook's formula, and the squared correlation."""
    x, y = [point["x"] for point in points], [point[key] for point in points]
    slope, at_0 = statistics.linear_regression(x, y)
    return at_0, slope, statistics.correlation(x, y) ** 2


def test_scale():
    """Each axis' points, and the lines through them."""
    all_axes = json.loads(bench("--scale", "rows,context,layers,stack,policies", "--rows", "6", "-n", "2", "-r", "3",
                                "-c", "500", "-o", "json"))
    want = {"rows": [1, 2, 4, 6], "context": [128, 256], "layers": [1, 2, 3], "stack": [1, 2, 3, 4],
            "policies": [1, 2, 4, 6]}
    check({axis["axis"]: [point["x"] for point in axis["points"]] for axis in all_axes} == want, all_axes)
    for axis in all_axes:
        for key, fitted in (("off_ns", axis["off"]), ("extra_ns", axis["extra"])):
            check((fitted is None) == (key == "off_ns" and axis["axis"] not in ("rows", "context")), axis)
            for got, expected in zip(fitted.values(), line_of(axis["points"], key)) if fitted else ():
                check(abs(got - expected) <= 1e-6 * max(abs(expected), 1), f"{axis['axis']} {key}: {got}, {expected}")
        for point in axis["points"]:
            extra = point["off_ns"] * (point["ratio"]["median"] - 1)
            check(abs(extra - point["extra_ns"]) <= 1e-3 * point["off_ns"], point)
            check(point["resident_bytes"] > 1e6, point)
    done = bench("--scale", "stack", "--rows", "2", "-n", "2", "-r", "1")
    check(done.startswith("stack") and "Steering adds" in done and "for each policy on each row" in done, done)


def plot(rows):
    """The picture that bench/plot makes of a report, as elements; None where it refuses."""
    with open("report.json", "w", encoding="utf-8") as file:
        json.dump(rows, file)
    done = subprocess.run([sys.executable, PLOT, "report.json", "-o", "picture.svg"], capture_output=True, check=False)
    return None if done.returncode else list(ElementTree.parse("picture.svg").iter())


def test_pictures():
    """A mark for each ratio, higher or further right for a larger one, the interval's line through it."""
    ratio = {"median": 1.02, "low": 1.01, "high": 1.03, "coverage": 0.95}
    larger = {"median": 1.05, "low": 1.0, "high": 1.1, "coverage": 0.95}
    points = [{"x": 1, "ratio": ratio}, {"x": 8, "ratio": larger}]
    cases = [{"test": "tg2", "rows": 4, "way": way, "ratio": of} for way, of in
             (("off", None), ("idle", ratio), ("add", larger))]
    for rows, along, sign in (([{"axis": "rows", "rows": 8, "points": points}], "cy", -1), (cases, "cx", 1)):
        elements = plot(rows)
        marks = [float(e.get(along)) for e in elements if e.get("class") == "mark"]
        lines = [sorted(float(e.get(along.replace("c", "") + end)) for end in "12")
                 for e in elements if e.get("class") == "interval"]
        check(len(marks) == 2 and sign * (marks[1] - marks[0]) > 0, marks)
        check(all(low < mark < high for mark, (low, high) in zip(marks, lines)), lines)
        check(all("href" not in key for e in elements for key in e.keys()), "nothing comes from outside")
    report = {"cases": [{"group": f"{case['test']}, {case['rows']} rows", "name": case["way"], "ratio": case["ratio"]}
                        for case in cases]}
    check([e.attrib for e in plot(report)] == [e.attrib for e in plot(cases)], "a --report's picture")
    check(plot([]) is None and plot({"axis": 1}) is None and plot([{"axis": "rows"}]) is None, "no report")


def test_timeline():
    """The ops of each step in their order, inside of it; how much they compute, by the shapes in config.json."""
    done = bench("--timeline", "trace.json", "-p", "24", "-n", "3", "--off")
    with open("trace.json", encoding="utf-8") as file:
        events = json.load(file)["traceEvents"]
    with open(os.path.join(program.golden, "tiny-llama", "config.json"), encoding="utf-8") as file:
        config = json.load(file)
    hidden, n_layers, heads = (config[key] for key in ("hidden_size", "num_hidden_layers", "num_attention_heads"))
    width, kv = hidden, hidden // heads * config["num_key_value_heads"]
    steps = [event for event in events if event["name"] == "step"]
    check([step["args"]["tokens"] for step in steps] == [24, 1, 1, 1], steps)
    for step in steps:
        n, end = step["args"]["tokens"], step["ts"] + step["dur"]
        ops = [e for e in events if e is not step and step["ts"] <= e["ts"] and e["ts"] + e["dur"] <= end + 0.01]
        check(all(a["ts"] + a["dur"] <= b["ts"] + 0.01 for a, b in zip(ops, ops[1:])), "ops overlap")
        names = [op["name"] for op in ops if op["name"] != "control"]
        layer = ["qkv", "attention", "o_proj", "gate_up", "down_proj"]
        want = ["embed"] + layer * n_layers + ["logits", "sample"]
        check([name for name in names if name != "narrow"] == want, names)
        flops = {"qkv": 2 * n * hidden * (width + 2 * kv), "o_proj": 2 * n * width * hidden,
                 "gate_up": 4 * n * hidden * config["intermediate_size"], "logits": 2 * hidden * config["vocab_size"]}
        for op in ops:
            if op["name"] in flops and op["args"].get("layer", 0) < n_layers - 1:
                check(op["args"]["flops"] == flops[op["name"]], f"{op}: not {flops[op['name']]}")
        keys = range(1, 25) if n == 24 else [25 + steps.index(step) - 1]
        attention = next(op for op in ops if op["name"] == "attention")
        check(attention["args"]["flops"] == 4 * width * sum(keys), attention)
    for length, batch, steps in (("1", "512", 1), ("70", "69", 2)):
        prompt = bench("--timeline", "other.json", "-p", length, "-b", batch, "-n", "2", "--off")
        check(f"prompt, {steps} step" in prompt and "generation, 2 steps" in prompt, prompt)
    check("prompt, 1 step" in done and "generation, 3 steps" in done and "trace.json: open it" in done, done)


def test_refusals():
    for pattern, *arguments in (
            ("there is nothing to time", "-p", "0", "-n", "0"), ("--n-prompt takes numbers", "-p", "x"),
            ("--n-gen takes numbers", "-n", "4,"), ("--n-prompt takes numbers", "-p", "8-4"),
            ("--n-prompt takes numbers", "-p", "1-2000"), ("--n-prompt takes numbers", "-p", "1048577"),
            ("--n-depth must be a multiple of 16", "-d", "8"), ("--batch-size must be above 0", "-b", "0"),
            ("--pg takes PROMPT,GEN", "-pg", "8"), ("--pg takes PROMPT,GEN", "-pg", "8,0"),
            ("exclude each other", "--off", "--policy", "x"), ("--output takes", "-o", "sql"),
            ("--repetitions must be from 1", "-r", "0"), ("need --num-prompts", "--request-rate", "3"),
            ("takes one --n-prompt", "--num-prompts", "3", "-p", "1,2"),
            ("takes one --n-prompt", "--num-prompts", "3", "-n", "0"),
            ("not for a serving run", "--num-prompts", "3", "-d", "16"),
            ("printed as md or json", "--num-prompts", "3", "-o", "csv"), ("--rows is for", "--rows", "3"),
            ("--way for --matrix", "--way", "idle"), ("--way is for that", "--scale", "rows", "--way", "idle"),
            ("not for a serving run", "--num-prompts", "3", "--report", "x"),
            ("--rows must be from 1 to 256", "--matrix", "--rows", "257"),
            ("--matrix takes", "--matrix", "--off"),
            ("takes one --n-prompt", "--matrix", "-p", "1,2"), ("printed as md or json", "--matrix", "-o", "csv"),
            ("--scale takes rows, context", "--scale", "rows,depth"),
            ("--scale takes rows, context", "--scale", "rows,"),
            ("--scale takes --rows", "--scale", "rows", "--off"), ("generation alone", "--scale", "rows", "-p", "8"),
            ("takes one --n-prompt and --n-gen", "--scale", "rows", "-n", "0"),
            ("--scale is printed as md or json", "--scale", "rows", "-o", "csv"),
            ("--timeline takes -p", "--timeline", "t.json", "--matrix"),
            ("--timeline takes one", "--timeline", "t.json", "-p", "0"),
            ("--timeline takes -p", "--timeline", "t.json", "--rows", "3"),
            ("--timeline takes -p", "--timeline", "t.json", "-o", "json"),
            ("--goodput takes", "--num-prompts", "3", "--goodput", "itl:3"),
            ("--goodput takes", "--num-prompts", "3", "--goodput", "ttft:0"),
            ("--goodput takes", "--num-prompts", "3", "--goodput", "ttft:3;tpot:4")):
        refused(2, pattern, *arguments, command="bench", model="missing.gguf")
    refused(1, "missing.gguf", *SHORT, command="bench", model="missing.gguf")
    done = program.run(*SHORT, "-c", "10", "-d", "16", command="bench")
    check(done.returncode == 1 and "2 tests failed" in done.stderr and "21 positions" in done.stderr, done.stderr)


with tempfile.TemporaryDirectory() as folder:
    os.chdir(folder)
    program.run_tests(globals(), program.sys.argv[3:])
    os.chdir("/")
program.end()
