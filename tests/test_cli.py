"""Exit statuses and the one line that says what ended a command."""

import errno
import subprocess
import sys

import pytest
import torch

from tokenworlds.cli import STATUS_BUG, STATUS_ERROR, STATUS_MEMORY, exit_status
from tokenworlds.errors import UserError


def raised_by_torch() -> Exception:
    """What the host's allocator raises."""
    with pytest.raises(RuntimeError) as caught:
        torch.empty(1 << 50)
    return caught.value


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (MemoryError(), STATUS_MEMORY),
        (OSError(errno.ENOMEM, "Cannot allocate memory"), STATUS_MEMORY),
        (raised_by_torch(), STATUS_MEMORY),
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nSee documentation"), STATUS_MEMORY),
        (torch.AcceleratorError("CUDA error: out of memory", 2), STATUS_MEMORY),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"), STATUS_MEMORY),
        (UserError("too small a share.", STATUS_MEMORY), STATUS_MEMORY),
        (UserError("training has diverged."), STATUS_ERROR),
        (OSError(errno.ENOSPC, "No space left on device", "a file"), STATUS_ERROR),
        (RuntimeError("CUDA error: device-side assert triggered"), STATUS_BUG),
        (OSError(errno.EIO, "Input/output error"), STATUS_BUG),
        (ValueError("out of memory addresses"), STATUS_BUG),
    ],
)
def test_errors_end_a_command_with_their_status(
    error: Exception, status: int, capsys: pytest.CaptureFixture[str]
) -> None:
    def command() -> None:
        raise error

    assert exit_status(command) == status
    message = capsys.readouterr().err
    if status == STATUS_BUG:
        assert message.startswith("Traceback")
    else:
        assert message.startswith("error: ") and message.count("\n") == 1 and len(message) <= 400
    if status == STATUS_MEMORY and not isinstance(error, UserError):
        assert "runtime.gpu_share" in message and "runtime.replay=host" in message


PRINTS = "for _ in range(100_000): print('a line')"
FAILS = "import os; reader, writer = os.pipe(); os.close(reader); os.write(writer, b'x')"


@pytest.mark.parametrize(
    ("command", "reader", "status"), [(PRINTS, "head -1", 141), ("print('a line')", "true", 141), (FAILS, "cat", 1)]
)
def test_output_that_nobody_reads_any_more_is_no_error(command: str, reader: str, status: int) -> None:
    program = f"""
import sys, time
from tokenworlds.cli import exit_status

def command():
    time.sleep(0.5)
    exec({command!r})

sys.exit(exit_status(command))
"""
    line = f'"$0" -c "$1" | {reader}; exit "${{PIPESTATUS[0]}}"'
    ended = subprocess.run(
        ["bash", "-c", line, sys.executable, program], capture_output=True, text=True, timeout=60, check=False
    )
    assert ended.returncode == status and ("BrokenPipeError" in ended.stderr) == (status == 1), ended.stderr
