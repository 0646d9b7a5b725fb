"""What PyTorch makes of policies: the paper's controller from its state dict, and policy files applied to a
Transformers model by forward hooks. Coefficients agree to 1e-5. Where PyTorch is not installed, its goldens speak."""

import numpy as np
import pytest
from conftest import TINY, write_policy
from safetensors.numpy import load_file

import trimtab
from trimtab import paper

WORDS = "Hello there, how do you do?"


def controller(n_in, n_layers, n_units=24, seed=3):
    """A state dict such as torch.save has it, of random numbers."""
    rng = np.random.default_rng(seed)
    shapes = {"fc1.weight": (n_units, n_in), "fc1.bias": (n_units,), "fc2.weight": (1 + n_layers, n_units),
              "fc2.bias": (1 + n_layers,)}
    return {name: (rng.normal(size=shape) / shape[-1] ** 0.5).astype(np.float32) for name, shape in shapes.items()}


def test_the_papers_controller_gives_pytorchs_coefficients(engine):
    golden = load_file(TINY / "steered_mlp_unbounded.safetensors")
    state = {name.removeprefix("gate."): value for name, value in golden.items() if name.startswith("gate.")}
    policy = paper.policy_of_controller(engine, state, np.ones(64), form="paper", observe=[0, 2])
    decision = engine.generate(golden["ids"], policies=policy, max_tokens=1).decisions[0]
    acts = golden["weight"] != 0
    assert acts.sum() == 2 and decision.s == pytest.approx(float(golden["s"][0]), abs=1e-5)
    assert np.abs(decision.coef[acts] - (golden["coef"] / np.where(acts, golden["weight"], 1))[acts]).max() <= 1e-5


def test_both_forms_are_what_fit_makes_of_the_paper(engine):
    state = controller(2 * 64, 3)
    released = paper.policy_of_controller(engine, controller(3 * 64, 3), np.ones(64)).info
    assert (released.when, released.alpha, released.observed) == ("last", 4.0, [0, 1, 2])
    assert list(released.weights) == [0, 0, 1] and released.gate == "mlp" and released.gate_form == "none"
    third = paper.policy_of_controller(engine, controller(64, 3), np.ones(64), form="paper").info
    assert (third.when, third.alpha, third.observed) == ("generation", 2.0, [2]) and list(third.weights) == [1, 1, 1]
    for wrong in ({}, {**state, "fc3.weight": state["fc1.bias"]}, {**state, "fc1.bias": state["fc1.bias"][:-1]}):
        with pytest.raises(trimtab.Error):
            paper.policy_of_controller(engine, wrong, np.ones(64), observe=[0, 2])


# ---- With PyTorch


def load_model():
    torch, transformers = pytest.importorskip("torch"), pytest.importorskip("transformers")
    return torch, transformers.AutoModelForCausalLM.from_pretrained(TINY, dtype=torch.float32).eval()


def files(info, engine, folder):
    """Policies of each gate that the hooks know."""
    rng = np.random.default_rng(7)
    yield write_policy(folder / "always.safetensors", info)
    yield write_policy(folder / "probe.safetensors", info, "gate.b=3")
    yield write_policy(folder / "shut.safetensors", info, "gate.b=-3")
    for form in ("paper", "released"):
        state = controller(2 * 64, 3, seed=len(form))
        direction = 6 * rng.normal(size=64)
        paper.policy_of_controller(engine, state, direction, form=form, observe=[0, 2]).save(folder / form)
        yield folder / form
    state = {f"gate.{name}": value for name, value in controller(64, 3, seed=5).items()}
    tensors = state | {"gate.w": rng.normal(size=64), "gate.b": [0.1]}
    for layers in ("learned", "fixed"):
        if layers == "fixed":
            tensors = tensors | {name: tensors[name][:1] for name in ("gate.fc2.weight", "gate.fc2.bias")}
        trimtab.Policy.from_arrays(engine, {1: 5 * rng.normal(size=64)}, tensors=tensors, gate="probe_mlp",
                                   gate_layers=layers, observe=[0], threshold=0, when="last", alpha=1.5
                                   ).save(folder / layers)
        yield folder / layers


def test_hooks_give_our_coefficients_and_tokens(engine, info, tmp_path):
    torch, model = load_model()
    from trimtab.transformers_hooks import steer

    ids = torch.tensor([engine.encode(WORDS)[0]])
    plain, n_acting, n_other = engine.generate(ids[0].numpy(), max_tokens=12, ignore_eos=True).ids, 0, 0
    for path in files(info, engine, tmp_path):
        for scale in (1.0, 0.5):
            policy = trimtab.Policy.load(path)
            answer = engine.generate(ids[0].numpy(), policies=(policy, scale), max_tokens=12, ignore_eos=True)
            hooks, coef = steer(model, str(path), ids, scale)
            assert np.abs(coef.numpy() - answer.decisions[0].coef).max() <= 1e-5, path
            theirs = model.generate(ids, max_new_tokens=12, min_new_tokens=12, do_sample=False)[0, ids.shape[1]:]
            for hook in hooks:
                hook.remove()
            assert theirs.tolist() == answer.ids, path
            n_acting += bool(coef.any())
            n_other += answer.ids != plain
    assert n_acting == 12 and n_other >= 8


def test_a_torch_state_dict_is_taken(engine, tmp_path):
    torch, model = load_model()
    state = controller(2 * 64, 3)
    torch.save({name: torch.tensor(value) for name, value in state.items()}, tmp_path / "controller.pt")
    loaded = torch.load(tmp_path / "controller.pt", weights_only=True)
    policy = paper.policy_of_controller(engine, loaded, torch.ones(64), form="paper", observe=[-3, -1])
    ids = engine.encode(WORDS)[0]
    with torch.no_grad():
        states = []
        taps = [model.model.layers[layer].register_forward_hook(lambda _, __, out: states.append(
            (out[0] if isinstance(out, tuple) else out)[0, -1])) for layer in (0, 2)]
        model(torch.tensor([ids]))
        for tap in taps:
            tap.remove()
        x = torch.cat(states)
        z = torch.relu(x @ loaded["fc1.weight"].T + loaded["fc1.bias"]) @ loaded["fc2.weight"].T + loaded["fc2.bias"]
        expected = (2 * z[0] * z[1:].sigmoid()).numpy()
    decision = engine.generate(ids, policies=policy, max_tokens=1).decisions[0]
    assert np.abs(decision.coef - expected).max() <= 1e-5
