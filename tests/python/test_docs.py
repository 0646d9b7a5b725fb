"""The examples of docs/python.md, each a program of its own, in the order of the page, in one folder."""

import os
import re
import subprocess
import sys

import pytest
from conftest import ROOT

PAGE = (ROOT / "docs/python.md").read_text(encoding="utf-8").split("\n## ")[1]
EXAMPLES = re.findall(r"^\*\*(\d+)\.\*\*.*?^```python\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
MODEL = ROOT / "models/SmolLM2-135M-Instruct.Q4_1.gguf"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("examples")
    os.symlink(MODEL, folder / "model.gguf")
    os.symlink(ROOT / "data/prompts.jsonl", folder / "prompts.jsonl")
    return folder


def test_there_are_ten():
    assert [number for number, _ in EXAMPLES] == [str(i + 1) for i in range(10)]


@pytest.mark.skipif(not MODEL.exists(), reason=f"there is no {MODEL.name}: make model")
@pytest.mark.parametrize(("number", "code"), EXAMPLES, ids=[number for number, _ in EXAMPLES])
def test_example(folder, number, code):
    done = subprocess.run([sys.executable, "-c", code], cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          text=True, timeout=900)
    print(done.stdout)
    assert done.returncode == 0 and done.stdout.strip()
    if number == "3":  # scale 0 is the text without a policy, and scale 1 another
        said = [line.split(" ", 4) for line in done.stdout.splitlines() if re.match(r"(0|0.5|1) 1.0 ", line)]
        assert len(said) == 3 and said[0][4] != said[2][4] and float(said[2][2]) == 2 * float(said[1][2])
