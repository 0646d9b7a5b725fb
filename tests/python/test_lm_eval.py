"""lm-eval's own command over a local task, with and without a policy: every log-likelihood is that of `trimtab score`,
to the digit, and every mark of greediness."""

import json
import os
import pathlib
import subprocess
import sys

import pytest
from conftest import ROOT, TINY, write_policy
from task_rows import ROWS, write_task

import trimtab

pytest.importorskip("lm_eval")
OFFLINE = {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"}
TASKS = "local_choices,local_choices_texts,local_choices_rolling"
ARC = pathlib.Path(os.environ.get("TRIMTAB_DATA", ".")) / "arc_easy_1k.jsonl"
MODEL = ROOT / "models/SmolLM2-135M-Instruct.Q4_1.gguf"


def run_lm_eval(folder, arguments, *options, tasks=TASKS):
    command = [pathlib.Path(sys.executable).parent / "lm_eval", "--model", "trimtab", "--model_args", arguments,
               "--tasks", tasks, "--include_path", folder, "--log_samples", "--output_path", folder / "out", *options]
    done = subprocess.run(list(map(str, command)), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                          env=os.environ | OFFLINE, timeout=900)
    assert done.returncode == 0, done.stdout
    found = {}
    for path in sorted((folder / "out").rglob("samples_*.jsonl")):
        rows = [json.loads(line) for line in path.read_text().splitlines()]
        found[path.name.removeprefix("samples_").rsplit("_", 1)[0]] = sorted(rows, key=lambda row: row["doc_id"])
    results = json.loads(max((folder / "out").rglob("results_*.json")).read_text())
    return found, results


def asked(sample):
    """The log-likelihoods as nine digits, which tell any two floats apart, and marks of a sample."""
    return [(float(f"{float(response[0][0]):.9g}"), str(response[0][1]) == "True") for response in sample["resps"]]


@pytest.mark.parametrize("steered", [False, True], ids=["unsteered", "steered"])
def test_log_likelihoods_are_those_of_score(steered, policy_path, tmp_path):
    data = write_task(tmp_path)
    arguments = f"model={TINY},max_batch=8" + (f",policy={policy_path}:0.75" if steered else "")
    samples, results = run_lm_eval(tmp_path, arguments)
    with trimtab.Engine(TINY) as engine:
        policy = (engine.load_policy(policy_path), 0.75)
        report = engine.score(choices=data, rows=tmp_path / "scored", policies=policy)
        scored = [json.loads(line) for line in (tmp_path / "scored").read_text().splitlines()]
        side = "steered" if steered else "unsteered"
        assert len(scored) == len(ROWS)
        for row, sample in zip(scored, samples["local_choices"], strict=True):
            assert [value for value, _ in asked(sample)] == row[side]["logprobs"]
            assert not steered or [greedy for _, greedy in asked(sample)] == row[side]["greedy"]
        figures = results["results"]["local_choices"]
        for measure in ("acc", "acc_norm"):
            assert figures[f"{measure},none"] == pytest.approx(report["choices"][measure][side])
        for row, sample in zip(ROWS, samples["local_choices_texts"], strict=True):
            text = engine.generate(f"Question: {row['question']}\nAnswer:", raw=True, stop=["\n\n", "Q"], max_tokens=12,
                                   policies=policy if steered else None).text
            assert sample["resps"][0][0] == text
        # Of one window the sum of what the engine itself gives, after what stands in front.
        for row, sample in zip(ROWS, samples["local_choices_rolling"], strict=True):
            ids = engine.text.encode(row["question"])
            (value, _, _), = engine.loglikelihoods([(ids[:1], ids[1:])], policies=policy if steered else None)
            assert float(sample["resps"][0][0]) == pytest.approx(value, abs=1e-5)
    assert len({value for sample in samples["local_choices"] for value, _ in asked(sample)}) > 40


@pytest.mark.skipif(not (ARC.exists() and MODEL.exists()),
                    reason="wants arc_easy_1k.jsonl and a model: make python-test DATA=FOLDER")
@pytest.mark.parametrize("steered", [False, True], ids=["unsteered", "steered"])
def test_arc_easy(steered, tmp_path):
    """Rows of ARC-easy on a real model: the shares and every log-likelihood are those of `trimtab score`."""
    data = write_task(tmp_path, rows=[json.loads(line) for line in ARC.read_text().splitlines()[:40]])
    with trimtab.Engine(MODEL) as engine:
        path = write_policy(tmp_path / "p.safetensors", engine.info, "gate.b=3")
        report = engine.score(choices=data, rows=tmp_path / "scored", policies=(engine.load_policy(path), 0.75))
    scored = [json.loads(line) for line in (tmp_path / "scored").read_text().splitlines()]
    samples, results = run_lm_eval(tmp_path, f"model={MODEL}" + (f",policy={path}:0.75" if steered else ""),
                                   tasks="local_choices")
    side, figures = "steered" if steered else "unsteered", results["results"]["local_choices"]
    assert len(scored) == len(samples["local_choices"]) == 40
    for row, sample in zip(scored, samples["local_choices"], strict=True):
        assert [value for value, _ in asked(sample)] == row[side]["logprobs"]
    assert any(row["steered"]["logprobs"] != row["unsteered"]["logprobs"] for row in scored)
    for measure in ("acc", "acc_norm"):
        print(side, measure, figures[f"{measure},none"])
        assert figures[f"{measure},none"] == pytest.approx(report["choices"][measure][side])
    assert figures["acc,none"] > 0.25  # chance


def test_what_is_wrong_comes_with_the_librarys_line(tmp_path):
    from trimtab.lm_eval_model import TrimtabLM

    with pytest.raises(trimtab.FileError, match="none.gguf"):
        TrimtabLM(model=str(tmp_path / "none.gguf"))
    with pytest.raises(trimtab.FileError, match="none.safetensors"):
        TrimtabLM(model=str(TINY), policy="none.safetensors:2")
    with pytest.raises(trimtab.ArgumentError, match="FILE:SCALE"):
        TrimtabLM(model=str(TINY), policy="a.safetensors:much")
    with pytest.raises(TypeError, match="'pretrained' is not an option"):
        TrimtabLM(model=str(TINY), pretrained="x")


def test_chats_are_rendered_by_the_models_template():
    from trimtab.lm_eval_model import TrimtabLM

    model = TrimtabLM(model=str(TINY))
    text = model.apply_chat_template([{"role": "user", "content": "Hello"}])
    assert model.tok_encode(text) == model.engine.encode("Hello")[0]
