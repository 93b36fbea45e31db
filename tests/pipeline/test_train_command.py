"""`python -m pipeline.train`: what it accepts, and that every mistake is one sentence in the first seconds."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from pipeline.train import check
from tests.conftest import Checkout

PONG = ("method=iris", "task=atari/Pong", "scale=smoke")


@pytest.fixture(scope="module")
def checkout(make_checkout: Callable[[], Checkout]) -> Checkout:
    return make_checkout()


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ((), "method is not given"),
        (("method=iris",), "task is not given"),
        (("iris",), "'iris' is not an override: write key=value"),
        (("method=irs", "task=atari/Pong"), "unknown method 'irs': did you mean iris"),
        (("method=iris", "task=atari/Pogn"), "unknown task 'atari/Pogn': did you mean atari/Pong"),
        (("method=iris", "task=atary/Pong"), "unknown task 'atary/Pong'"),
        ((*PONG, "variant=63-tokens"), "unknown variant '63-tokens' of iris: did you mean 64-tokens"),
        ((*PONG, "scale=tiny"), "scale: Invalid value 'tiny', expected one of [smoke, small, paper]"),
        ((*PONG, "seed=one"), "seed: Value 'one' of type 'str' could not be converted to Integer"),
        ((*PONG, "training.tokenizer.learning_rate=fast"), "training.tokenizer.learning_rate: Value 'fast'"),
        (
            (*PONG, "model.backbon=transformer"),
            "model.backbon: Key 'backbon' not in 'TokenModelConfig'; did you mean backbone",
        ),
        ((*PONG, "+model.layers=3"), "model.layers: Key 'layers' not in 'TokenModelConfig'"),
        (
            (*PONG, "model.backbone=retnett"),
            "model.backbone: Invalid value 'retnett', expected one of [transformer, retnet, lstm, gru]",
        ),
        (
            (*PONG, "model.world_model.transformer.num_heads=3"),
            "must be a multiple of model.world_model.transformer.num_heads (3)",
        ),
        ((*PONG, "variant=no-pop"), "unknown variant 'no-pop' of iris"),
        ((*PONG, "model.tokenizer.perceptual=lpips"), "needs model.tokenizer.perceptual_weights=FILE"),
        ((*PONG, "seed=0,1"), "seed=0,1 gives several values: add -m"),
        ((*PONG, "~seed"), "would delete seed"),
        ((*PONG, "out=a(b"), "values with spaces, commas or brackets need quotes"),
        ((*PONG, "hydra.wrong=1"), "Could not override 'hydra.wrong'"),
        (("-m", "method=iris", "task=atari/Pong,atari/Pogn", "scale=smoke"), "unknown task 'atari/Pogn'"),
    ],
)
def test_a_mistake_is_one_sentence_and_status_2(checkout: Checkout, overrides: tuple[str, ...], message: str) -> None:
    done = checkout.train(*overrides, status=2)
    assert done.stderr.startswith("error: ") and done.stderr.count("\n") == 1, done.stderr
    assert message in done.stderr
    assert not (checkout.folder / "results" / "runs").exists()


def test_configuration_is_checked_before_torch_is_imported(checkout: Checkout) -> None:
    program = "import sys; from pipeline.train import check; check(sys.argv[1:]); assert 'torch' not in sys.modules"
    checkout.run("python", "-c", program, *PONG)


def test_cfg_job_shows_the_values_of_this_run(checkout: Checkout) -> None:
    shown = checkout.train("--cfg", "job", *PONG, "seed=7").stdout
    assert "seed: 7" in shown and "backbone: transformer" in shown and "???" not in shown
    assert "perceptual: none" in shown  # the smoke scale's


def test_cfg_job_shows_a_switched_backbone(checkout: Checkout) -> None:
    shown = checkout.train("--cfg", "job", "method=rem", *PONG[1:], "variant=no-pop", "model.backbone=gru").stdout
    assert "backbone: gru" in shown and "decoding: autoregressive" in shown and "variant: no-pop" in shown


def test_help_names_the_keys_and_gives_examples(checkout: Checkout) -> None:
    shown = checkout.train("--help").stdout
    for word in ("method=iris task=atari/Pong", "scale", "variant", "runtime.scratch", "--cfg job"):
        assert word in shown


def test_examples_of_the_help_are_valid_command_lines(checkout: Checkout) -> None:
    """But for the perceptual weights, which the paper scale needs and nobody ships."""
    lines = [line.strip() for line in checkout.train("--help").stdout.splitlines()]
    examples = [line for line in lines if line.startswith("python -m pipeline.train ")]
    assert any("method=rem" in example for example in examples) and len(examples) >= 5
    for example in examples:
        words = example.split("   ")[0].split()[3:]
        many = "-m" in words
        assert check([word for word in words if word != "-m"] + ["model.tokenizer.perceptual=none"], many)


def test_commands_leave_no_files_of_hydra(checkout: Checkout) -> None:
    checkout.train("--cfg", "job", *PONG)
    assert not (checkout.folder / "outputs").exists()
    assert checkout.run("git", "status", "--porcelain").stdout == ""
