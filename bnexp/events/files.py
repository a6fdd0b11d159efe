"""Event files as bytes: written whole, or cut after a step. TensorBoard's own writer only appends, in a thread of its own.

A record is 8 bytes of length, 4 of checksum, the event, 4 of checksum (TFRecord).
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from pathlib import Path

from google.protobuf.message import DecodeError
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.summary.writer.record_writer import RecordWriter

from bnexp.files import atomic_write, cut_file, open_plain

PATTERN = "events.out.tfevents.*"
HEADER, FOOTER = 12, 4


def write_events(path: Path, events: Iterable[Event]) -> None:
    """The whole file, atomically."""
    with atomic_write(path) as file:
        writer = RecordWriter(file)
        writer.write(Event(wall_time=0, file_version="brain.Event:2").SerializeToString())
        for event in events:
            writer.write(event.SerializeToString())


def cut_after(folder: Path, step: int) -> None:
    """Cuts every event file of a run's folder where the events after `step` begin, or those of its end: test scores and what follows.

    A torn last record goes too.
    """
    for path in folder.glob(PATTERN):
        with open_plain(path) as file:
            data, at = file.read(), 0
        while at + HEADER <= len(data):
            (length,) = struct.unpack_from("<Q", data, at)
            end = at + HEADER + length + FOOTER
            if end > len(data) or not _stays(data[at + HEADER : end - FOOTER], step):
                break
            at = end
        if at < len(data):
            cut_file(path, at)


def _stays(data: bytes, step: int) -> bool:
    try:
        event = Event.FromString(data)
    except DecodeError:
        return False
    return bool(event.step <= step) and not any(value.tag.startswith("test/") for value in event.summary.value)
