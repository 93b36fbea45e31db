"""The agent of a method imports what it uses and nothing else."""

import subprocess
import sys

import pytest

from tokenworlds.tokenizers.terms import TERMS

BUILD = """
import sys
from tokenworlds import config, methods
from tokenworlds.envs.spec import DiscreteActions, EnvironmentSpec, ImageSpec

chosen = config.load(["method={method}", "task=atari/Breakout", "scale=smoke"])
methods.get("{method}").build_agent(chosen, EnvironmentSpec({{"image": ImageSpec(64, 64)}}, DiscreteActions(4)))
print(*(name.removeprefix("tokenworlds.") for name in sys.modules if name.startswith("tokenworlds.")))
"""
TOKENS = {
    *("methods.token", "agents.token", "agents.token_cache", "actor_critic.token_policy"),
    *("tokenizers.image", "tokenizers.observation", "world_models.token"),
}
DELTA = {
    *("methods.delta", "agents.delta", "agents.delta_cache"),
    *("tokenizers.delta", "tokenizers.quantiser", "world_models.delta"),
}
PARALLEL = {"backbones.retnet", "ops.retention", "tokenizers.conv", "world_models.parallel"}
USED = {
    "iris": TOKENS | {"backbones.transformer", "tokenizers.resnet", "world_models.autoregressive"},
    "rem": TOKENS | PARALLEL,
    "delta_iris": DELTA | {"backbones.transformer"},
    "m3": TOKENS | PARALLEL,
}
ALTERNATIVES = set().union(*USED.values()) | {
    *("backbones.recurrent", "tokenizers.fsq", "tokenizers.lpips", "tokenizers.vector", "tokenizers.symbolic"),
    *("tokenizers.ema", "tokenizers.lfq", *(f"tokenizers.terms.{name}" for name, _ in TERMS.values())),
}


@pytest.mark.parametrize("method", USED)
def test_an_agent_imports_what_it_uses_alone(method: str) -> None:
    """In a fresh process: other tests have imported everything."""
    command = [sys.executable, "-c", BUILD.format(method=method)]
    imported = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    assert ALTERNATIVES & set(imported) == USED[method]
    assert method == "delta_iris" or not [name for name in imported if "delta" in name]
