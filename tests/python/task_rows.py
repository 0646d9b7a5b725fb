"""Questions with choices for lm-eval and Inspect, of the project's own: the tests' tiny model has no say in what is
right, so that any will do. Their form is that of ARC-easy's."""

import json

LETTERS = "ABCD"
ROWS = [{"id": f"q{i}", "question": f"What is {i} and {i + 1}?",
         "choices": [str(2 * i + 1), str(i), str(3 * i + 2), "nothing"], "answer": 0} for i in range(12)]


def write_rows(folder, rows):
    path = folder / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def write_task(folder, name="local_choices", rows=ROWS):
    """lm-eval's ARC-easy over a file of the rows, and a task that generates."""
    data = write_rows(folder, rows)
    whole = [f"task: {name}", "dataset_path: json", f"dataset_kwargs: {{data_files: {{test: {data}}}}}",
             "test_split: test", 'doc_to_text: "Question: {{question}}\\nAnswer:"']
    choices = ["output_type: multiple_choice", 'doc_to_choice: "{{choices}}"', "doc_to_target: answer", "metric_list:",
               "- {metric: acc, aggregation: mean, higher_is_better: true}",
               "- {metric: acc_norm, aggregation: mean, higher_is_better: true}"]
    texts = ["output_type: generate_until", 'doc_to_target: "{{choices[answer]}}"',
             'generation_kwargs: {until: ["\\n\\n", "Q"], max_gen_toks: 12, do_sample: false}',
             "metric_list:", "- {metric: exact_match, aggregation: mean, higher_is_better: true}"]
    rolling = [f"task: {name}_rolling", "dataset_path: json", whole[2], "test_split: test",
               "output_type: loglikelihood_rolling", 'doc_to_text: ""', 'doc_to_target: "{{question}}"', "metric_list:",
               "- {metric: word_perplexity, aggregation: weighted_perplexity, higher_is_better: false}"]
    (folder / "choices.yaml").write_text("\n".join(whole + choices) + "\n")
    (folder / "texts.yaml").write_text("\n".join([f"task: {name}_texts", *whole[1:], *texts]) + "\n")
    (folder / "rolling.yaml").write_text("\n".join(rolling) + "\n")
    return data
