"""parsec-fs user profile.

Data flow: name or address -> verified org log -> certificate -> what the person may do from now on.
"""

from enum import StrEnum
from typing import Annotated

import trio
import typer

from parsec_fs.cli.settings import settings_of
from parsec_fs.connection import connect
from parsec_fs.last_owners import owned_alone
from parsec_fs.people import PROFILES, find_user, name_and_address, profile_name
from parsec_fs.profiles import set_profile


class Profile(StrEnum):
    """The words of `PROFILES`."""

    ADMIN = "admin"
    STANDARD = "standard"
    OUTSIDER = "outsider"


def profile_command(
    context: typer.Context,
    user: Annotated[str, typer.Argument(help="E-mail address or name of the person.")],
    profile: Annotated[Profile, typer.Option(help="What they may do in the organization.")],
) -> None:
    """Give a person another profile; administrators only, and nobody takes their own away."""
    settings = settings_of(context)
    identity = settings.device_file().load()

    async def run() -> tuple[str, str, bool, tuple[str, ...]]:
        async with connect(settings.home, identity) as connection:
            found = find_user(await connection.org.pull(), user)
            changed = await set_profile(connection, found, PROFILES[profile.value])
            owned = owned_alone(settings.home, connection, found.user)
            name = name_and_address(found)
            return name, profile_name(found.profile), changed, owned

    name, before, changed, owned = trio.run(run)
    lines = [
        f"{name} is now {profile}, was {before}." if changed else f"{name} is already {profile}."
    ]
    if changed and profile is Profile.OUTSIDER and owned:
        lines.append(f"They stay the only owner of: {', '.join(owned)}. Make somebody else owner.")
    document = {"user": name, "profile": str(profile), "before": before, "changed": changed}
    settings.output.result(document, lines)
