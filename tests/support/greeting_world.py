"""An organization whose founder invites people and devices, at the real server in this process.

Data flow: test -> `World` -> both sides of greetings -> server.
"""

import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import trio

from parsec_fs.admission import ADMISSION_CHECKS, AdmissionChecks
from parsec_fs.config import Home
from parsec_fs.connection import Connection, connect
from parsec_fs.device_file import DeviceFile
from parsec_fs.device_joining import (
    accept_device,
    greet_device,
    new_device_greeting,
    new_device_joining,
)
from parsec_fs.greeting import DEVICE, Link, format_link, parse_link
from parsec_fs.identity import Identity
from parsec_fs.pending import Greeting, GreetingFiles, JoiningFile
from parsec_fs.person_joining import accept_person, greet_person, new_greeting, new_joining
from parsec_fs.protocol.certificates import STANDARD
from parsec_fs.remote.transport import HttpClients
from tests.support.greetings import Voice, on_the_phone
from tests.support.laptops import found
from tests.support.server import InProcess, in_process


@dataclass(kw_only=True)
class World:
    """A server, its organization, and the founder's open connection."""

    server: InProcess
    folder: Path
    alice: Connection
    files: GreetingFiles

    async def invite(
        self, name: str = "bob", profile: int = STANDARD, *, email: str = ""
    ) -> Greeting:
        """A new link."""
        org = await self.alice.org.pull()
        greeting = new_greeting(
            self.alice,
            org,
            name=name,
            email=email or f"{name}@acme.example",
            profile=profile,
            valid_s=3600,
        )
        self.files.save(greeting)
        return greeting

    async def invite_device(self) -> Greeting:
        """A new link for a device of alice's."""
        greeting = new_device_greeting(self.alice, await self.alice.org.pull())
        self.files.save(greeting)
        return greeting

    async def invite_kind(self, kind: int) -> Greeting:
        """A new link of this kind."""
        return await (self.invite_device() if kind == DEVICE else self.invite())

    async def greet(
        self,
        greeting: Greeting,
        person: Voice,
        *,
        checks: AdmissionChecks = ADMISSION_CHECKS,
        clients: HttpClients | None = None,
    ) -> None:
        """Alice's side."""
        http = clients or self.server.http
        if greeting.kind == DEVICE:
            await greet_device(
                self.alice,
                greeting,
                states=(),
                files=self.files,
                person=person,
                clients=http,
                checks=checks,
            )
            return
        await greet_person(
            self.alice, greeting, files=self.files, person=person, clients=http, checks=checks
        )

    def home(self, name: str = "bob") -> Home:
        """Where the person's device is."""
        return Home(root=self.folder / name)

    @asynccontextmanager
    async def joined(self, name: str = "bob", profile: int = STANDARD) -> AsyncIterator[Connection]:
        """Somebody who was invited and has joined, connected."""
        identity = await self.both(await self.invite(name, profile), name)
        async with connect(self.home(name), identity, clients=self.server.http) as connection:
            await connection.org.pull()
            yield connection

    async def accept(self, link: Link, person: Voice, name: str = "bob") -> Identity:
        """The other side; goes on where it stopped."""
        file, http = JoiningFile(self.home(name).device), self.server.http
        new = new_device_joining if link.kind == DEVICE else new_joining
        file.save(file.load() or new(link, "tablet"))
        accept = accept_device if link.kind == DEVICE else accept_person
        return await accept(
            self.home(name), file=file, person=person, invited=lambda terms: None, clients=http
        )

    async def both(self, greeting: Greeting, name: str = "bob") -> Identity:
        """At once, to the end."""
        alice, bob = on_the_phone()
        joined: list[Identity] = []

        async def join() -> None:
            link = parse_link(format_link(greeting.link()), kind=greeting.kind)
            joined.append(await self.accept(link, bob, name))

        with trio.fail_after(60):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(join)
                nursery.start_soon(self.greet, greeting, alice)
        return joined[0]


@asynccontextmanager
async def greeting_world(
    folder: Path, watched: Callable[[InProcess], InProcess] = lambda server: server
) -> AsyncIterator[World]:
    """In `folder`. `watched`: the server as the clients reach it."""
    async with in_process(folder / "server") as running:
        server = watched(running)
        identity = await found(server)
        home = Home(root=folder / "alice")
        DeviceFile(home.device).create(identity, random=os.urandom)
        async with connect(home, identity, clients=server.http) as alice:
            files = GreetingFiles(home.invitations, identity.secrets.local_key)
            yield World(server=server, folder=folder, alice=alice, files=files)
