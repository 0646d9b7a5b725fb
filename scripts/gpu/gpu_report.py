"""The report of gpu-check: one JSON file with everything, one Markdown page with its tables."""

import json
import os
import traceback


MOST_LINES = 120  # of a part on the page; the JSON file has all


def write(report, stem):
    """Both files, each in full or not at all."""
    write_file(stem + ".json", json.dumps(report, indent=1) + "\n")
    write_file(stem + ".md", page(report))


def write_file(path, text):
    with open(path + ".part", "w", encoding="utf-8") as file:
        file.write(text)
    os.replace(path + ".part", path)


def indented(lines):
    more = [f"({len(lines) - MOST_LINES} more lines in the JSON file)"] if len(lines) > MOST_LINES else []
    return "\n".join("    " + line for line in lines[:MOST_LINES] + more) + "\n"


def table(head, rows):
    lines = ["| " + " | ".join(cells) + " |" for cells in [head, ["---"] * len(head), *rows]]
    return "\n".join(lines) + "\n"


def number(value, digits=3):
    return "" if value is None else f"{value:.{digits}g}" if abs(value) < 1000 else f"{value:.0f}"


def work_of(case, unit):
    """(amount a second, share of the ceiling) of one unit of a case's work, medians; None where there is none."""
    for work in case["work"]:
        if work["unit"] == unit:
            return work["per_second"]["median"], (work["share"] or {}).get("median")
    return None, None


def scaled(value, by):
    return None if value is None else value / by


def percent(value):
    return "" if value is None else f"{100 * value:.0f}%"


def kernel_rows(cases):
    for case in cases:
        if case["name"] in ("copy", "matrix"):
            continue
        model, kind, op, n = case["group"].split(" ")
        calls, _ = work_of(case, "calls")
        rate, of_copy = work_of(case, "bytes")
        flops, of_matrix = work_of(case, "flops")
        ratio = (case["ratio"] or {}).get("median")
        yield [model, f"{kind} {n}", op, case["name"], number(1e6 / calls if calls else None),
               number(scaled(rate, 1e9)), percent(of_copy), number(scaled(flops, 1e12)), percent(of_matrix),
               number(1 / ratio if ratio else None),
               case["error"] or (case["note"] or "").replace("relative error ", "")]


def kernels(report):
    cases = report["kernels"]["cases"]
    head = ["model", "tokens", "kernel", "case", "us", "GB/s", "of copy", "TFLOP/s", "of matrix", "x cuBLAS",
            "relative error"]
    text = "\n## Kernels\n\nA call's median; context 512; weights not in the L2 cache. "
    text += "x cuBLAS: above 1 is faster than it.\n\n"
    text += table(head, kernel_rows(cases))
    for name, unit, scale, shown in (("copy", "bytes", 1e9, "GB/s"), ("matrix", "flops", 1e12, "TFLOP/s")):
        rates = sorted(work_of(case, unit)[0] or 0 for case in cases if case["name"] == name)
        if rates:
            text += f"\nCeiling `{name}`: {number(rates[0] / scale)} to {number(rates[-1] / scale)} {shown} "
            text += "over the groups.\n"
    return text


def quants_rows(cases):
    for case in cases:
        if case["name"] in ("copy", "matrix"):
            continue
        model, _, of, n = case["group"].split(" ")
        calls, _ = work_of(case, "calls")
        rate, of_copy = work_of(case, "bytes")
        ratio = (case["ratio"] or {}).get("median")
        note = dict(part.rsplit(" ", 1) for part in (case["note"] or "").replace(" us", "").split("; ") if part)
        yield [model, n, of, case["name"], number(1e6 / calls if calls else None), note.get("reckoned", ""),
               number(scaled(rate, 1e9)), percent(of_copy), number(1 / ratio if ratio else None),
               case["error"] or note.get("relative error", "")]


def quants(report):
    head = ["model", "rows", "beside", "weights", "us", "reckoned us", "GB/s", "of copy", "x bf16", "relative error"]
    text = "\n## Quantised weights\n\nAll products of a decode step, as one graph; weights not in the L2 cache. "
    text += "Reckoned: bench/harness/step_cost.h's model. x bf16: above 1 is faster than it.\n\n"
    return text + table(head, quants_rows(report["quants"]["cases"]))


def flat(answer, prefix=""):
    for key, value in answer.items():
        if isinstance(value, dict):
            yield from flat(value, f"{prefix}{key} ")
        else:
            shown = " ".join(value) if isinstance(value, list) else "" if value is None else str(value)
            yield prefix + key, shown


def probe(report):
    text = "\n## Questions\n\nWhat each means is in tests/gpu/probe.cu and probe_rates.cu; what follows, in "
    text += "kernels/README.md.\n\n"
    rows = [[name, key.replace("_", " "), value] for name, answer in report["probe"].items()
            for key, value in flat(answer)]
    return text + table(["question", "", ""], rows)


def rate_rows(cases):
    for case in cases:
        rate, _ = work_of(case, "tokens")
        ratio = case["ratio"] or {}
        interval = f"{ratio['median']:.4f} ({ratio['low']:.4f} to {ratio['high']:.4f})" if ratio.get("median") else ""
        rows = int(case["group"].split(" ")[-1])  # a step's, or a prompt's tokens
        yield [case["group"], case["name"], number(rate), number(1e3 * rows / rate if rate else None, 4), interval,
               case["error"] or case["note"] or ""]


def rates(title, note, report):
    head = ["group", "case", "tokens/s", "ms a step", "times the time of its baseline", "note"]
    return f"\n## {title}\n\n{note}\n\n" + table(head, rate_rows(report["cases"]))


def page(report):
    machine = report["machine"]
    bundle = report["bundle"] or {}
    text = f"# GPU check: {machine.get('name') or machine.get('device') or 'unknown'}\n\n"
    if report["rehearsed"]:
        text += "**A rehearsal on the emulator: its times mean nothing.**\n\n"
    text += f"{report['date']}, commit {bundle.get('commit', 'unknown')}, nvcc {bundle.get('nvcc', 'unknown')}.\n\n"
    text += table(["machine", ""], [[key, str(value)] for key, value in machine.items()])
    parts = [[p["name"], p["outcome"], str(p["seconds"]), str(p["limit"]), p["note"].replace("|", "/")]
             for p in report["parts"]]
    text += "\n" + table(["part", "outcome", "s", "of", ""], parts)
    for part in report["parts"]:
        if part["lines"]:
            text += f"\n{part['name']}:\n\n" + indented(part["lines"])
    for key, section in SECTIONS.items():
        if report.get(key):
            try:
                text += section(report)
            except Exception:  # a report of an unexpected form; the JSON file has it
                text += f"\n{key}: its tables could not be made:\n\n"
                text += indented(traceback.format_exc().splitlines())
    return text


SECTIONS = {
    "probe": probe,
    "kernels": kernels,
    "decode": lambda report: rates("Whole models", "Random weights, context 512; strict mode, and fast where a group "
                                   "says so. Decode: all rows of a batch, one step a token.", report["decode"]),
    "quants": quants,
    "arms": lambda report: rates("Every way of steering", "As above.", report["arms"]),
    "torch": lambda report: rates("PyTorch", "The same shapes and lengths with random bf16 weights and SDPA, in the "
                                  "same run.", report["torch"]),
}
