"""Model cards: what the Hub reads in them, what a reader sees, and where they are written."""

import shutil
from pathlib import Path

import pytest
import yaml
from huggingface_hub import ModelCard
from huggingface_hub.repocard_data import model_index_to_eval_results
from markdown import markdown
from PIL import Image

from tests.checkpoints.finished import EVALUATIONS, finished_run
from tests.conftest import PROJECT
from tokenworlds.checkpoints import card
from tokenworlds.checkpoints.__main__ import main
from tokenworlds.errors import UserError
from tokenworlds.tracking.summary import read_scores

WHOLE = {"num_envs": 1, "temperature": 0.5, "max_episode_steps": 108_000}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return finished_run(tmp_path_factory.mktemp("runs") / "run")


def text_of(run: Path) -> str:
    return card.model_card(run, card.pictures(run), "me/rem")


def test_metadata_are_those_that_the_hub_reads(run: Path) -> None:
    text = text_of(run)
    found = ModelCard(text).data
    assert (found.license, found.library_name) == ("mit", "tokenworlds")
    assert {"reinforcement-learning", "world-model", "rem", "atari"} == set(found.tags or [])
    index = yaml.safe_load(text.split("---\n")[1])["model-index"]
    name, (result,) = model_index_to_eval_results(index)
    assert (name, result.task_type, result.dataset_name) == ("REM", "reinforcement-learning", "atari/Pong")
    assert (result.metric_type, result.metric_value, result.verified) == ("mean_reward", "-2.00 +/- 1.00", False)


@pytest.mark.parametrize(
    "part",
    [
        "# REM on atari/Pong, scale smoke, seed 0",
        "| this agent | -2.00 ± 1.00 | 2 |",
        "| random policy | -2.00 ± 0.00 | 2 |",
        "temperature 0.5, cut after 400 frames",
        "| agent steps | 180 in 4 epochs |",
        "| updates | world model 18, actor critic 6 |",
        "tokens 25.0%",
        "| PSNR (dB): world model | 20.0 | 10.0 |",
        "| PSNR (dB): last frame, repeated | 40.0 | - |",
        'tokenworlds.load("hub:me/rem/atari/Pong/0+smoke")',
        "title = {Improving Token-Based World Models with Parallel Observation Prediction}",
    ],
)
def test_what_a_run_recorded_is_in_its_card(run: Path, part: str) -> None:
    assert part in text_of(run)


@pytest.mark.parametrize(
    ("scale", "limit", "notes"),
    [
        ("smoke", 400, ["A pipeline test", "Episodes are cut"]),
        ("laptop", 108_000, ["Below the"]),
        ("paper", 108_000, []),
    ],
)
def test_a_card_says_first_what_keeps_its_score_from_being_the_published_one(
    run: Path, scale: str, limit: int, notes: list[str]
) -> None:
    scores = read_scores(run / "scores.json")
    scores |= {"run": scores["run"] | {"scale": scale}, "protocol": {"max_episode_steps": limit}}
    found = list(card.notes(scores))
    assert len(found) == len(notes) and all(note.startswith(begin) for note, begin in zip(found, notes))


def test_cards_and_lists_render(run: Path) -> None:
    listed = card.index({"atari/Pong/0": card.finished(run)}, "me/rem")
    for text, tables in ((text_of(run), 3), (listed, 1)):
        html = markdown(ModelCard(text).text, extensions=["tables", "fenced_code"])
        assert html.count("<table>") == tables and "|" not in html and html.count("<code class=") == 2
    assert 'src="media/curve.png"' in markdown(text_of(run)) and "<video controls" in markdown(text_of(run))


@pytest.mark.parametrize("tags", ["mine", "[mine, rem]"])
def test_tags_of_a_list_are_kept(run: Path, tags: str) -> None:
    listed = card.index({"atari/Pong/0": card.finished(run)}, "me/rem", f"---\ntags: {tags}\n---\n# Mine\n".encode())
    assert sorted(ModelCard(listed).data.tags or []) == [
        "atari",
        "mine",
        "reinforcement-learning",
        "rem",
        "world-model",
    ]


def test_the_score_of_whole_games_is_normalised(tmp_path: Path) -> None:
    run = finished_run(tmp_path / "run", protocol=WHOLE, returns=[14.6, 14.6], score=14.6, random=None)
    text = text_of(run)
    assert "Human normalised score: 1.0." in text  # a human's score
    assert "| random policy, published | -20.70 | - |" in text
    results = ModelCard(text).data.eval_results or []
    assert [result.metric_value for result in results] == ["14.60 +/- 0.00", 1.0]


def test_what_a_run_does_not_have_is_not_in_its_card(run: Path, tmp_path: Path) -> None:
    bare = tmp_path / "run"
    bare.mkdir()
    for name in ("agent.safetensors", "agent.json", "config.yaml", "scores.json"):
        (bare / name).write_bytes((run / name).read_bytes())
    text = text_of(bare)
    assert "media/" not in text and "## World model" not in text and "## Training" in text
    (bare / "scores.json").write_text('{"run": {"method": "rem"}}')
    with pytest.raises(UserError, match="it lacks parts"):
        card.finished(bare)


def test_the_parts_of_an_observation_are_apart_from_all_of_it(run: Path, tmp_path: Path) -> None:
    changed = Path(shutil.copytree(run, tmp_path / "run"))
    measured = [("accuracy", "", 0.8), ("accuracy", "image", 0.9), ("accuracy", "vector", 0.1), ("mse", "image", 0.01)]
    lines = [f"0,{kind},{at},{part},{measure},{value},1" for kind, at in (("open loop", 5), ("teacher-forced", ""))
             for measure, part, value in (*measured, ("mse", "image_2", 0.1))]  # fmt: skip
    (changed / "world_model.csv").write_text("\n".join(["episode,predictor,horizon,part,measure,value,count", *lines]))
    text = text_of(changed)
    assert "tokens 80.0%" in text and "| tokens right: world model | 80.0% |" in text
    assert "| PSNR (dB), image: world model | 20.0 |" in text and "| PSNR (dB), image_2: world model | 10.0 |" in text


@pytest.mark.parametrize("name", ["evaluations.csv", "world_model.csv", "metrics.jsonl", "scores.json"])
@pytest.mark.parametrize("content", ["a,b\n1,2\n", "\xff\n", "{}\n{}\n", EVALUATIONS.replace("120", "x")])
def test_a_damaged_file_is_named(run: Path, tmp_path: Path, name: str, content: str) -> None:
    broken = Path(shutil.copytree(run, tmp_path / "run"))
    (broken / name).write_bytes(content.encode("latin-1"))
    with pytest.raises(UserError, match=rf"{name}.* damaged"):
        text_of(broken)


def test_the_curve_is_a_picture(run: Path, tmp_path: Path) -> None:
    picture = tmp_path / "curve.png"
    picture.write_bytes(card.curve(run) or b"")
    with Image.open(picture) as opened:
        assert opened.size == (768, 432) and len(opened.convert("RGB").getcolors(1 << 16) or []) > 10


def test_without_the_client_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(card.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"'\.\[hub\]'"):
        card.require_client()


def test_each_method_has_its_paper() -> None:
    assert all(f"@{kind}" in card.citation(method) for method, kind in zip(card.NAMES, ("inp", "inp", "inp", "misc")))
    assert len({card.citation(method) for method in card.NAMES}) == 4 and card.citation("mine") == ""


def test_the_command_writes_the_card_and_its_pictures_and_replaces_only_its_own(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["card", str(run)]) == 0
    assert capsys.readouterr().out.startswith("---\n")
    out = tmp_path / "card" / "README.md"
    for _ in range(2):
        assert main(["card", str(run), "--out", str(out)]) == 0
    assert (out.parent / card.FILM).read_bytes() == (run / card.FILM).read_bytes()
    text = out.read_text()
    out.write_text(text.replace("MIT, as the program", "Mine, unlike the program"))
    assert main(["card", str(run), "--out", str(out)]) == 2 and "Mine, unlike" in out.read_text() != text
    capsys.readouterr()
    out.write_text("# Mine\n")
    before = {path: path.read_bytes() for path in out.parent.rglob("*") if path.is_file()}
    assert main(["card", str(run), "--out", str(out)]) == 2
    assert "not of this command" in capsys.readouterr().err
    assert {path: path.read_bytes() for path in before} == before
    assert main(["card", str(run), "--out", str(run / "README.md")]) == 2
    assert main(["card", str(PROJECT / "docs")]) == 2
