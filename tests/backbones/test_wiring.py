"""Wirings against the package whose generator they reproduce."""

import numpy as np
import pytest
from ncps.wirings import AutoNCP
from numpy import ndarray

from tokenworlds.backbones.wiring import auto_ncp, stage_sizes

CASES = [  # inputs, inter and command neurons, outputs, sparsity, seed
    (5, 9, 3, 0.5, 22222),
    (7, 9, 3, 0.9, 0),
    (3, 10, 30, 0.8, 1),  # more outputs than connections of command neurons
    (40, 3, 9, 0.3, 22222),
    (1, 6, 2, 1.0, 22222),  # most neurons get a connection only because they would have none
    (256, 256, 256, 0.5, 22222),
]


def of_package(inputs: int, hidden: int, outputs: int, sparsity: float, seed: int) -> list[ndarray]:
    wiring = AutoNCP(hidden + outputs, outputs, sparsity, seed)
    wiring.build(inputs)
    inter, command, motor = (wiring.get_neurons_of_layer(stage) for stage in range(3))
    among = wiring.adjacency_matrix
    return [wiring.sensory_adjacency_matrix[:, inter], among[np.ix_(inter, command)], among[np.ix_(command, motor)]]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_wirings_are_those_of_the_package(case: tuple[int, int, int, float, int]) -> None:
    for found, wanted in zip(auto_ncp(*case), of_package(*case), strict=True):
        assert np.array_equal(found, wanted.T != 0)


@pytest.mark.slow
def test_the_wiring_of_the_seed_study_is_that_of_the_package() -> None:
    case = (2176, 1088, 2176, 0.5, 22222)
    for found, wanted in zip(auto_ncp(*case), of_package(*case), strict=True):
        assert np.array_equal(found, wanted.T != 0)


def test_3264_neurons_are_653_435_and_2176() -> None:
    assert stage_sizes(3264 - 2176, 2176) == (653, 435, 2176)
