"""Every command line of the program in the documents and in its own help is right usage: doc_commands.py TRIMTAB TREE.

Each is run in an empty folder. None of the files is there, so that a right one fails at the first (status 1), and a
wrong option or one argument too many is wrong usage (status 2). What is behind a pipe, a redirection or ; is left
out."""

import glob
import os
import re
import shlex
import subprocess
import sys
import tempfile

trimtab, tree = os.path.abspath(sys.argv[1]), os.path.abspath(sys.argv[2])
FENCE = re.compile(r"^( *)```(\w*)\n(.*?)^\1```", re.S | re.M)
COMMAND = re.compile(r"^\s*(?:\$ )?(?:\w+=\S+ )*(?:build/)?trimtab (.*)")
ABSENT = re.compile(r"\$\w+|^dummy:.*")  # a shell's variable; a model of random weights, which would be timed


def command_lines(text):
    """The arguments of each call, one list a call; of a shell's line what stands before a pipe or the like."""
    for line in text.replace("\\\n", " ").splitlines():
        found = COMMAND.match(line)
        if not found:
            continue
        lexer = shlex.shlex(found[1], posix=True, punctuation_chars=True)
        lexer.whitespace_split, lexer.commenters = True, "#"
        words = []
        for word in lexer:
            if set(word) <= set("|&;<>()"):
                break
            words.append(word)
        yield [ABSENT.sub("model.gguf", word) for word in words]


def documents():
    for pattern in ("*.md", "docs/*.md", "bench/*.md", "data/*.md", "kernels/*.md"):
        for path in sorted(glob.glob(os.path.join(tree, pattern))):
            with open(path, encoding="utf-8") as file:
                for _, language, block in FENCE.findall(file.read()):
                    if language in ("", "sh", "bash", "console"):
                        yield os.path.relpath(path, tree), block


def helps():
    text = subprocess.run([trimtab, "--help"], capture_output=True, text=True, check=True).stdout
    for command in [None, *re.findall(r"^  ([a-z]+)  ", text.partition("\nCommands:")[2].partition("\n\n")[0], re.M)]:
        arguments = [command, "--help"] if command else ["--help"]
        said = subprocess.run([trimtab, *arguments], capture_output=True, text=True, check=True).stdout
        yield f"trimtab {' '.join(arguments)}", said.partition("\nExamples:\n")[2]


def main():
    counts, failed = {}, 0
    for source, text in (*documents(), *helps()):
        for words in command_lines(text):
            with tempfile.TemporaryDirectory() as empty:
                done = subprocess.run([trimtab, *words], cwd=empty, stdin=subprocess.DEVNULL, capture_output=True,
                                      text=True, env={"PATH": os.environ["PATH"]}, timeout=120, check=False)
            counts[source] = counts.get(source, 0) + 1
            if done.returncode not in (0, 1):
                failed += 1
                print(f"FAILED: {source}: trimtab {shlex.join(words)}: {done.returncode}: {done.stderr.strip()}",
                      file=sys.stderr)
    few = [source for source in ("README.md", "docs/cookbook.md", "docs/cli.md", "trimtab generate --help")
           if counts.get(source, 0) < 3]
    if few:
        sys.exit(f"FAILED: hardly any commands were found in {', '.join(few)}")
    print(f"{sum(counts.values())} commands of {len(counts)} documents and helps")
    sys.exit(failed > 0)


if __name__ == "__main__":
    main()
