"""Published M3 agents become run folders: every mix of modalities, retention and attention."""

import contextlib
import json
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.golden import m3_components
from tests.golden.support import load_case
from tokenworlds import envs
from tokenworlds.checkpoints import __main__ as importer
from tokenworlds.config import EnvironmentConfig

CASES = [
    "imagination_vector_continuous",
    "imagination_token_grid",
    "imagination_image_vector_multidiscrete",
    "simulus_imagination_attention_image",
]


@pytest.mark.parametrize("name", CASES)
def test_an_imported_agent_is_the_published_one(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    case = load_case("m3", name)
    config, file, out = case.config, tmp_path / "last.safetensors", tmp_path / "run"
    spec = m3_components.environment(config)

    def make(_: str, settings: EnvironmentConfig) -> contextlib.nullcontext[SimpleNamespace]:
        return contextlib.nullcontext(SimpleNamespace(environment_spec=spec))

    monkeypatch.setattr(envs, "make", make)
    monkeypatch.setattr(importer, "LEVELS", config.get("n_action_quant_levels", importer.LEVELS))
    save_file({key: value.contiguous() for key, value in case.group("param.").items()}, file)
    settings = m3_components.model(case).world_model
    hidden = [
        f"model.world_model.max_blocks={settings.max_blocks}",
        f"training.sequence_length={settings.max_blocks}",
        f"model.world_model.action_levels={settings.action_levels}",
        f"model.world_model.context={settings.context}",
        f"model.world_model.unscored_blocks={settings.context}",
        f"training.actor_critic.burn_in={settings.context}",
    ]
    if "image" in config:
        (size, _), groups = config["image"]["input_resolution"], config["image"]["norm_num_groups"]
        hidden += [f"environment.{split}.size={size}" for split in ("train", "test")]
        hidden += [f"model.tokenizer.conv.{key}={groups}" for key in ("num_groups", "decoder_groups")]
    else:
        hidden += ["model.world_model.embeddings=own"]
    arguments = ["import", str(file), "--task", "minigrid_mixed/Empty-5x5", "--out", str(out), "--set", *hidden]
    assert importer.main(arguments) == 0, capsys.readouterr().err
    assert json.loads((out / "agent.json").read_text())["observation"].keys() == spec.observation.keys()
    imported, expected = load_file(out / "agent.safetensors"), m3_components.agent(case).state_dict()
    assert imported.keys() == expected.keys()
    assert all(torch.equal(imported[key], expected[key]) for key in expected)
