#!/usr/bin/env python3
"""Real clients against `trimtab serve`: serve_clients.py TRIMTAB [--model MODEL --task NAME=FILE[:letters][:N]..]
(make serve-clients installs them)

  openai   chat and text, whole and streamed, errors as its exceptions, a client that stops reading, many at once
  lm-eval  local-completions over a task of its own kind (log-likelihoods by echo): each equal to the server's own, at
           batch sizes 1 and 16, one and eight at a time; local-chat-completions generates

  task     with --task: lm-eval's task of a file (docs/formats.md, Choices), of which the first N rows are taken, at
           batch sizes 1 and 16, one and eight at a time: every log-likelihood, greedy mark and chosen answer against
           those of the logits that `trimtab capture` writes

The model is the tests' tiny one, so that it takes seconds, but for tasks."""

import argparse
import concurrent.futures
import json
import os
import pathlib
import re
import signal
import struct
import subprocess
import sys
import tempfile

import openai
from choice_tasks import evaluate, parse_set, write_task

ROOT = pathlib.Path(__file__).resolve().parents[2]
TINY = ROOT / "tests/golden/tiny-llama"
problems = []


def check(holds, what):
    if not holds:
        problems.append(what)
        print(f"FAILED: {what}")


class Server:
    def __init__(self, trimtab, *arguments, model=TINY):
        command = [trimtab, "serve", model, "--port", "0", "--admin-port", "0", *arguments]
        self.process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        for line in self.process.stderr:
            found = re.search(r"serving (http://\S*/v1)", line)
            if found:
                self.url = found[1]
                self.model = openai.OpenAI(base_url=self.url, api_key="none").models.list().data[0].id
                break

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.send_signal(signal.SIGTERM)
        self.process.wait()
        check(self.process.returncode == 0, f"the server ended with {self.process.returncode}")


def make_policy(path, trimtab):
    done = subprocess.run([trimtab, "inspect", TINY, "--json"], capture_output=True, text=True, check=True)
    model = json.loads(done.stdout)
    subprocess.run([sys.executable, ROOT / "tests/cli/make_policy.py", path, "3", "64", model["fingerprint"],
                    f"trimtab.weights_digest={model['weights_digest']}", "gate.b=3"], check=True)


# ---- openai


def user(text):
    return [{"role": "user", "content": text}]


def refused(kind, call):
    try:
        call()
    except kind as error:
        return error
    check(False, f"not refused by {kind.__name__}")
    return None


def use_openai(url):
    client = openai.OpenAI(base_url=url, api_key="none", max_retries=0)
    model = client.models.list().data[0].id
    check(client.models.retrieve(model).id == model, "a model by its name")
    keys = {"model": model, "messages": user("Hello"), "max_tokens": 12, "seed": 4}
    whole = client.chat.completions.create(**keys)
    text = whole.choices[0].message.content
    check(whole.usage.completion_tokens <= 12 and whole.choices[0].finish_reason in ("stop", "length"), f"{whole}")
    check(whole.model_extra["steering"][0]["policy"] == "p", f"facts: {whole.model_extra}")
    chunks = list(client.chat.completions.create(**keys, stream=True, stream_options={"include_usage": True}))
    check("".join(c.choices[0].delta.content for c in chunks if c.choices) == text, "streamed")
    check(chunks[-1].usage.total_tokens == whole.usage.total_tokens and not chunks[-1].choices, "usage of a stream")
    check(chunks[0].choices[0].delta.role == "assistant" and chunks[0].model_extra["steering"], "the first chunk")
    free = client.chat.completions.create(**keys, extra_body={"steering": False})
    check(free.model_extra["steering"] is None and free.choices[0].message.content != text, "unsteered")
    named = {"steering": {"policies": [{"name": "p", "scale": 1}]}}
    check(client.chat.completions.create(**keys, extra_body=named).choices[0].message.content == text, "by name")
    scored = client.completions.create(model=model, prompt=["a", "b"], echo=True, logprobs=1, max_tokens=1, n=2)
    check(len(scored.choices) == 4 and scored.choices[0].logprobs.token_logprobs[0] is None, "completions")
    error = refused(openai.BadRequestError, lambda: client.chat.completions.create(
        **keys, extra_body={"steering": {"policies": [{"name": "q"}]}}))
    check(error and error.param == "steering.policies[0].name" and error.type == "invalid_request_error", f"{error}")
    refused(openai.NotFoundError, lambda: client.chat.completions.create(**{**keys, "model": "gpt"}))
    refused(openai.NotFoundError, lambda: client.embeddings.create(model=model, input="a"))
    late = {**keys, "max_tokens": 400, "n": 64, "extra_body": {"timeout": 0.2, "ignore_eos": True}}
    refused(openai.InternalServerError, lambda: client.chat.completions.create(**late))
    refused(openai.APIError, lambda: list(client.chat.completions.create(**late, stream=True)))
    with client.chat.completions.create(**{**keys, "max_tokens": 400}, stream=True) as stream:
        next(iter(stream))  # and no more
    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda _: client.chat.completions.create(**keys).choices[0].message.content,
                                range(64)))
    check(set(answers) == {text}, "64 at once")
    raw = client.with_raw_response.chat.completions.create(**keys)
    check(raw.headers["x-request-id"].startswith("req_"), "the request's id")


# ---- lm-eval

def use_lm_eval(url):
    """Log-likelihoods by lm-eval's own client, whatever the batch size and concurrency; and equal to those that the
    server gives for the same ids."""
    from lm_eval.api.instance import Instance
    from lm_eval.models.openai_completions import LocalChatCompletion, LocalCompletionsAPI
    pairs = [(f"Question {i}: what is {i} and {i}?\nAnswer:", f" {2 * i}") for i in range(24)]
    requests = [Instance("loglikelihood", {}, pair, i) for i, pair in enumerate(pairs)]
    results = []
    for batch_size, concurrent_requests in ((1, 1), (16, 1), (16, 8), (1, 8)):
        model = LocalCompletionsAPI(base_url=f"{url}/completions", model="tiny-llama", tokenizer_backend="remote",
                                    batch_size=batch_size, seed=1, num_concurrent=concurrent_requests, max_retries=1)
        results.append(model.loglikelihood(requests, disable_tqdm=True))
    check(all(result == results[0] for result in results), "lm-eval's log-likelihoods depend on how they are asked")
    check(len({value for value, _ in results[0]}) > 20 and all(value < 0 for value, _ in results[0]), f"{results[0]}")
    client = openai.OpenAI(base_url=url, api_key="none")
    for (context, continuation), (value, greedy) in zip(pairs, results[0]):
        n, whole = len(model.tok_encode(context)), model.tok_encode(context + continuation)
        answer = client.completions.create(model="tiny-llama", prompt=whole, echo=True, logprobs=1, max_tokens=1,
                                           seed=1).choices[0].logprobs
        own = sum(answer.token_logprobs[n:-1])
        tops = [max(top.values()) for top in answer.top_logprobs[n:-1]]
        check(own == value and greedy == (answer.token_logprobs[n:-1] == tops), f"{context}: {own} {value}")
    chat = LocalChatCompletion(base_url=f"{url}/chat/completions", model="tiny-llama", max_retries=1, seed=1)
    arguments = ('[{"role": "user", "content": "Hello", "type": "text"}]',)
    try:
        from lm_eval.models.api_models import JsonChatStr
        arguments = (JsonChatStr(arguments[0]),)
    except ImportError:
        pass
    asked = Instance("generate_until", {}, (*arguments, {"until": ["\n\n", "Q:"], "max_gen_toks": 8}), 0)
    check(isinstance(chat.generate_until([asked], disable_tqdm=True)[0], str), "lm-eval's chat")


# ---- lm-eval's tasks against the logits of capture

CONFIGURATIONS = ((1, 1), (16, 1), (16, 8), (1, 8))  # batch size, requests at a time
BOUND = 1e-5


def captured_logits(options, folder, ids):
    """[T][V] floats, from a run of the program for these ids alone."""
    import numpy
    path = folder / "captured.safetensors"
    subprocess.run([options.trimtab, "capture", options.model, "--ids", ",".join(map(str, ids)), "-o", path, "-t", "1"],
                   capture_output=True, check=True)
    data = path.read_bytes()
    n_head = struct.unpack_from("<Q", data)[0]
    entry = json.loads(data[8:8 + n_head])["logits"]
    first, end = entry["data_offsets"]
    return numpy.frombuffer(data, "<f4", count=(end - first) // 4, offset=8 + n_head + first).reshape(entry["shape"])


def own_score(options, folder, context, continuation):
    """The log-likelihood of the continuation, and whether each of its tokens is the likeliest."""
    import numpy
    logits = captured_logits(options, folder, context + continuation)[len(context) - 1:-1].astype(numpy.float64)
    sums = numpy.log(numpy.exp(logits - logits.max(1, keepdims=True)).sum(1)) + logits.max(1)
    chosen = logits[numpy.arange(len(continuation)), continuation]
    return float((chosen - sums).sum()), bool((logits.argmax(1) == continuation).all())


def compare_task(options, folder, samples, encode, known):
    """known: own scores by context and continuation."""
    worst, others, marks, n = 0, 0, 0, 0
    for sample in samples:
        theirs, ours = [], []
        for request, response in zip(sample["arguments"], sample["resps"], strict=True):
            pair = tuple(request) if not isinstance(request, dict) else (request["arg_0"], request["arg_1"])
            if pair not in known:
                known[pair] = own_score(options, folder, *encode(*pair))
            theirs.append((float(response[0][0]), str(response[0][1]) == "True"))
            ours.append(known[pair])
        worst = max(worst, *(abs(a - b) for (a, _), (b, _) in zip(theirs, ours)))
        marks += sum(a != b for (_, a), (_, b) in zip(theirs, ours))
        others += max(range(len(theirs)), key=lambda k: theirs[k][0]) != max(range(len(ours)), key=lambda k: ours[k][0])
        n += len(theirs)
    return n, worst, others, marks


def use_tasks(options):
    from lm_eval.models.openai_completions import LocalCompletionsAPI
    known = {}
    with tempfile.TemporaryDirectory() as temporary, \
            Server(options.trimtab, "--tokenizer-info", "-t", "1", model=options.model) as server:
        folder = pathlib.Path(temporary)
        for name, *rest in options.task:
            write_task(folder, name, *rest)
        for batch_size, at_once in CONFIGURATIONS:
            harness = LocalCompletionsAPI(base_url=f"{server.url}/completions", model=server.model,
                                          tokenizer_backend="remote", batch_size=batch_size, seed=1,
                                          num_concurrent=at_once, max_retries=1)
            results = evaluate(harness, folder, [name for name, *_ in options.task])
            for name, *_ in options.task:
                samples = results["samples"][f"trimtab_{name}"]
                n, worst, others, marks = compare_task(options, folder, samples, harness._encode_pair, known)
                print(json.dumps({"task": name, "batch_size": batch_size, "at_once": at_once, "questions": len(samples),
                                  "choices": n, "largest_difference": worst, "other_answers": others,
                                  "other_greedy_marks": marks,
                                  "acc": results["results"][f"trimtab_{name}"]["acc,none"]}), flush=True)
                check(worst <= BOUND and not others and not marks, f"{name} differs from capture's logits")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("trimtab")
    parser.add_argument("--model")
    parser.add_argument("--task", action="append", type=parse_set, default=[])
    options = parser.parse_args()
    if options.task:
        use_tasks(options)
        print("all passed" if not problems else f"{len(problems)} checks failed")
        sys.exit(bool(problems))
    with tempfile.TemporaryDirectory() as folder:
        policy = os.path.join(folder, "p.safetensors")
        make_policy(policy, options.trimtab)
        with Server(options.trimtab, "--policy", f"p={policy}", "--tokenizer-info") as server:
            use_openai(server.url)
            print("openai", openai.__version__)
            use_lm_eval(server.url)
            print("lm-eval")
    print("all passed" if not problems else f"{len(problems)} checks failed")
    sys.exit(bool(problems))


main()
