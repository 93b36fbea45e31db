"""`python -m pipeline.train`: what it accepts, and that every mistake is one sentence in the first seconds."""

import functools
import re
import sys
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import pytest
from hydra.core.global_hydra import GlobalHydra

from pipeline import train
from pipeline.train import check
from tests.conftest import Checkout
from tokenworlds.config import RunConfig

PONG = ("method=iris", "task=atari/Pong", "scale=smoke")


@pytest.fixture(scope="module")
def checkout(make_checkout: Callable[[], Checkout]) -> Checkout:
    return make_checkout()


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ((), "method is not given"),
        (("iris",), "'iris' is not an override: write key=value"),
        (("method=iris", "task=atari/Pogn"), "unknown task 'atari/Pogn': did you mean atari/Pong"),
        ((*PONG, "variant=63-tokens"), "unknown variant '63-tokens' of iris: did you mean 64-tokens"),
        ((*PONG, "+model.layers=3"), "model.layers: Key 'layers' not in 'TokenModelConfig'"),
        ((*PONG, "model.tokenizer.perceptual=lpips"), "needs model.tokenizer.perceptual_weights=FILE"),
        ((*PONG, "seed=0,1"), "seed=0,1 gives several values: add -m"),
        ((*PONG, "~seed"), "would delete seed"),
        ((*PONG, "out=a(b"), "values with spaces, commas or brackets need quotes"),
        ((*PONG, "hydra.wrong=1"), "Could not override 'hydra.wrong'"),
        (("-m", "method=iris", "task=atari/Pong,atari/Pogn", "scale=smoke"), "unknown task 'atari/Pogn'"),
    ],
)
def test_a_mistake_is_one_sentence_and_status_2(checkout: Checkout, overrides: tuple[str, ...], message: str) -> None:
    """Mistakes in the configuration: test_config."""
    done = checkout.train(*overrides, status=2)
    assert done.stderr.startswith("error: ") and done.stderr.count("\n") == 1, done.stderr
    assert message in done.stderr
    assert not (checkout.folder / "results" / "runs").exists()


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Callable[..., list[RunConfig]]]:
    """Calls the command in this process and returns what it would have trained."""
    trained: list[RunConfig] = []
    trainer = types.ModuleType("tokenworlds.training.run")
    trainer.run_training = trained.append  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "tokenworlds.training.run", trainer)
    monkeypatch.setenv("TOKENWORLDS_SCRATCH", str(tmp_path))
    monkeypatch.setattr(train, "raise_on_sigterm", lambda: None)

    def call(*arguments: str) -> list[RunConfig]:
        trained.clear()
        monkeypatch.setattr(sys, "argv", ["train.py", *arguments])
        assert train.main() == 0
        return [*trained]

    yield call
    GlobalHydra.instance().clear()


@pytest.mark.parametrize("many", [(), ("-m",)], ids=["once", "many"])
@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("runtime.device=cuda:1", "cuda:1"),
        ("runtime.tracking_uri=http://127.0.0.1:5000", "http://127.0.0.1:5000"),
        ("runtime.tracking_uri=sqlite:////tmp/x.db", "sqlite:////tmp/x.db"),
        ("seed=010", 10),
        ("runtime.scratch=/tmp/a b", "/tmp/a b"),
        ("runtime.scratch='/tmp/a, b'", "/tmp/a, b"),
        ("out=1.10", "1.10"),
        ("out=1e5", "1e5"),
        ("model.tokenizer.resnet={num_res_blocks: 0}", 0),
    ],
)
def test_a_value_arrives_as_it_was_written(
    runs: Callable[..., list[RunConfig]], many: tuple[str, ...], override: str, expected: object
) -> None:
    key = override.partition("=")[0] + (".num_res_blocks" if "{" in override else "")
    (config,) = runs(*many, "method=rem", "task=atari/Pong", "scale=smoke", override)
    assert functools.reduce(getattr, key.split("."), cast(Any, config)) == expected


def test_a_sweep_over_methods_takes_the_keys_of_each(runs: Callable[..., list[RunConfig]]) -> None:
    setting = "model.world_model.transformer.embed_dropout=0.5"
    configs = runs("-m", "method=iris,delta_iris", "task=atari/Pong", "scale=smoke", "seed=0,011", setting)
    assert [(config.method, config.seed) for config in configs] == [
        ("iris", 0), ("iris", 11), ("delta_iris", 0), ("delta_iris", 11),
    ]  # fmt: skip
    assert {config.model.world_model.transformer.embed_dropout for config in configs} == {0.5}


def test_cfg_job_shows_a_decimal_seed(runs: Callable[..., list[RunConfig]], capsys: pytest.CaptureFixture[str]) -> None:
    assert runs("--cfg", "job", *PONG, "seed=010", "out=1.10") == []
    shown = capsys.readouterr().out
    assert "\nseed: 10\n" in shown and "\nout: '1.10'\n" in shown


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
    """But for the perceptual weights, which the paper scale needs and nobody ships, and for the run to be extended."""
    lines = [line.strip() for line in checkout.train("--help").stdout.splitlines()]
    examples = [line for line in lines if line.startswith("python -m pipeline.train ")]
    assert any("method=rem" in example for example in examples) and len(examples) >= 5
    for example in examples:
        words = re.sub(r"extend=\S+", " ".join(PONG), example.split("   ")[0]).split()[3:]
        many = "-m" in words
        assert check([word for word in words if word != "-m"] + ["model.tokenizer.perceptual=none"], many)


def test_commands_leave_no_files_of_hydra(checkout: Checkout) -> None:
    checkout.train("--cfg", "job", *PONG)
    assert not (checkout.folder / "outputs").exists()
    assert checkout.run("git", "status", "--porcelain").stdout == ""
