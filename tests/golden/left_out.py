"""What the copy of the golden vectors beside this file leaves out, to keep the repository small.

It holds one case of every mechanism; the cases below are further sizes and variants of mechanisms that stay. Of three
cases it lacks tensors: of iris/tokenizer_a gradients of inner convolutions, on which its norm and other gradients
depend; of delta_consistency/unet the gradients of parameters that world_model has, too; of schedules what stands there
in double precision. With
``GOLDEN_DIR`` set, to a full set, nothing is left out and a missing case is an error. Without it, the tests of these
cases, and only these, are deselected: a test needs the cases that its parameters name, in a file
``test_<method>_*.py``, and those of its marker ``golden("iris/reference_agent")``.
"""

import os
from pathlib import Path

import pytest

METHODS = {
    "iris": "iris",
    "rem": "rem",
    "delta": "delta_iris",
    "m3": "m3",
    "consistency": "delta_consistency",
}  # by the second word of a test file's name
LEFT_OUT = {
    "iris/imagine": "imagine_refill is the longer rollout of the same networks",
    "iris/reference_agent": "its parts are the cases of the components; agent_paper_size is a whole agent",
    "iris/reference_agent_expected": "what reference_agent computes",
    "iris/tokenizer_b": "tokenizer_a; other sizes",
    "iris/world_model_b": "world_model_a; its mask is that of delta_iris/transformer_block_causal",
    "rem/controller_pixels": "iris/actor_critic sees pixels, controller_latent_lstm has REM's losses",
    "rem/imagination_greedy_nopop": "imagination_greedy, and nopop_imagination without pixels",
    "rem/tokenizer_4x4_style": "tokenizer_8x8_style; one halving more",
    "delta_iris/actor_critic_scalar": "actor_critic_two_hot, and actor_critic_scalar_losses",
    "delta_iris/convnets": "the stacks are parts of tokenizer",
    "delta_iris/imagination_sign_flush": "imagination_two_hot flushes too; needs world_model_sign",
    "delta_iris/reference_agent": "its parts are the cases of the components; agent_paper_size_* are whole agents",
    "delta_iris/reference_agent_expected": "what reference_agent computes",
    "m3/wm_image_vector_multidiscrete": "imagination_image_vector_multidiscrete; losses of wm_image and wm_token_grid",
    "m3/imagination_image_discrete": "simulus_imagination_attention_image, and the others for retention",
    "m3/simulus_wm_retnet_vector": "wm_vector_continuous; the ends of simulus_wm_attention_image are aligned, too",
    "delta_iris/world_model_sign": "world_model_two_hot; agent_paper_size_atari has the other heads",
}
"""Case -> what covers its mechanism instead."""


def is_full_set() -> bool:
    """Whether the tests read a set chosen with ``GOLDEN_DIR``, which must be complete."""
    return "GOLDEN_DIR" in os.environ


def needed(path: Path, parameters: dict[str, object], marked: set[str]) -> set[str]:
    """The cases that a test names."""
    words = path.stem.split("_")
    method = METHODS.get(words[1]) if words[0] == "test" and len(words) > 1 else None
    names = {value for value in parameters.values() if isinstance(value, str)}
    return marked | ({f"{method}/{name}" for name in names} if method else set())


def cases_of(item: pytest.Item) -> set[str]:
    """The same of a collected test."""
    callspec = getattr(item, "callspec", None)
    marked = {name for marker in item.iter_markers("golden") for name in marker.args}
    return needed(item.path, callspec.params if callspec else {}, marked)


def deselect(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Take out the tests of the cases left out; pytest counts them as deselected."""
    if is_full_set():
        return
    without = [item for item in items if not LEFT_OUT.keys().isdisjoint(cases_of(item))]
    if without:
        config.hook.pytest_deselected(items=without)
        gone = set(map(id, without))
        items[:] = [item for item in items if id(item) not in gone]
