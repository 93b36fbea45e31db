"""Wirings of neural circuit policies (Lechner et al. 2020): neurons in three stages, of which each is connected at
random to some of the neurons of the stage before it.

They are those of ``AutoNCP`` in the package ncps 1.0.1 (Mathias Lechner, Apache-2.0), connection by connection: the
same numbers are drawn in the same order. A row is drawn at once, so that the wiring of 3264 neurons takes a tenth of a
second where the package, which draws and stores one connection at a time, takes of the order of a minute.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool
from numpy import ndarray
from numpy.random import RandomState

Connections = Bool[ndarray, "receivers senders"]


def stage_sizes(hidden: int, outputs: int) -> tuple[int, int, int]:
    """Inter, command and motor neurons: the motor neurons are the outputs, of the others two fifths are command
    neurons."""
    command = max(int(0.4 * hidden), 1)
    return hidden - command, command, outputs


def auto_ncp(inputs: int, hidden: int, outputs: int, sparsity: float, seed: int) -> tuple[Connections, ...]:
    """Connections of inputs to inter neurons, of these to command neurons, and of these to motor neurons.

    Args:
        hidden: inter and command neurons, three at least.
        sparsity: share of possible connections that are absent, from 0.1 to 1; every neuron has one nevertheless.
        seed: of the generator, 22222 in the package.
    """
    inter, command, motor = stage_sizes(hidden, outputs)
    draws = RandomState(seed)
    to_inter, to_command, to_motor = (max(int(count * (1.0 - sparsity)), 1) for count in (inter, command, command))
    of_inputs = _connect(inputs, inter, to_inter, draws)
    of_inter = _connect(inter, command, to_command, draws)
    for _ in range(max(int(command * (1.0 - sparsity) * 2), 1)):
        _ = (
            draws.choice(command),
            draws.choice(command),
            draws.choice(2),
        )  # among command neurons: the cell has them all
    return of_inputs.T, of_inter.T, _connect(motor, command, to_motor, draws)  # motor neurons choose their senders


def _connect(rows: int, columns: int, count: int, draws: RandomState) -> Bool[ndarray, "rows columns"]:
    """Connect every row to ``count`` columns, then every column that has none to an average number of rows."""
    connected = np.zeros((rows, columns), dtype=bool)
    for row in connected:
        row[_choose(columns, count, draws)] = True
    average = min(max(int(rows * count / columns), 1), rows)
    for column in np.flatnonzero(~connected.any(axis=0)):
        connected[_choose(rows, average, draws), column] = True
    return connected


def _choose(population: int, count: int, draws: RandomState) -> ndarray:
    """Different numbers below ``population``; the package also draws a sign for each, which the cell does not use."""
    chosen = draws.choice(population, size=count, replace=False)
    draws.randint(0, 2, size=count)
    return chosen
