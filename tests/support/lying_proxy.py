"""A lying chain node: a door to an honest one that changes one thing in its answers.

Data flow: device -> `LyingProxy` (a thread) -> honest node -> answer, spoiled as told -> device.

Whatever it makes of the answers, nobody has signed it: devices must notice, and nobody is accused.
`lying_node` is the one that forges for a server which signed two statements.
"""

import contextlib
import json
import threading
import urllib.request
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final

Lie = Callable[[str, Any], None]
"""Changes the result of a method in place."""


def honest(method: str, result: Any) -> None:
    """Changes nothing."""


def forge_value(method: str, result: Any) -> None:
    """Another statement than the one that is proven."""
    if method == "abci_query":
        result["response"]["value"] = "AAAA"


def forge_proof(method: str, result: Any) -> None:
    """The two halves of the proof, exchanged."""
    if method == "abci_query":
        operations = result["response"]["proofOps"]["ops"]
        first, second = operations[0]["data"], operations[1]["data"]
        operations[0]["data"], operations[1]["data"] = second, first


def forge_header(method: str, result: Any) -> None:
    """A header over another state."""
    if method == "commit":
        result["signed_header"]["header"]["app_hash"] = "00" * 32


def forge_commit(method: str, result: Any) -> None:
    """Signatures of the wrong validators."""
    if method == "commit":
        votes = result["signed_header"]["commit"]["signatures"]
        first, second = votes[0]["signature"], votes[1]["signature"]
        votes[0]["signature"], votes[1]["signature"] = second, first
        votes[2]["timestamp"] = "2020-01-01T00:00:00Z"


LIES: Final = (forge_value, forge_proof, forge_header, forge_commit)


class LyingProxy(ThreadingHTTPServer):
    """`lie` may be changed at any time; `told` counts the answers that it changed."""

    daemon_threads = True

    def __init__(self, node_url: str) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.node_url = node_url
        self.lie: Lie = honest
        self.told = 0

    @property
    def url(self) -> str:
        """Where devices ask it."""
        return f"http://127.0.0.1:{self.server_port}"

    def answer(self, question: bytes) -> bytes:
        """The honest answer, changed."""
        request = urllib.request.Request(
            self.node_url, data=question, headers={"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=10) as response:
            raw: bytes = response.read()
        document = json.loads(raw)
        if "result" not in document:
            return raw
        before = json.dumps(document)
        with contextlib.suppress(LookupError, TypeError):  # not an answer that it can change
            self.lie(json.loads(question)["method"], document["result"])
        after = json.dumps(document)
        self.told += before != after
        return after.encode()


class _Handler(BaseHTTPRequestHandler):
    server: LyingProxy

    def do_POST(self) -> None:
        question = self.rfile.read(int(self.headers["Content-Length"]))
        try:
            answer = self.server.answer(question)
        except OSError:
            self.send_error(502)
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, format: str, *arguments: Any) -> None:
        """Nothing: what is asked is not of interest."""


@contextlib.contextmanager
def lying_proxy(node_url: str) -> Iterator[LyingProxy]:
    """A running one, honest at first."""
    with LyingProxy(node_url) as proxy:
        thread = threading.Thread(target=proxy.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield proxy
        finally:
            proxy.shutdown()
            thread.join()
