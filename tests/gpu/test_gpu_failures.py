#!/usr/bin/env python3
"""What is left in gpu-check's results when something goes wrong: each test plants a failure (programs that hang, crash,
fail and make noise, an old driver, a device that dies) and looks into the folder. No GPU and no emulator is needed but
for the last two, whose programs are given.

    test_gpu_failures.py GPU_BENCH_PLANTED GPU_SUITES_PLANTED PRIMITIVES_EMU"""

import argparse
import contextlib
import io
import json
import os
import signal
import subprocess
import sys
import tempfile
import time

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(ROOT, "scripts/gpu"))
sys.dont_write_bytecode = True
import gpu_check  # noqa: E402
import gpu_process  # noqa: E402

MACHINE = '{"device": "Fake GPU", "memory_bytes": 1, "multiprocessors": 2, "capability": "9.0"}'
SUMMARY = '{"n": 1, "median": 0.5, "low": 0.5, "high": 0.5, "coverage": 0, "min": 0.5, "max": 0.5}'


def case(group, name="kernel"):
    """A line as gpu-bench prints it."""
    work = f'[{{"unit": "calls", "amount": 1, "per_second": {SUMMARY}, "ceiling": null, "share": null}}, ' \
           f'{{"unit": "tokens", "amount": 1, "per_second": {SUMMARY}, "ceiling": null, "share": null}}]'
    return f'{{"schema": "trimtab-bench/1", "program": "gpu-bench", "cases": [{{"group": "{group}", ' \
           f'"name": "{name}", "note": null, "error": null, "seconds": {SUMMARY}, "work": {work}, ' \
           f'"baseline": null, "ratio": null}}]}}'


def items(*named):
    """Shell code of a program with items: (name, code) each; --after is understood."""
    code = 'after=\nwhile [ $# -gt 0 ]; do [ "$1" = --after ] && after=$2; shift; done\n'
    for name, body in named:
        code += f'if [ -n "$after" ]; then [ "$after" = "{name}" ] && after=\n'
        code += f'else echo "begin {name}"\n{body}\nfi\n'
    return code


def told(group, *names):
    return "cat <<'END'\n" + "\n".join(case(group, name) for name in names or ("kernel",)) + "\nEND"


GROUPS = [f"m decode {op} 1" for op in ("qkv", "attention", "o_proj")]
BENCH = {
    "--machine": f"echo '{MACHINE}'",
    "--alive": "echo alive",
    "--hold": "cat >/dev/null",
    "--kernels": items(*[(group, told(group)) for group in GROUPS]),
    "--decode": items(("m decode batch 1", told("m decode batch 1"))),
    "--quants": items(("m products Q4_K 1", told("m products Q4_K 1", "BF16", "Q4_K").replace(
        '"note": null', '"note": "reckoned 1100 us; relative error 1.2e-06"'))),
    "--once": "echo once",
}
SUITES = 'echo "pass emu_product.a 0.1 s"; echo "pass emu_product.b 0.1 s"; echo "2 passed, 0 skipped, 0 failed"'
LIST = 'case " $* " in *" --list "*) echo emu_product.a; echo emu_product.b; exit 0;; esac\n'
PRIMITIVES = items(("loads", 'echo "loads pass"'), ("copies", 'echo "copies pass"')) + "echo pass"
PROBE = items(("gaps", "echo '{\"probe\": \"gaps\", \"plain\": 1.5, \"late\": null}'"),
              ("wgmma", "echo '{\"probe\": \"wgmma\", \"there_is\": true, \"k_16\": {\"differs\": 7}}'"))
# A hang with a child of its own, which has to go too.
HANG = 'echo "before the hang of $0"; sleep 997 & echo $! >>"$PIDS"; sleep 998'


class Rehearsal:
    """A folder of made-up programs, and gpu-check over it."""

    def __init__(self, work, bench=None, suites=LIST + SUITES, primitives=PRIMITIVES, probe=PROBE, tools=None):
        self.work = work
        self.results = os.path.join(work, "results")
        self.pids = os.path.join(work, "pids")
        cases = "".join(f"{option}) shift\n{code}\n;;\n" for option, code in {**BENCH, **(bench or {})}.items())
        self.put("build/tests/gpu/gpu-bench-emu", f'case "$1" in\n{cases}esac')
        self.put("build/tests/gpu/gpu-suites-emu", suites)
        self.put("build/tests/emu/primitives-emu", primitives)
        self.put("build/tests/gpu/probe-emu", probe)
        self.put("build/trimtab", "echo answer")
        # Nothing of this machine's is found but what a test puts there.
        for name in ("nvidia-smi", "ncu", "compute-sanitizer", "ldconfig", "dmesg"):
            self.put(f"tools/{name}", (tools or {}).get(name, f'echo "{name} is not here"; exit 127'))

    def put(self, name, code):
        path = os.path.join(self.work, name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "w", encoding="utf-8") as file:
            file.write("#!/bin/sh\n" + code + "\n")
        os.chmod(path, 0o755)

    def command(self, seconds, *more):
        return [sys.executable, os.path.join(ROOT, "scripts/gpu/gpu_check.py"), "--rehearse", "build", "--results",
                self.results, "--seconds", str(seconds), *more]

    def environment(self):
        tools = os.path.join(self.work, "tools")
        return {**os.environ, "PATH": f"{tools}:{os.environ['PATH']}", "PIDS": self.pids,
                "PYTHONDONTWRITEBYTECODE": "1"}

    def start(self, seconds, *more):
        return subprocess.Popen(self.command(seconds, *more), cwd=self.work, env=self.environment(),
                                stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

    def run(self, seconds=330, *more):
        """Exit status; report, page, log and output are then members."""
        began = time.monotonic()
        process = self.start(seconds, *more)
        self.output = process.communicate()[0]
        self.seconds = time.monotonic() - began
        self.read()
        return process.returncode

    def read(self):
        kinds = {}
        for name in os.listdir(self.results) if os.path.isdir(self.results) else []:
            with open(os.path.join(self.results, name), encoding="utf-8", errors="replace") as file:
                kinds[name.rsplit(".", 1)[1]] = file.read()
        self.log, self.page = kinds.get("log", ""), kinds.get("md", "")
        self.report = json.loads(kinds["json"]) if "json" in kinds else None

    def part(self, name):
        return next(part for part in self.report["parts"] if part["name"] == name)

    def section(self, name):
        """A part's own log."""
        return next(text for text in self.log.split("\n==== ") if text.startswith(name + ","))

    def is_gone(self):
        """No process that a stub started lives."""
        with open(self.pids, encoding="utf-8") as file:
            for pid in file.read().split():
                try:
                    with open(f"/proc/{pid}/stat", encoding="utf-8") as stat:
                        if stat.read().rsplit(")", 1)[1].split()[0] != "Z":
                            return False
                except OSError:
                    pass
        return True


def limits_fit(_work):
    """All parts' limits are at most the 330 seconds of which two fit into a quarter of an hour."""
    assert sum(part.seconds or 0 for part in gpu_check.PARTS) <= gpu_check.SECONDS == 330
    names = [part.name for part in gpu_check.PARTS]
    first = gpu_check.PARTS[:names.index("decode") + 1]
    assert sum(part.seconds for part in first) <= 160, "what decides the design comes first"


def all_is_well(work):
    r = Rehearsal(work, tools={"ncu": "echo profiled", "compute-sanitizer": "echo '= ERROR SUMMARY: 0 errors'"})
    assert r.run() == 0, r.output
    outcomes = {part["name"]: part["outcome"] for part in r.report["parts"]}
    assert list(outcomes.values())[:12] == ["pass"] * 11 + ["skipped"], r.output
    assert len(r.report["kernels"]["cases"]) == 3 and "| attention | kernel |" in r.page
    assert "wgmma differs from mma.sync in 7 numbers" in r.part("probe")["note"]
    assert "| gaps | plain | 1.5 |" in r.page
    for name in ("BF16", "Q4_K"):
        assert f"| m | 1 | Q4_K | {name} | 2000000 | 1100 |  |  |  | 1.2e-06 |" in r.page, r.page
    assert r.report["seconds"] == 330
    assert r.run() == 0 and len(os.listdir(r.results)) == 6, "a second run overwrites nothing"


def everything_hangs(work):
    """Each part ends at its limit, with its log, and leaves nothing running."""
    bench = {option: HANG for option in ("--kernels", "--decode", "--quants", "--once")}
    r = Rehearsal(work, bench, LIST + HANG, HANG, HANG, {"ncu": HANG, "compute-sanitizer": HANG})
    seconds = 26.4
    assert r.run(seconds) == 1
    assert r.seconds < seconds + 3, r.seconds
    assert r.is_gone()
    assert len(os.listdir(r.results)) == 3, "8 files at most are carried away from a lent machine"
    for part in gpu_check.PARTS[1:]:
        found = r.part(part.name)
        if part.seconds is None:
            continue
        assert found["seconds"] <= part.seconds * seconds / 330 + 0.5, found
        assert "before the hang of" in r.section(part.name), part.name
        assert "its processes were: " in r.section(part.name), part.name
        if part.name not in ("profile", "sanitizer"):  # a tool that gives nothing proves nothing
            assert found["outcome"] == "fail", found
    assert "not done after" in str(r.part("primitives")["lines"])
    assert "2 not run" in r.part("ops")["note"]


def an_item_hangs(work):
    """A hang in one kernel costs that kernel."""
    bench = {"--kernels": items((GROUPS[0], told(GROUPS[0])), (GROUPS[1], HANG), (GROUPS[2], told(GROUPS[2])))}
    r = Rehearsal(work, bench)
    assert r.run(10, "--only", "kernels") == 1
    assert [one["group"] for one in r.report["kernels"]["cases"]] == [GROUPS[0], GROUPS[2]], r.output
    assert any(line.startswith(f"FAIL {GROUPS[1]}: not done after") for line in r.part("kernels")["lines"])
    assert r.is_gone()


def items_crash_and_leave_errors(work):
    """A crash, an error that stays and a case that fails, each in its own group."""
    bench = {"--kernels": items((GROUPS[0], "kill -SEGV $$"),
                                (GROUPS[1], 'echo "an illegal access" >&2; exit 3'),
                                (GROUPS[2], told(GROUPS[2]) + f'\necho "FAIL {GROUPS[2]}: 1 cases failed"; exit 1'))}
    r = Rehearsal(work, bench, primitives=items(("loads", 'echo "loads pass"'), ("copies", "exit 3"),
                                                ("shuffles", 'echo "shuffles FAIL: 3 of 9 words differ"\n'
                                                 'echo "    word 2: 00000001, the C body gives 00000002"'),
                                                ("last", 'echo "last pass"')) + "exit 1")
    assert r.run() == 1
    lines = r.part("kernels")["lines"]
    assert f"FAIL {GROUPS[0]}: ended by signal 11" in lines, lines
    assert f"FAIL {GROUPS[1]}: exit status 3" in lines and "    an illegal access" in lines, lines
    assert f"FAIL {GROUPS[2]}: 1 cases failed" in lines, lines
    assert [one["group"] for one in r.report["kernels"]["cases"]] == [GROUPS[2]]
    lines = r.part("primitives")["lines"]
    assert "FAIL copies: exit status 3" in lines and "shuffles FAIL: 3 of 9 words differ" in lines, lines
    assert "    word 2: 00000001, the C body gives 00000002" in lines
    assert r.part("primitives")["note"] == "2 of the primitives failed"
    assert "last pass" in r.section("primitives")
    assert r.part("decode")["outcome"] == "pass", "what follows is measured"


def a_probe_is_wrong(work):
    """An answer that the kernels cannot live with is a failure, and is kept as well as those after it."""
    bad = "echo '{\"probe\": \"dependents\", \"rounds\": 9, \"wrong_eager\": 3}'\necho 'FAIL dependents: a kernel saw'"
    r = Rehearsal(work, probe=items(("dependents", bad), ("reads", "kill -ABRT $$"),
                                    ("gaps", "echo '{\"probe\": 1}'")) + "exit 1")
    assert r.run(330, "--only", "probe") == 1
    assert r.report["probe"]["dependents"]["wrong_eager"] == 3
    assert r.part("probe")["lines"][:2] == ["FAIL dependents: a kernel saw", "FAIL reads: ended by signal 6"]
    assert "begin gaps" in r.section("probe")


def no_time_is_left(work):
    """What was left out is named, by a benchmark and by gpu-check."""
    r = Rehearsal(work, {"--kernels": items((GROUPS[0], told(GROUPS[0]))) + f'echo "left out {GROUPS[1]}"'})
    assert r.run(330, "--only", "kernels") == 0
    assert r.part("kernels")["note"] == f"1 cases, no time was left for {GROUPS[1]}"
    check = gpu_check.Check(argparse.Namespace(seconds=330, rehearse=None, ranks=1))
    check.end = time.monotonic() + 5
    for part in gpu_check.PARTS[-3:] + [gpu_check.PARTS[1]._replace(run=runs_a_command)]:
        if part.run is runs_a_command:
            check.end = time.monotonic()
        with contextlib.redirect_stdout(io.StringIO()):
            assert gpu_check.run_part(check, part) == "skipped"
        assert check.report["parts"][-1]["note"] == "no time was left"


def runs_a_command(check):
    """A part."""
    check.run(["true"])


def stderr_makes_noise(work):
    """Lines of others, around and between the results."""
    noise = 'echo "NVRM: a warning" >&2; echo "{ not JSON" >&2\n'
    bench = {"--machine": f"{noise}printf '%s\\n' '{MACHINE}'; {noise}",
             "--kernels": items((GROUPS[0], noise + told(GROUPS[0]) + "\n" + noise))}
    bench["--machine"] = f'echo "NVRM: a warning" >&2\necho \'{MACHINE}\'\n{noise}'
    r = Rehearsal(work, bench, LIST + noise + SUITES)
    assert r.run() == 0, r.output
    assert r.report["machine"]["device"] == "Fake GPU"
    assert len(r.report["kernels"]["cases"]) == 1 and "NVRM" in r.section("kernels")


def tests_fail(work):
    """Each failed test's lines, however many pass after it; two of them once more under compute-sanitizer."""
    names = [f"emu_product.t{i}" for i in range(30)]
    suites = 'case " $* " in\n*" --list "*) ' + "".join(f"echo {name};" for name in names) + "exit 0;;\n"
    suites += '*" --here "*) echo "here $*"; echo "blocking=$CUDA_LAUNCH_BLOCKING"; exit 1;;\nesac\n'
    for i, name in enumerate(names):
        if i in (1, 2, 3):
            suites += f'echo "FAIL {name} 0.1 s"; echo "    values: 3 of 9 differ"; echo "    7: 1.5, not 2.5"\n'
        elif i == 5:
            suites += f'echo "skip {name} 0.1 s"; echo "    it reads counters"\n'
        elif i != 29:
            suites += f'echo "pass {name} 0.1 s"; echo "    note: f32: at most 1e-7, where 1e-5 is allowed"\n'
    sanitizer = 'echo "========= COMPUTE-SANITIZER $*"; shift 2; "$@"; echo "Invalid __global__ read at 0x20"; exit 1'
    r = Rehearsal(work, suites=suites + "exit 1", tools={"compute-sanitizer": sanitizer})
    assert r.run(330, "--only", "ops") == 1
    part = r.part("ops")
    assert part["note"] == "25 passed, 1 skipped, 3 failed, 1 not run (exit status 1)", part["note"]
    text = "\n".join(part["lines"])
    for i in (1, 2, 3):
        assert f"FAIL emu_product.t{i} 0.1 s\n    values: 3 of 9 differ\n    7: 1.5, not 2.5" in text, text
    assert "FAIL not run: emu_product.t29" in text
    assert "emu_product.t1 alone, under compute-sanitizer: exit status 1" in text
    assert "--here --filter emu_product.t1" in text and "blocking=1" in text
    assert "Invalid __global__ read" in text and "emu_product.t3 alone" not in text
    assert "note:" not in text and "note: f32" in r.section("ops")


def a_driver_is_too_old(work):
    """An error with all that says why, not 'no GPU'."""
    old = 'echo "gpu-bench: CUDA driver version is insufficient for CUDA runtime version ' \
          '(cudaErrorInsufficientDriver)" >&2; exit 1'
    smi = 'case "$*" in *query*) echo "NVIDIA Old, 535.1, 1, 1, 1, 1, 1, Disabled, [N/A]";; ' \
          '*) echo "GPU 0: NVIDIA Old (UUID: GPU-1)";; esac'
    r = Rehearsal(work, {"--machine": old}, tools={"nvidia-smi": smi, "ldconfig": 'echo "  libcuda.so.1 => /x"'})
    assert r.run() == 1
    part = r.part("machine")
    assert "insufficient" in part["note"] and "GPU 0: NVIDIA Old" in part["lines"][-1], part
    assert r.report["machine"]["driver_version"] == "535.1"
    assert "libcuda.so.1 => /x" in r.log and [part["name"] for part in r.report["parts"]] == ["machine"]
    assert any("nvidia-old" in name for name in os.listdir(r.results))


def the_driver_hangs(work):
    """The first call to the device never returns: an error."""
    r = Rehearsal(work, {"--machine": HANG}, tools={"nvidia-smi": HANG})
    assert r.run(8) == 1
    assert "CUDA does not come up: not done after" in r.part("machine")["note"]
    assert "before the hang" in r.section("machine") and r.is_gone()


def there_is_no_gpu(work):
    """No driver and no sign of a GPU: nothing to do, and no file. With a sign of one, an error."""
    none = {"--machine": 'echo "gpu-bench: there is no NVIDIA driver" >&2; exit 77'}
    if os.path.exists("/dev/nvidia0"):
        return
    r = Rehearsal(work, none)
    assert r.run() == 0 and "no CUDA device" in r.output and r.report is None
    r = Rehearsal(work, none, tools={"nvidia-smi": 'echo "GPU 0: NVIDIA H200"'})
    assert r.run() == 1 and "there is no NVIDIA driver" in r.part("machine")["note"]


def the_device_dies(work):
    """Nothing more is tried on a device that does not answer, and the kernel's word on it is kept."""
    r = Rehearsal(work, {"--alive": "echo 'gpu-bench: unspecified launch failure' >&2; exit 1"}, primitives="exit 3",
                  tools={"dmesg": 'echo "NVRM: Xid (PCI:0000): 79, GPU has fallen off the bus."'})
    assert r.run() == 1
    assert r.part("primitives")["outcome"] == "fail"
    for part in gpu_check.PARTS[2:]:
        assert r.part(part.name)["note"] == "the device does not answer any more"
    assert "Xid (PCI:0000): 79" in r.log


def gpu_check_itself_fails(work):
    """Results of a form that nobody expected: the part is lost, and no other."""
    bench = {"--machine": "echo '{\"device\": 7}'", "--kernels": items((GROUPS[0], "echo '{\"cases\": 3}'")),
             "--decode": items(("m decode batch 1", "echo '{\"cases\": [{}]}'"))}
    r = Rehearsal(work, bench)
    assert r.run() == 1
    assert "gpu-check itself: TypeError" in r.part("kernels")["note"], r.output
    assert any("gpu_parts.py" in line for line in r.part("kernels")["lines"])
    assert r.report["decode"]["cases"] == [{}]
    assert "decode: its tables could not be made" in r.page and "KeyError" in r.page and "| ops | pass |" in r.page
    assert r.part("ops")["outcome"] == "pass"


def gpu_check_is_ended(work):
    """By SIGTERM: the report says so. By SIGKILL: the log has all that was said."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        r = Rehearsal(os.path.join(work, str(number)), {"--decode": 'echo "decode begins"; ' + HANG})
        process = r.start(330, "--only", "kernels,decode,ops")
        until = time.monotonic() + 20
        while time.monotonic() < until and not os.path.exists(r.pids):
            time.sleep(0.05)
        time.sleep(0.3)
        process.send_signal(number)
        process.communicate()
        r.read()
        assert "decode begins" in r.section("decode") and case(GROUPS[2]) in r.section("kernels")
        assert r.part("kernels")["outcome"] == "pass"
        if number == signal.SIGTERM:
            assert "SystemExit" in r.part("decode")["note"] and r.is_gone() and process.returncode == 143
        else:
            with open(r.pids, encoding="utf-8") as file:
                os.kill(int(file.read().split()[-1]), signal.SIGKILL)


def a_part_says_too_much(work):
    """The log stays small, with a part's beginning and end."""
    flood = 'echo first; yes "a line that comes again and again" | head -c 30000000; echo; echo last'
    r = Rehearsal(work, {"--kernels": flood}, suites=LIST + flood + "\n" + SUITES)
    assert r.run(330, "--only", "kernels,ops,models") == 1
    most = gpu_process.FIRST_BYTES + gpu_process.LAST_BYTES
    assert len(r.log) < 3 * most + 10000 < len(gpu_check.PARTS) * most < 16 << 20
    for name in ("kernels", "ops"):
        section = r.section(name)
        assert "\nfirst\n" in section and "\nlast\n" in section and "bytes are left out" in section, section[-600:]
    assert r.part("ops")["outcome"] == "pass"


def real_programs(work):
    """gpu-bench on the emulator with ops that are refused, fail for good, crash and hang; gpu-suites with such tests.
    """
    r = Rehearsal(work)
    for name, program in (("gpu/gpu-bench-emu", PROGRAMS[0]), ("gpu/gpu-suites-emu", PROGRAMS[1]),
                          ("emu/primitives-emu", PROGRAMS[2])):
        r.put("build/tests/" + name, f'exec "{program}" "$@"')
    suites = f'[ "$1" = --list ] && exec "{PROGRAMS[1]}" --list\n'
    r.put("build/tests/gpu/gpu-suites-emu", suites + f'case "$*" in *--here*) exit 1;; esac\nexec "{PROGRAMS[1]}" '
          '--together --timeout 1')
    subprocess.run([PROGRAMS[2], "--write", os.path.join(work, "build/tests/emu/primitives.bin")], check=True,
                   stdout=subprocess.DEVNULL)
    assert r.run(200, "--only", "primitives,kernels,ops") == 1
    assert r.part("primitives")["note"] == "16 primitives, bit for bit"
    text = "\n".join(r.part("kernels")["lines"])
    for n, kind in ((1, "decode"), (8, "decode"), (64, "prefill")):
        assert f"FAIL tiny {kind} qkv {n}: planted: qkv is refused" in text, text
        assert f"FAIL tiny {kind} attention {n}: tiny {kind} attention {n}: attention_kernel" in text
        assert f"FAIL tiny {kind} o_proj {n}: ended by signal 11" in text, text
        assert f"FAIL tiny {kind} gate_up {n}: not done after" in text
    assert "planted: noise before a crash" in text and "cudaErrorLaunchFailure" in text
    assert r.part("kernels")["note"] == "27 cases, 12 groups failed"
    groups = {one["group"] for one in r.report["kernels"]["cases"] if one["seconds"]["n"]}
    for n in (1, 8):
        assert groups >= {f"tiny decode {op} {n}" for op in ("embed", "down_proj", "logits", "sample")}, groups
    assert "tiny prefill down_proj 64" in groups
    text = "\n".join(r.part("ops")["lines"])
    assert r.part("ops")["note"] == "6 passed, 1 skipped, 6 failed"
    assert "    19: 119, not 19" in text and "    ended by signal 11" in text
    assert "    not done after 1 s" in text
    assert "    word 2: deadbeef, not 00000003" in text


TESTS = [limits_fit, all_is_well, everything_hangs, an_item_hangs, items_crash_and_leave_errors, a_probe_is_wrong,
         no_time_is_left, stderr_makes_noise, tests_fail, a_driver_is_too_old, the_driver_hangs, there_is_no_gpu,
         the_device_dies, gpu_check_itself_fails, gpu_check_is_ended, a_part_says_too_much, real_programs]

if __name__ == "__main__":
    PROGRAMS = [os.path.abspath(path) for path in sys.argv[1:4]]
    for test in TESTS:
        if len(sys.argv) > 4 and test.__name__ not in sys.argv[4:]:
            continue
        began = time.monotonic()
        with tempfile.TemporaryDirectory() as folder:
            test(folder)
        print(f"pass {test.__name__} {time.monotonic() - began:.1f} s", flush=True)
