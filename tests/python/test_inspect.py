"""Inspect's own command over a task of ours, with and without a policy: answers are the engine's, and what the gate
decided stands in the sample's metadata."""

import json
import os
import pathlib
import subprocess
import sys

import pytest
from conftest import TINY
from task_rows import ROWS

import trimtab

pytest.importorskip("inspect_ai")
TASK = """
from inspect_ai import Task, task
from inspect_ai.dataset import Sample
from inspect_ai.scorer import includes
from inspect_ai.solver import generate
import sys
sys.path.insert(0, {tests!r})
from task_rows import ROWS

@task
def ours():
    samples = [Sample(id=row["id"], input=row["question"], target=row["choices"][0]) for row in ROWS]
    return Task(dataset=samples, solver=generate(), scorer=includes())
"""


def run_inspect(folder, *options):
    (folder / "ours.py").write_text(TASK.format(tests=str(pathlib.Path(__file__).parent)))
    command = [pathlib.Path(sys.executable).parent / "inspect", "eval", "ours.py", "--model", f"trimtab/{TINY}",
               "--max-tokens", "12", "--log-format", "json", "--log-dir", "logs", "--display", "plain", *options]
    done = subprocess.run(list(map(str, command)), cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          text=True, env=os.environ | {"HOME": str(folder)}, timeout=600)
    assert done.returncode == 0, done.stdout
    log = json.loads(next((folder / "logs").glob("*.json")).read_text())
    assert log["status"] == "success", log.get("error")
    return {sample["id"]: sample for sample in log["samples"]}


@pytest.mark.parametrize("steered", [False, True], ids=["unsteered", "steered"])
def test_answers_are_the_engines(steered, policy_path, tmp_path):
    samples = run_inspect(tmp_path, *(["-M", f"policy={policy_path}:0.75"] if steered else []))
    assert len(samples) == len(ROWS)
    with trimtab.Engine(TINY) as engine:
        policy = (engine.load_policy(policy_path), 0.75)
        for row in ROWS:
            answer = engine.generate(row["question"], policies=policy if steered else None, max_tokens=12)
            sample = samples[row["id"]]
            output = sample["output"]["choices"][0]
            assert output["message"]["content"] == answer.text
            assert output["stop_reason"] == {"length": "max_tokens", "stop": "stop"}[answer.finish]
            if not steered:
                assert "steering" not in sample["metadata"]
                continue
            fact, decision = sample["metadata"]["steering"][0], answer.decisions[0]
            assert sample["output"]["metadata"]["steering"] == sample["metadata"]["steering"]
            assert fact["policy"] == "test" and fact["scale"] == 0.75 and fact["steers"] is True
            assert fact["gate"] == pytest.approx(decision.gate) and fact["s"] == decision.s
            assert fact["coef"] == {"1": pytest.approx(1.125), "2": pytest.approx(1.125)}


def test_other_answers_are_asked_for():
    """Several choices, log-probabilities, stop strings; tools are refused."""
    import asyncio

    from inspect_ai.model import ChatMessageUser, GenerateConfig, get_model

    model = get_model(f"trimtab/{TINY}", memoize=False)
    said = asyncio.run(model.generate([ChatMessageUser(content="Hello")], config=GenerateConfig(
        max_tokens=5, num_choices=2, temperature=2.0, seed=4, logprobs=True, top_logprobs=2)))
    assert len(said.choices) == 2 and said.choices[0].message.text != said.choices[1].message.text
    assert len(said.choices[0].logprobs.content) == 5 and len(said.choices[0].logprobs.content[0].top_logprobs) == 2
    assert said.usage.output_tokens == 10
