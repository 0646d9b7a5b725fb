"""The parts of gpu-check. Each returns what it found in one line, or raises Skipped or Failed."""

import glob
import importlib.util
import json
import os
import shutil
import sys

MODEL = "llama-3.1-8b"  # the model that decisions are made for


class Skipped(Exception):
    """Why a part was not run."""


class NoDevice(Exception):
    """There is no GPU, and no sign of one."""


class Failed(Exception):
    """A part's finding, and the lines that say more."""

    def __init__(self, note, lines=()):
        super().__init__(note)
        self.lines = list(lines)


def findings(lines):
    """Lines that say what failed, each with the indented ones below it."""
    found, wanted = [], False
    for line in lines:
        if not line.startswith("    "):
            wanted = "FAIL" in line and not line.startswith("{")
        if wanted:
            found.append(line)
    return found


def find_tool(name):
    """A tool of CUDA's, which is not always on the path."""
    folders = ["/usr/local/cuda/bin", *sorted(glob.glob("/usr/local/cuda-*/bin"), reverse=True),
               *sorted(glob.glob("/opt/nvidia/*/20*"), reverse=True)]
    return shutil.which(name) or shutil.which(name, path=":".join(folders))


def run_items(check, command, quiet, environment=None):
    """A program that says `begin ITEM` before each of its items. Where it hangs or dies in one, it is started again for
    those after it (--after ITEM). Returns its lines, and what became of the items in which it ended."""
    lines, ended_in, after = [], [], None
    while True:
        ended = check.run(command + (["--after", after] if after else []), quiet=quiet * check.scale,
                          environment=environment)
        lines += ended.lines
        if ended.status in (0, 1):  # it came to its end
            return lines, ended_in
        begun = [line[len("begin "):] for line in ended.lines if line.startswith("begin ")]
        where = begun[-1] if begun else "before its first item"
        if not any("FAIL" in line and where in line for line in ended.lines):
            ended_in.append(f"FAIL {where}: {ended.how()}")
            ended_in += ["    " + line for line in ended.lines[-12:] if not line.startswith("{")]
        if not begun or check.left() < 1 * check.scale:
            return lines, ended_in
        after = begun[-1]


def judge(what, lines, ended_in):
    """Fails when an item did, with its lines."""
    bad = findings(lines) + ended_in
    if bad:
        raise Failed(f"{count(bad)} of the {what} failed", bad)


def count(bad):
    """How many things lines of findings are about."""
    return sum(not line.startswith(" ") for line in bad)


# ---- What is there ----

def nvidia_smi(check):
    """What the driver's own tool says of the first GPU; {} where there is none."""
    fields = ["name", "driver_version", "memory.total", "clocks.max.sm", "clocks.max.memory", "clocks.sm",
              "power.limit", "persistence_mode", "mig.mode.current"]
    try:
        ended = check.run(["nvidia-smi", "--query-gpu=" + ",".join(fields), "--format=csv,noheader"],
                          limit=6 * check.scale)
    except Skipped as reason:
        return {"nvidia-smi": str(reason)}
    lines = [line for line in ended.lines if line.count(",") == len(fields) - 1]
    if ended.status != 0 or not lines:
        return {"nvidia-smi": (ended.lines or [""])[0] + f" ({ended.how()})"}
    return dict(zip(fields, [value.strip() for value in lines[0].split(",")]))


def signs_of_a_gpu(check):
    """What else says that there is a GPU, into the log; the names of the signs."""
    signs = [path for path in ("/dev/nvidia0", "/proc/driver/nvidia/version") if os.path.exists(path)]
    for command in (["nvidia-smi", "-L"], ["ldconfig", "-p"], ["cat", "/proc/driver/nvidia/version"]):
        try:
            ended = check.run(command, limit=3 * check.scale)
        except Skipped:
            continue
        if command[0] == "nvidia-smi":
            signs += [line for line in ended.lines if line.startswith("GPU ")]
        elif command[0] == "ldconfig":
            signs += [line.strip() for line in ended.lines if "libcuda.so" in line]
    return signs


def machine(check):
    """The machine that the figures were taken on."""
    found = check.report["machine"]
    found["cpus"] = os.cpu_count()
    found["python"] = sys.version.split()[0]
    for tool in ("ncu", "compute-sanitizer"):
        found[tool] = find_tool(tool) or "none"
    found.update(nvidia_smi(check))
    ended = check.run([check.program("gpu-bench"), "--machine"])
    text = "\n".join(ended.lines)
    if ended.status == 0 and "{" in text:  # others may write to its stderr
        found.update(json.JSONDecoder().raw_decode(text[text.index("{"):])[0])
        return found.get("name") or found["device"]
    why = next((line for line in ended.lines if line.startswith("gpu-bench: ")), ended.how())
    signs = signs_of_a_gpu(check) + (["name"] if "name" in found else [])
    if ended.status == check.SKIPPED and not signs:
        raise NoDevice(why)
    raise Failed(f"CUDA does not come up: {why}", ended.lines[-20:] + ["signs of a GPU: " + ", ".join(signs)])


def is_alive(check):
    """Whether the device still does what it is told, and what the kernel said of it."""
    try:
        ended = check.run([check.program("gpu-bench"), "--alive"], limit=6 * check.scale)
        alive = ended.status == 0
        if not alive:
            check.run(["sh", "-c", "dmesg 2>&1 | grep -iE 'nvrm|xid' | tail -n 20; nvidia-smi 2>&1 | tail -n 30"],
                      limit=5 * check.scale)
    except Skipped:
        return True
    return alive


# ---- What is right ----

def primitives(check):
    """Each primitive's PTX against what its C body gave."""
    folder = check.root if check.bundle else os.path.join(check.rehearsed or "build", "tests/emu")
    lines, ended_in = run_items(check, [check.program("primitives"), os.path.join(folder, "primitives.bin")], 3)
    judge("primitives", lines, ended_in)
    passed = sum(line.endswith(" pass") for line in lines)
    if not passed:
        raise Failed("no primitive was compared", lines[-20:])
    return f"{passed} primitives, bit for bit"


def probe(check):
    """Questions about the device that decide how kernels are made."""
    lines, ended_in = run_items(check, [check.program("probe")], 6)
    answers = {one.pop("probe"): one for one in json_lines(lines) if "probe" in one}
    check.report["probe"] = answers
    judge("probes", lines, ended_in)
    wgmma, chain = answers.get("wgmma", {}), answers.get("dependents", {})
    differs = sum(value for k in wgmma.values() if isinstance(k, dict) for key, value in k.items() if "differs" in key)
    note = f"{len(answers)} answers; an early trigger holds over {chain.get('rounds', 0)} rounds"
    if wgmma.get("there_is"):
        note += "; wgmma has mma.sync's bits" if not differs else f"; wgmma differs from mma.sync in {differs} numbers"
    return note


def again(check, name):
    """A failed test once more, alone and watched: where it fails, and whether it fails alone."""
    tool = find_tool("compute-sanitizer")
    command = [check.program("gpu-suites"), "--data", check.golden, "--here", "--filter", name]
    watched = ([tool, "--tool", "memcheck"] if tool else []) + command
    ended = check.run(watched, limit=12 * check.scale, environment={"CUDA_LAUNCH_BLOCKING": "1"})
    return [f"{name} alone{', under compute-sanitizer' if tool else ''}: {ended.how()}",
            *["    " + line for line in ended.lines[-40:]]]


def suites(check, filters, environment=None):
    """Tests of gpu-suites by pattern. A quarter of the time is kept for running failed ones again."""
    program = check.program("gpu-suites")
    command = [program, "--data", check.golden, "--together", "--timeout", f"{12 * check.scale:.3f}"]
    chosen = [argument for pattern in filters for argument in ("--filter", pattern)]
    planned = check.run([program, "--list", *chosen]).lines
    ended = check.run(command + chosen, limit=0.75 * check.left(), environment=environment)
    said = [line.split() for line in ended.lines if line.startswith(("pass ", "skip ", "FAIL "))]
    outcomes = {words[1]: words[0] for words in said if len(words) > 1}
    counts = [list(outcomes.values()).count(word) for word in ("pass", "skip", "FAIL")]
    note = f"{counts[0]} passed, {counts[1]} skipped, {counts[2]} failed"
    lines = findings(ended.lines)
    missing = [name for name in planned if name not in outcomes]
    if missing:
        note += f", {len(missing)} not run ({ended.how()})"
        lines.append("FAIL not run: " + ", ".join(missing))
    if not missing and not counts[2] and counts[0] and ended.status == 0:
        return note
    if not counts[0] and not counts[2]:
        lines += ended.lines[-20:]
    try:
        for name in [name for name, word in outcomes.items() if word == "FAIL"][:2]:
            lines += again(check, name)
    except Skipped as reason:
        lines.append(f"not run again: {reason}")
    raise Failed(note, lines)


def smoke(check):
    """A whole tiny model, and that a graph, a batch and chunks have the bits of none."""
    every = ["forward.gguf_float32*", "emu_engine.a_row_has*", "strict.*"]
    return suites(check, ["emu_engine.kernels_are*"] if check.rehearsed else every)


def ops(check):
    """Every op against its references: what the emulator's suites hold it against."""
    every = ["emu_product*", "emu_attention.*", "emu_control.*", "emu_pool.*", "emu_sample.*",
             "emu_quants.*"]
    return suites(check, ["emu_product.*", "emu_pool.*"] if check.rehearsed else every)


def models(check):
    """Whole tiny models against PyTorch's logits, steered and not, in every batch and chunk."""
    every = ["forward.*", "steering.*", "strict.*", "emu_engine.*", "emu_quants_engine.*"]
    return suites(check, ["forward.hugging*"] if check.rehearsed else every)


def memcheck(check, tool):
    """A generation under compute-sanitizer's memcheck."""
    model = os.path.join(check.golden, "golden/tiny-llama/tiny-llama.q8_0.gguf")
    device = "cpu" if check.rehearsed else "cuda"
    command = [tool, "--error-exitcode", "99", check.program("trimtab"), "generate", model, "--raw", "-p", "ab",
               "-n", "8", "--device", device]
    ended = check.run(command, limit=0.6 * check.left())
    if ended.status == 99:
        raise Failed("memcheck found errors", ended.lines[-40:])
    if ended.status != 0 or not any("ERROR SUMMARY: 0 errors" in line for line in ended.lines):
        last = ended.lines[-1] if ended.lines else "no output"
        raise Skipped(f"compute-sanitizer is refused here: {last} ({ended.how()})")
    return "0 errors in a generation of 8 tokens"


def sanitizer(check):
    """A generation under memcheck, and kernels that share memory under racecheck."""
    tool = find_tool("compute-sanitizer")
    if not tool:
        raise Skipped("there is no compute-sanitizer")
    note, lines = memcheck(check, tool), []
    tests = ["emu_product.gate_up", "emu_attention.decode", "emu_sample.bits_do_not_depend_on_batch_mates"]
    for i, name in enumerate(tests):
        command = [tool, "--tool", "racecheck", "--error-exitcode", "99", check.program("gpu-suites"), "--data",
                   check.golden, "--here", "--filter", name]
        try:
            ended = check.run(command, limit=check.left() / (len(tests) - i))
        except Skipped as reason:
            note += f"; {name}: {reason}"
            continue
        summary = next((line for line in ended.lines if "RACECHECK SUMMARY" in line), ended.how())
        note += f"; {name}: {summary.replace('=', '').strip()}"
        if ended.status not in (0, check.SKIPPED, None):
            lines += [f"FAIL {name}", *["    " + line for line in ended.lines[-40:]]]
    if lines:
        raise Failed(note, lines)
    return note


# ---- How fast it is ----

def libraries():
    """Where pip put cuBLAS, if it did; the loader looks in its own places anyway."""
    spec = importlib.util.find_spec("nvidia")
    folders = [folder for root in (spec.submodule_search_locations if spec else [])
               for folder in glob.glob(os.path.join(root, "*", "lib"))]
    known = [os.environ["LD_LIBRARY_PATH"]] if os.environ.get("LD_LIBRARY_PATH") else []
    return {"LD_LIBRARY_PATH": ":".join(known + folders)} if folders else {}


def json_lines(lines):
    for line in lines:
        if line.startswith("{"):
            try:
                yield json.loads(line)
            except ValueError:
                pass


def merge(report, key, lines):
    """Adds the cases of a benchmark's lines to report[key]; how many."""
    n = 0
    for one in json_lines(lines):
        cases = one.pop("cases", None)
        if cases is None:
            continue
        report.setdefault(key, {**one, "cases": []})["cases"] += cases
        n += len(cases)
    return n


def timed(check, key, command, quiet, environment=None):
    """A benchmark's groups into check.report[key]. It begins none that it could not end."""
    command = command + ["--seconds", f"{max(0.1, 0.9 * check.left()):.1f}"]
    lines, ended_in = run_items(check, command, quiet, environment)
    n = merge(check.report, key, lines)
    left_out = [line[len("left out "):] for line in lines if line.startswith("left out ")]
    note = f"{n} cases" + (", no time was left for " + ", ".join(left_out) if left_out else "")
    bad = findings(lines) + ended_in
    if bad or not n:
        raise Failed(note + f", {count(bad)} groups failed", bad or lines[-20:])
    return note


def bench(check, key, kind, quiet, *more):
    program = [check.program("gpu-bench"), kind, *more]
    return timed(check, key, program + (["--tiny"] if check.rehearsed else []), quiet)


def kernels(check):
    """Each kernel of an 8B model beside a copy, a matrix product and cuBLAS."""
    return bench(check, "kernels", "--kernels", 8, *([] if check.rehearsed else ["--model", MODEL]))


def decode(check):
    """An 8B model with random weights: decode and prefill, unsteered and steered."""
    return bench(check, "decode", "--decode", 20, *([] if check.rehearsed else ["--model", MODEL, "--rounds", "3"]))


def quants(check):
    """The products of a whole step of an 8B model with each quantised type, beside those with bf16."""
    return bench(check, "quants", "--quants", 6, *([] if check.rehearsed else ["--model", MODEL, "--rounds", "5"]))


def profile(check):
    """Nsight Compute over the kernels of an 8B model: where their time goes."""
    tool = find_tool("ncu")
    if not tool:
        raise Skipped("there is no ncu")
    done, refused = [], None
    steps = ["1", "64"] if check.rehearsed else ["1", "2048", "64"]
    for i, tokens in enumerate(steps):
        command = [tool, "--clock-control", "none", "--kernel-name", "regex:product|attention"]
        for section in ("SpeedOfLight", "MemoryWorkloadAnalysis", "WarpStateStats", "Occupancy"):
            command += ["--section", section]
        command += [check.program("gpu-bench"), "--once", "--tokens", tokens]
        command += ["--tiny"] if check.rehearsed else ["--model", MODEL]
        ended = check.run(command, limit=check.left() / (len(steps) - i), environment=libraries())
        refused = next((line for line in ended.lines if line.startswith("==ERROR==")), refused)
        if ended.status == 0 and not refused:
            done.append(tokens)
    if not done:
        raise Skipped("ncu gave nothing: " + (refused or "see the log"))
    return "in the log, at " + ", ".join(done) + " tokens"


# ---- On several GPUs ----

def ranks_bits(check):
    """Models in several ranks, by NCCL: the bits of one; and how the GPUs are connected."""
    try:
        check.run(["nvidia-smi", "topo", "-m"], limit=10 * check.scale)  # for the log
    except Skipped:
        pass
    return suites(check, ["ranks.captures*"] if check.rehearsed else ["ranks.*"], ranks_environment(check))


def ranks_environment(check):
    return {"TT_RANKS": str(check.ranks), "TT_EMU_DEVICES": str(check.ranks), **libraries()}


def ranks_decode(check):
    """Decode and prefill of a model with random weights, in one rank and in several."""
    model = ["--tiny"] if check.rehearsed else ["--model", MODEL, "--rounds", "3"]
    program = [check.program("gpu-bench"), "--decode", *model]
    until, notes = check.until, []
    for more in ([], ["--ranks", str(check.ranks)]):
        check.until = until if more else until - 0.6 * check.left()
        notes.append(timed(check, "decode", program + more, 40, ranks_environment(check)))
    return "; ".join(notes)


# ---- With the time that is left ----

SMALL = ["--model", "llama-3.2-1b", "--model", "smollm2-135m"]


def small_models(check):
    """Decoding of the smaller models."""
    if check.rehearsed:
        raise Skipped("a rehearsal has one model")
    return bench(check, "decode", "--decode", 20, *SMALL, "--rounds", "3")


def small_kernels(check):
    """Each kernel of the smaller models."""
    if check.rehearsed:
        raise Skipped("a rehearsal has one model")
    return bench(check, "kernels", "--kernels", 8, *SMALL)


def arms(check):
    """Decoding of the 8B model in every way of steering."""
    if check.rehearsed:
        raise Skipped("a rehearsal has two ways")
    return bench(check, "arms", "--decode", 20, "--model", MODEL, "--every-arm")


def torch(check):
    """The same shapes in plain PyTorch."""
    if importlib.util.find_spec("torch") is None:
        raise Skipped("there is no PyTorch")
    script = os.path.join(check.root, "torch_decode.py" if check.bundle else "bench/peers/torch_decode.py")
    return timed(check, "torch", [sys.executable, script] + (["--tiny"] if check.rehearsed else []), 30)
