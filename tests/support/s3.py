"""A real S3 server of the tests' own, on loopback.

Data flow: fixture -> seaweedfs -> endpoint and credentials -> stopped and gone.
"""

import json
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import urllib3
from minio import Minio
from minio.error import MinioException

from abci_app.devnet import free_ports
from server.blocks.s3 import S3Address, parse_address
from tests.support.requirements import require_s3_server

ACCESS_KEY, SECRET_KEY = "tester", "tester-secret"
PORTS = ("master.port", "volume.port", "filer.port", "s3.port")
START_S = 60


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
        address = parse_address(f"s3+http://127.0.0.1:{ports[6]}/blocks", root / "keys.json")
        _wait(address, root)
        yield address
    finally:
        process.kill()
        process.wait(30)


def _wait(address: S3Address, root: Path) -> None:
    """Until it lists its buckets: before, it answers with errors. It takes about eight seconds."""
    deadline = time.monotonic() + START_S
    with urllib3.PoolManager(timeout=2, retries=urllib3.Retry(0)) as pool:
        client = Minio(
            endpoint=address.endpoint,
            access_key=address.access_key,
            secret_key=address.secret_key,
            secure=address.secure,
            region="us-east-1",
            http_client=pool,
        )
        while True:
            try:
                client.list_buckets()
                return
            except (MinioException, urllib3.exceptions.HTTPError, ValueError) as error:
                if time.monotonic() > deadline:
                    log = (root / "log").read_text(errors="replace")
                    raise AssertionError(f"{error!r}\n{log[-2000:]}") from None
                time.sleep(0.1)
