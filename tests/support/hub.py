"""A small stand-in of the Hugging Face hub: what an upload of a data set asks of its HTTP API.

It keeps repositories in memory. Files of more than `REGULAR` bytes come by LFS, as they do there.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any
from urllib.parse import urlsplit

TOKEN = "hf_secret"
REGULAR = 1000
COMMIT = "0" * 40


@dataclass
class Hub:
    """What the hub has.

    Attributes:
        url: where it answers.
        private: of each data set, whether it is.
        files: of each data set, by name.
        answers: the status that a path is answered with whatever is asked, by its beginning.
        asked: method and path of all requests.
    """

    url: str = ""
    private: dict[str, bool] = field(default_factory=dict)
    files: dict[str, dict[str, bytes]] = field(default_factory=dict)
    answers: dict[str, int] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    _stored: dict[str, bytes] = field(default_factory=dict)

    def answer(self, method: str, path: str, token: str, body: bytes) -> tuple[int, Any]:
        """Return the status and content of an answer."""
        self.asked.append(f"{method} {path}")
        for begin, status in self.answers.items():
            if path.startswith(begin):
                return status, {"error": f"refused with {status}"}
        if path.startswith("/stored/"):
            self._stored[path.removeprefix("/stored/")] = body
            return 200, {}
        if token != TOKEN:
            return 401, {"error": "Invalid credentials"}
        if path == "/api/repos/create":
            return self._create(json.loads(body))
        if path == "/api/validate-yaml":
            return 200, {"errors": [], "warnings": []}
        if path.endswith("/info/lfs/objects/batch"):
            return 200, {"transfer": "basic", "objects": self._places(json.loads(body))}
        name, _, action = path.removeprefix("/api/datasets/").partition("/")
        name = f"{name}/{action.partition('/')[0]}"
        action = action.partition("/")[2]
        if name not in self.files:
            return 404, {"error": "Repository not found"}
        if action.startswith("preupload/"):
            return 200, {"files": [self._mode(one) for one in json.loads(body)["files"]]}
        if action.startswith("commit/"):
            return self._commit(name, [json.loads(line) for line in body.splitlines()])
        if action.startswith("tree/"):
            return 200, [
                {"type": "file", "path": path, "size": len(text), "oid": COMMIT}
                for path, text in self.files[name].items()
            ]
        siblings = [{"rfilename": path} for path in self.files[name]]
        return 200, {"id": name, "private": self.private[name], "siblings": siblings}

    def _create(self, asked: dict[str, Any]) -> tuple[int, Any]:
        name = f"{asked['organization']}/{asked['name']}"
        there = {"url": f"{self.url}/datasets/{name}", "name": name, "id": name}
        if name in self.files:
            return 409, {"error": "You already created this dataset repo", **there}
        self.files[name], self.private[name] = {}, asked["visibility"] == "private"
        return 200, there

    def _places(self, asked: dict[str, Any]) -> list[dict[str, Any]]:
        return [
            {**one, "actions": {"upload": {"href": f"{self.url}/stored/{one['oid']}"}}}
            for one in asked["objects"]
        ]

    @staticmethod
    def _mode(file: dict[str, Any]) -> dict[str, Any]:
        mode = "lfs" if file["size"] > REGULAR else "regular"
        return {"path": file["path"], "uploadMode": mode, "shouldIgnore": False}

    def _commit(self, name: str, lines: list[dict[str, Any]]) -> tuple[int, Any]:
        for line in lines:
            value = line["value"]
            if line["key"] == "file":
                self.files[name][value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                stored = self._stored[value["oid"]]
                assert hashlib.sha256(stored).hexdigest() == value["oid"]
                self.files[name][value["path"]] = stored
            elif line["key"] == "deletedFile":
                del self.files[name][value["path"]]
        url = f"{self.url}/datasets/{name}/commit/{COMMIT}"
        return 200, {"commitUrl": url, "commitOid": COMMIT, "success": True}


@contextmanager
def running_hub() -> Iterator[Hub]:
    """Yield a hub that answers on a port of this host."""
    hub = Hub()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _do(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            token = self.headers.get("Authorization", "").removeprefix("Bearer ")
            status, content = hub.answer(self.command, urlsplit(self.path).path, token, body)
            text = json.dumps(content).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(text)

        do_GET = do_POST = do_PUT = do_HEAD = _do

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    class Server(ThreadingHTTPServer):
        request_queue_size = 64

    server = Server(("127.0.0.1", 0), Handler)
    hub.url = f"http://127.0.0.1:{server.server_port}"
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
