"""Published agents, the whole way: packed as the authors' files are, imported, loaded, evaluated, played."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import tokenworlds
from pipeline import evaluate
from tests.checkpoints.support import AGENTS, M3, PACKINGS, STEPS, Published, cast, pack, published, reference
from tests.golden import m3_components
from tests.golden.support import Case, load_case
from tokenworlds import methods
from tokenworlds.checkpoints.__main__ import main
from tokenworlds.viewer.frame import Input
from tokenworlds.viewer.session import WORLDS, Options, Session

Capture = pytest.CaptureFixture[str]


@pytest.fixture(params=AGENTS)
def agent(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Published:
    found = published(request.param)
    found.play_in_golden_world(monkeypatch)
    return found


def imported(agent: Published, packing: str, folder: Path, capsys: Capture) -> Path:
    out, file = folder / packing, pack(agent.state, packing, folder / f"{packing}.pt")
    assert b"cuda:0" in file.read_bytes()
    assert main(agent.arguments(file, out)) == 0, capsys.readouterr().err
    return out


def test_every_packing_gives_the_same_agent(agent: Published, tmp_path: Path, capsys: Capture) -> None:
    expected = load_file(imported(agent, "zip", tmp_path, capsys) / "agent.safetensors")
    rounded = dict.fromkeys(("half", "everything"), torch.float16) | {"bfloat16": torch.bfloat16}
    for packing in PACKINGS:
        found = load_file(imported(agent, packing, tmp_path, capsys) / "agent.safetensors")
        assert found.keys() == expected.keys(), packing
        for name, value in cast(expected, rounded.get(packing, torch.float32)).items():
            assert torch.equal(found[name], value.to(expected[name].dtype)), (packing, name)


def test_it_is_loaded_evaluated_and_played(agent: Published, tmp_path: Path, capsys: Capture) -> None:
    run, out = imported(agent, "everything", tmp_path, capsys), tmp_path / "scores.json"
    trained = tokenworlds.load(run, "cpu")
    assert trained.spec == agent.spec and trained.epoch is None
    evaluate.main(
        [str(run), "--episodes", "2", "--num-envs", "2", "--device", "cpu", "--world-model", "--out", str(out)]
    )
    result = json.loads(out.read_text())
    assert result["lengths"] == [STEPS] * 2 and result["world_model"]["rows"]
    for world in WORLDS:
        session = Session(trained, Options(tmp_path / "recordings", world=world))
        frames = [frame for _ in range(6) if (frame := session.tick(Input())) is not None]
        assert len({frame.panels[-1].picture.tobytes() for frame in frames}) > 2, world


def test_its_tensors_are_those_of_its_parts(agent: Published, tmp_path: Path, capsys: Capture) -> None:
    """What a run begins with that takes some parts of it."""
    run = imported(agent, "optimiser", tmp_path, capsys)
    state, trained = load_file(run / "agent.safetensors"), tokenworlds.load(run, "cpu")
    fresh = methods.get(agent.method).build_agent(trained.config, agent.spec)
    for name, part in fresh.named_children():
        part.load_state_dict(
            {key.removeprefix(f"{name}."): state.pop(key) for key in [*state] if key.startswith(f"{name}.")}
        )
    assert not state
    assert all(torch.equal(value, trained.agent.state_dict()[key]) for key, value in fresh.state_dict().items())


HALF = {"zip": None, "half": 0.01, "bfloat16": 0.08}
"""Largest error of a packing; None: the tolerance of the golden case."""


@pytest.mark.parametrize("packing", HALF)
@pytest.mark.parametrize(
    "name",
    [
        pytest.param("iris", marks=pytest.mark.golden("iris/reference_agent")),
        "rem",
        pytest.param("delta_iris", marks=pytest.mark.golden("delta_iris/reference_agent")),
        *M3,
    ],
)
@torch.no_grad()
def test_it_computes_what_the_published_agent_computes(
    name: str, packing: str, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    case: Case
    agent, case = (published(name), load_case("m3", M3[name])) if name in M3 else reference(name)
    agent.play_in_golden_world(monkeypatch)
    policy = (loaded := tokenworlds.load(imported(agent, packing, tmp_path, capsys), "cpu").agent).policy
    match name:
        case "iris":
            key, seen, actions = "expected.ac.logits_actions", case["expected.tokens"], case["input.actions"]
        case "rem":
            key, seen, actions = "out.logits_actions", case["out.tokens"], case["in.actions"].unsqueeze(0)
        case "delta_iris":
            key, seen, actions = "expected.logits_actions", case["input.frames"] / 255, case["input.actions"]
        case _:
            key, seen, actions = (
                "out.burned_in_actor_state",
                m3_components.symbols(case)[:, :-1],
                case["in.actions"][:, :-1],
            )
    if name in M3:
        state = policy.burn_in(seen, actions, case["in.mask_padding"][:, :-1])
        found = torch.stack([state.hidden, state.cell])[..., : case[key].shape[-1]]  # the values' network follows
    else:
        inputs = seen if name == "delta_iris" else loaded.policy_input(seen).unsqueeze(0)
        found, _, _ = policy.unroll(inputs, actions, policy.initial_state(1))
        found = found.view(case[key].shape)
    if (largest := HALF[packing]) is None:
        case.assert_close(found, key, "float" if "float" in case.json["tolerances"] else None)
    else:
        error = float((found - case[key]).abs().max())
        assert 0 < error < largest
        assert name in M3 or torch.equal(found.argmax(dim=-1), case[key].argmax(dim=-1))
