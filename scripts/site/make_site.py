#!/usr/bin/env python3
"""Writes the pages of the documentation site, for mkdocs: make_site.py TRIMTAB OUT

They are the Markdown files of the tree at the places that they have there, so that links between them hold, and two
pages that nobody writes by hand: the commands, as the program's own --help tells them, and the C interface, as
runtime/trimtab.h documents it."""

import pathlib
import re
import shutil
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve().parents[2]
FOLDERS = ("", "docs", "bench", "kernels", "data")
LINK = re.compile(r"(?<!!)\[([^\]]*)\]\(([^)\s]+)\)")


def pages():
    """path in the tree: path on the site"""
    found = {}
    for folder in FOLDERS:
        for path in sorted((HERE / folder).glob("*.md")):
            name = path.relative_to(HERE).as_posix()
            found[name] = "index.md" if name == "README.md" else re.sub(r"(^|/)README\.md$", r"\1index.md", name)
    return found


def with_links(text, name, found):
    """The text of a page. What it links to that is no page of the site stays as its words."""
    folder = pathlib.PurePosixPath(name).parent

    def renew(match):
        words, target = match.groups()
        path, mark, anchor = target.partition("#")
        if "://" in path or not path:
            return match[0]
        parts = []
        for part in (folder / path).parts:
            parts = parts[:-1] if part == ".." else parts + [part]
        place = found.get("/".join(parts))
        if not place:
            return words
        up = "../" * (len(pathlib.PurePosixPath(found[name]).parts) - 1)
        return f"[{words}]({up}{place}{mark}{anchor})"

    return LINK.sub(renew, text)


def commands(trimtab):
    def help_of(*words):
        return subprocess.run([trimtab, *words, "--help"], capture_output=True, text=True, check=True).stdout

    whole = help_of()
    names = re.findall(r"^  ([a-z]+) {2,}\S", whole.split("\nOptions")[0], re.M)
    if len(names) < 10:
        sys.exit(f"make_site: the program's help names {names} alone")
    sections = "".join(f"## {name}\n\n```text\n{help_of(name)}```\n\n" for name in names)
    return ("# Commands and options\n\nWhat `trimtab COMMAND --help` prints. [The program](../docs/cli.md) has what "
            f"does not fit there.\n\n```text\n{whole}```\n\n{sections}")


def prose(comment):
    """A C comment as Markdown: lines that are set further in are a table of its own, and stay as they are."""
    out, was_code = [], False
    for line in re.sub(r"^/\*|\*/$", "", comment.strip()).splitlines():
        line = re.sub(r"^ ?\* ?", "", line).rstrip()
        is_code = line.startswith("  ")
        if is_code != was_code and out:
            out.append("")
        out.append("    " + line.lstrip() if is_code else line.strip().replace("<", "&lt;").replace("*", r"\*"))
        was_code = is_code
    return "\n".join(out).strip("\n")


def interface():
    """A section for each part of the header, and in it an entry for each comment with what it is about."""
    header = (HERE / "runtime" / "trimtab.h").read_text(encoding="utf-8")
    out = ["# The C interface\n\n`#include <trimtab.h>`; how it is installed and linked: [Installation]"
           "(../docs/install.md).\n"]
    parts = re.split(r"/\* ---- (.+?) ---- \*/", header)
    first = re.match(r"\s*/\*.*?\*/", parts[0], re.S)
    out.append(prose(first[0]) + "\n")
    for title, body in zip(["In general"] + parts[1::2], [parts[0][first.end():]] + parts[2::2]):
        out.append(f"## {title}\n")
        body = re.sub(r"^#(?:if|ifndef|ifdef|elif|else|endif|include)\b.*\n?", "", body, flags=re.M)
        for block in re.split(r"\n\s*\n(?=\S)", body):
            block = block.strip()
            names = re.findall(r"^(?:struct|enum) (tt_\w+) \{|\b(tt_\w+)\(", re.sub(r"/\*.*?\*/|//.*", "", block,
                                                                                   flags=re.S), re.M)
            names = [name for pair in names for name in pair if name]
            if not names:
                continue
            comment = re.match(r"/\*.*?\*/", block, re.S)
            code = block[comment.end():].strip() if comment else block
            out.append(f"### {names[0]}\n\n{prose(comment[0]) if comment else ''}\n\n```c\n{code}\n```\n")
    page = "\n".join(out)
    lost = [name for name in re.findall(r"^TT_API[^;]*?\b(tt_\w+)\(", header, re.M) if f"{name}(" not in page]
    if lost:
        sys.exit(f"make_site: the page of the C interface has not {', '.join(lost)}")
    return page


def main():
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    trimtab, out = sys.argv[1], pathlib.Path(sys.argv[2])
    found = pages()
    written = {place: with_links((HERE / name).read_text(encoding="utf-8"), name, found)
               for name, place in found.items()}
    written["reference/commands.md"] = commands(trimtab)
    written["reference/c.md"] = interface()
    for place, text in written.items():
        (out / place).parent.mkdir(parents=True, exist_ok=True)
        (out / place).write_text(text, encoding="utf-8")
    for picture in (HERE / "docs").glob("*.svg"):
        shutil.copy(picture, out / "docs")
    print(f"make_site: {len(written)} pages")


if __name__ == "__main__":
    main()
