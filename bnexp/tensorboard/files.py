"""Event files as bytes: written whole, or cut after a step. TensorBoard's own writer only appends, in a thread of its own.

A record is 8 bytes of length, 4 of checksum, the event, 4 of checksum (TFRecord).
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterable
from pathlib import Path
from typing import IO

from google.protobuf.message import DecodeError
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.summary.writer.record_writer import RecordWriter

from bnexp.base.files import atomic_write, cut_file, open_plain

PATTERN = "events.out.tfevents.*"
HEADER, FOOTER = 12, 4
MAX_EVENT = 2**26
"""Bytes of an event: the largest of ours, a picture or the graph of a network, have a hundredth."""


def write_events(path: Path, events: Iterable[Event]) -> None:
    with atomic_write(path) as file:
        writer = RecordWriter(file)
        writer.write(Event(wall_time=0, file_version="brain.Event:2").SerializeToString())
        for event in events:
            writer.write(event.SerializeToString())


def cut_after(folder: Path, step: int) -> None:
    """Cuts a run's event files before the first event after `step`, test score or torn record."""
    for path in folder.glob(PATTERN):
        with open_plain(path) as file:
            size, at = file.seek(0, os.SEEK_END), 0
            while (end := _end_of_record(file, at, size)) and _stays(file.read(end - FOOTER - at - HEADER), step):
                at = end
        if at < size:
            cut_file(path, at)


def _end_of_record(file: IO[bytes], at: int, size: int) -> int | None:
    """Where the record that begins at `at` ends, with the file at its event; None where there is no whole record."""
    file.seek(at)
    header = file.read(HEADER)
    if len(header) < HEADER:
        return None
    (length,) = struct.unpack_from("<Q", header)
    end: int = at + HEADER + length + FOOTER
    return end if 0 < length <= MAX_EVENT and end <= size else None  # of length 0: a hole, no event is empty


def _stays(data: bytes, step: int) -> bool:
    try:
        event = Event.FromString(data)
    except DecodeError:
        return False
    return bool(event.step <= step) and not any(value.tag.startswith("test/") for value in event.summary.value)
