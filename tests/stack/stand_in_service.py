"""A service reduced to what the stack sees of one: it answers /health and /ready, and ends on SIGTERM."""

from __future__ import annotations

import json
import os
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._answer({"path": self.path, "port": os.environ["AINDUSDB_PORT"]})

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        self._answer({"path": self.path, "port": os.environ["AINDUSDB_PORT"], "body": body.decode()})

    def _answer(self, content: dict[str, str]) -> None:
        body = json.dumps(content).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


ThreadingHTTPServer((os.environ["AINDUSDB_HOST"], int(os.environ["AINDUSDB_PORT"])), Handler).serve_forever()
