#!/usr/bin/env python3
"""Makes the goldens of controller/: policies written by the safetensors library; orthonormal rows and a logistic fit
from numpy; from PyTorch what operations and gates compute, and the directions and contrasts of a tiny model; and from
numpy and gguf-py the paper's direction in embeddings. Needs
requirements.txt and the goldens of make_goldens.py. The same versions write the same bytes.

  make_policy_goldens.py --out tests/golden
"""

import argparse
import json
import re
from pathlib import Path

import gguf
import numpy as np
import torch
from safetensors.numpy import save_file
from sklearn.decomposition import PCA
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaForCausalLM

ROOT = Path(__file__).resolve().parents[2]
FINGERPRINT = "llama L=6 d=8 golden"


def metadata(**changes):
    base = {
        "format": "1",
        "name": "golden",
        "fingerprint": FINGERPRINT,
        "weights_digest": "ab" * 32,
        "op": "add",
        "when": "all",
        "layers": "2-3,5",
        "alpha": "0.2",
        "gate": "probe",
        "observe": "0,1",
        "threshold": "0.75",
        "fitted_on": json.dumps([{"file": "a.jsonl", "sha256": "cd" * 32, "rows": 12}]),
        "created": "2025-01-02T03:04:05Z",
        "version": "0.1.0",
    } | changes
    return {f"trimtab.{key}": value for key, value in base.items() if value is not None} | {"other.key": "kept"}


def save(path, tensors, meta):
    save_file({name: np.ascontiguousarray(t, np.float32) for name, t in tensors.items()}, path, metadata=meta)
    path.chmod(0o644)
    sort_metadata(path)


def sort_metadata(path):
    """Rewrites the header with its metadata in one order: the library's order changes from run to run."""
    data = path.read_bytes()
    end = 8 + int.from_bytes(data[:8], "little")
    header = json.loads(data[8:end])
    if "__metadata__" in header:
        header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = json.dumps(header, separators=(",", ":")).encode().ljust(end - 8)
    assert len(text) == end - 8
    path.write_bytes(data[:8] + text + data[end:])


def make_policies(out):
    """direction.l[i] = (i + 1) / 8 + l; weight 0, 0, 1, 0.5, 0, 0.25; gate.w[i] = i / 16 - 0.5. The test has the same
    numbers."""
    weight = [0, 0, 1, 0.5, 0, 0.25]
    rows = {f"direction.{l}": (np.arange(8) + 1) / 8 + l for l in (2, 3, 5)}
    gate = {"gate.w": np.arange(16) / 16 - 0.5, "gate.b": [-1.5]}
    save(out / "probe.safetensors", {**{k: v[None] for k, v in rows.items()}, "weight": weight, **gate}, metadata())
    always = metadata(gate="always", observe=None, threshold=None, when="generation")
    save(out / "always.safetensors", {**rows, "weight": weight}, always)


def make_clamp(out):
    """Three rows a layer that are not orthogonal, with targets. Expected: Q of the QR decomposition of the unit rows
    (with signs that make R's diagonal positive), and targets solved from R^T t' = t, so that the clamped stream has
    the given projections."""
    rng = np.random.default_rng(5)
    tensors, expected = {"weight": [0, 1, 1, 0, 0, 0]}, {}
    for layer in (1, 2):
        rows = rng.normal(size=(3, 8)).astype(np.float32)
        rows[1] = rows[0] * 3 + rows[1] * (1e-2 if layer == 2 else 1)
        targets = rng.normal(size=3).astype(np.float32)
        unit = rows.astype(np.float64) / np.linalg.norm(rows.astype(np.float64), axis=1, keepdims=True)
        q, r = np.linalg.qr(unit.T)
        signs = np.sign(np.diag(r))
        q, r = q * signs, r * signs[:, None]
        tensors |= {f"direction.{layer}": rows, f"target.{layer}": targets}
        expected |= {f"direction.{layer}": q.T, f"target.{layer}": np.linalg.solve(r.T, targets.astype(np.float64))}
    meta = metadata(op="clamp", layers="1-2", gate="always", observe=None, threshold=None)
    save(out / "clamp.safetensors", tensors, meta)
    save(out / "clamp_expected.safetensors", expected, None)


def affine_tensors(rng, layers, rank=3):
    """R, W and b of LoReFT. The rows of R are orthonormal on the first layer only, and must be used as they are."""
    tensors = {}
    for layer in layers:
        rows = np.linalg.qr(rng.normal(size=(8, rank)))[0].T if layer == layers[0] else rng.normal(size=(rank, 8))
        tensors[f"direction.{layer}"] = rows.astype(np.float32)
        tensors[f"affine.{layer}.W"] = rng.normal(size=(rank, 8)).astype(np.float32)
        tensors[f"affine.{layer}.b"] = rng.normal(size=rank).astype(np.float32)
    return tensors


def make_operations(out):
    """affine and one_sided policies, rows h, and what each policy makes of them for each coefficient, in float64."""
    rng = np.random.default_rng(11)
    h = rng.normal(size=(6, 8)).astype(np.float32)
    coef = np.float32([1, 1, 0.5, -1.5, 2, 0])
    always = {"gate": "always", "observe": None, "threshold": None, "layers": "1-2"}
    affine = affine_tensors(rng, (1, 2))
    save(out / "affine.safetensors", {"weight": [0, 1, 0.5, 0, 0, 0], **affine}, metadata(op="affine", **always))
    sided = {f"direction.{layer}": rng.normal(size=(1, 8)).astype(np.float32) for layer in (1, 2)}
    save(out / "one_sided.safetensors", {"weight": [0, 1, 1, 0, 0, 0], **sided}, metadata(op="one_sided", **always))
    x, g, expected = torch.tensor(h).double(), torch.tensor(coef).double()[:, None], {"h": h, "coef": coef}
    for layer in (1, 2):
        r, w, b = (torch.tensor(affine[name.format(layer)]).double() for name in
                   ("direction.{}", "affine.{}.W", "affine.{}.b"))
        expected[f"affine.{layer}"] = (x + g * ((x @ w.T + b - x @ r.T) @ r)).numpy()
        u = torch.nn.functional.normalize(torch.tensor(sided[f"direction.{layer}"]).double(), dim=1)
        along = x @ u.T
        assert 0 < (along > 0).sum() < len(along)
        expected[f"one_sided.{layer}"] = (x - g * torch.relu(along) * u).numpy()
    expected |= make_rotations(out, x, g, always)
    expected |= make_keep(out, x, g, always)
    save(out / "operations_expected.safetensors", expected, None)


def make_keep(out, x, g, always):
    """An add that keeps the length of each row of x."""
    rng = np.random.default_rng(22)
    tensors = {f"direction.{layer}": rng.normal(size=(1, 8)).astype(np.float32) for layer in (1, 2)}
    save(
        out / "keep.safetensors",
        {"weight": [0, 1, 1, 0, 0, 0], **tensors},
        metadata(format="2", norm="keep", **always),
    )
    added = {layer: x + g * torch.tensor(tensors[f"direction.{layer}"]).double() for layer in (1, 2)}
    return {f"keep.{layer}": (h * (x.norm(dim=1) / h.norm(dim=1))[:, None]).numpy() for layer, h in added.items()}


def make_rotations(out, x, share, always):
    """rotate policies in both forms, and what they make of the rows x: the part in the plane is a complex number,
    turned by a share of the difference of the angles. The directions are orthonormal on the first layer only."""
    rng = np.random.default_rng(24)
    tensors, expected, across = {"weight": [0, 1, 0.5, 0, 0, 0]}, {}, False
    for layer in (1, 2):
        rows = np.linalg.qr(rng.normal(size=(8, 2)))[0].T if layer == 1 else 2 * rng.normal(size=(2, 8))
        tensors[f"direction.{layer}"] = rows.astype(np.float32)
        tensors[f"target.{layer}"] = (3 * rng.normal(size=2)).astype(np.float32)
        q, r = torch.linalg.qr(torch.tensor(tensors[f"direction.{layer}"]).double().T)
        basis = q * r.diag().sign()
        along = x @ basis
        plane = torch.view_as_complex(along.contiguous())
        target = torch.view_as_complex(torch.tensor(tensors[f"target.{layer}"]).double())
        way = torch.remainder(target.angle() - plane.angle() + torch.pi, 2 * torch.pi) - torch.pi
        turned = torch.view_as_real(torch.polar(plane.abs(), plane.angle() + share[:, 0] * way))
        always_turned = x + (turned - along) @ basis.T
        ahead = along[:, :1] > 0
        assert 0 < ahead[:5].sum() < 5
        across |= bool(((target.angle() - plane.angle()).abs() > torch.pi)[2:5].any())
        expected[f"rotate.{layer}"] = always_turned.numpy()
        expected[f"rotate_adaptive.{layer}"] = torch.where(ahead, always_turned, x).numpy()
    assert across, "no row with a share other than 1 turns across the half turn"
    for name, form in (("rotate", "always"), ("rotate_adaptive", "adaptive")):
        save(out / f"{name}.safetensors", tensors, metadata(format="2", op="rotate", rotate=form, **always))
    return expected


def make_mlp(out):
    """An MLP gate like the paper's controller, bounded and not bounded, and its decisions on captured states, in
    float64."""
    rng = np.random.default_rng(14)
    n_units, observed, weight = 12, (0, 2, 3), np.float32([0, 1, 0.5, 0, 0, 0])
    fc1, fc2 = torch.nn.Linear(len(observed) * 8, n_units).double(), torch.nn.Linear(n_units, 1 + 6).double()
    with torch.no_grad():
        for parameter in (*fc1.parameters(), *fc2.parameters()):
            parameter.copy_(torch.tensor(rng.normal(size=parameter.shape).astype(np.float32) / 3))
    gate = {f"gate.fc1.{k}": v.detach().numpy() for k, v in fc1.named_parameters()}
    gate |= {f"gate.fc2.{k}": v.detach().numpy() for k, v in fc2.named_parameters()}
    affine = affine_tensors(rng, (1, 2))
    for name, bound in (("mlp", None), ("mlp_unbounded", "none")):
        keys = {"gate": "mlp", "observe": "0,2-3", "threshold": None, "gate.bound": bound, "alpha": "2",
                "layers": "1-2"}
        save(out / f"{name}.safetensors", {"weight": weight, **affine, **gate}, metadata(op="affine", **keys))
    captured = rng.normal(size=(5, 6, 8)).astype(np.float32)
    scale = np.float32([1, 1, -0.5, 3, 1])
    x = torch.tensor(captured).double()[:, observed].flatten(1)
    z = fc2(torch.relu(fc1(x))).detach().numpy()
    s = 1 / (1 + np.exp(-z[:, :1]))
    w = weight / (1 + np.exp(-z[:, 1:]))
    coef = {"coef": scale[:, None] * 2 * s * w, "coef_unbounded": scale[:, None] * 2 * z[:, :1] * w}
    assert (z[:, 0] < 0).any() and (z[:, 0] > 0).any()
    expected = {"captured": captured, "scale": scale, "z": z[:, 0], "s": s[:, 0], **coef}
    save(out / "mlp_expected.safetensors", expected, None)


def make_cosine(out):
    """CAST's condition, above and below a threshold, in float64: the similarity of a captured state (its observed
    layers as one vector) and the tanh of its projection on a condition vector. Two states lie nearly along that vector,
    so that their projections are long enough for tanh to bend."""
    rng = np.random.default_rng(23)
    observed, threshold = (0, 2, 3), 0.5
    w = rng.normal(size=len(observed) * 8).astype(np.float32)
    captured = rng.normal(size=(5, 6, 8)).astype(np.float32)
    for row, along in ((1, 2.0), (3, -1.5)):
        captured[row, list(observed)] = along * w.reshape(-1, 8) + captured[row, list(observed)] / 4
    x, c = torch.tensor(captured).double()[:, observed].flatten(1), torch.tensor(w).double()
    projection = torch.outer(x @ c / (c @ c), c)
    similarity = torch.nn.functional.cosine_similarity(x, torch.tanh(projection), dim=1, eps=0)
    plain = torch.nn.functional.cosine_similarity(x, projection, dim=1, eps=0)
    assert 0 < (similarity > threshold).sum() < 5 and (similarity - plain).abs().max() > 0.01
    expected = {"captured": captured, "scale": np.float32([1, -1, 0.5, 2, 1]), "similarity": similarity.numpy()}
    for name, side, opens in (
        ("cosine", "above", similarity > threshold),
        ("cosine_below", "below", similarity < threshold),
    ):
        keys = {
            "format": "2", "gate": "cosine", "gate.side": side,
            "observe": "0,2-3", "threshold": "0.5", "layers": "1-2",
        }
        rows = {f"direction.{layer}": np.arange(8) - 3.5 for layer in (1, 2)}
        save(out / f"{name}.safetensors", {"weight": [0, 1, 0.5, 0, 0, 0], **rows, "gate.w": w}, metadata(**keys))
        coef = expected["scale"][:, None] * 0.2 * opens.numpy()[:, None] * np.float32([0, 1, 0.5, 0, 0, 0])
        expected |= {f"{name}.s": opens.numpy().astype(np.float32), f"{name}.coef": coef}
    save(out / "cosine_expected.safetensors", expected, None)


def make_pooled(out):
    """Gates that read the last token, the mean, or both, and their decisions in float64: a linear probe plus a
    network with and without weights of layers, and the other gates on means. Decision i reads the last token's state
    from captured row i and the mean from row 9 - i. A threshold lies in the widest gap between the gates' numbers."""
    rng = np.random.default_rng(31)
    observed, weight, scale = (0, 2, 3), np.float32([0, 1, 0.5, 0, 0, 0]), np.float32([1, -1, 0.5, 2, 1])
    captured = rng.normal(size=(10, 6, 8)).astype(np.float32)
    states = torch.tensor(captured).double()[:, observed].flatten(1)
    last, mean = states[:5], states.flip(0)[:5]
    inputs = {"last": last, "mean": mean, "last,mean": torch.cat([last, mean], 1)}
    direction = {f"direction.{layer}": np.arange(8) - 3.5 for layer in (1, 2)}
    expected = {"captured": captured, "scale": scale}
    for name, gate, form, pool in (
        ("probe_mlp", "probe_mlp", {}, "last"),
        ("probe_mlp_mean", "probe_mlp", {"gate.layers": "fixed"}, "mean"),
        ("probe_mlp_learned", "probe_mlp", {"gate.layers": "learned"}, "last"),
        ("probe_mlp_learned_pooled", "probe_mlp", {"gate.layers": "learned"}, "last,mean"),
        ("probe_pooled", "probe", {}, "last,mean"),
        ("mlp_mean", "mlp", {}, "mean"),
        ("cosine_pooled", "cosine", {"gate.side": "below"}, "last,mean"),
    ):
        x, learned = inputs[pool], gate == "mlp" or form.get("gate.layers") == "learned"
        probe, network = torch.nn.Linear(x.shape[1], 1), torch.nn.Sequential(
            torch.nn.Linear(x.shape[1], 12), torch.nn.ReLU(), torch.nn.Linear(12, 7 if learned else 1))
        with torch.no_grad():
            for parameter in (*probe.parameters(), *network.parameters()):
                parameter.copy_(torch.tensor(rng.normal(size=parameter.shape).astype(np.float32) / 3))
        tensors = {"gate.w": probe.weight[0]} if gate != "mlp" else {}
        if gate in ("probe", "probe_mlp"):
            tensors |= {"gate.b": probe.bias}
        if gate in ("mlp", "probe_mlp"):
            tensors |= {f"gate.fc{1 + i // 2}.{k}": v for i in (0, 2) for k, v in network[i].named_parameters()}
        z, linear, w = network.double()(x), probe.double()(x)[:, 0], probe.weight[0].double()
        if gate == "cosine":
            bent = torch.tanh(torch.outer(x @ w / (w @ w), w))
            values = torch.nn.functional.cosine_similarity(x, bent, dim=1, eps=0)
        else:
            logit = linear + z[:, 0] if gate == "probe_mlp" else linear
            values = z[:, 0] if gate == "mlp" else torch.sigmoid(logit)
        ordered = values.detach().sort().values
        gap = int((ordered[1:] - ordered[:-1]).argmax())
        threshold = np.float32((ordered[gap] + ordered[gap + 1]) / 2)
        s = torch.sigmoid(values) if gate == "mlp" else (
            values < threshold if gate == "cosine" else values > threshold).double()
        factors = torch.sigmoid(z[:, 1:]) if learned else torch.ones(5, 6)
        coef = torch.tensor(scale)[:, None] * 0.2 * s[:, None] * torch.tensor(weight) * factors
        expected |= {f"{name}.gate": values, f"{name}.s": s, f"{name}.coef": coef}
        keys = form | {
            "format": "3", "gate": gate, "observe": "0,2-3", "layers": "1-2",
            "threshold": None if gate == "mlp" else f"{threshold:.9g}",
            "gate.pool": None if name == "probe_mlp" else pool,
        }
        tensors = {key: value.detach().numpy() for key, value in tensors.items()}
        save(out / f"{name}.safetensors", {"weight": weight, **direction, **tensors}, metadata(**keys))
    save(out / "pooled_expected.safetensors",
         {k: v.detach().numpy() if torch.is_tensor(v) else v for k, v in expected.items()}, None)


def make_rule(out):
    """Conditions joined by a rule, each on layers of its own, in float64; whether the rule opens says Python, whose
    `and`, `or` and `not` bind alike. A threshold lies in the widest gap between the condition's similarities."""
    rng = np.random.default_rng(38)
    observed, weight, scale = (0, 2, 3), np.float32([0, 1, 0.5, 0, 0, 0]), np.float32([1, -1, 0.5, 2, 1])
    captured = rng.normal(size=(10, 6, 8)).astype(np.float32)
    states = torch.tensor(captured).double()[:, observed]
    inputs = {"last": states[:5], "last,mean": torch.cat([states[:5], states.flip(0)[:5]], 1)}
    direction = {f"direction.{layer}": np.arange(8) - 3.5 for layer in (1, 2)}
    expected = {"captured": captured, "scale": scale}
    for name, pool, rule, conditions in (
        ("rule", "last", "(hot or cold) and not dull", {
            "hot": ("above", (0, 1)), "cold": ("below", (1,)), "dull": ("above", (2,))}),
        ("rule_pooled", "last,mean", "not a.1 or b-2 and c and d", {
            "a.1": ("below", (0, 3)), "b-2": ("above", (4,)), "c": ("below", (1, 2, 5)), "d": ("above", (3,))}),
    ):
        x, rows, thresholds, holds, whole = inputs[pool], [], [], {}, []
        for condition, (side, vectors) in conditions.items():
            w = np.zeros(x.shape[1:], np.float32)
            w[list(vectors)] = rng.normal(size=(len(vectors), 8)) / 3
            read, c = x[:, vectors].flatten(1), torch.tensor(w[list(vectors)]).double().flatten()
            bent = torch.tanh(torch.outer(read @ c / (c @ c), c))
            similarity = torch.nn.functional.cosine_similarity(read, bent, dim=1, eps=0)
            ordered = similarity.sort().values
            gap = int((ordered[1:] - ordered[:-1]).argmax())
            thresholds.append(float((ordered[gap] + ordered[gap + 1]) / 2))
            holds[condition] = similarity > thresholds[-1] if side == "above" else similarity < thresholds[-1]
            shrunk = similarity * read.norm(dim=1) / x.flatten(1).norm(dim=1)
            whole.append(shrunk > thresholds[-1] if side == "above" else shrunk < thresholds[-1])
            rows.append(w.flatten())
        names = {condition: re.sub(r"\W", "_", condition) for condition in conditions}
        code = re.sub(r"[\w.-]+", lambda word: names.get(word[0], word[0]), rule)
        gate = sum(2.0**k * held for k, held in enumerate(holds.values()))
        s = np.float32([eval(code, {names[c]: bool(held[i]) for c, held in holds.items()}) for i in range(5)])
        # Several states, both outcomes, and another gate if conditions read the layers that they have no weights for.
        assert len(set(gate.tolist())) > 2 and 0 < s.sum() < 5
        assert (gate != sum(2.0**k * held for k, held in enumerate(whole))).any()
        coef = scale[:, None] * 0.2 * s[:, None] * weight
        expected |= {f"{name}.gate": gate.numpy(), f"{name}.s": s, f"{name}.coef": coef}
        keys = {
            "format": "4", "gate": "rule", "gate.rule": rule, "observe": "0,2-3", "layers": "1-2", "threshold": None,
            "gate.conditions": ",".join(
                condition + (" below" if side == "below" else "") for condition, (side, _) in conditions.items()),
            "gate.pool": None if pool == "last" else pool,
        }
        tensors = {"gate.w": np.stack(rows), "gate.thresholds": thresholds}
        save(out / f"{name}.safetensors", {"weight": weight, **direction, **tensors}, metadata(**keys))
    save(out / "rule_expected.safetensors", expected, None)


def make_logistic(out):
    """Newton's method in float64 on standardised features: mean log loss, where each label weighs half, + l2 |w|^2."""
    rng = np.random.default_rng(7)
    n, d, l2 = 90, 12, 0.02
    x = (rng.normal(size=(n, d)) * np.geomspace(0.01, 100, d) + rng.normal(size=d) * 5).astype(np.float32)
    x[:, 4] = 3  # a feature that does not vary
    y = (np.arange(n) % 3 == 0).astype(np.float64)
    x[:, 2] += (y * 0.6 * np.std(x[:, 2])).astype(np.float32)
    z = x.astype(np.float64)
    mean, sd = z.mean(0), z.std(0)
    sd[4] = np.inf
    z = np.hstack([(z - mean) / sd, np.ones((n, 1))])
    weight = np.where(y == 1, 0.5 / y.sum(), 0.5 / (n - y.sum()))
    ridge = np.append(np.full(d, 2 * l2), 0)
    theta = np.zeros(d + 1)
    for _ in range(60):
        p = 1 / (1 + np.exp(-(z @ theta)))
        gradient = z.T @ (weight * (p - y)) + ridge * theta
        theta -= np.linalg.solve(z.T @ (z * (weight * p * (1 - p))[:, None]) + np.diag(ridge), gradient)
    assert np.abs(gradient).max() < 1e-14
    w = theta[:d] / sd
    expected = {"x": x, "y": y, "w": w, "b": [theta[d] - w @ mean]}
    save(out / "logistic.safetensors", expected, None)


def splitmix_shuffle(n, seed):
    mask = (1 << 64) - 1
    order = list(range(n))
    for i in range(n, 1, -1):
        seed = (seed + 0x9E3779B97F4A7C15) & mask
        z = ((seed ^ seed >> 30) * 0xBF58476D1CE4E5B9) & mask
        z = ((z ^ z >> 27) * 0x94D049BB133111EB) & mask
        k = (z ^ z >> 31) % i
        order[i - 1], order[k] = order[k], order[i - 1]
    return order


def response_texts():
    source = (ROOT / "controller/train/fit_directions.c").read_text()
    return [
        re.findall(r'^\t"(.*)",$', re.search(rf"{name}\[TT_N_RESPONSES\] = \{{\n(.*?)\}};", source, re.S)[1], re.M)
        for name in ("refusing_responses", "answers", "refusing_apologies", "helpful_apologies")
    ]


def make_contrast(out, model_path):
    """The tiny model's D: for each prompt, the mean of h[l] over all tokens of a refusing response but the last, minus
    the same mean for an answer; and its E: the same for an apology that refuses and one that helps."""
    tokenizer = AutoTokenizer.from_pretrained(model_path)
    model = LlamaForCausalLM.from_pretrained(model_path, dtype=torch.float64).eval()
    states = []
    for block in model.model.layers:
        block.register_forward_hook(
            lambda _, __, output: states.append(output[0] if isinstance(output, tuple) else output))
    rows = []
    for i in range(6):
        rows.append({"id": f"h{i}", "prompt": f"the rat number {i} bites", "label": "harmful", "split": "train"})
        rows.append({"id": f"b{i}", "prompt": f"a hen on the {i} hill", "label": "benign", "split": "train"})
    for i in range(8):
        label = "harmful" if i % 2 else "benign"
        noun = "rat" if i % 2 else "hen"
        rows.append({"id": f"v{i}", "prompt": f"one {noun} in the {i} field", "label": label, "split": "val"})
    (out / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    order = [rows[i] for i in splitmix_shuffle(len(rows), 3)]
    train = [[r for r in order if r["split"] == "train" and r["label"] == label] for label in ("harmful", "benign")]
    responses = response_texts()
    assert [len(texts) for texts in responses] == [4] * 4
    directions, pairs = [0, 0], [[], []]
    for pair in range(12):
        message = [{"role": "user", "content": train[pair % 2][pair // 2]["prompt"]}]
        text = tokenizer.apply_chat_template(message, tokenize=False, add_generation_prompt=True)
        prompt = tokenizer.encode(text, add_special_tokens=False)
        for signs, texts in zip(((1, 0), (-1, 0), (0, 1), (0, -1)), responses):
            response = tokenizer.encode(texts[pair // 2 % 4], add_special_tokens=False)
            states.clear()
            with torch.no_grad():
                model(torch.tensor([prompt + response]))
            h = torch.stack([s.reshape(-1, s.shape[-1]) for s in states])
            mean = h[:, len(prompt) : len(prompt) + len(response) - 1].mean(1)
            directions = [d + sign * mean / 12 for d, sign in zip(directions, signs)]
            if signs[0]:
                pairs[signs[0] < 0].append(mean.numpy())
    save(out / "contrast.safetensors", {"D": directions[0].numpy(), "E": directions[1].numpy()}, None)
    # [layer][prompt][d] of the refusing and of the answering response; [layer][d] D and E
    return *(np.stack(states, 1) for states in pairs), directions[0].numpy(), directions[1].numpy()


def make_pca(out, refusing, answering):
    """For each layer the first principal component of the differences of the pairs, about zero, as long as their mean,
    with the sign that most pairs have; and the share of the squares that it holds. The same component by
    scikit-learn's PCA of what repeng's pca_center makes of the pairs: both states less their middle."""
    directions, explained = [], []
    for up, down in zip(refusing, answering):
        difference = up - down
        _, s, v = np.linalg.svd(difference, full_matrices=False)
        assert s[0] > 1.2 * s[1]
        component = v[0] * np.sign(np.sign(difference @ v[0]).sum())
        centred = np.concatenate([difference / 2, -difference / 2])
        other = PCA(n_components=1, svd_solver="full").fit(centred).components_[0]
        assert abs(abs(other @ component) - 1) < 1e-12
        directions.append(component * np.linalg.norm(difference.mean(0)))
        explained.append(s[0] ** 2 / (s**2).sum())
    save(out / "pca.safetensors", {"direction": np.stack(directions), "explained": np.array(explained)}, None)


def make_affine(out, refusing, answering):
    """For each layer a map from x, answering, to y, refusing, of rank 4: R from the singular vectors of y - x, A and b
    by least squares of R (y - x) on R x with the penalty as four more rows, of the penalty with the least error where
    one of four responses is held out; and what x + c R^T (A R x + b) makes of rows x for c 1 and 0.7."""
    penalties, rank, response = (1, 10, 100, 1000, 10000), 4, np.arange(12) // 2 % 4
    chosen, errors, rows, expected = [], [], [], {1: [], 0.7: []}

    def ridge(x, y, penalty):
        centred = x - x.mean(0)
        extra = np.sqrt(penalty * (centred**2).sum() / rank) * np.eye(rank)
        a = np.linalg.lstsq(np.vstack([centred, extra]), np.vstack([y - y.mean(0), 0 * extra]), rcond=None)[0].T
        return a, y.mean(0) - a @ x.mean(0)

    for up, down in zip(refusing, answering):
        _, s, v = np.linalg.svd(up - down, full_matrices=False)
        assert s[rank - 1] > 1.02 * s[rank]
        r = v[:rank]
        x, y = down @ r.T, (up - down) @ r.T
        missed = []
        for penalty in penalties:
            missed.append(0)
            for k in range(4):
                a, b = ridge(x[response != k], y[response != k], penalty)
                missed[-1] += ((x[response == k] @ a.T + b - y[response == k]) ** 2).sum() / (y**2).sum()
        first, second = np.sort(missed)[:2]
        assert second > 1.0001 * first
        chosen.append(penalties[int(np.argmin(missed))])
        errors.append(first)
        a, b = ridge(x, y, chosen[-1])
        rows.append(np.concatenate([down[:3], up[:2], (down - up)[:3]]).astype(np.float32))
        h = rows[-1].astype(np.float64)
        for c, list_of in expected.items():
            list_of.append(h + c * (h @ r.T @ a.T + b) @ r)
    assert len(set(chosen)) > 1
    tensors = {"x": np.stack(rows), "penalties": np.array(chosen), "errors": np.array(errors)}
    save(out / "fitted_affine.safetensors", tensors | {f"y.{c:g}": np.stack(y) for c, y in expected.items()}, None)


def make_mean(out, model_path):
    """Of the tiny model, at the last 8 tokens of the template after the user's text: the mean states of harmful and of
    benign train prompts by layer; and for the difference of the means after the first block at each token three scores
    on val prompts. They are the mean log-odds of the token "I" next with it added after that block to benign prompts,
    the divergence of these prompts' next token with it taken out after every block, and the log-odds on harmful
    prompts without it."""
    tokenizer = AutoTokenizer.from_pretrained(model_path)
    model = LlamaForCausalLM.from_pretrained(model_path, dtype=torch.float64).eval()
    opening = tokenizer.encode("I", add_special_tokens=False)
    assert len(opening) == 1 and len(tokenizer.encode("As", add_special_tokens=False)) > 1
    states, change = [], {}

    def steer(layer):
        def hook(_, __, output):
            h = output[0] if isinstance(output, tuple) else output
            h = change[layer](h) if layer in change else h
            states.append(h)
            return (h, *output[1:]) if isinstance(output, tuple) else h

        return hook

    for layer, block in enumerate(model.model.layers):
        block.register_forward_hook(steer(layer))

    def run(split, label, changes):
        """The states of the last 8 tokens [row][layer][token][d], and the log-probabilities of the next."""
        change.clear()
        change.update(changes)
        kept, log_p = [], []
        for row in map(json.loads, (out / "rows.jsonl").read_text().splitlines()):
            if (row["split"], row["label"]) != (split, label):
                continue
            message = [{"role": "user", "content": row["prompt"]}]
            text = tokenizer.apply_chat_template(message, tokenize=False, add_generation_prompt=True)
            after = tokenizer.encode(text[text.rindex(row["prompt"]) + len(row["prompt"]) :], add_special_tokens=False)
            ids = tokenizer.encode(text, add_special_tokens=False)
            assert len(after) >= 8 and ids[-8:] == after[-8:]
            states.clear()
            with torch.no_grad():
                log_p.append(model(torch.tensor([ids])).logits[0, -1].log_softmax(-1))
            kept.append(torch.stack([s.reshape(-1, s.shape[-1])[-8:] for s in states]))
        return torch.stack(kept), torch.stack(log_p)

    def score(log_p):
        p = log_p[:, opening].exp().sum(1)
        return ((p + 1e-8).log() - (1 - p + 1e-8).log()).mean()

    means = [run("train", label, {})[0].mean(0).flip(1).transpose(0, 1) for label in ("harmful", "benign")]
    unsteered = {label: run("val", label, {})[1] for label in ("harmful", "benign")}
    added, kl, ablated = [], [], []
    for r in (means[0] - means[1])[:, 0]:
        u = r / r.norm()
        without = {layer: lambda h: h - (h @ u)[..., None] * u for layer in range(3)}
        added.append(score(run("val", "benign", {0: lambda h: h + r})[1]))
        log_p = run("val", "benign", without)[1]
        kl.append(torch.nn.functional.kl_div(log_p, unsteered["benign"], log_target=True, reduction="batchmean"))
        ablated.append(score(run("val", "harmful", without)[1]))
    save(
        out / "mean.safetensors",
        {
            "harmful": means[0].numpy(), "benign": means[1].numpy(),
            "unsteered": np.array([score(unsteered[label]) for label in ("harmful", "benign")]),
            "added": np.array(added), "kl": np.array(kl), "ablated": np.array(ablated),
        },
        None,
    )


REFUSING = """I apologize|I'm sorry|I cannot|I can't|I am unable|I'm not able|I am not able|I don't|I do not|against my|
ethical guidelines|programmed to|designed to"""
ANSWERING = """Sure|Here|I'll|I will|I'd be happy|I would be happy|I can help|Of course|Certainly|Here's|Here is"""


def make_phrases(out, models):
    """The direction of arXiv 2505.20309 (equation 7, appendix A.1): rows of an embedding, from the tokens of answering
    phrases to those of refusing ones. Of a tied matrix, of both matrices of a model that has two, and of quantised
    ones."""
    tokenizer = AutoTokenizer.from_pretrained(models / "tiny-llama")
    refusing, answering = (
        [i for phrase in text.replace("\n", "").split("|") for i in tokenizer.encode(phrase, add_special_tokens=False)]
        for text in (REFUSING, ANSWERING)
    )
    matrices = {}
    for name in ("tiny-llama", "tiny-mistral"):
        assert AutoTokenizer.from_pretrained(models / name).get_vocab() == tokenizer.get_vocab()
        model = AutoModelForCausalLM.from_pretrained(models / name, dtype=torch.float32)
        matrices[f"{name}.output"] = model.get_output_embeddings().weight.detach().numpy()
        matrices[f"{name}.input"] = model.get_input_embeddings().weight.detach().numpy()
    for name in ("tiny-llama/tiny-llama.q5_0.gguf", "tiny-k/tiny-k.q4_k.gguf"):
        reader = gguf.GGUFReader(models / name)
        assert reader.fields["tokenizer.ggml.tokens"].contents() == tokenizer.convert_ids_to_tokens(range(288))
        tensor = next(t for t in reader.tensors if t.name == "token_embd.weight")
        matrices[f"{Path(name).name}.output"] = gguf.dequantize(tensor.data, tensor.tensor_type)
    expected = {}
    for name, matrix in matrices.items():
        matrix = matrix.astype(np.float64)
        d = matrix[refusing].mean(0) - matrix[answering].mean(0)
        expected[name] = d / np.linalg.norm(d)
    assert np.abs(expected["tiny-mistral.output"] - expected["tiny-mistral.input"]).max() > 0.1
    save(out / "phrases.safetensors", expected, None)


def make_style(out, model_path):
    """A contrast file with all kinds of rows, D of the tiny model by its train rows, and the preference for the
    positive responses to its val rows: of the model alone, and with 0.5 D added to what block 1 writes for every
    token."""
    tokenizer = AutoTokenizer.from_pretrained(model_path)
    model = LlamaForCausalLM.from_pretrained(model_path, dtype=torch.float64).eval()
    sides = ("positive", "negative")
    openings = dict(zip(sides, (["the hen sings", "a merry hen and a rat"], ["one rat bites", "the field is empty"])))
    rows = [{"id": f"s{i}", "prompt": f"the hen number {i} walks", "split": "train" if i < 5 else "val"}
            for i in range(8)]
    for i in (1, 6):
        rows[i] |= {"positive": f"hen {i} dances on the hill", "negative": f"rat {i} sleeps"}
    lines = rows[:3] + [openings] + rows[3:]
    (out / "style.jsonl").write_text("".join(json.dumps(row) + "\n" for row in lines))
    order = [rows[i] for i in splitmix_shuffle(len(rows), 3)]
    push, states = [torch.zeros(())], []
    model.model.layers[1].register_forward_hook(
        lambda _, __, y: y + push[0] if torch.is_tensor(y) else (y[0] + push[0],))
    for block in model.model.layers:
        block.register_forward_hook(lambda _, __, y: states.append((y if torch.is_tensor(y) else y[0]).reshape(-1, 64)))

    def run(row, turn, side):
        text = tokenizer.apply_chat_template(
            [{"role": "user", "content": row["prompt"]}], tokenize=False, add_generation_prompt=True)
        prompt = tokenizer.encode(text, add_special_tokens=False)
        response = tokenizer.encode(row.get(side, openings[side][turn % 2]), add_special_tokens=False)
        states.clear()
        with torch.no_grad():
            logits = model(torch.tensor([prompt + response])).logits[0].log_softmax(-1)
        h = torch.stack(states)[:, len(prompt) : len(prompt) + len(response) - 1].mean(1)
        return h, [logits[len(prompt) + k - 1, token].item() for k, token in enumerate(response)]

    split = {name: [row for row in order if row["split"] == name] for name in ("train", "val")}
    d = sum(run(row, i, "positive")[0] - run(row, i, "negative")[0] for i, row in enumerate(split["train"])) / 5

    def preference():
        means = [np.mean([p for i, row in enumerate(split["val"]) for p in run(row, i, side)[1]]) for side in sides]
        return means[0] - means[1]

    alone = preference()
    push[0] = 0.5 * d[1]
    save(out / "style.safetensors", {"D": d.numpy(), "preference": np.array([alone, preference()])}, None)


def make_fitted(out, refusing, answering, response, apology):
    """What policies of other operations than add, made of the directions D + mix E, do to rows x: the part along the
    direction taken out; taken out where it points to the answering side; set to a point of the line through the mean
    answering state's projection, at 0, and the mean refusing one's, at 1; and the part in the plane of the direction
    and of the means' middle turned to an angle of the way between theirs, not past the direction."""
    expected = {"x": []}
    cases = (("ablate", 0.75), ("one_sided", 0.75), ("clamp", 1.25), ("rotate", 1), ("rotate", 1.25), ("rotate", 50))
    for up, down, d, e in zip(refusing, answering, response, apology):
        x = np.concatenate([down[:3], up[:2], (down - up)[:3]]).astype(np.float32).astype(np.float64)
        expected["x"].append(x)
        to, start = up.mean(0), down.mean(0)
        for mix in (0, 1):
            u = (d + mix * e) / np.linalg.norm(d + mix * e)
            middle = (to + start) / 2
            across = middle - middle @ u * u
            plane = np.stack([u, across / np.linalg.norm(across)])
            angle = [float(np.angle(complex(*(plane @ mean)))) for mean in (start, to)]
            for op, push in cases:
                along = x @ u
                if op == "ablate":
                    y = x - push * np.outer(along, u)
                elif op == "one_sided":
                    assert (along < 0).any() and (along > 0).any()
                    y = x - push * np.outer(np.minimum(along, 0), u)
                elif op == "clamp":
                    y = x + np.outer((1 - push) * (start @ u) + push * (to @ u) - along, u)
                else:
                    part = x @ plane.T
                    to_angle = max(angle[0] + push * (angle[1] - angle[0]), 0)
                    turned = np.linalg.norm(part, axis=1)[:, None] * [np.cos(to_angle), np.sin(to_angle)]
                    y = x + (turned - part) @ plane
                expected.setdefault(f"{op}.{push:g}.{mix}", []).append(y)
    save(out / "fitted.safetensors", {name: np.stack(rows) for name, rows in expected.items()}, None)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    out = args.out / "policy"
    out.mkdir(parents=True, exist_ok=True)
    make_policies(out)
    make_clamp(out)
    make_operations(out)
    make_mlp(out)
    make_cosine(out)
    make_pooled(out)
    make_rule(out)
    make_logistic(out)
    refusing, answering, response, apology = make_contrast(out, args.out / "tiny-llama")
    make_pca(out, refusing, answering)
    make_affine(out, refusing, answering)
    make_fitted(out, refusing, answering, response, apology)
    make_mean(out, args.out / "tiny-llama")
    make_phrases(out, args.out)
    make_style(out, args.out / "tiny-llama")


if __name__ == "__main__":
    main()
