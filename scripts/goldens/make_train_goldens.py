#!/usr/bin/env python3
"""Makes the goldens of the numerics of training and measuring: ridge regression by its closed form and principal
components from numpy, conditions of CAST from scikit-learn, perceptrons that PyTorch trained, the paper's controller
among them, and figures of classifiers from scikit-learn and scipy. Needs requirements.txt. The same versions write the
same bytes.

  make_train_goldens.py --out tests/golden
"""

import argparse
from pathlib import Path

import numpy as np
import torch
from safetensors.numpy import save_file
components from numpy, conditions of CAST from scikit-learn, perceptrons that PyTorch trained, the paper's controller
among them, and figures of classifiers from scikit-learn and scipy. Needs requirements.txt. The same versions write the
same bytes.

F64 = np.float64


def save(path, tensors):
    save_file({name: np.ascontiguousarray(t) for name, t in tensors.items()}, path)
    path.chmod(0o644)


def make_rows(rng, n, d):
    """Features of many sizes, which depend on each other, one of which does not vary; weights with a mean near 1."""
    x = rng.normal(size=(n, d)) @ (rng.normal(size=(d, d)) * 0.9 ** np.arange(d)[:, None])
    x = x * np.geomspace(0.01, 10, d) + rng.normal(size=d) * 3
    x[:, d // 2] = 0.75
    weight = rng.choice([0, 0.5, 1, 2], n, p=[0.1, 0.3, 0.3, 0.3])
    return x.astype(np.float32), weight


def standardise(x, weight):
    x = x.astype(F64)
    mean = weight @ x / weight.sum()
    divisor = (np.sqrt(weight @ (x - mean) ** 2 / weight.sum()) + 1e-3) * np.sqrt(x.shape[1])
    return (x - mean) / divisor, mean, divisor


def ridge(z, y, weight, penalty):
    """The minimum by the normal equations of beta and b together."""
    n, d = z.shape
    z = np.hstack([z, np.ones((n, 1))])
    square = z.T @ (weight[:, None] * z) + np.diag(np.append(np.full(d, penalty * n / 100), 0))
    theta = np.linalg.solve(square, z.T @ (weight * y))
    return theta[:d], theta[d]


def dual_ridge(z, y, weight, penalty):
    """The same minimum by the dual equations, with b as a multiplier. Rows of weight 0 are left out."""
    n = len(z)
    z, y, weight = z[weight > 0], y[weight > 0], weight[weight > 0]
    m = len(z)
    system = np.ones((m + 1, m + 1))
    system[:m, :m] = z @ z.T + np.diag(penalty * n / 100 / weight)
    system[m, m] = 0
    alpha = np.linalg.solve(system, np.append(y, 0))
    return z.T @ alpha[:m], alpha[m]


def make_ridge(out):
    rng = np.random.default_rng(11)
    tensors = {}
    for name, n, d in (("wide", 150, 290), ("tall", 170, 12)):
        x, weight = make_rows(rng, n, d)
        z, mean, divisor = standardise(x, weight)
        label = z @ rng.normal(size=d) + 0.3 * rng.normal(size=n) * z.std() > 0.1
        y = np.where(label, 1.0, -1.0)
        fold = rng.integers(0, 4, n).astype(np.uint8)
        tensors |= {f"{name}.x": x, f"{name}.weight": weight, f"{name}.label": label.astype(np.uint8)}
        tensors |= {f"{name}.fold": fold}
        for penalty in (0.1, 3.0):
            beta, b = ridge(z, y, weight, penalty)
            other_beta, other_b = dual_ridge(z, y, weight, penalty)
            assert np.linalg.norm(beta - other_beta) < 1e-9 * np.linalg.norm(beta) and abs(b - other_b) < 1e-9
            held = np.zeros(n)
            for k in range(4):
                part = ridge(z[fold != k], y[fold != k], weight[fold != k], penalty)
                held[fold == k] = z[fold == k] @ part[0] + part[1]
            w = beta / divisor
            tensors |= {f"{name}.w.{penalty:g}": w, f"{name}.b.{penalty:g}": np.array([b - w @ mean])}
            tensors |= {f"{name}.held.{penalty:g}": held}
    save(out / "ridge.safetensors", tensors)


def make_pca(out):
    rng = np.random.default_rng(12)
    tensors = {}
    for name, n, d, k in (("wide", 90, 140, 12), ("tall", 200, 30, 6)):
        x, weight = make_rows(rng, n, d)
        z, mean, divisor = standardise(x, weight)
        _, s, v = np.linalg.svd(np.sqrt(weight / weight.sum())[:, None] * z, full_matrices=False)
        v, variance = v[:k], s[:k] ** 2
        v *= np.sign(v[np.arange(k), np.abs(v).argmax(1)])[:, None]
        scale = 1 / np.sqrt(variance.mean())
        tensors |= {f"{name}.x": x, f"{name}.weight": weight, f"{name}.components": v, f"{name}.divisor": divisor}
        tensors |= {f"{name}.projection": scale * v / divisor, f"{name}.mean": mean}
        tensors |= {f"{name}.variance": variance * scale**2}
    save(out / "pca.safetensors", tensors)


components from numpy, conditions of CAST from scikit-learn, perceptrons that PyTorch trained, the paper's controller
among them, and figures of classifiers from scikit-learn and scipy. Needs requirements.txt. The same versions write the
same bytes.
    clip = options.pop("clip")
    optimiser = torch.optim.AdamW(model.parameters(), **options)
    losses, lengths = [], []
    for step in range(100):
        batch = batches[step % len(batches)]
        loss = loss_of(model(x[batch]), batch)
        optimiser.zero_grad()
        loss.backward()
        lengths.append(torch.nn.utils.clip_grad_norm_(model.parameters(), clip or torch.inf).item())
        optimiser.step()
        losses.append(loss.item())
    return np.array(losses), np.array(lengths)


def perceptron(d, units, outputs):
    torch.manual_seed(14)
    model = torch.nn.Sequential(torch.nn.Linear(d, units), torch.nn.ReLU(), torch.nn.Linear(units, outputs))
    return model, dict(zip(("fc1", "bias1", "fc2", "bias2"), model.parameters()))


def copies(name, parts):
    return {f"{name}.{part}": p.detach().numpy().copy() for part, p in parts.items()}


def make_mlp(out):
    generator = torch.Generator().manual_seed(13)
    n, d, units, outputs = 37, 13, 21, 3
    x = torch.randn(n, d, generator=generator)
    weight = torch.rand(n, generator=generator) * 2
    soft = torch.rand(n, outputs, generator=generator)
    numbers = torch.randn(n, outputs, generator=generator) * 2

    def squared(z, batch):
        return torch.nn.functional.mse_loss(z, numbers[batch])

    def logistic(z, batch):
        each = torch.nn.functional.binary_cross_entropy_with_logits(z, soft[batch], reduction="none")
        return (weight[batch, None] * each).mean()

    tensors = {"x": x.numpy(), "weight": weight.numpy().astype(F64)}
    cases = {
        "squared": (numbers, squared, {"lr": 1e-2, "weight_decay": 0.1, "clip": 0.5}),
        "logistic": (soft, logistic, {"lr": 3e-3, "weight_decay": 0.01, "betas": (0.8, 0.99), "eps": 1e-6, "clip": 0}),
    }
    batches = [list(range(k, min(k + 8, n))) for k in range(0, n, 8)]
    for name, (target, loss_of, options) in cases.items():
        model, parts = perceptron(d, units, outputs)
        tensors |= copies(f"{name}.start", parts)
        losses, _ = train(model, x, batches, loss_of, options)
        tensors |= {f"{name}.target": target.numpy(), f"{name}.losses": losses}
        tensors |= copies(f"{name}.end", parts)
        tensors |= {f"{name}.z": model(x).detach().numpy()}
    save(out / "mlp.safetensors", tensors)


def make_controller(out):
    """The controller of arXiv 2505.20309 as the paper trains it (its equation 8, on batches with as many harmful rows
    as benign ones) and as its authors' code does (per epoch all harmful batches, then all benign ones). The first half
    of the rows is harmful. Gradients are clipped."""
    generator = torch.Generator().manual_seed(16)
    half, d, units, n_layers = 9, 13, 21, 5
    x = torch.randn(2 * half, d, generator=generator) * torch.linspace(0, 1.5, half).repeat(2)[:, None]
    harmful = torch.arange(2 * half) < half

    def paper(z, batch):
        s, y = z[:, 0], harmful[batch]
        return 0.5 * ((s[y] - 1) ** 2).mean() + (1 - 0.5) * (s[~y] ** 2).mean()

    def released(z, batch):
        s, y = z[:, 0], harmful[batch]
        assert y.all() or not y.any()
        loss = torch.nn.functional.binary_cross_entropy_with_logits(s, y.float())
        w = torch.sigmoid(z[:, 1:])
        return loss + 0.1 * ((w - 0.5).abs().mean() + 0.01 * w.mean()) if y.all() else loss

    turns = [row for pair in zip(range(half), range(half, 2 * half)) for row in pair]
    cases = {
        "paper": (paper, [turns[k : k + 4] for k in range(0, 2 * half, 4)]),
        "released": (
            released,
            [list(range(k, min(k + 8, end))) for end in (half, 2 * half) for k in range(end - half, end, 8)],
        ),
    }
    tensors = {"x": x.numpy(), "target": harmful.float().numpy()}
    for name, (loss_of, batches) in cases.items():
        model, parts = perceptron(d, units, 1 + n_layers)
        tensors |= copies(f"{name}.start", parts)
        losses, lengths = train(model, x, batches, loss_of, {"lr": 5e-5, "clip": 1.0})
        assert (lengths > 1).any(), lengths
        tensors |= {f"{name}.losses": losses}
        tensors |= copies(f"{name}.end", parts)
    save(out / "controller.safetensors", tensors)


def auc_interval(area, n1, n0):
    """Newcombe's method 5: where the area seen is 1.96 standard errors, those of the bound, away from the bound."""
    def excess(theta):
        others = (n1 + n0) / 2 - 1
        variance = theta * (1 - theta) * (1 + others * (1 - theta) / (2 - theta) + others * theta / (1 + theta))
        return abs(area - theta) - norm.ppf(0.975) * np.sqrt(variance / (n1 * n0))

    def bound(end):
        inner = area + (end - area) * 1e-12
        return brentq(excess, inner, end, xtol=1e-15) if end != area else end
    return bound(0.0), bound(1.0)


def make_metrics(out):
    rng = np.random.default_rng(15)
    label = rng.random(300) < 0.4
    scores = np.round(rng.normal(size=300) + 1.2 * label, 1)  # with many ties
    fpr, tpr, thresholds = roc_curve(label, scores, drop_intermediate=False)
    bounds = np.array([0, 0.01, 0.05, 0.1, 0.5, 1])
    last = np.array([np.flatnonzero(fpr <= bound)[-1] for bound in bounds])
    shares = np.array([(0, 10), (10, 10), (3, 40), (1, 1), (250, 1000), (99999, 100000)], np.int32)
    intervals = [binomtest(int(k), int(n)).proportion_ci(method="wilson") for k, n in shares]
    prices = 0.7, 1.9  # of a false positive, of a miss
    costs = (prices[0] * fpr * (~label).sum() + prices[1] * (1 - tpr) * label.sum()) / len(label)
    areas = np.array([(0.5, 30, 70), (0.912, 40, 40), (1, 5, 9), (1, 300, 200), (0, 7, 3), (0.03, 1, 250),
                      (0.75, 1, 1)])
    splits = np.array([(0, 0), (0, 1), (5, 0), (3, 12), (12, 3), (7, 7), (8, 7), (900, 1100), (0, 2000)], np.int32)
    tests = [binomtest(int(a), int(a + b)).pvalue if a + b else 1 for a, b in splits]
    tensors = {
        "scores": scores,
        "label": label.astype(np.uint8),
        "auc": np.array([roc_auc_score(label, scores)]),
        "max_fpr": bounds,
        "tpr": tpr[last],
        "threshold": thresholds[last],
        "shares": shares,
        "intervals": np.array([(i.low, i.high) for i in intervals]),
        "prices": np.array(prices),
        "cost_from": thresholds,
        "costs": costs,
        "areas": areas,
        "area_intervals": np.array([auc_interval(*area) for area in areas]),
        "splits": splits,
        "sign_tests": np.array(tests, F64),
    }
    save(out / "metrics.safetensors", tensors)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    out = parser.parse_args().out / "train"
    out.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    make_ridge(out)
    make_pca(out)
    make_condition(out)
    make_mlp(out)
    make_controller(out)
    make_metrics(out)


if __name__ == "__main__":
    main()
