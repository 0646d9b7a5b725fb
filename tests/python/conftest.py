"""The tests' tiny model, and policies for it that the standard library wrote (tests/cli/make_policy.py)."""

import pathlib
import subprocess
import sys

import pytest

import trimtab

ROOT = pathlib.Path(__file__).resolve().parents[2]
TINY = ROOT / "tests/golden/tiny-llama"


def write_policy(path, info, *changes):
    subprocess.run([sys.executable, ROOT / "tests/cli/make_policy.py", path, str(info.n_layers), str(info.hidden_size),
                    info.fingerprint, f"trimtab.weights_digest={info.weights_digest}", *changes], check=True)
    return path


@pytest.fixture(scope="session")
def info():
    with trimtab.Engine(TINY) as engine:
        return engine.info


@pytest.fixture(scope="session")
def policy_path(tmp_path_factory, info):
    """Adds a direction at layers 1 and 2, behind a probe that opens for every prompt."""
    return write_policy(tmp_path_factory.mktemp("policies") / "p.safetensors", info, "gate.b=3")


@pytest.fixture
def engine():
    with trimtab.Engine(TINY) as engine:
        yield engine


@pytest.fixture
def policy(policy_path):
    return trimtab.Policy.load(policy_path)
