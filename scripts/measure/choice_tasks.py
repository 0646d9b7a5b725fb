"""lm-eval's own tasks of ARC and, with letters, MMLU, but that they read a file of one's own and have no description.
For compare_lm_eval.py and serve_clients.py."""

import json
from pathlib import Path

import yaml

TEXT = {"doc_to_text": "Question: {{question}}\nAnswer:", "doc_to_choice": "{{choices}}"}
LETTERS = {
    "doc_to_text": "{{question}}{% for choice in choices %}\n{{'ABCDEFGHIJKLMNOP'[loop.index0]}}. {{choice}}"
                   "{% endfor %}\nAnswer:",
    "doc_to_choice": "{{'ABCDEFGHIJKLMNOP'[:choices|length]|list}}",
}


def parse_set(text):
    """NAME=FILE[:letters][:N]"""
    name, _, rest = text.partition("=")
    path, *marks = rest.split(":")
    limit = [int(mark) for mark in marks if mark.isdigit()]
    return name, path, "letters" in marks, limit[0] if limit else None


def write_task(folder, name, path, letters, limit):
    """The first rows with what the task reads, and the task."""
    rows = [json.loads(line) for line in Path(path).read_text(encoding="utf-8").splitlines()][:limit]
    data = folder / f"{name}.jsonl"
    with data.open("w", encoding="utf-8") as file:
        for row in rows:
            answer = row["answer"] if isinstance(row["answer"], int) else "ABCDEFGHIJKLMNOP".index(row["answer"])
            file.write(json.dumps({key: row[key] for key in ("question", "choices")} | {"answer": answer}) + "\n")
    task = {
        "task": f"trimtab_{name}", "dataset_path": "json", "dataset_kwargs": {"data_files": {"test": str(data)}},
        "test_split": "test", "output_type": "multiple_choice", "doc_to_target": "answer",
        "metric_list": [{"metric": metric, "aggregation": "mean", "higher_is_better": True}
                        for metric in ("acc", "acc_norm")],
    }
    (folder / f"{name}.yaml").write_text(yaml.safe_dump(task | (LETTERS if letters else TEXT)))
    return data


def evaluate(harness, folder, names):
    """What lm-eval says of the tasks that were written there, with its samples."""
    import lm_eval
    from lm_eval.tasks import TaskManager

    return lm_eval.simple_evaluate(
        model=harness, tasks=[f"trimtab_{name}" for name in names], log_samples=True, bootstrap_iters=0,
        task_manager=TaskManager(include_path=str(folder), include_defaults=False))
