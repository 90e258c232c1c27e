"""Memory or disk that is full is told in one line."""

from __future__ import annotations

import errno

import numpy as np
import pytest
import torch

from dlmkit.mishaps import mishap


def test_a_device_without_memory():
    error = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.50 GiB. GPU 0 has a capacity of 16 GiB")
    line = str(mishap(error))
    assert line.startswith(
        "the memory of the device is full: 2.5 GiB more were asked for; give a smaller data.batch_size"
    )


@pytest.mark.parametrize(
    "allocate, size", [(lambda: torch.empty(2**50), "4.19e+06 GiB"), (lambda: np.empty(2**50, np.float32), "4 PiB")]
)
def test_a_machine_without_memory(allocate, size):
    with pytest.raises((RuntimeError, MemoryError)) as caught:
        allocate()
    assert str(mishap(caught.value)).startswith(f"the memory of this machine is full: {size} more were asked for")


def test_a_full_disk():
    fault = mishap(OSError(errno.ENOSPC, "No space left on device", "runs/a/checkpoints/last.ckpt"))
    assert str(fault) == "runs/a/checkpoints/last.ckpt: there is no room left on the disk; make room, and start again"


def test_a_number_format_that_the_processor_lacks():
    text = "could not create a primitive descriptor for the LSTM forward propagation primitive. Run workload with …"
    assert str(mishap(RuntimeError(text))).startswith("trainer.precision: this processor cannot compute the net")


def test_a_place_that_may_not_be_used():
    line = str(mishap(PermissionError(errno.EACCES, "Permission denied", "/root/runs")))
    assert line == "/root/runs: this cannot be used: permission denied; give another place or name, or the right to it"


@pytest.mark.parametrize("error", [RuntimeError("shapes differ"), OSError(errno.EACCES, "no"), ValueError("4 bytes")])
def test_other_errors_are_none(error):
    assert mishap(error) is None
