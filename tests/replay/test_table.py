"""Episodes written in pieces, several at a time, against the same episodes in one piece."""

import json
from itertools import pairwise
from typing import NamedTuple

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests import small
from tests.synchronisation import without_synchronisation
from tokenworlds.replay.table import EpisodeTable


class Piece(NamedTuple):
    steps: int
    stream: int
    is_last: bool  # of its episode


pieces = st.lists(st.builds(Piece, st.integers(1, 5), st.integers(0, 3), st.booleans()), min_size=1, max_size=12)


def table_of(script: list[Piece]) -> EpisodeTable:
    table = EpisodeTable(small.CPU)
    for piece in script:
        table.append(piece.steps, piece.stream, is_last=piece.is_last)
    return table


def rows_of(script: list[Piece]) -> list[list[int]]:
    """The rows of every episode: a new one where a stream has none."""
    episodes: list[list[int]] = []
    running: dict[int, list[int]] = {}
    row = 1
    for piece in script:
        if piece.stream not in running:
            episodes.append(running.setdefault(piece.stream, []))
        running[piece.stream] += range(row, row + piece.steps)
        row += piece.steps
        if piece.is_last:
            del running[piece.stream]
    return episodes


@settings(deadline=None, max_examples=100)
@given(script=pieces)
def test_an_episode_is_its_pieces_in_their_order(script: list[Piece]) -> None:
    table, expected = table_of(script), rows_of(script)
    assert table.rows == 1 + sum(piece.steps for piece in script)
    assert table.lengths.tolist() == list(map(len, expected))
    for index in (*range(len(expected)), -1):
        assert table.episode_rows(index).tolist() == expected[index]


@settings(deadline=None, max_examples=100)
@given(script=pieces, data=st.data(), size=st.integers(1, 12))
def test_segments_are_those_of_contiguous_episodes(script: list[Piece], data: st.DataObject, size: int) -> None:
    episodes = rows_of(script)
    chosen = data.draw(st.lists(st.integers(0, len(episodes) - 1), min_size=1, max_size=4))
    starts = [data.draw(st.integers(-size - 2, len(episodes[index]) + 2)) for index in chosen]
    expected = [
        [episodes[index][step] if 0 <= step < len(episodes[index]) else 0 for step in range(start, start + size)]
        for index, start in zip(chosen, starts)
    ]
    assert table_of(script).segment_rows(torch.tensor(chosen), torch.tensor(starts), size).tolist() == expected


@settings(deadline=None, max_examples=100)
@given(script=pieces)
def test_every_row_is_located_in_its_episode(script: list[Piece]) -> None:
    table = table_of(script)
    for index, rows in enumerate(rows_of(script)):
        episodes, offsets = table.locate(torch.tensor(rows))
        assert episodes.tolist() == [index] * len(rows) and offsets.tolist() == list(range(len(rows)))


@settings(deadline=None, max_examples=100)
@given(script=pieces)
def test_a_row_is_followed_by_that_of_the_next_step_of_its_episode(script: list[Piece]) -> None:
    table = table_of(script)
    expected = [0] * table.rows
    for rows in rows_of(script):
        for row, following in pairwise(rows):
            expected[row] = following
    assert table.successors().tolist() == expected


@settings(deadline=None, max_examples=60)
@given(script=pieces, more=pieces)
def test_a_saved_table_goes_on_like_the_original(script: list[Piece], more: list[Piece]) -> None:
    state = json.loads(json.dumps(table_of(script).table_state()))
    table = EpisodeTable(small.CPU)
    table.load_table(state)
    assert table.rows == table_of(script).rows and table.lengths.tolist() == table_of(script).lengths.tolist()
    for piece in more:
        table.append(piece.steps, piece.stream, is_last=piece.is_last)
    expected = rows_of(script + more)
    assert [table.episode_rows(index).tolist() for index in range(len(expected))] == expected
    assert table.table_state() == table_of(script + more).table_state()
    other = EpisodeTable(small.CPU)
    other.load_table(state)
    assert other.rows == table_of(script).rows  # which the additions have left alone


def test_an_episode_that_nothing_interrupts_is_one_chunk() -> None:
    assert table_of([Piece(2, 0, False)] * 5 + [Piece(1, 0, True), Piece(1, 0, True)]).table_state() == {
        "episodes": [0, 1],
        "lengths": [11, 1],
        "open": [],
        "finals": [],
    }


def test_final_entries_are_no_steps() -> None:
    table = EpisodeTable(small.CPU)
    table.append(3, 0, is_last=True, has_final=True)
    table.append(2, 0, is_last=True)
    again = EpisodeTable(small.CPU)
    again.load_table(json.loads(json.dumps(table.table_state())))
    for found in (table, again):
        assert (found.rows, found.num_steps, found.lengths.tolist()) == (6, 4, [3, 2])
        assert [found.episode_steps(index) for index in (0, 1, -1, -2)] == [2, 2, 2, 2]


def test_the_index_is_made_once_after_steps_were_added_and_then_waits_for_nothing() -> None:
    table = table_of([Piece(2, 0, False), Piece(2, 1, False), Piece(3, 0, True)])
    places, episodes, starts = table.places, torch.tensor([0, 1]), torch.tensor([-1, -1])
    with without_synchronisation():
        table.locate(table.segment_rows(episodes, starts, 9).flatten())
    assert table.places is places
    table.append(1, 1, is_last=True)
    assert table.places is not places and table.episode_rows(1).tolist() == [3, 4, 8]


def test_an_empty_table_has_no_episodes() -> None:
    table = EpisodeTable(small.CPU)
    assert table.rows == 1 and not len(table.lengths) and table.successors().tolist() == [0]
    with pytest.raises(IndexError):
        table.episode_rows(0)
