"""The live table of a sweep as a local web page; it only reads the sweep's folder."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from html import escape
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from fairsweep.sweeps.syntax.errors import SweepError
from fairsweep.sweeps.views.notebook import panel
from fairsweep.sweeps.views.watch import WatchedSweep

LOOPBACK = "127.0.0.1"
_PAGE = (
    "<!doctype html><meta charset=utf-8><meta http-equiv=refresh content={seconds}><title>{name}: fairsweep</title>"
    "<meta name=color-scheme content='light dark'><body style='margin:1.5rem'>{panel}"
)
_HEADERS = {
    "Content-Type": "text/html; charset=utf-8",
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
}


@contextmanager
def serving(board: WatchedSweep, port: int = 0, seconds: float = 2.0) -> Iterator[str]:
    """Serve the page on the loopback interface while a context lasts.

    Args:
        board: the sweep.
        port: where; 0 takes one that is free.
        seconds: after which a browser asks anew.

    Yields:
        The page's address.

    Raises:
        SweepError: if the port is taken.
    """
    lock = threading.Lock()

    class Page(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            # A page of another site, whose name was made to point here, must not read this one.
            if self.headers.get("Host", "").rpartition(":")[0] not in (LOOPBACK, "localhost") or self.path != "/":
                self.send_error(HTTPStatus.NOT_FOUND)
                return
            with lock:
                board.refresh()
                text = _PAGE.format(seconds=f"{seconds:g}", name=escape(board.name), panel=panel(board))
            self.send_response(HTTPStatus.OK)
            for name, value in _HEADERS.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(text.encode())

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing: a browser asks every few seconds."""

    try:
        server = ThreadingHTTPServer((LOOPBACK, port), Page)
    except (OSError, OverflowError) as error:
        raise SweepError(f"cannot serve on port {port} ({error}): give another one with --port N") from error
    thread = threading.Thread(target=server.serve_forever, name="fairsweep-page", daemon=True)
    thread.start()
    try:
        yield f"http://{LOOPBACK}:{server.server_address[1]}/"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
