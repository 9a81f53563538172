"""An honest operator restores a backup: the device waits, and accuses nobody (rule 32).

Data flow: honest server -> backup -> more epochs -> backup restored -> refuses -> newest restored.

| what happens                         | state    | errno | exit | evidence | epochs             |
|--------------------------------------|----------|-------|------|----------|--------------------|
| the server is down, an old copy is   | lagging  | 0     | 20   | none     | 10 (20 s, rule 24) |
| restored and refuses to start        |          |       |      |          |                    |
| the newest copy is restored          | verified | 0     | 0    | none     | 2                  |

The restored server asks the chain first, finds statements of its own that it does not know, and
ends with exit code 2 before it has answered anybody.
"""

import shutil

from tests.support.product import Product, product
from tests.support.requirements import require_fuse

DATABASE = ("server.sqlite", "server.sqlite-wal", "server.sqlite-shm")


def copy_database(server: Product, name: str) -> None:
    """Of a server that is not running."""
    (server.root / name).mkdir()
    for file in DATABASE:
        if (server.server_home / file).exists():
            shutil.copy(server.server_home / file, server.root / name)


def restore_database(server: Product, name: str) -> None:
    """What a backup program does."""
    for file in DATABASE:
        (server.server_home / file).unlink(missing_ok=True)
    for copy in (server.root / name).iterdir():
        shutil.copy(copy, server.server_home)


def test_a_restored_backup_is_never_convicted() -> None:
    require_fuse()
    with product() as server:
        alice = server.first_device("alice").mount()
        (alice.path / "before").write_bytes(b"1")
        alice.wait("audited")
        server.programs.end("server")
        copy_database(server, "backup")
        server.start_server()
        (alice.path / "after").write_bytes(b"2")
        alice.wait("audited")
        server.programs.kill("server")
        copy_database(server, "newest")

        restore_database(server, "backup")
        server.start_server(wait=False)
        assert server.programs.wait("server") == 2
        assert "older copy" in server.programs.log("server").read_text()
        (alice.path / "meanwhile").write_bytes(b"3")
        alice.wait_word("lagging", timeout_s=40)
        assert alice.verify() == 20
        assert alice.evidence_files() == []
        assert [alice.read(name) for name in ("before", "after", "meanwhile")] == [b"1", b"2", b"3"]

        restore_database(server, "newest")
        server.start_server()
        alice.wait("audited", timeout_s=40)
        alice.in_peace()
