"""What a run depends on: two small files that change with its code and its settings, and with nothing else."""

import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from functools import cached_property
from importlib import import_module
from inspect import isfunction
from pathlib import Path
from types import ModuleType

import pytest
import yaml

from pipeline import inputs
from pipeline.suite import known_variants
from tests.conftest import PROJECT, Checkout
from tests.docs.recipes import blocks
from tests.methods.support import configure
from tests.pipeline.support import TINY, choose, edit_yaml, overrides
from tokenworlds.config import Scale, known_methods, load
from tokenworlds.config.world_models import WorldModelConfig
from tokenworlds.errors import UserError
from tokenworlds.runs.identity import RunId
from tokenworlds.tracking.closure import _Module, is_harmless

SKIPPED = shutil.ignore_patterns("__pycache__", "dvc.lock")
IRIS, REM = RunId("iris", "", "atari/Pong", 0, "smoke"), RunId("rem", "", "atari/Pong", 0, "smoke")


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of sources and settings in which all methods train Pong, IRIS also Freeway, Crafter and a variant."""
    for name in ("pipeline", "src"):
        shutil.copytree(PROJECT / name, tmp_path / name, ignore=SKIPPED)
    shutil.copy(PROJECT / "params.yaml", tmp_path)
    choose(tmp_path, "Pong", methods=tuple(known_methods()))
    more = {"atari": {"tasks": ["Pong", "Freeway"]}, "crafter": {"tasks": ["Reward"], "seeds": [0]},
            "atari_variants": {"variants": ["block-causal"], "tasks": ["Pong"], "seeds": [0]}}  # fmt: skip
    edit_yaml(tmp_path / "pipeline" / "grid.yaml", {"grid": {"iris": more}})
    monkeypatch.chdir(tmp_path)
    inputs.write_all(known_methods())
    return tmp_path


def written(project: Path) -> dict[str, str]:
    folder = project / inputs.FOLDER
    return {str(path.relative_to(folder)): path.read_text() for path in folder.rglob("*") if path.is_file()}


def changed_by(project: Path, edit: Callable[[], object]) -> set[str]:
    """The files that are written anew, added or removed after an edit; others are not even touched."""
    before = written(project)
    states = {name: (project / inputs.FOLDER / name).stat().st_mtime_ns for name in before}
    edit()
    inputs.write_all(known_methods())
    after = written(project)
    changed = {name for name in before.keys() | after.keys() if before.get(name) != after.get(name)}
    assert {
        name for name in after if (project / inputs.FOLDER / name).stat().st_mtime_ns != states.get(name)
    } <= changed
    return changed


def replace(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert text.count(old) == 1
    path.write_text(text.replace(old, new))


ATARI = {f"{method}/atari/Pong" for method in known_methods()} | {"iris/atari/Freeway", "iris/+block-causal/atari/Pong"}
EVERY = {*ATARI, "iris/crafter/Reward"}
RETENTIVE = {"rem/atari/Pong", "m3/atari/Pong"}


def test_every_run_has_its_two_files_which_say_what_they_hold(project: Path) -> None:
    assert set(written(project)) == {f"{name}.{kind}" for name in EVERY for kind in ("code", "settings")}
    code, settings = (yaml.safe_load((project / path).read_text()) for path in inputs.files_of(IRIS))
    assert all(re.fullmatch(r"[\da-f]{12}", str(value).zfill(12)) for value in code.values())
    assert {"tokenworlds.losses", "tokenworlds.envs.atari", "tokenworlds.envs.vector.worker"} <= code.keys()
    assert settings["training.epochs"] == 4 and settings["model.backbone"] == "transformer"
    assert settings["model.world_model.lead"] == 0  # derived
    assert not settings.keys() & {"task", "seed", "runtime.threads", "model.world_model.retnet.num_layers"}
    for path in inputs.files_of(IRIS):
        keys = [line.split(": ")[0] for line in (project / path).read_text().splitlines()[1:]]
        assert keys == sorted(keys)


def test_committed_files_are_those_of_this_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise a fresh clone would have changed files after its first `dvc repro`. They are written anew by
    ``python -m pipeline.inputs``."""
    for name in ("pipeline", "params.yaml", "src"):
        (tmp_path / name).symlink_to(PROJECT / name)
    monkeypatch.chdir(tmp_path)
    inputs.write_all(known_methods())
    assert written(tmp_path) == written(PROJECT)


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("backbones/retnet.py", "\nimport torch\n", "\nimport torch  # a remark\n"),
        ("training/trainer.py", '"""', '"""Once more: '),
        ("losses.py", "\n\nfrom ", "\n\nfrom __future__ import annotations\n\nfrom "),
        ("rng.py", "seed: int", "seed: 'int'"),
        ("tracking/journal.py", "\nimport ", "\nimport math\nimport "),
        ("training/media.py", "\nimport ", "\nimport math\nimport "),
        ("viewer/session.py", "\nimport ", "\nimport math\nimport "),
        ("checkpoints/iris.py", "\nfrom ", "\nimport math\nfrom "),
    ],
)
def test_what_changes_no_result_changes_no_file(project: Path, name: str, old: str, new: str) -> None:
    path = project / "src" / "tokenworlds" / name
    assert old in path.read_text()
    assert not changed_by(project, lambda: path.write_text(path.read_text().replace(old, new, 1)))


def test_layout_of_settings_and_other_settings_change_no_file(project: Path) -> None:
    def edit() -> None:
        for method in known_methods():
            path = project / "pipeline" / method / "params.yaml"
            path.write_text(f"# A remark\n{path.read_text()}\n\n")
        with (project / "pipeline" / "rem" / "params.yaml").open("a") as file:
            file.write("  wide:\n    model: {policy: {hidden_dim: 1024}}\n")  # a variant
        edit_yaml(project / "pipeline" / "iris" / "params.yaml", {"families": {"gym": {"training": {"epochs": 7}}}})
        edit_yaml(project / "pipeline" / "iris" / "params.yaml", {"scales": {"paper": {"training": {"epochs": 7}}}})
        retnet = {"model": {"world_model": {"retnet": {"num_heads": 1}}}}
        edit_yaml(project / "pipeline" / "iris" / "params.yaml", {"scales": {"smoke": retnet}})  # not chosen
        edit_yaml(project / "params.yaml", {"model": {"decoding": None}})

    assert not changed_by(project, edit)


@pytest.mark.parametrize(
    ("name", "code", "affected"),
    [
        ("backbones/retnet.py", "RATE = 2", RETENTIVE),
        ("backbones/transformer.py", "RATE = 2", EVERY - RETENTIVE),
        ("envs/crafter/game.py", "RATE = 2", {"iris/crafter/Reward"}),
        ("envs/vector/worker.py", "RATE = 2", EVERY),
        ("world_models/delta.py", "RATE = 2", {"delta_iris/atari/Pong"}),
        ("methods/token.py", "RATE = 2", EVERY - {"delta_iris/atari/Pong"}),
        ("training/world_model_quality.py", "RATE = 2", EVERY),
        ("tokenizers/resnet.py", "import math", {name for name in EVERY if name.startswith("iris")}),
    ],
)
def test_an_edited_expression_changes_the_files_of_the_runs_that_it_is_in(
    project: Path, name: str, code: str, affected: set[str]
) -> None:
    path = project / "src" / "tokenworlds" / name
    changed = changed_by(project, lambda: path.write_text(f"{path.read_text()}\n{code}\n"))
    assert changed == {f"{run}.code" for run in affected}
    line = f"tokenworlds.{name.removesuffix('.py').replace('/', '.')}: "
    assert all(line in (project / inputs.FOLDER / file).read_text() for file in changed)


@pytest.mark.parametrize(
    ("file", "changes", "affected"),
    [
        ("pipeline/iris/params.yaml", {"training": {"uniform_fraction": 0.5}},
         {name for name in EVERY if name.startswith("iris")}),
        ("pipeline/iris/params.yaml", {"tasks": {"atari/Freeway": {"collection": {"train": {"temperature": 0.5}}}}},
         {"iris/atari/Freeway"}),
        ("pipeline/iris/params.yaml", {"families": {"crafter": {"evaluation": {"random_episodes": 3}}}},
         {"iris/crafter/Reward"}),
        ("pipeline/iris/params.yaml", {"scales": {"smoke": {"evaluation": {"random_episodes": 3}}}},
         {name for name in EVERY if name.startswith("iris")}),
        ("params.yaml", {"training": {"epochs": 9}}, EVERY),
        ("params.yaml", {"runtime": {"measured_episodes": 3}}, EVERY),
        ("params.yaml", {"model": {"decoding": "autoregressive"}}, RETENTIVE),
    ],
)  # fmt: skip
def test_a_number_changes_the_settings_of_the_runs_that_it_is_of(
    project: Path, file: str, changes: dict[str, object], affected: set[str]
) -> None:
    changed = changed_by(project, lambda: edit_yaml(project / file, changes))
    assert {name for name in changed if name.endswith(".settings")} == {f"{run}.settings" for run in affected}


def test_what_sections_derive_is_in_the_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of whichever type: the code of the configuration has no digest."""
    kind: cached_property[Scale] = cached_property(lambda section: Scale.small)
    kind.__set_name__(WorldModelConfig, "kind")
    monkeypatch.setattr(WorldModelConfig, "kind", kind, raising=False)
    widths = property(lambda section: [section.embed_dim, None])
    monkeypatch.setattr(WorldModelConfig, "widths", widths, raising=False)
    settings = yaml.safe_load(inputs.texts_of(load(IRIS.overrides()))[1])
    found = (settings["model.world_model.widths"], settings["model.world_model.kind"])
    assert found == ([settings["model.world_model.embed_dim"], None], "Scale.small")


def test_counted_code_calls_nothing_of_the_configuration_that_decides() -> None:
    """That would be in no digest. The names name files, write what was decided, or refuse it; the digest of a
    pretrained tokenizer is among the settings of the runs that begin with it."""
    allowed = {"PERCEPTUAL_FILES", "SEED", "STAND_INS", "TASK", "check_ranges", "content_of", "digest", "digest_of",
               "digest_of_weights", "flat", "hash_of", "pretraining_run", "project_root", "provenance", "read_mapping",
               "require_weights", "to_dict", "tokenizer_settings", "weights_file"}  # fmt: skip
    for path in (PROJECT / "src").rglob("*.py"):
        module = ".".join(path.relative_to(PROJECT / "src").with_suffix("").parts).removesuffix(".__init__")
        for name in () if is_harmless(module) else _Module(path, module).imports:
            place, _, attribute = name.rpartition(".")
            if place.startswith("tokenworlds.config") and is_harmless(place) and is_harmless(name):
                member = getattr(import_module(place), attribute, None)
                assert isinstance(member, type | ModuleType) or attribute in allowed, f"{module} imports {name}"
    sections = {
        member
        for name, module in sys.modules.items() if name.startswith("tokenworlds.config.")
        for member in vars(module).values() if isinstance(member, type) and member.__name__.endswith("Config")
    }  # fmt: skip
    functions = {name for section in sections for name, member in vars(section).items() if isfunction(member)}
    assert len(sections) > 20 and all(name.startswith(("check", "__")) or name == "hash" for name in functions)


def test_a_switch_leaves_alone_what_has_it_already(project: Path) -> None:
    """``dvc exp run -S model.backbone=retnet`` trains no run of REM."""
    changed = changed_by(project, lambda: edit_yaml(project / "params.yaml", {"model": {"backbone": "retnet"}}))
    runs = EVERY - RETENTIVE - {"iris/+block-causal/atari/Pong"}
    assert {name for name in changed if "+" not in name} == {
        f"{run}.{kind}" for run in runs for kind in ("code", "settings")
    }


def test_a_refused_run_keeps_others_from_nothing(project: Path) -> None:
    """A variant of IRIS needs the transformer: its own stage says so."""
    edit_yaml(project / "params.yaml", {"model": {"world_model": {"transformer": {"attention": "causal"}}}})
    assert not inputs.write_all(["iris"])
    refused = {name for name, text in written(project).items() if "\nrefused: " in text}
    assert refused == {"iris/+block-causal/atari/Pong.code", "iris/+block-causal/atari/Pong.settings"}
    assert "variant 'block-causal' of iris sets" in written(project)["iris/+block-causal/atari/Pong.settings"]


def test_where_every_run_is_refused_the_stage_fails_before_any_output_is_removed(project: Path) -> None:
    edit_yaml(project / "params.yaml", {"training": {"epochs": 0}})
    with pytest.raises(UserError, match=r"params\.yaml line \d+: training\.epochs"):
        inputs.main(["iris"])


@pytest.mark.parametrize(
    ("code", "message"), [("import_module(name)", "imports modules by name"), ("x = (", r"line \d+ is no valid Python")]
)
def test_code_that_cannot_be_followed_is_one_sentence(project: Path, code: str, message: str) -> None:
    path = project / "src" / "tokenworlds" / "losses.py"
    path.write_text(f"{path.read_text()}\n{code}\n")
    with pytest.raises(UserError, match=rf"losses\.py {message}"):
        inputs.write_all(["iris"])


def test_the_recipes_retrain_nothing_that_existed(project: Path) -> None:
    """Variant, backbone, method, environment and study of docs/extending.md are added."""
    before = written(project)
    page = blocks((PROJECT / "docs" / "extending.md").read_text())
    chosen = [block for block in page if block.title and block.title.startswith(("src/", "pipeline/"))]
    assert {"src/tokenworlds/backbones/__init__.py", "src/tokenworlds/envs/registry.py"} <= {b.title for b in chosen}
    for block in chosen:
        block.apply(project)
    for name in ("params.yaml", "published.yaml"):
        shutil.copy(project / "pipeline" / "iris" / name, project / "pipeline" / "lagged")
    grid = project / "pipeline" / "grid.yaml"
    variants = {"variants": ["block-causal", "short-context"], "tasks": ["Pong"], "seeds": [0]}
    more = {"atari_variants": variants, "any": {"tasks": ["corridor/Short"], "seeds": [0]}}
    edit_yaml(grid, {"grid": {"iris": more, "lagged": {"atari": {"tasks": ["Pong"], "seeds": [0]}}}})
    subprocess.run([sys.executable, "-m", "pipeline.inputs"], check=True, cwd=project)
    after = written(project)
    assert {name: after[name] for name in before} == before
    added = {"iris/+short-context/atari/Pong", "iris/corridor/Short", "lagged/atari/Pong"}
    assert after.keys() - before.keys() == {f"{name}.{kind}" for name in added for kind in ("code", "settings")}
    assert "tokenworlds.envs.corridor: " in after["iris/corridor/Short.code"]
    assert "tokenworlds.methods.lagged: " in after["lagged/atari/Pong.code"]


def test_files_of_runs_that_the_suite_no_longer_has_go_and_no_others(project: Path) -> None:
    folder = project / inputs.FOLDER / "iris"
    for name in ("notes.txt", "atari/mine.code", "crafter/mine.txt"):
        (folder / name).write_text("mine\n")
    choose(project, "Seaquest", methods=("iris",))
    inputs.write_all(known_methods())
    kept = {"iris/notes.txt", "iris/atari/mine.code", "iris/crafter/mine.txt"}
    assert written(project).keys() == {"iris/atari/Seaquest.code", "iris/atari/Seaquest.settings", *kept}
    assert not (folder / "+block-causal").exists() and (project / inputs.FOLDER / "m3").is_dir()


def test_a_stage_trains_nothing_that_its_files_do_not_describe(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """DVC would record the run under other code, where the stage `inputs` was left out or something edited since."""
    monkeypatch.setenv("DVC_STAGE", "pipeline/iris/dvc.yaml:atari@Pong-0")
    edit_yaml(project / "params.yaml", {"training": {"epochs": 9}})
    with pytest.raises(UserError, match=r"atari/Pong\.settings is not what .* run `python -m pipeline\.inputs iris`"):
        inputs.require_current(load(IRIS.overrides()))
    inputs.write_all(["iris"])
    inputs.require_current(load(IRIS.overrides()))
    inputs.require_current(load([*IRIS.overrides(), "training.epochs=7", "out=elsewhere"]))
    inputs.require_current(load(REM.overrides()))  # of a stage that somebody else has defined
    monkeypatch.delenv("DVC_STAGE")
    inputs.require_current(load([*IRIS.overrides(), "training.epochs=7"]))


def test_an_unknown_method_is_one_sentence() -> None:
    with pytest.raises(UserError, match="unknown method 'iriss'"):
        inputs.main(["iriss"])


TASKS = {
    "iris": "atari/Pong",
    "rem": "minigrid/Empty-5x5",
    "delta_iris": "crafter/Reward",
    "m3": "dmc/cartpole-balance",
}
TOKEN = (
    *("agents.token", "replay.companions", "tokenizers.codebook", "tokenizers.image", "tokenizers.layout"),
    *(
        "tokenizers.modality",
        "tokenizers.observation",
        "tokenizers.pixels",
        "tokenizers.terms",
        "tokenizers.terms.base",
    ),
)
DELTA = ("agents.delta", "tokenizers.delta", "tokenizers.quantiser", "world_models.delta")
EXCEPTIONS = {
    "backbones.memory": "counts the bytes of a state, for the measures of costs",
    "scores": "tracking imports it, and the environment of Crafter, for which it counts",
    "tasks": "names of tasks, which modules that change no result import",
    **dict.fromkeys((*TOKEN, *DELTA), "measures of world models import all kinds of agents to distinguish them"),
}
"""Modules that a training imports though they do not count for it, and why."""
IMPORTED = """
import atexit, runpy, sys
atexit.register(lambda: print("imported", *sys.modules))
runpy.run_module("pipeline.train", run_name="__main__", alter_sys=True)
"""


@pytest.mark.integration
@pytest.mark.parametrize("method", known_methods())
def test_every_module_that_a_training_imports_counts(
    method: str, make_checkout: Callable[[], Checkout], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or is on a list with the reason."""
    checkout = make_checkout()
    monkeypatch.chdir(checkout.folder)
    identity = (f"method={method}", f"task={TASKS[method]}", "scale=smoke")
    code, _ = inputs.texts_of(load([*identity]))
    trained = checkout.run(
        sys.executable, "-c", IMPORTED, *identity, *overrides(TINY), "runtime.tracking=false", "out=run"
    ).stdout
    (line,) = (line for line in trained.splitlines() if line.startswith("imported "))
    imported = {name for name in line.split() if name.partition(".")[0] in ("pipeline", "tokenworlds")}
    own = {name for name in imported if not is_harmless(name)} - {line.split(":")[0] for line in code.splitlines()}
    assert "tokenworlds.training.trainer" in imported
    unwanted = DELTA if method == "delta_iris" else TOKEN  # its own must count
    assert own <= {f"tokenworlds.{name}" for name in EXCEPTIONS if name not in unwanted}


@pytest.mark.parametrize("method", ["iris", "rem", "delta_iris", "m3"])
def test_every_variant_has_inputs(method: str) -> None:
    """What a variant chooses is found in the tables of modules that are imported by name."""
    for variant in known_variants(method):
        code, settings = inputs.texts_of(configure(method, variant=variant))
        assert code and settings, variant
