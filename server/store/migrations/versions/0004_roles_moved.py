"""Roles have other numbers since there are auditors: signed records cannot be converted."""

import sqlalchemy as sa
from alembic import op

from parsec_fs.protocol.errors import InputError

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Refuse organizations from before: read with today's numbers, an owner were a manager."""
    if op.get_bind().execute(sa.text("SELECT count(*) FROM logs")).scalar_one():
        raise InputError(
            "the organizations in this database were founded with an earlier build, whose roles "
            "have other numbers. Nothing was changed. Serve them with that build and copy the data "
            "out of the mounts, or start with an empty folder: parsec-server init"
        )
