#!/usr/bin/env python3
"""The C that cffi reads, made of the public headers each time the package is built: there is no copy to keep in step.

  make_cdef.py              prints the declarations of runtime/trimtab.h and of what it includes
  make_cdef.py --emit FILE  writes the extension module's source, by cffi
  make_cdef.py --check CC   whether the declarations are, token for token, what the compiler CC sees in the headers

cffi takes declarations without macros, attributes and comments. The structs are laid out by the compiler in the end,
which compiles the module with the header itself: one that is not as it was read does not compile."""

import argparse
import pathlib
import re
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
HEADERS = ("base/tt_enums.h", "base/tt_error.h", "base/tt_sampling.h", "runtime/trimtab.h")
# What the library calls back.
CALLBACKS = """
extern "Python" int trimtab_progress(void *user, const char *stage, uint64_t done, uint64_t total);
extern "Python" void trimtab_note(void *user, const char *line);
"""


def declarations(text):
    """A header without comments, preprocessor lines, C++ and TT_API."""
    text = re.sub(r"/\*.*?\*/|//[^\n]*", " ", text, flags=re.DOTALL)
    text = re.sub(r"\\\n", " ", text)
    text = re.sub(r"^#ifdef __cplusplus\n.*?^#endif\n", "", text, flags=re.MULTILINE | re.DOTALL)
    text = re.sub(r"^[ \t]*#[^\n]*\n", "", text, flags=re.MULTILINE)
    return re.sub(r"\bTT_API\b", "", text)


def make_cdef():
    return "\n".join(declarations((ROOT / header).read_text(encoding="utf-8")) for header in HEADERS)


def emit(path):
    import cffi

    builder = cffi.FFI()
    builder.cdef(make_cdef() + CALLBACKS)
    # tt_mapped_file is for handlers of SIGBUS, which Python cannot have; it is there all the same.
    builder.set_source("trimtab._native", "#include <trimtab.h>\n", py_limited_api=True)
    builder.emit_c_code(str(path))


# ---- The check


def tokens(text):
    return re.findall(r"\w+|[^\w\s]", text)


def preprocess(compiler):
    """The headers as the compiler sees them, the system's left out."""
    with tempfile.TemporaryDirectory() as folder:
        for name in ("stdbool.h", "stddef.h", "stdint.h"):
            (pathlib.Path(folder) / name).write_text("")
        command = [compiler, "-E", "-P", "-nostdinc", "-DTT_API=", f"-I{folder}", f"-I{ROOT}/base", "-x", "c",
                   str(ROOT / "runtime/trimtab.h")]
        return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


def check(compiler):
    ours, theirs = tokens(make_cdef()), tokens(preprocess(compiler))
    n_functions = len(re.findall(r"\bTT_API\b[^;{#]*?\btt_\w+\(", (ROOT / HEADERS[-1]).read_text(encoding="utf-8")))
    found = len(re.findall(r"\btt_\w+\([^()]*\);", make_cdef()))
    for i, (a, b) in enumerate(zip(ours, theirs)):
        if a != b:
            sys.exit(f"make_cdef: {' '.join(ours[max(0, i - 8):i + 4])}\nthe compiler: "
                     f"{' '.join(theirs[max(0, i - 8):i + 4])}")
    if len(ours) != len(theirs):
        sys.exit(f"make_cdef: {len(ours)} tokens, and the compiler sees {len(theirs)}")
    if found < 50 or found != n_functions:
        sys.exit(f"make_cdef: {found} functions, and the header marks {n_functions} TT_API")
    print(f"make_cdef: {found} functions, {len(ours)} tokens, as the compiler sees them")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--emit", metavar="FILE", type=pathlib.Path)
    parser.add_argument("--check", metavar="CC")
    options = parser.parse_args()
    if options.emit:
        emit(options.emit)
    elif options.check:
        check(options.check)
    else:
        print(make_cdef())


if __name__ == "__main__":
    main()
