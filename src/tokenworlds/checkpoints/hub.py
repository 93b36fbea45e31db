"""Finished runs to the Hugging Face Hub and back, through ``huggingface_hub`` (the extra ``hub``).

A repository holds the agents of one method, each in a folder ``<task>/<seed>`` (``atari/Pong/0``), to which a variant
and a scale other than the published one are added (``atari/Pong/0+no-pop+smoke``), so that no run replaces one of
another size. ``$HF_ENDPOINT`` names another server than huggingface.co.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from omegaconf import OmegaConf

from tokenworlds import tensor_files
from tokenworlds.checkpoints import card
from tokenworlds.config.yaml_files import read_mapping
from tokenworlds.errors import UserError, brief, near_matches
from tokenworlds.files import new_folder, shortened, write_atomic
from tokenworlds.loading import HUB
from tokenworlds.redaction import redact_values
from tokenworlds.runs.identity import RunId
from tokenworlds.runs.layout import CONFIG, EVALUATIONS, MEASURES, RUN_SCORES, WEIGHTS, WORLD_MODEL, require_new
from tokenworlds.runs.manifest import MANIFEST, is_result, read_manifest, verify, write_manifest
from tokenworlds.tracking.summary import read_scores

if TYPE_CHECKING:
    from huggingface_hub import HfApi

REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*", re.ASCII)
REFERENCE = re.compile(rf"(?:{HUB})?({REPOSITORY.pattern})/([\w+=,.:-]+(?:/[\w+=,.:-]+)*)(?:@([\w/.-]+))?", re.ASCII)
EXAMPLE = "hub:OWNER/NAME/atari/Pong/0"
PUSHED = (WEIGHTS, EVALUATIONS, WORLD_MODEL, MEASURES)  # as they are; the last two are not in every run
READ = (card.METADATA, RUN_SCORES)
ATTEMPTS = 3  # where others push to the same repository
LOG_IN = "`hf auth login` or $HF_TOKEN"


@dataclass(frozen=True)
class Reference:
    """An agent in a repository, at a branch, tag or commit."""

    repository: str
    folder: str
    revision: str | None

    @classmethod
    def parse(cls, text: str) -> Reference:
        """``[hub:]owner/name/folder[@revision]``.

        Raises:
            UserError: the text has another form.
        """
        match = REFERENCE.fullmatch(text)
        if match is None or {".", ".."} & set(match[2].split("/")):
            raise UserError(f"'{brief(text, 80)}' names no agent on a hub; give it as {EXAMPLE}[@REVISION].")
        return cls(match[1], match[2], match[3])


def push(
    runs: Sequence[Path],
    repository: str,
    *,
    private: bool = False,
    revision: str | None = None,
    replace: bool = False,
    dry_run: bool = False,
) -> str:
    """Add finished runs of one method to a repository, in one commit that also renews the list in its ``README.md``.

    Args:
        repository: ``owner/name``; made where it is missing.
        private: whether only its owner may see a new repository.
        revision: branch to commit to, made where it is missing; default: main.
        replace: whether another run in the same folder is replaced.
        dry_run: compare only, and say what would be written.

    Returns:
        What was done, in lines for a terminal.

    Raises:
        UserError: a run is unfinished, damaged or diverged; another run is in its place; the repository holds agents of
            another method; the server cannot be reached or refuses. Nothing has been committed then.
    """
    if not REPOSITORY.fullmatch(repository):
        raise UserError(f"--repo '{brief(repository, 60)}' is no repository; give it as OWNER/NAME.")
    staged: dict[str, card.Scores] = {}
    places: dict[str, Path] = {}
    for run in runs:
        scores = checked(run)
        folder = card.folder_of(RunId.of_record(scores["run"]))
        _require_one_method({**staged, f"{folder} of {shortened(run, 60)}": scores}, repository)
        if folder in staged:
            raise UserError(
                f"{shortened(run, 60)} and {shortened(places[folder], 60)} belong to the same folder, {folder}; push "
                "one of them."
            )
        staged[folder], places[folder] = scores, run
    with TemporaryDirectory(prefix="tokenworlds-push-") as place, connected(repository, is_reading=dry_run) as api:
        for folder, run in places.items():
            stage(run, Path(place) / folder, repository)
        for attempt in range(ATTEMPTS):
            state = _state(api, repository, revision, private, create=not dry_run)
            operations = _operations(Path(place), staged, state, repository, replace)
            if dry_run:
                names = sorted(f"{'-' if deleted else '+'} {name}" for name, deleted in operations.items())
                return "\n".join([f"{repository} would get, in one commit:", *names])
            try:
                return _commit(api, repository, revision, state, operations, Path(place), list(staged))
            except _error("HfHubHTTPError") as error:
                if error.response.status_code not in (409, 412) or attempt == ATTEMPTS - 1:
                    raise
        raise AssertionError


def checked(run: Path) -> card.Scores:
    """Scores of a run that is finished, as its manifest says, and has finite weights.

    Raises:
        UserError: it is not so.
    """
    scores = card.finished(run)
    verify(run, filter(is_result, _files(run)), is_result)
    broken = tensor_files.not_finite(tensor_files.read(run / WEIGHTS))
    tensor_files.refuse_not_finite(run / WEIGHTS, broken, "the run diverged; train it again")
    return scores


def stage(run: Path, to: Path, repository: str) -> None:
    """Write what is pushed of a run: weights, configuration, scores, evaluations, card and pictures, with a manifest.
    Passwords and places on this machine are left out."""
    for name in PUSHED:
        if (run / name).is_file():
            to.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(run / name, to / name)
    for name in READ:
        try:
            content = json.loads((run / name).read_bytes())
        except (ValueError, RecursionError) as error:
            raise UserError(
                f"{shortened(run / name)} is damaged ({brief(error, 60)}); train that run again."
            ) from error
        _write_public(run / name, to / name, content, lambda value: json.dumps(value, indent=2))
    settings = read_mapping(run / CONFIG)
    runtime = {**settings["runtime"], "scratch": None, "tracking_uri": None}
    _write_public(run / CONFIG, to / CONFIG, settings, OmegaConf.to_yaml, {**settings, "out": None, "runtime": runtime})
    shown = card.pictures(run)
    for name, content in shown.items():
        write_atomic(to / name, content)
    write_atomic(to / card.CARD, card.model_card(to, shown, repository).encode())
    write_manifest(to)


def _write_public(source: Path, target: Path, content: Any, dump: Any, public: Any = None) -> None:
    """The same bytes where nothing in them has to be left out."""
    public = _without_places(redact_values(content if public is None else public))
    write_atomic(target, source.read_bytes() if public == content else dump(public).encode())


def _without_places(value: Any) -> Any:
    """Nested values with the last part of every absolute path, whose folders name users and machines."""
    if isinstance(value, dict):
        return {key: _without_places(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_without_places(item) for item in value]
    return Path(value).name if isinstance(value, str) and value.startswith(("/", "~")) else value


@dataclass(frozen=True)
class _State:
    """What a branch holds before a push: commit (None: no such repository), files, and a folder with copies of the
    list, scores and manifests."""

    commit: str | None
    files: frozenset[str]
    copies: Path

    def scores(self, folder: str) -> card.Scores | None:
        """Scores of an agent; None where they are no such."""
        try:
            return card.known(read_scores(self.copies / folder / RUN_SCORES), folder)
        except UserError as error:
            print(f"note: left out of the list: {error}", file=sys.stderr)
            return None


def _state(api: HfApi, repository: str, revision: str | None, private: bool, create: bool) -> _State:
    try:
        info = api.repo_info(repository)
    except _error("RepositoryNotFoundError"):
        if not create:
            return _State(None, frozenset(), Path())
        api.create_repo(repository, private=private or None, exist_ok=True)
        info = api.repo_info(repository)
    if private and not info.private:
        raise UserError(f"{repository} is public, not private; name another one, or make it private on the Hub first.")
    if revision is not None:
        try:
            info = api.repo_info(repository, revision=revision)
        except _error("RevisionNotFoundError"):
            if create:
                api.create_branch(repository, branch=revision)
                info = api.repo_info(repository, revision=revision)
    files = frozenset(api.list_repo_files(repository, revision=info.sha))
    needed = [name for name in files if name == card.CARD or name.endswith((f"/{RUN_SCORES}", f"/{MANIFEST}"))]
    copies = api.snapshot_download(repository, revision=info.sha, allow_patterns=needed) if needed else ""
    return _State(info.sha, files, Path(copies))


def _operations(
    place: Path, staged: Mapping[str, card.Scores], state: _State, repository: str, replace: bool
) -> dict[str, bool]:
    """Paths to write (False) or delete (True) in the repository; ``place`` holds the files to write."""
    others = [file.rpartition("/")[0] for file in sorted(state.files) if file.endswith(f"/{RUN_SCORES}")]
    found = {folder: scores for folder in others if folder not in staged and (scores := state.scores(folder))}
    agents = dict(sorted({**found, **staged}.items()))
    _require_one_method(agents, repository)
    deleted = {name for folder in staged for name in _replaced(place, folder, state, repository, replace)}
    earlier = (state.copies / card.CARD).read_bytes() if card.CARD in state.files else None
    write_atomic(place / card.CARD, card.index(agents, repository, earlier).encode())
    return dict.fromkeys(_files(place), False) | dict.fromkeys(deleted, True)


def _require_one_method(agents: Mapping[str, card.Scores], repository: str) -> None:
    """Refuse agents, by their folders, of several methods."""
    methods = {RunId.of_record(scores["run"]).method: folder for folder, scores in agents.items()}
    if len(methods) > 1:
        named = ", ".join(f"{method} in {folder}" for method, folder in methods.items())
        raise UserError(
            f"{repository} would hold agents of several methods ({named}); give each a repository of its own."
        )


def _replaced(place: Path, folder: str, state: _State, repository: str, replace: bool) -> set[str]:
    """Files of the run so far in a folder of the repository that the new one does not have.

    Raises:
        UserError: the folder holds another run and ``replace`` is not given, or files of somebody else.
    """
    there = {name for name in state.files if name.startswith(f"{folder}/")}
    if not there:
        return set()
    if f"{folder}/{MANIFEST}" not in there:
        raise UserError(
            f"{folder} of {repository} holds files that were not pushed by this program; move them away first."
        )
    before = read_manifest(state.copies / folder / MANIFEST, "delete that folder on the Hub first")
    if before.get(WEIGHTS) != read_manifest(place / folder / MANIFEST)[WEIGHTS] and not replace:
        raise UserError(
            f"{folder} of {repository} holds another run; say --replace to replace it, or name another repository."
        )
    own = {f"{folder}/{name}" for name in (*before, MANIFEST)}
    if foreign := [name for name in _files(place) if name in there - own and name.startswith(f"{folder}/")]:
        raise UserError(f"{foreign[0]} of {repository} was not pushed by this program; move it away first.")
    return (there & own) - set(_files(place))


def _commit(
    api: HfApi,
    repository: str,
    revision: str | None,
    state: _State,
    operations: Mapping[str, bool],
    place: Path,
    folders: Sequence[str],
) -> str:
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete

    done = api.create_commit(
        repository,
        [
            CommitOperationDelete(name) if is_deleted else CommitOperationAdd(name, place / name)
            for name, is_deleted in operations.items()
        ],
        commit_message=f"Add {', '.join(folders[:3])}" + (f" and {len(folders) - 3} more" if len(folders) > 3 else ""),
        revision=revision,
        parent_commit=state.commit,
    )
    at = "" if revision is None else f"@{revision}"
    if done.oid == state.commit:
        return f"{repository} holds all this already."
    return "\n".join([*(f"{HUB}{repository}/{folder}{at}" for folder in folders), f"commit {done.oid}"])


def pull(reference: str) -> Path:
    """The agent of ``[hub:]owner/name/folder[@revision]`` as a local folder, which ``tokenworlds.load`` reads.

    It is downloaded to the cache of ``huggingface_hub``, and compared with the digests that were pushed with it. Where
    the server cannot be reached, an earlier copy is used, and a note says so.

    Raises:
        UserError: there is no such agent; the server refuses, or cannot be reached and there is no copy; what came is
            damaged.
    """
    wanted = Reference.parse(reference)
    with connected(wanted.repository, is_reading=True) as api:
        is_offline = not _is_reachable(api, wanted)
        folder = _download(api, wanted, local_files_only=is_offline)
        if is_offline:
            print(
                f"note: {api.endpoint} cannot be reached; using the copy of {reference} in the cache.", file=sys.stderr
            )
        try:
            return _complete(folder)
        except UserError:
            if is_offline:
                raise
        return _complete(_download(api, wanted, force_download=True))  # the cache can be what is damaged


def pull_to(reference: str, out: Path) -> None:
    """Copy an agent of a repository into a new folder, complete or absent.

    Raises:
        UserError: as ``pull``; ``out`` exists, lies in a run folder, or cannot be made.
    """
    require_new(out, "--out")
    source = pull(reference)
    with new_folder(out) as staging:
        for name in _files(source):
            (staging / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source / name, staging / name)
        _complete(staging)


def _is_reachable(api: HfApi, wanted: Reference) -> bool:
    """Whether the server answers; a refusal is an answer, which is raised.

    Raises:
        UserError: it has no such agent.
    """
    try:
        files = api.list_repo_files(wanted.repository, revision=wanted.revision)
    except _error("HfHubHTTPError") as error:
        if error.response.status_code < 500:
            raise
        return False
    except (_error("HTTPError"), _error("OfflineModeIsEnabled")):
        return False
    known = {file.removesuffix(f"/{WEIGHTS}") for file in files if file.endswith(f"/{WEIGHTS}")}
    if wanted.folder not in known:
        raise UserError(f"{wanted.repository} has no agent {wanted.folder}: {near_matches(wanted.folder, known)}")
    return True


def _download(api: HfApi, wanted: Reference, **options: Any) -> Path:
    """The agent's folder in the cache, with all files of it that the repository holds."""
    patterns = [f"{wanted.folder}/*"]
    try:
        place = api.snapshot_download(wanted.repository, revision=wanted.revision, allow_patterns=patterns, **options)
        folder = Path(place) / wanted.folder
        if folder.is_dir():
            return folder
    except _error("LocalEntryNotFoundError"):
        pass
    raise UserError(
        f"{api.endpoint} cannot be reached, and the cache has no whole copy of {wanted.folder} from "
        f"{wanted.repository}; try again with a network."
    )


def _complete(folder: Path) -> Path:
    """The folder, if every file is as its manifest says."""
    remedy = "pull it again, or ask whoever pushed it to push it again"
    if missing := [name for name in (MANIFEST, CONFIG, WEIGHTS) if not (folder / name).is_file()]:
        raise UserError(f"{shortened(folder)} has no {missing[0]}, so that it is no complete agent; {remedy}.")
    verify(folder, _files(folder), is_result, remedy)
    return folder


def _files(folder: Path) -> list[str]:
    """Relative paths of all files below a folder."""
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def _error(name: str) -> type[Any]:
    """A class of ``huggingface_hub.errors``, which is not imported before it is needed."""
    from huggingface_hub import errors

    return getattr(errors, name)


@contextmanager
def connected(repository: str, *, is_reading: bool, ending: str = ".") -> Iterator[HfApi]:
    """The Hub's interface; what goes wrong with it in the block is raised as a user error.

    Args:
        is_reading: whether a public repository needs no token for it.
        ending: of the errors, with what else can be done.
    """
    card.require_client(ending)
    from huggingface_hub import HfApi, get_token

    api = HfApi(endpoint=os.environ.get("HF_ENDPOINT", "").rstrip("/") or None, library_name=card.LIBRARY)
    if not is_reading and get_token() is None:
        raise UserError(f"pushing to {api.endpoint} needs a token with the right to write: {LOG_IN}{ending}")
    try:
        yield api
    except UserError:
        raise
    except Exception as error:
        inner = error.__cause__ if type(error) is RuntimeError and error.__cause__ else error  # of an upload's thread
        if (reason := _reason(inner, api.endpoint, repository)) is None:
            raise
        raise UserError(f"{reason}{ending}") from error


def _reason(error: BaseException, server: str, repository: str) -> str | None:
    """What a failure of ``huggingface_hub`` means, and what to do; None for a fault of this program."""
    text = brief(error, 100)
    if isinstance(error, _error("OfflineModeIsEnabled")):
        return "HF_HUB_OFFLINE is set, and this needs the server; unset it"
    if isinstance(error, _error("RevisionNotFoundError")):
        return f"{repository} has no such revision; leave it out for the newest state"
    if isinstance(error, _error("RepositoryNotFoundError")):
        return (
            f"{server} knows no repository {repository}, or it is private and the token has no right to see it; "
            f"mend the name, or give a token that has: {LOG_IN}"
        )
    if isinstance(error, _error("HfHubHTTPError")):
        return _refusal(error.response, server, repository)
    if isinstance(error, _error("HTTPError")):
        return f"{server} cannot be reached ({text}); check the network and $HF_ENDPOINT, then try again"
    if _is_of_the_hub(error):
        if isinstance(error, OSError) and error.errno is not None:
            place = error.filename or "a file"
            return f"{place} cannot be written ({error.strerror}); make room, or name another cache with $HF_HOME"
        return f"{server} failed ({text}); try again, with HF_HUB_DISABLE_XET=1 if it does not speak the protocol xet"
    return None


def _refusal(response: Any, server: str, repository: str) -> str:
    status = response.status_code
    if status == 401:
        return f"{server} does not accept the token; give another one: {LOG_IN}"
    if status == 403:
        return f"the token has no right to do this in {repository}; give one that has: {LOG_IN}"
    if status in (409, 412):
        return f"others push to {repository} at the same time; give the same command again"
    detail = brief(response.headers.get("X-Error-Message") or response.reason_phrase, 60)
    return f"{server} answered {status} ({detail}) for {repository}; try again later"


def _is_of_the_hub(error: BaseException) -> bool:
    """Whether an error was raised inside ``huggingface_hub``."""
    frames = [str(frame.f_globals.get("__name__")) for frame, _ in traceback.walk_tb(error.__traceback__)]
    return any(name.startswith("huggingface_hub.") for name in frames)
