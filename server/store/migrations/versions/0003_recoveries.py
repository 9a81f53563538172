"""What devices on paper begin with."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "recoveries",
        sa.Column(
            "device",
            sa.LargeBinary(length=16),
            nullable=False,
            comment="id of the paper device",
        ),
        sa.Column(
            "org",
            sa.LargeBinary(length=32),
            nullable=False,
            comment="organization of who put it",
        ),
        sa.Column(
            "author",
            sa.LargeBinary(length=16),
            nullable=False,
            comment="device that put it",
        ),
        sa.Column(
            "data",
            sa.LargeBinary(),
            nullable=False,
            comment="public; the paper pins it by digest",
        ),
        sa.PrimaryKeyConstraint("device"),
        comment="What devices on paper begin with; kept for good.",
    )
    op.create_index("recoveries_by_author", "recoveries", ["org", "author"], unique=False)
