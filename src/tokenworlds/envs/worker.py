"""The program of a worker process: one environment, commands over a socket, observations through shared memory.

Started by ``vector.WorkerMember`` as ``python -m tokenworlds.envs.worker <socket> <memory>`` (inherited file
descriptors). A program of its own rather than a child of ``multiprocessing``, which would import the trainer's main
module, and torch with it, into every worker.
"""

from __future__ import annotations

import os
import select
import signal
import sys
import threading
import time
import traceback
from multiprocessing.connection import Connection

from tokenworlds.envs.stepping import SharedObservation, carry_out
from tokenworlds.errors import UserError


def serve(connection: Connection, memory: int) -> None:
    """Build the environment of the first message, then answer commands until the other side closes."""
    env = connection.recv()()
    shared = SharedObservation(env.environment_spec, memory)
    connection.send(("ok", env.environment_spec))
    while True:
        command, argument = connection.recv()
        observation, answer = carry_out(env, command, argument)
        if observation is not None:
            shared.write(observation)
        connection.send(("ok", answer))


def leave_with_trainer(descriptor: int) -> None:
    """End this process soon after the other side has gone, even where the environment never returns."""
    poller = select.poll()
    poller.register(descriptor, 0)  # hanging up is always reported
    poller.poll()
    time.sleep(1.0)  # a worker that is waiting for a command leaves by itself
    os._exit(1)


def main() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # ctrl-C reaches the whole group; the trainer decides what happens
    connection = Connection(int(sys.argv[1]))
    threading.Thread(target=leave_with_trainer, args=(connection.fileno(),), daemon=True).start()
    try:
        serve(connection, int(sys.argv[2]))
    except (EOFError, BrokenPipeError, ConnectionResetError):
        return  # closed, or the trainer died
    except UserError as error:
        connection.send(("user_error", str(error)))
    except Exception as error:  # reported to the trainer, which stops with it
        traceback.print_exc()
        connection.send(("error", f"{type(error).__name__}: {' '.join(str(error).split())}"))


if __name__ == "__main__":
    main()
