"""What errors say: words, never a number in brackets, bytes, or nothing."""

import errno
from typing import Any

import pytest

from bnexp.base.errors import DataError, failure, reason, shortage

FULL = errno.ENOSPC, "No space left on device"


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (OSError(*FULL), "No space left on device"),
        (OSError(*FULL, "/a/b"), "No space left on device: /a/b"),
        (OSError(*FULL, b"/a/b"), "No space left on device: /a/b"),
        (OSError(*FULL, 3), "No space left on device"),  # a file's descriptor in place of its name
        (OSError("[Errno 28] No space left on device, and more"), "No space left on device, and more"),
        (OSError(), "OSError"),
        (MemoryError(), "there is not enough memory"),
        (DataError("The file is damaged."), "The file is damaged."),
        (KeyError("x"), "KeyError: 'x'"),
        (ValueError(), "ValueError"),
        (RuntimeError("one\ntwo"), "RuntimeError: one"),
    ],
)
def test_a_failure_says_why_and_where(error: BaseException, said: str) -> None:
    assert failure(error) == said
    assert reason(error)


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (MemoryError(), "there is not enough memory"),
        (ImportError("libtorch_cpu.so: failed to map segment from shared object"), "there is not enough memory"),
        (RuntimeError("can't start new thread"), "no more threads can be started"),
        (ImportError("No module named 'x'"), ""),
    ],
)
def test_what_a_process_did_not_get_is_told_from_other_errors(error: Any, said: str) -> None:
    assert (shortage(error) or "").startswith(said)
    assert (shortage(error) is None) == (said == "")
