"""What befalls a command though recipe and code are right: a full memory or disk, a number format that is lacking."""

from __future__ import annotations

import errno
import re

from dlmkit.errors import UserError

__all__ = ["mishap"]

_SMALLER = (
    "give a smaller data.batch_size (trainer.accumulate_grad_batches makes up for it), a smaller net, "
    "or to dlmkit sample less at once"
)


def mishap(error: BaseException) -> UserError | None:
    """Tell a mishap in one line.

    Args:
        error: What was raised; by torch, numpy or the operating system.

    Returns:
        The line, or None if the error is something else.
    """
    text = str(error)
    if type(error).__name__ == "OutOfMemoryError":
        return UserError(f"the memory of the device is full{_asked(text)}", _SMALLER)
    if isinstance(error, MemoryError) or "DefaultCPUAllocator" in text:
        return UserError(f"the memory of this machine is full{_asked(text)}", _SMALLER)
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return UserError("there is no room left on the disk", "make room, and start again", str(error.filename or ""))
    if isinstance(error, OSError) and error.filename and error.errno in (errno.EACCES, errno.EPERM, errno.ENAMETOOLONG):
        what = f"this cannot be used: {str(error.strerror).lower()}"
        return UserError(what, "give another place or name, or the right to it", str(error.filename))
    if isinstance(error, RuntimeError) and "could not create a primitive" in text:
        what = "this processor cannot compute the net in that number format (bfloat16 needs AVX-512 or AMX)"
        return UserError(what, "leave trainer.precision out", "trainer.precision")
    return None


def _asked(text: str) -> str:
    found = re.search(r"allocate ([\d.]+) ?(bytes|\w+iB)", text)
    if found is None:
        return ""
    size, unit = (float(found[1]) / 2**30, "GiB") if found[2] == "bytes" else (float(found[1]), found[2])
    return f": {size:.3g} {unit} more were asked for"
