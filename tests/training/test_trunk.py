"""A run whose trunk begins with weights: initialised first, loaded second, optimised third; its hash knows them."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from pipeline import stand_ins
from tests.methods.support import configure, snapshot
from tests.training.test_initialization import SERIAL, finished, train_a_little, trainer_of
from tests.training.test_initialization import begun as begun_run
from tokenworlds.config import RunConfig, provenance, to_dict
from tokenworlds.config.run import content
from tokenworlds.config.trunk import STAND_INS
from tokenworlds.errors import UserError
from tokenworlds.training.run_folder import scratch_folder
from tokenworlds.training.trunk import settle

LAYER = {  # GPT-2 -> ours
    "ln_1": "norm1", "ln_2": "norm2", "attn.c_attn": "attention.query_key_value", "attn.c_proj": "attention.projection",
    "mlp.c_fc": "mlp.0", "mlp.c_proj": "mlp.2",
}  # fmt: skip


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Weights of GPT-2 in the size of the scale smoke, none of which is what an initialiser writes."""
    model = configure("iris", SERIAL, variant="gpt2").model.world_model
    drawn = {name: torch.from_numpy(v) for name, v in stand_ins.drawn("x", stand_ins.gpt2_shapes(model)).items()}
    path = tmp_path / "model.safetensors"
    save_file({name: value + 0.01 * torch.arange(1, len(value) + 1).view(-1, *[1] * (value.dim() - 1))
               for name, value in drawn.items()}, path)  # fmt: skip
    return path


def begun(file: Path, variant: str = "gpt2", *overrides: str) -> RunConfig:
    config = configure("iris", SERIAL, f"model.world_model.trunk.weights={file}", *overrides, variant=variant)
    settle(config)
    return config


def expected(file: Path) -> dict[str, Tensor]:
    """The tensors of a file under the names of an agent, written down without the reader."""
    found = {}
    for name, value in load_file(file).items():
        where, _, kind = name.rpartition(".")
        ours = "norm" if where == "ln_f" else f"blocks.{where.split('.')[1]}.{LAYER[where.split('.', 2)[2]]}"
        found[f"world_model.backbone.{ours}.{kind}"] = value.T if value.dim() == 2 else value
    return found


@pytest.mark.parametrize("variant", ["gpt2", "gpt2-frozen", "gpt2-lora", "gpt2-frozen-projections"])
def test_the_whole_agent_has_the_loaded_trunk_and_all_else_is_fresh(file: Path, tmp_path: Path, variant: str) -> None:
    trainer = trainer_of(begun(file, variant), tmp_path / "run")
    found, loaded = trainer.agent.state_dict(), expected(file)
    assert len(loaded) == 3 * 12 + 2
    for name, value in loaded.items():
        assert torch.equal(found[name], value), name
    record = trainer.beginning.record["trunk"]
    assert record == {"init": "gpt2", "weights": trainer.config.model.world_model.trunk.digest, "stand_in": False}
    control = {"gpt2": "gpt2-scratch", "gpt2-frozen": "gpt2-random-frozen"}.get(variant)
    if control:
        fresh = trainer_of(configure("iris", SERIAL, variant=control), tmp_path / "fresh").agent.state_dict()
        assert all(torch.equal(fresh[name], value) for name, value in found.items() if name not in loaded)
        assert not any(torch.equal(fresh[name], value) for name, value in loaded.items())


def test_a_resumed_run_takes_its_checkpoint_and_needs_the_file_no_more(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOKENWORLDS_SCRATCH", str(tmp_path / "scratch"))

    config = begun(file)
    trainer = trainer_of(config, scratch_folder(config))
    train_a_little(trainer)
    trainer.save()
    trained, name = snapshot(trainer.agent), "world_model.backbone.blocks.0.norm1.weight"
    assert not torch.equal(trained[name], expected(file)[name])
    file.unlink()
    again = begun(file)
    assert again.hash() == config.hash()
    resumed = trainer_of(again, scratch_folder(again))
    resumed.resume()
    assert resumed.epoch == 1 and resumed.beginning.record == trainer.beginning.record
    assert all(torch.equal(value, trained[key]) for key, value in resumed.agent.state_dict().items())
    with pytest.raises(UserError, match="there is nothing at"):
        begun(file, "gpt2", "seed=5")


def test_the_hash_is_of_the_weights_wherever_they_are(file: Path, tmp_path: Path) -> None:
    config, elsewhere = begun(file), tmp_path / "copy.safetensors"
    elsewhere.write_bytes(file.read_bytes())
    assert begun(elsewhere).hash() == config.hash() != configure("iris", SERIAL, variant="gpt2").hash()
    assert not {key for key in provenance(config).overrides if "trunk" in key}
    tensors = load_file(file)
    tensors["ln_f.bias"] = tensors["ln_f.bias"] + 1
    save_file(tensors, file)
    assert begun(file).hash() != config.hash()
    assert begun(elsewhere).hash() == config.hash()


def test_runs_without_a_trunk_have_no_trace_of_it() -> None:
    config = configure("iris")
    assert config.model.world_model.trunk is None and "trunk" not in json.dumps(content(to_dict(config)))


def test_stand_ins_fit_every_variant_that_names_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stand_ins, "weights_file", lambda place: tmp_path / place)
    stand_ins.main([])
    seen = set()
    for variant in (v for v in stand_ins.known_variants("iris") if v.startswith(("gpt2", "smollm2", "pretrained-"))):
        place = configure("iris", SERIAL, variant=variant).model.world_model.trunk.weights
        if place is None:
            continue
        assert place.startswith(f"{STAND_INS}/smoke/")
        seen.add(Path(place).name)
        config = begun(tmp_path / place, variant)
        trainer = trainer_of(config, tmp_path / variant)
        assert trainer.beginning.record["trunk"]["init"] == config.model.world_model.trunk.init.name
    assert seen == {path.name for path in (tmp_path / STAND_INS / "smoke").iterdir()}


def run_of_another_task(folder: Path, *overrides: str) -> Path:
    """A finished run, as far as it is read."""
    trainer = begun_run("iris", folder / "source", "task=minigrid/Empty-6x6", *overrides)
    run = finished(trainer, folder / "finished")
    (run / "scores.json").write_text(json.dumps({"budget": {"env_steps": 180, "agent_updates": {"world_model": 1}}}))
    return run


def test_a_trunk_tells_on_what_its_run_was_trained(tmp_path: Path) -> None:
    run = run_of_another_task(tmp_path)
    trainer = trainer_of(begun(run, "pretrained-world-model"), tmp_path / "own")
    expected = {"source": "iris/minigrid/Empty-6x6/1", "frames": 180, "counts_toward_budget": False}
    assert trainer.beginning.trained_on == {"world_model": expected} and trainer.beginning.steps_before == 0
    name = "world_model.backbone.blocks.0.norm1.weight"
    assert torch.equal(trainer.agent.state_dict()[name], load_file(run / "agent.safetensors")[name])


@pytest.mark.parametrize(("there", "here", "said"), [
    ("model.world_model.transformer.num_heads=1", "", "model.world_model.transformer.num_heads=1, here it is 2"),
    ("", "model.world_model.transformer.attention=block_causal", "attention=causal, here it is block_causal"),
    ("", "model.world_model.trunk.activation=gelu_tanh", "trunk.activation=gelu, here it is gelu_tanh"),
])  # fmt: skip
def test_a_trunk_whose_layers_do_something_else_is_refused(there: str, here: str, said: str, tmp_path: Path) -> None:
    run = run_of_another_task(tmp_path, *filter(None, [there]))
    with pytest.raises(UserError, match=said):
        trainer_of(begun(run, "pretrained-world-model", *filter(None, [here])), tmp_path / "own")


def test_an_oracle_has_no_trunk() -> None:
    with pytest.raises(UserError, match="has no sequence model: leave out"):
        configure("iris", "model.world_model.trunk.freeze=attn_mlp", variant="oracle")
