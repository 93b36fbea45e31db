"""Published M3 agents become run folders: every mix of modalities, retention and attention."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.checkpoints.support import M3, pack, published
from tests.golden import m3_components
from tests.golden.support import load_case
from tokenworlds.checkpoints.__main__ import main


@pytest.mark.parametrize("name", M3)
def test_an_imported_agent_is_the_published_one(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    agent, file, out = published(name), tmp_path / "last.pt", tmp_path / "run"
    agent.play_in_golden_world(monkeypatch)
    assert main(agent.arguments(pack(agent.state, "zip", file), out)) == 0, capsys.readouterr().err
    assert json.loads((out / "agent.json").read_text())["observation"].keys() == agent.spec.observation.keys()
    imported = load_file(out / "agent.safetensors")
    expected = m3_components.agent(load_case("m3", M3[name])).state_dict()
    assert imported.keys() == expected.keys()
    assert all(torch.equal(imported[key], expected[key]) for key in expected)
