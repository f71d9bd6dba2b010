"""Checksums inside the files of records, so that readers detect any changed byte.

A record carries the CRC-32 of all its other bytes, so that one rename replaces the file and its checksum. In JSON it is
the last member, ``"checksum"``. In Parquet it stands between the last column and the footer, where the format leaves
room: every Parquet reader opens such a file. (The checksums of its pages, which any of them can check too, do not cover
headers and footer.) In a line of JSON it is the last member too, and of a zip archive it is the comment. Files without
a checksum are older, and are read as they are.
"""

from __future__ import annotations

import re
import zlib

CHECKSUM = "checksum"
PARQUET_KEY = b"fairsweep.checksum"
PARQUET_KIND = b"crc32"
"""In the metadata of a Parquet file: says that it carries a checksum, so that one that is destroyed is missed."""

_TAIL = '\n  "checksum": "crc32:{:08x}"\n}}\n'
_TAIL_LENGTH = len(_TAIL.format(0))
_EXACT = re.compile(rb'\n  "checksum": "crc32:([0-9a-f]{8})"\n\}\n')
# One damaged byte leaves one of them.
_TRACES = (b'"checksum"', b'"crc32:')
_LINE_TAIL = ', "checksum": "crc32:{:08x}"}}'
_EXACT_LINE = re.compile(rb'(.*), "checksum": "crc32:([0-9a-f]{8})"\}', re.DOTALL)
_ZIP_TAIL = "crc32:{:08x}"
_EXACT_ZIP = re.compile(rb"crc32:([0-9a-f]{8})")
_MARK = b"\0crc32:\0"
_MARK_LENGTH = len(_MARK) + 4
_FOOTER_END = 8


class ChecksumError(ValueError):
    """The bytes of a file are not those that were written."""


def with_json_checksum(text: str) -> bytes:
    """Add the checksum to a JSON object.

    Args:
        text: as ``json.dumps(mapping, indent=2)`` writes it, without a member ``checksum``.
    """
    members = text.rstrip().removesuffix("}").rstrip()
    body = (members if members == "{" else f"{members},").encode()
    return body + _TAIL.format(zlib.crc32(body)).encode()


def check_json(content: bytes) -> bool:
    """Check the bytes of a JSON file; returns whether they carry a checksum.

    Raises:
        ChecksumError: if they are not those that were written.
    """
    tail = content[-_TAIL_LENGTH:]
    match = _EXACT.fullmatch(tail)
    if match is None:
        if any(trace in content[-2 * _TAIL_LENGTH :] for trace in _TRACES):
            raise ChecksumError("its checksum is damaged")
        return False
    _compare(zlib.crc32(memoryview(content)[:-_TAIL_LENGTH]), int(match[1], 16))
    return True


def with_line_checksum(text: str) -> bytes:
    """Add the checksum to a JSON object of one line, as ``json.dumps(mapping)`` writes it, as its last member."""
    body = text.removesuffix("}").encode()
    return body + _LINE_TAIL.format(zlib.crc32(body)).encode()


def check_line(line: bytes) -> bool:
    """Check the bytes of a line of JSON; returns whether they carry a checksum.

    A line that ends before its checksum does was cut short while it was written, and carries none.

    Raises:
        ChecksumError: if they are not those that were written.
    """
    match = _EXACT_LINE.fullmatch(line)
    if match is not None:
        _compare(zlib.crc32(match[1]), int(match[2], 16))
        return True
    for trace in _TRACES:
        begin = line.rfind(trace) - _LINE_TAIL.index(trace.decode())
        if trace in line and len(line) - begin >= len(_LINE_TAIL.format(0)):
            raise ChecksumError("its checksum is damaged")
    return False


def with_parquet_checksum(content: memoryview) -> list[memoryview | bytes]:
    """Return the bytes of a Parquet file with the checksum before the footer, as parts that follow each other."""
    start = _footer(content)
    body, footer = content[:start], content[start:]
    return [body, _MARK, zlib.crc32(footer, zlib.crc32(body)).to_bytes(4, "little"), footer]


def check_parquet(content: bytes) -> bool:
    """Check the bytes of a Parquet file; returns whether they carry a checksum.

    Raises:
        ChecksumError: if they are not those that were written.
    """
    view = memoryview(content)
    start = _footer(view)
    mark = start - _MARK_LENGTH
    if mark < 0 or bytes(view[mark : mark + len(_MARK)]) != _MARK:
        return False
    expected = int.from_bytes(view[start - 4 : start], "little")
    _compare(zlib.crc32(view[start:], zlib.crc32(view[:mark])), expected)
    return True


def with_zip_checksum(content: bytes) -> bytes:
    """Return the bytes of a zip archive without a comment, with the checksum as its comment.

    Every reader skips the comment.
    """
    body = content[:-2] + len(_ZIP_TAIL.format(0)).to_bytes(2, "little")
    return body + _ZIP_TAIL.format(zlib.crc32(body)).encode()


def check_zip(content: bytes) -> bool:
    """Check the bytes of a zip archive; returns whether they carry a checksum.

    Raises:
        ChecksumError: if they are not those that were written.
    """
    length = len(_ZIP_TAIL.format(0))
    match = _EXACT_ZIP.fullmatch(content[-length:])
    if match is not None:
        _compare(zlib.crc32(memoryview(content)[:-length]), int(match[1], 16))
    return match is not None


def _footer(content: memoryview) -> int:
    """Return where the footer of a Parquet file begins; 0 if its length is invalid."""
    length = int.from_bytes(content[-_FOOTER_END:-4], "little")
    return max(0, len(content) - _FOOTER_END - length)


def _compare(found: int, expected: int) -> None:
    if found != expected:
        raise ChecksumError("its bytes are not those that were written: the checksum differs")
