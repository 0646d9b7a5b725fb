#!/usr/bin/env python3
"""Faults of the compiled kernels, one at a time: the text of nvcc's PTX is edited as a compiler, a wrong constraint of
an asm or a forgotten "memory" would change it, and a suite that runs it must turn red, with the message that is given.
On the C bodies every one of these suites stays green, since no source is changed.

    test_ptx_faults.py FOLDER_OF_PTX FOLDER_OF_PROGRAMS PRIMITIVES.bin"""

import os
import pathlib
import re
import subprocess
import sys
import tempfile

ROOT, PROGRAMS, GOLDEN = (pathlib.Path(argument).resolve() for argument in sys.argv[1:4])
PRIMITIVES = ["primitives-emu", str(GOLDEN)]


def suite(name, test=None):
    return [f"test_emu_{name}", "--jobs", "1"] + (["--filter", f"emu_{name}/{test}"] if test else [])


def within(entry, pattern, replacement, count=1):
    """An edit of the entry whose symbol contains the name: the first matches of the pattern."""
    def edit(text):
        begin = re.search(r"\.entry \w*" + entry, text).start()
        end = text.find(".entry ", begin + 1)
        end = end if end >= 0 else len(text)
        changed, n = re.subn(pattern, replacement, text[begin:end], count=count, flags=re.DOTALL)
        assert n, f"nothing in {entry} is {pattern}"
        return text[:begin] + changed + text[end:]
    return edit


ALL = 0
FAULTS = [
    # name, file, edit, program, what it says
    ("the halves of a pair are swapped", "primitives", within(
        "conversions", r"(cvt\.rn\.bf16x2\.f32 %r\d+), (%f\d+), (%f\d+)", r"\1, \3, \2"), PRIMITIVES,
     r"conversions +FAIL"),
    ("two registers of a product's a are swapped", "down_proj", within(
        "product_narrowI12down_proj_opLi1ELi1ELi4", r"(mma\.sync[^{]*\{[^}]*\}, \{)(%r\d+), (%r\d+)", r"\1\3, \2", ALL),
     suite("product", "down_proj_unsteered"), r"relative error"),
    ("a matrix is not transposed", "attention", within(
        "attention_kernelI15attention_shapeILi1ELi4ELi2ELi4ELi4ELb0", r"m8n8\.x4\.trans", "m8n8.x4", ALL),
     suite("attention", "decode"), r"FAIL"),
    ("one group too few is waited for", "down_proj", within(
        "product_narrowI12down_proj_opLi1ELi1ELi4", r"cp\.async\.wait_group 2", "cp.async.wait_group 3", ALL),
     suite("product", "down_proj_unsteered"), r"read before its wait"),
    # Only products with a long K come round to those waits, which copies follow.
    ("the steady loop waits for one group too few", "gate_up", within(
        "product_narrowI10gate_up_opLi1ELi1ELi4", r"cp\.async\.wait_group 2;(?=(?:(?!commit_group).)*?cp\.async\.cg)",
        "cp.async.wait_group 3;", ALL), ["test_emu_product_k1424", "--jobs", "1", "--filter", "emu_product/gate_up"],
     r"read before its wait"),
    ("a load goes before the wait of its copy, as without a clobber of memory", "primitives", within(
        "copies", r"(cp\.async\.wait_group 1;)(.*?)(ld\.shared\.u32 [^;]*;)", r"\2\3\n\1"), PRIMITIVES,
     r"read before its wait"),
    ("a load goes before the barrier, as without a clobber of memory", "primitives", within(
        "shared_memory", r"(bar\.sync\s+0;)(.*?ld\.shared\.v4\.u32 [^;]*;)", r"\2\n\1"), PRIMITIVES,
     r"read of unwritten"),
    ("a barrier is gone", "down_proj", within("product_narrowI12down_proj_opLi1ELi1ELi4", r"bar\.sync\s+0;", ""),
     suite("product", "down_proj_unsteered"), r"missing tt_sync_\w+: thread"),
    ("a kernel does not wait for the one before it", "steer_row", within(
        "steer_row_kernelILi0", r"griddepcontrol\.wait;", ""),
     suite("product_steer", "every_operation_in_the_row_kernel"), r"before tt_grid_wait of what down_proj writes"),
    ("a shuffle of another kind", "primitives", within("shuffles", r"shfl\.sync\.bfly", "shfl.sync.down", ALL),
     PRIMITIVES, r"shuffles +FAIL"),
    ("a vector at a wrong offset", "primitives", within(
        "loads_and_stores", r"(ld\.global\.v4\.u32 \{[^}]*\}, \[%rd\d+)\]", r"\1+4]"), PRIMITIVES,
     r"misaligned"),
    ("fewer bytes are expected than are copied", "primitives", within(
        "bulk_copies", r"(mbarrier\.arrive\.expect_tx[^;]*), %r\d+;", r"\1, 16;"), PRIMITIVES,
     r"bulk_copies +FAIL"),
    ("a cluster does not meet", "primitives", within(
        "clusters", r"barrier\.cluster\.arrive[^;]*;.*?barrier\.cluster\.wait[^;]*;", ""), PRIMITIVES,
     r"missing tt_sync_cluster"),
    ("a cluster's barrier is waited for without an arrival", "primitives", within(
        "clusters", r"barrier\.cluster\.arrive[^;]*;", ""), PRIMITIVES, r"where it has not arrived"),
    ("a load from the block itself, not from the other of its cluster", "primitives", within(
        "clusters", r"mapa\.shared::cluster\.u32 (%r\d+), (%r\d+), %r\d+;", r"mov.u32 \1, \2;"), PRIMITIVES,
     r"clusters +FAIL"),
    ("a counter that wraps one block late", "primitives", within(
        "arrivals", r"(atom[^;]*\]), (%r\d+|\d+);", r"\1, 6;"), PRIMITIVES, r"arrivals +FAIL"),
    ("an instruction that is not known", "primitives", within("functions", r"fma\.rn\.f32", "fma.rz.f32"), PRIMITIVES,
     r"primitives\.ptx:\d+: unknown instruction fma\.rz\.f32"),
    ("a register that is not declared", "primitives", within("shuffles", r"\.reg \.pred[^;]*;", ""), PRIMITIVES,
     r"primitives\.ptx:\d+: unknown register %p\d+"),
    ("a label that is not there", "primitives", within("barriers", r"\bret;", "bra $L__nowhere;\nret;"), PRIMITIVES,
     r"primitives\.ptx:\d+: unknown label \$L__nowhere"),
    ("a product with too few operands", "primitives", within(
        "products", r"(mma\.sync[^;]*), \{[^}]*\};", r"\1;"), PRIMITIVES,
     r"primitives\.ptx:\d+: unknown operands of mma\.sync"),
]


def run(folder, program):
    environment = dict(os.environ, TT_EMU="ptx", TT_EMU_PTX=str(folder))
    done = subprocess.run([PROGRAMS / program[0], *program[1:]], env=environment, capture_output=True, text=True,
                          timeout=600, check=False)
    return done.returncode, done.stdout + done.stderr


def main():
    wrong = 0
    for program in {tuple(fault[3]): None for fault in FAULTS}:
        status, said = run(ROOT, program)
        if status:
            print(f"{' '.join(program)} is red without a fault:\n{said[-2000:]}")
            wrong += 1
    for name, file, edit, program, message in FAULTS:
        with tempfile.TemporaryDirectory() as folder:
            for path in ROOT.glob("*.ptx"):
                if path.stem != file:
                    (pathlib.Path(folder) / path.name).symlink_to(path)
            text = (ROOT / f"{file}.ptx").read_text(encoding="utf-8")
            (pathlib.Path(folder) / f"{file}.ptx").write_text(edit(text), encoding="utf-8")
            status, said = run(folder, program)
        found = re.search(message, said)
        red = status != 0 and found
        print(f"{'red' if red else 'NOT RED'}: {name} ({program[0]}{'' if red else f', status {status}'})")
        if found:
            start = said.rfind("\n", 0, found.start()) + 1
            print("    " + said[start:said.find("\n", found.start())].strip()[:200])
        elif not red:
            print(said[-2000:])
        wrong += not red
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
