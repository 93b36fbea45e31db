"""The program of a worker process: one environment, commands over a socket, observations through shared memory.

Started by ``WorkerMember`` as ``tokenworlds.envs.vector.worker <socket> <memory>`` (inherited file descriptors) through
``tokenworlds.attached``, so that it never outlives the trainer. A program of its own rather than a child of
``multiprocessing``, which would import the trainer's main module, and torch with it, into every worker.
"""

from __future__ import annotations

import sys
import traceback
from multiprocessing.connection import Connection

from tokenworlds.envs.vector.commands import SharedObservation, execute, shortage
from tokenworlds.errors import UserError, is_out_of_memory


def serve(connection: Connection, memory: int) -> None:
    """Build the environment of the first message, then answer commands until the other side closes."""
    env = connection.recv()()
    shared = SharedObservation(env.environment_spec, memory)
    connection.send(("ok", env.environment_spec))
    while True:
        command, argument = connection.recv()
        observation, answer = execute(env, command, argument)
        if observation is not None:
            shared.write(observation)
        connection.send(("ok", answer))


def main() -> None:
    connection = Connection(int(sys.argv[1]))
    try:
        serve(connection, int(sys.argv[2]))
    except (EOFError, BrokenPipeError, ConnectionResetError):
        return  # closed, or the trainer died
    except UserError as error:
        connection.send(("user_error", str(error)))
    except Exception as error:  # reported to the trainer, which stops with it
        if reason := shortage(error):
            connection.send(("user_error", reason))
            return
        traceback.print_exc()
        kind = "memory" if is_out_of_memory(error) else "error"
        connection.send((kind, f"{type(error).__name__}: {' '.join(str(error).split())}"))


if __name__ == "__main__":
    main()
