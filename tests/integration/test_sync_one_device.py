"""One device logs what it changed; another replica of the same log shows it."""

from pathlib import Path

from tests.support.laptops import found, laptop, second_device
from tests.support.server import in_process


async def test_a_file_reaches_another_device(tmp_path: Path) -> None:
    async with in_process(tmp_path / "server") as server:
        alice = await found(server)
        async with laptop(server, alice, tmp_path / "one") as one:
            realm = await one.create_realm()
            await one.open(realm)
            one.make("hello.txt", b"hello")
            one.mkdir("folder")
            one.make("folder/big.bin", bytes(range(256)) * 8192)
            await one.push()
            other = await second_device(one)
            async with laptop(server, other, tmp_path / "two") as two:
                await two.open(realm)
                assert await two.walk() == await one.walk()
                assert (await two.walk())["hello.txt"] == b"hello"
