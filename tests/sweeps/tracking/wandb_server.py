"""A stub of W&B's server on loopback: what the client of wandb 0.31 asks while runs are written, and no more.

It answers GraphQL by the name of the operation and keeps what it was sent. It is written from what that client sends,
not from the server's source: it shows what our client process says, not that wandb.ai would take it. What it does not
know it answers with an error, which a test sees in `unknown`.
"""

import base64
import gzip
import json
import re
import sys
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote

ENTITY = "lab"
_OPERATION = re.compile(r"\s*(?:query|mutation)\s+(\w+)")
_CAPITAL = re.compile(r"(?<!^)(?=[A-Z])")
_STREAM = re.compile(r"/files/([^/]+)/([^/]+)/([^/]+)/file_stream")
_FILES = "/storage/"


@dataclass
class ServedRun:
    """What the server has of a run.

    Attributes:
        fields: as the client named them last: displayName, groupName, jobType, tags…
        config: its config.
        history: lines by their offset, one JSON object each.
        summary: the last one.
        files: uploaded ones by name.
        exit_code: of its last end; None while it runs.
        resumed_at: lines that the server held each time a client took it up again.
    """

    fields: dict = field(default_factory=dict)
    config: dict = field(default_factory=dict)
    history: dict = field(default_factory=dict)
    summary: dict = field(default_factory=dict)
    files: dict = field(default_factory=dict)
    exit_code: int | None = None
    resumed_at: list = field(default_factory=list)

    @property
    def rows(self):
        """The history in its order."""
        return [self.history[offset] for offset in sorted(self.history)]


class WandbServer:
    """What the stub knows and was sent.

    Attributes:
        runs: by (project, id).
        artifacts: names of the artifacts that were committed.
        key: the last key that a client gave.
        unknown: operations and paths that the stub has no answer to.
        failing: while set, everything is answered with status 500.
        failed: how many requests were.
    """

    def __init__(self):
        self.runs, self.artifacts, self.unknown = {}, [], []
        self.key, self.failing, self.failed = None, threading.Event(), 0
        self.url = ""
        self._lock = threading.Lock()

    # --- GraphQL ---

    def answer(self, query, variables):
        """The answer to one question."""
        name = _OPERATION.match(query)[1]
        act = getattr(self, "_" + _CAPITAL.sub("_", name).lower(), None)
        with self._lock:
            if act is None:
                self.unknown.append(name)
                return {"errors": [{"message": f"the stub does not know {name}"}]}
            return {"data": act(variables)}

    def _viewer(self, _):
        viewer = {"id": "1", "entity": ENTITY, "username": "me", "email": "me@example.org", "flags": "{}"}
        return {"viewer": viewer | {"teams": {"edges": []}}}

    def _run_resume_status(self, asked):
        run = self.runs.get((asked["project"], asked["name"]))
        if run is None:
            return {"model": None}
        run.resumed_at.append(len(run.history))
        bucket = {
            "id": asked["name"],
            "name": asked["name"],
            "displayName": run.fields.get("displayName"),
            "summaryMetrics": json.dumps(run.summary),
            "config": json.dumps(run.config),
            "tags": run.fields.get("tags") or [],
            "notes": None,
            "logLineCount": 0,
            "historyLineCount": len(run.history),
            "eventsLineCount": 0,
            "historyTail": json.dumps([json.dumps(row) for row in run.rows[-1:]]),
            "eventsTail": "[]",
            "wandbConfig": json.dumps({"t": 1}),
        }
        return {"model": _project(asked["project"]) | {"bucket": bucket}}

    def _upsert_bucket(self, asked):
        key = asked["project"], asked["name"]
        is_new = key not in self.runs
        run = self.runs.setdefault(key, ServedRun())
        run.fields |= {name: value for name, value in asked.items() if value is not None}
        if asked["config"]:
            run.config = json.loads(asked["config"])
        bucket = {"id": asked["name"], "name": asked["name"], "displayName": run.fields.get("displayName")}
        bucket |= {"description": None, "config": json.dumps(run.config), "sweepName": None}
        bucket |= {"project": _project(asked["project"]), "historyLineCount": len(run.history)}
        return {"upsertBucket": {"bucket": bucket, "inserted": is_new}}

    def _create_run_files(self, asked):
        place = f"{self.url}{_FILES}{asked['project']}/{asked['run']}/"
        files = [{"name": name, "uploadUrl": place + name} for name in asked["files"]]
        return {"createRunFiles": {"runID": asked["run"], "uploadHeaders": [], "files": files}}

    # --- artifacts: W&B keeps each table as one, too ---

    def _server_features_query(self, _):
        return {"serverInfo": {"features": []}}

    def _artifact_type(self, _):
        return {"project": {"artifact": None}}  # none of that name yet

    def _create_artifact(self, asked):
        artifact = {
            "id": asked["input"]["artifactCollectionName"],
            "state": "PENDING",
            "artifactSequence": {"latestArtifact": None},
        }
        return {"createArtifact": {"artifact": artifact}}

    def _create_artifact_manifest(self, asked):
        artifact = asked["artifactID"]
        file = {"id": artifact}
        if asked["includeUpload"]:
            file |= {"uploadUrl": f"{self.url}{_FILES}artifact/{artifact}/manifest", "uploadHeaders": []}
        return {"createArtifactManifest": {"artifactManifest": {"id": artifact, "file": file}}}

    def _create_artifact_files(self, asked):
        nodes = [
            {
                "id": file["name"],
                "name": file["name"],
                "displayName": file["name"],
                "storagePath": file["name"],
                "uploadUrl": f"{self.url}{_FILES}artifact/{file['artifactID']}/{file['name']}",
                "uploadHeaders": [],
                "uploadMultipartUrls": None,
                "artifact": {"id": file["artifactID"]},
            }
            for file in asked["input"]["artifactFiles"]
        ]
        return {"createArtifactFiles": {"files": {"edges": [{"node": node} for node in nodes]}}}

    def _commit_artifact(self, asked):
        self.artifacts.append(asked["artifactID"])
        return {"commitArtifact": {"artifact": {"id": asked["artifactID"], "digest": ""}}}

    # --- uploads ---

    def stream(self, project, run, content):
        """Take lines of history, and whatever else a run streams."""
        with self._lock:
            served = self.runs[project, run]
            for name, part in (content.get("files") or {}).items():
                lines = [json.loads(line) for line in part["content"] if line]
                if name == "wandb-history.jsonl":
                    served.history |= dict(enumerate(lines, part["offset"]))
                elif name == "wandb-summary.json":
                    served.summary = lines[-1]
            if content.get("complete"):
                served.exit_code = content.get("exitcode")

    def store(self, name, content):
        """Take a file of a run; those of artifacts are not kept."""
        project, run, name = unquote(name).split("/", 2)
        with self._lock:
            if (project, run) in self.runs:
                self.runs[project, run].files[name] = content


def _project(name):
    return {"id": name, "name": name, "entity": {"id": ENTITY, "name": ENTITY}}


@contextmanager
def serving():
    """A stub that listens on loopback for the time of a context."""
    stub = WandbServer()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_):
            pass

        def do_POST(self):
            body = self._body()
            if stub.failing.is_set():
                stub.failed += 1
                self._reply(500, {"error": "down for a while"})
                return
            if self.path == "/graphql":
                stub.key = _key(self.headers["Authorization"])
                asked = json.loads(body)
                self._reply(200, stub.answer(asked["query"], asked.get("variables") or {}))
            elif found := _STREAM.fullmatch(self.path):
                stub.stream(found[2], found[3], json.loads(body))
                self._reply(200, {})
            elif self.path.startswith("/sdk/otel/"):
                self._reply(404, {})  # the client's telemetry of itself
            else:
                stub.unknown.append(self.path)
                self._reply(404, {})

        def do_PUT(self):
            body = self._body()
            if stub.failing.is_set():
                stub.failed += 1
                self._reply(500, {})
                return
            stub.store(self.path.removeprefix(_FILES), body)
            self._reply(200, {})

        def _body(self):
            if self.headers.get("Transfer-Encoding") == "chunked":
                parts = []
                while size := int(self.rfile.readline(), 16):
                    parts.append(self.rfile.read(size))
                    self.rfile.readline()
                self.rfile.readline()
                body = b"".join(parts)
            else:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            return gzip.decompress(body) if self.headers.get("Content-Encoding") == "gzip" else body

        def _reply(self, status, content):
            data = json.dumps(content).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

    class Server(ThreadingHTTPServer):
        def handle_error(self, request, client_address):
            if not isinstance(sys.exception(), ConnectionError):  # a client that ends closes what it has open
                super().handle_error(request, client_address)

    server = Server(("127.0.0.1", 0), Handler)
    stub.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield stub
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def _key(header):
    """The password of basic authorisation."""
    return base64.b64decode(header.removeprefix("Basic ")).decode().partition(":")[2]
