"""A scripted ResourceManager for faults that a real one cannot be made to show."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest


class ScriptedResourceManager:
    """``answers`` maps ``"GET /path"`` (query left out) to a list of ``(status, headers, body)``; the last repeats."""

    def __init__(self, answers):
        self.answers = {key: list(value) for key, value in answers.items()}
        self.requests = []
        scripted = self

        class Handler(BaseHTTPRequestHandler):
            def answer(self):
                length = int(self.headers.get("Content-Length") or 0)
                body = self.rfile.read(length)
                key = f"{self.command} {self.path.partition('?')[0]}"
                scripted.requests.append((key, self.path.partition("?")[2], body))
                steps = scripted.answers.get(key) or [(404, {}, {"RemoteException": {"message": f"no {key}"}})]
                status, headers, content = steps.pop(0) if len(steps) > 1 else steps[0]
                data = content.encode() if isinstance(content, str) else json.dumps(content).encode()
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            do_GET = do_PUT = answer

            def log_message(self, *_):
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(5)


@pytest.fixture(scope="session")
def scripted_rm():
    return ScriptedResourceManager
