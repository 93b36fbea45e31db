"""``python -m pipeline.play``: films without a page, and what it refuses."""

from pathlib import Path

import imageio.v2 as imageio
import pytest
from omegaconf import OmegaConf

from pipeline import play
from tests.methods.support import configure
from tests.test_loading import begun
from tokenworlds import episodes
from tokenworlds.config import to_dict
from tokenworlds.errors import UserError


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Scratch folder of a run in training."""
    folder = tmp_path_factory.mktemp("run")
    begun(folder, configure("iris", "collection.train.parallel=false"))
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("name", ["film.mp4", "film.gif"])
def test_films_without_a_page(name: str, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = contents(run)
    first, again = tmp_path / "first" / name, tmp_path / "again" / name
    for film in (first, again):
        play.main([str(run), "--record", str(film), "--steps", "4", "--mode", "both", "-r", "--device", "cpu"])
        assert capsys.readouterr().out == f"{film}: 4 frames\n"
    assert sorted(contents(first.parent)) == sorted(["film-imagined.npz", name, "film.npz"])
    assert contents(first.parent) == contents(again.parent), "the same seed, another film"
    assert len(episodes.load(first.with_suffix(".npz"))) == 3
    assert contents(run) == before


REFUSED = {
    "exists": (["--record", "{here}/taken.mp4"], "exists and stays as it is"),
    "arrays exist": (["--record", "{here}/arrays.mp4"], "arrays.npz exists"),
    "no film": (["--record", "{here}/film.txt"], "no film"),
    "no folder": (["--record", "{here}/taken.mp4/film.mp4"], "cannot be written"),
    "in the run": (["--record", "{run}/film.mp4"], "lies in the run"),
    "in another run": (["--record", "{here}/other/media/film.mp4"], "lies in the run"),
    "in a training": (["--record", "{here}/begun/new/film.mp4"], "lies in the run"),
    "no steps": (["--record", "{here}/film.mp4", "--steps", "0"], "--steps is 0"),
    "too many": (["--record", "{here}/film.mp4", "--steps", "999999"], "must be 1 to 10000"),
    "asks": (["--record", "{here}/film.mp4", "--save-mode"], "exclude each other"),
    "human": (["--record", "{here}/film.mp4", "--player", "human"], "no page to play in"),
    **{
        f"film without dreams {option}": (["--record", "{here}/film.mp4", option, "3"], f"{option} is for dreams")
        for option in ("--dream-after", "--temperature", "--memory")
    },
    "steps alone": (["--steps", "500"], "--record, or leave --steps out"),
    "film and page": (["--record", "{here}/film.mp4", "--port", "8000"], "--port and --record exclude each other"),
    "window and page": (["--window", "--host", "127.0.0.1"], "--host and --window exclude each other"),
    **{
        f"episodes {given[0]}": (["--episodes", *given], "and --episodes exclude each other")
        for given in (
            ["--mode", "environment"], ["--player", "agent"], ["-s"], ["-r"], ["--panels", "input"], ["--stacked"],
            ["--record", "{here}/film.mp4"], ["--seed", "0"], ["--memory", "9"], ["--temperature", "1"],
            ["--policy-temperature", "1"], ["--dream-after", "3"],
        )
    },
    **{f"height {n}": (["--height", str(n)], f"--height is {n}; it must be 1 to 2160") for n in (0, -1, 99_999)},
    "memory": (["--memory", "1"], "memory cannot be 1"),
    "temperature": (["--temperature", "nan"], "temperature cannot be nan"),
    "seed": (["--seed", "-1"], "the seed is -1"),
    "panels": (["--panels", "input,sound"], "panels cannot be"),
    "panels of dreams": (["--record", "{here}/film.gif", "--panels", "input,imagined"], "this film has no imagined;"),
    "panels of games": (
        ["--record", "{here}/film.gif", "--mode", "world-model", "--panels", "original"], "this film has no original;",
    ),
    "no episodes": (["--episodes"], "there are no episodes in"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_refusals_are_one_sentence_and_nothing_is_written(
    case: str, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(play, "recordings_folder", lambda identity: tmp_path / "recordings")
    for name in ("taken.mp4", "arrays.npz"):
        (tmp_path / name).write_text("kept")
    for name in ("other/config.yaml", "other/manifest.json", "begun/config.yaml", "begun/epoch_00001.json"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    before = contents(tmp_path), contents(run)
    given, said = REFUSED[case]
    with pytest.raises(UserError) as refused:
        play.main([str(run), "--device", "cpu", *(part.format(here=tmp_path, run=run) for part in given)])
    assert said in str(refused.value)
    assert (contents(tmp_path), contents(run)) == before


def test_pictures_are_enlarged_to_the_height_that_is_asked_for(run: Path, tmp_path: Path) -> None:
    sizes = {}
    for height in (64, 128):
        film = tmp_path / f"{height}.gif"
        only = ("--panels", "input", "--no-header", "--steps", "1", "--height", str(height))
        play.main([str(run), "--record", str(film), "--device", "cpu", *only])
        sizes[height] = imageio.imread(film).shape[:2]
    assert sizes[128][1] == 2 * sizes[64][1] and sizes[128][0] - sizes[64][0] == 64


def test_a_run_without_weights_and_one_of_another_task_are_refused(run: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is no finished run"):
        play.main([str(tmp_path)])
    for file in run.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    (tmp_path / "config.yaml").write_text(OmegaConf.to_yaml(to_dict(configure("iris", "task=minigrid/Empty-6x6"))))
    with pytest.raises(UserError, match="belongs to another configuration"):
        play.main([str(tmp_path), "--device", "cpu"])


def test_a_folder_with_a_configuration_of_another_program_takes_films(run: Path, tmp_path: Path) -> None:
    (tmp_path / "config.yaml").touch()
    play.main([str(run), "--record", str(tmp_path / "film.gif"), "--steps", "2", "--device", "cpu"])
    assert (tmp_path / "film.gif").is_file()
