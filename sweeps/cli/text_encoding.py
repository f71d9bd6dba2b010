"""UTF-8 output whatever the locale: sweeps contain ε, accented names, and table borders."""

from __future__ import annotations

import io
import locale
import os
import sys


def speak_utf8() -> None:
    """Start this command once more in Python's UTF-8 mode where the locale is another one (C, ASCII, Latin-1).

    Files, workers and trackers are read and written as UTF-8 then. A stream that takes ASCII alone, for the environment
    says so, shows a question mark for what it cannot.
    """
    if not sys.flags.utf8_mode and locale.getpreferredencoding(False).lower() not in ("utf-8", "utf8"):
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], os.environ | {"PYTHONUTF8": "1"})
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
