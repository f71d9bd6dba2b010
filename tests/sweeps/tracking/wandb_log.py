"""A reader of W&B's transaction logs, ``run-ID.wandb``: wandb 0.31 ships none in Python.

The format is LevelDB's log: blocks of 32 KiB; a record, or a part of one, is a CRC-32 (4 bytes), a length (2 bytes,
little endian), a type (1 byte: whole, first, middle, last) and the bytes. The file begins with ``:W&B``, a magic number
and a version (7 bytes). Records are messages of `wandb_internal_pb2`. `test_wandb.py` shows that it reads what wandb
writes.
"""

import json
import struct

from wandb.proto import wandb_internal_pb2

BLOCK, HEADER = 32768, 7
WHOLE, FIRST, MIDDLE, LAST = 1, 2, 3, 4


def messages(path):
    data = path.read_bytes()
    assert data[:4] == b":W&B", data[:8]
    place, parts = HEADER, b""
    while place + HEADER <= len(data):
        room = BLOCK - place % BLOCK
        if room < HEADER:
            place += room
            continue
        _crc, length, kind = struct.unpack("<IHB", data[place : place + HEADER])
        if kind == 0:
            break
        parts += data[place + HEADER : place + HEADER + length]
        place += HEADER + length
        if kind in (WHOLE, LAST):
            message = wandb_internal_pb2.Record()
            message.ParseFromString(parts)
            parts = b""
            yield message


class LoggedRun:
    """What a log says of its run."""

    def __init__(self, path):
        self.run, self.history, self.summary, self.exit_code = None, [], {}, None
        for message in messages(path):
            kind = message.WhichOneof("record_type")
            if kind == "run":
                self.run = message.run
            elif kind == "history":
                self.history.append(_items(message.history.item))
            elif kind == "summary":
                self.summary |= _items(message.summary.update)
            elif kind == "exit":
                self.exit_code = message.exit.exit_code

    @property
    def config(self):
        return _items(self.run.config.update)


def _items(items):
    return {item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in items}
