"""Roles count since then only if the org log registers them: earlier logs break today's rules."""

import sqlalchemy as sa
from alembic import op

from parsec_fs.protocol.errors import InputError

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Refuse organizations from before: every device would convict the server of their roles."""
    if op.get_bind().execute(sa.text("SELECT count(*) FROM logs")).scalar_one():
        raise InputError(
            "the organizations in this database were founded with an earlier build, whose roles "
            "are not registered in the organization. Nothing was changed. Serve them with that "
            "build and copy the data out of the mounts, or start with an empty folder: "
            "parsec-server init"
        )
