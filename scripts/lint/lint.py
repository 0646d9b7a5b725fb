#!/usr/bin/env python3
"""Looks at the text of the tree: columns, lengths of files and functions, and names of files in comments and documents.

    lint.py [--root FOLDER]

  columns    120 at most; a tab goes to the next multiple of 8. Rows of Markdown tables and lines that one link makes
             too long may be longer, and are counted.
  files      800 lines at most; headers 150, but for the public one and those of tests, which hold code
  functions  80 lines at most in C and CUDA, from the signature to the brace that closes it
  names      every file that a comment or a document names exists: by its path from the root or from the folder of who
             names it, or as the end of some path
  scripts    what begins with #! may be executed, since a target of the Makefile calls it by its name

Prints a line for each violation and exits with 1 if there was one. clang-format looks after everything else."""

import argparse
import io
import os
import pathlib
import re
import sys
import tokenize

import tree

COLUMNS, FILE_LINES, HEADER_LINES, FUNCTION_LINES = 120, 800, 150, 80
LONG_HEADERS = {"runtime/trimtab.h"}  # the public one
# Test cases, one a line.
CASES = {"scripts/goldens/template_cases.py", "scripts/goldens/make_tokenizer_goldens.py"}
SCRIPTS = (".py", ".sh", ".cmake", ".mk")
NAMES = {"CMakeLists.txt", "Makefile", ".ci/run"}

# These look like names of files of the tree, and are another project's files or a product in a formula.
ELSEWHERE = {"cublas_api.h", "a_k.h", "a.b.c"}
# In DATE-GPU.md or tests/test_NAME.c the capitals stand for something.
STANDS_FOR = re.compile(r"(?<![A-Za-z])(?:DATE|GPU|MODULE|NAME|TARGET)(?![A-Za-z])")

NAMED = re.compile(r"(?<![\w/.*<>{}$-])((?:[\w.-]+/)*[\w-][\w.-]*\.(?:c|h|inc|cu|cuh|md|py|sh|cmake|txt))"
                   r"(?![\w*({/-]|\.\w)")


def is_text(name):
    return name.endswith(tree.CODE + SCRIPTS + (".md",)) or name in NAMES or os.path.basename(name) in NAMES


# ---- Columns and lengths ----


def check_columns(name, lines, counts):
    link = re.compile(r"\S*https?://\S*|\]\([^)]*\)\S*")
    for number, line in enumerate(lines, 1):
        width = len(line.expandtabs(8))
        if width <= COLUMNS:
            continue
        if name.endswith(".md") and line.lstrip().startswith("|"):
            counts["table rows"] += 1
        elif name.endswith(".md") and len(link.sub("", line)) <= COLUMNS and len(line.split()) <= 2:
            counts["links"] += 1
        elif name in CASES:
            counts["test cases"] += 1
        else:
            yield f"{name}:{number}: {width} columns, {COLUMNS} at most"


def check_length(name, lines):
    is_interface = name.endswith(".h") and name not in LONG_HEADERS and not name.startswith("tests/")
    limit = HEADER_LINES if is_interface else FILE_LINES
    if name.endswith(tree.CODE + SCRIPTS) and len(lines) > limit:
        yield f"{name}:{len(lines)}: {len(lines)} lines, {limit} at most"


def check_functions(name, lines):
    """As clang-format lays it out: a function's braces stand in the first column, alone."""
    if not name.endswith(tree.CODE):
        return
    begun = None
    for number, line in enumerate(lines, 1):
        if line == "{":
            begun = number
            # Up to the signature's first line, which begins in the first column.
            while begun > 1 and lines[begun - 2].strip() and (begun == number or lines[begun - 1][:1] in ("\t", " ")):
                begun -= 1
        elif line.startswith("}") and begun is not None:
            length = number - begun + 1
            if length > FUNCTION_LINES:
                yield f"{name}:{begun}: a function of {length} lines, {FUNCTION_LINES} at most"
            begun = None


# ---- Names of files ----


def c_comments(text):
    """(line, text) of each line of a comment; string literals are passed over."""
    pattern = re.compile(r'"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\'|/\*.*?\*/|//[^\n]*', re.DOTALL)
    for match in pattern.finditer(text):
        if match[0].startswith("/"):
            first = text.count("\n", 0, match.start()) + 1
            for offset, line in enumerate(match[0].splitlines()):
                yield first + offset, line


def python_comments(text):
    """Comments, and strings of several lines, which are docstrings for the most part."""
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT or (token.type == tokenize.STRING and '"""' in token.string):
            for offset, line in enumerate(token.string.splitlines()):
                yield token.start[0] + offset, line


def hash_comments(text):
    for number, line in enumerate(text.splitlines(), 1):
        match = re.search(r"(?:^|\s)#(?!!)(.*)", line)
        if match:
            yield number, match[1]


def prose(name, text):
    if name.endswith(".md"):
        return enumerate(text.splitlines(), 1)
    if name.endswith(tree.CODE):
        return c_comments(text)
    return python_comments(text) if name.endswith(".py") else hash_comments(text)


class Known:
    """Every end of every path of the tree: for base/fail.h that and fail.h."""

    def __init__(self, names):
        self.ends = {"/".join(name.split("/")[start:]) for name in names for start in range(name.count("/") + 1)}

    def __contains__(self, name):
        return name in self.ends


def check_names(name, lines, known):
    for number, line in prose(name, "\n".join(lines) + "\n"):
        for found in NAMED.findall(re.sub(r"\w+://\S+", "", line)):
            path = found[2:] if found.startswith("./") else found
            relative = os.path.normpath(os.path.join(os.path.dirname(name), path))
            if path not in known and relative not in known and path not in ELSEWHERE and not STANDS_FOR.search(path):
                yield f"{name}:{number}: names {found}, which does not exist"


def check_mode(root, name, lines):
    if name.endswith(SCRIPTS) and lines and lines[0].startswith("#!") and not (root / name).stat().st_mode & 0o111:
        yield f"{name}: begins with #! and is not executable"


# ----


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", default=tree.ROOT, type=pathlib.Path)
    root = parser.parse_args().root
    names = tree.files(root)
    known = Known(names)
    counts = {"table rows": 0, "links": 0, "test cases": 0}
    n_found = 0
    for name in filter(is_text, names):
        lines = tree.lines(root, name)
        for check in (check_columns(name, lines, counts), check_length(name, lines), check_functions(name, lines),
                      check_names(name, lines, known), check_mode(root, name, lines)):
            for line in check:
                print(line)
                n_found += 1
    for what, count in counts.items():
        if count:
            print(f"lint: {count} {what} of more than {COLUMNS} columns", file=sys.stderr)
    sys.exit(1 if n_found else 0)


if __name__ == "__main__":
    main()
