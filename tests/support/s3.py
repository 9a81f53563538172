"""A real S3 server of the tests' own, on loopback.

Data flow: fixture -> seaweedfs -> endpoint and credentials -> stopped and gone.
"""

import json
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from abci_app.devnet import free_ports
from server.blocks.s3 import S3Address, parse_address
from tests.support.requirements import require_s3_server

ACCESS_KEY, SECRET_KEY = "tester", "tester-secret"
PORTS = ("master.port", "volume.port", "filer.port", "s3.port")


@contextmanager
def running_s3(root: Path) -> Iterator[S3Address]:
    """Address of an empty storage."""
    program = require_s3_server()
    identity = {
        "name": "tester",
        "credentials": [{"accessKey": ACCESS_KEY, "secretKey": SECRET_KEY}],
        "actions": ["Admin", "Read", "Write", "List"],
    }
    (root / "s3.json").write_text(json.dumps({"identities": [identity]}))
    (root / "keys.json").write_text(json.dumps({"accessKey": ACCESS_KEY, "secretKey": SECRET_KEY}))
    (root / "data").mkdir()
    ports = free_ports(2 * len(PORTS))
    numbers = [
        option
        for name, port, grpc in zip(PORTS, ports[::2], ports[1::2], strict=True)
        for option in (f"-{name}={port}", f"-{name}.grpc={grpc}")
    ]
    command: list[str | Path] = [
        program,
        "server",
        f"-dir={root / 'data'}",
        "-ip=127.0.0.1",
        "-filer",
        "-s3",
    ]
    options = [f"-s3.config={root / 's3.json'}", "-volume.max=3", "-master.telemetry=false"]
    with (root / "log").open("wb") as output:
        process = subprocess.Popen([*command, *options, *numbers], stdout=output, stderr=output)
    try:
        _wait(f"http://127.0.0.1:{ports[6]}/", root)
        yield parse_address(f"s3+http://127.0.0.1:{ports[6]}/blocks", root / "keys.json")
    finally:
        process.kill()
        process.wait(30)


def _wait(url: str, root: Path) -> None:
    """Any answer will do; it takes about eight seconds."""
    deadline = time.monotonic() + 60
    while True:
        try:
            urllib.request.urlopen(url, timeout=2).close()
            return
        except urllib.error.HTTPError:
            return
        except OSError:
            if time.monotonic() > deadline:
                raise AssertionError((root / "log").read_text()[-2000:]) from None
            time.sleep(0.1)
