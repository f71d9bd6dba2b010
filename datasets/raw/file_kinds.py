"""Detection of a file's real type, for error messages about misnamed files."""

from __future__ import annotations

_SAVED_PAGE = "is a web page, not the download (log in, or confirm it, in a browser)"
_WEB_PAGE = (b"<!doctype html", b"<html", b"<head", b"<?xml")
_BEGINNINGS = {
    b"version https://git-lfs": "is a pointer of Git LFS, not the file itself: fetch it with `git lfs pull`",
    b"PK\x03\x04": "is a truncated zip",
    b"7z\xbc\xaf\x27\x1c": "is a 7z archive",
    b"Rar!": "is a RAR archive",
    b"\x1f\x8b": "is gzip-compressed, but does not contain a complete tar",
    b"\xff\xd8\xff": "is a JPEG image",
    b"\x89PNG": "is a PNG image",
    b"PAR1": "is a Parquet file",
    b"%PDF": "is a PDF",
}


def what_it_is(head: bytes) -> str:
    """Says what a file is, from its first bytes (some hundred of them).

    >>> what_it_is(b"<!DOCTYPE html><title>Sign in</title>")
    'is a web page, not the download (log in, or confirm it, in a browser)'
    """
    if not head:
        return "is empty"
    if head.lstrip(b"\xef\xbb\xbf \r\n\t").lower().startswith(_WEB_PAGE):
        return _SAVED_PAGE
    for beginning, kind in _BEGINNINGS.items():
        if head.startswith(beginning):
            return kind
    return "is something else"
