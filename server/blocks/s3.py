"""Blocks in S3-compatible storage: the server writes, devices fetch by presigned URLs.

Data flow: http.block -> `S3Store.put` -> conditional PUT; `get` -> URL valid for minutes -> device.

Rule 18: blocks are written with `If-None-Match: *`, so storage itself refuses to replace one. The
server writes them, because only so it can answer for digest, quota and durability before the commit
that names them; reads, the bulk, go straight to storage. Credentials come from a file and never
show.
"""

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import anyio
import anyio.to_thread
import urllib3
from minio import Minio
from minio.error import MinioException

from parsec_fs.protocol.errors import InputError
from parsec_fs.protocol.ids import BlockId, RealmId
from server.blocks.base import Redirect, Stored, block_name

log = logging.getLogger(__name__)

THREADS: Final = 8
TIMEOUT_S: Final = 30.0
REDIRECT_LIFETIME: Final = timedelta(minutes=5)
SCHEMES: Final = {"s3+http": False, "s3+https": True}
_EXISTS: Final = (409, 412)


class StorageError(Exception):
    """Storage did not do what it was asked to; the device tries again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class S3Address:
    """Where the bucket is, and who we are there."""

    endpoint: str
    bucket: str
    secure: bool
    access_key: str
    secret_key: str = field(repr=False)


def is_s3(text: str) -> bool:
    """Does this name S3 storage, rather than a folder?"""
    return urlsplit(text).scheme in SCHEMES


def parse_address(text: str, credentials: Path | None) -> S3Address:
    """`s3+https://host:port/bucket` and a JSON file with accessKey and secretKey.

    Raises InputError."""
    parts = urlsplit(text)
    bucket = parts.path.strip("/")
    if parts.scheme not in SCHEMES or not parts.netloc or not bucket or "/" in bucket:
        raise InputError(f"{text}: expected s3+https://host:port/bucket")
    if credentials is None:
        raise InputError("S3 storage needs --s3-credentials")
    try:
        document = json.loads(credentials.read_text())
        return S3Address(
            endpoint=parts.netloc,
            bucket=bucket,
            secure=SCHEMES[parts.scheme],
            access_key=str(document["accessKey"]),
            secret_key=str(document["secretKey"]),
        )
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise InputError(f"{credentials}: not a JSON file with accessKey, secretKey") from error


class S3Store:
    """One bucket."""

    def __init__(self, address: S3Address) -> None:
        # No retries: they would put presigned URLs into the log, and devices try again anyway.
        self._pool = urllib3.PoolManager(
            maxsize=THREADS, timeout=TIMEOUT_S, retries=urllib3.Retry(0)
        )
        self._bucket = address.bucket
        self._client = Minio(
            endpoint=address.endpoint,
            access_key=address.access_key,
            secret_key=address.secret_key,
            secure=address.secure,
            region="us-east-1",  # named, so that presigning asks nobody
            http_client=self._pool,
        )
        self._limiter: anyio.CapacityLimiter | None = None

    def set_up(self) -> None:
        """Make the bucket, if it is not there. Raises InputError."""
        try:
            if not self._client.bucket_exists(bucket_name=self._bucket):
                self._client.make_bucket(bucket_name=self._bucket)
        except (MinioException, urllib3.exceptions.HTTPError, ValueError) as error:
            raise InputError(f"S3 storage is not usable: {type(error).__name__}") from error

    async def put(self, realm: RealmId, blocks: Mapping[BlockId, bytes]) -> dict[BlockId, Stored]:
        """See `BlockStore.put`. What a failure finds stored is stored: it is sent once more."""
        found = dict[BlockId, Stored]()
        waiting = list(blocks)

        async def work() -> None:
            while waiting:
                block = waiting.pop()
                name = block_name(realm, block)
                try:
                    found[block] = await anyio.to_thread.run_sync(
                        self._put, name, blocks[block], limiter=self._threads()
                    )
                except StorageError as error:  # of this block: it costs no other
                    log.error("block %s: %s", block.hex(), error)
                    found[block] = Stored.FAILED

        async with anyio.create_task_group() as tasks:
            for _ in range(min(THREADS, len(blocks))):
                tasks.start_soon(work)
        return found

    async def get(self, realm: RealmId, block: BlockId) -> bytes | Redirect | None:
        """See `BlockStore.get`. Nobody is asked whether the block is there."""
        url = self._client.presigned_get_object(
            bucket_name=self._bucket,
            object_name=block_name(realm, block),
            expires=REDIRECT_LIFETIME,
        )
        return Redirect(url=url)

    def _threads(self) -> anyio.CapacityLimiter:
        if self._limiter is None:
            self._limiter = anyio.CapacityLimiter(THREADS)
        return self._limiter

    def _put(self, name: str, data: bytes) -> Stored:
        # minio's own put cannot be made conditional; a presigned URL can.
        url = self._client.presigned_put_object(
            bucket_name=self._bucket, object_name=name, expires=REDIRECT_LIFETIME
        )
        response = self._pool.request("PUT", url, body=data, headers={"If-None-Match": "*"})
        if response.status in _EXISTS:
            return Stored.DURABLE if self._read(name) == data else Stored.TAKEN
        if response.status >= 300:
            raise StorageError(f"storage answered with status {response.status}")
        return Stored.DURABLE

    def _read(self, name: str) -> bytes:
        try:
            with self._client.get_object(bucket_name=self._bucket, object_name=name) as response:
                return bytes(response.read())
        except MinioException as error:
            raise StorageError("storage does not show what it refused to replace") from error
