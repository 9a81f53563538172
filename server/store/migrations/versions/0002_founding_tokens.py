"""One-time tokens for founding organizations."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "founding_tokens",
        sa.Column(
            "token_hash",
            sa.LargeBinary(length=32),
            nullable=False,
            comment="the token is never stored",
        ),
        sa.Column(
            "expires_ms",
            sa.BigInteger(),
            nullable=False,
            comment="founds nothing from this time on",
        ),
        sa.Column(
            "org",
            sa.LargeBinary(length=32),
            nullable=True,
            comment="organization it was spent on; null: unused. Only that founding repeats",
        ),
        sa.PrimaryKeyConstraint("token_hash"),
        comment="One-time permissions of the operator to found an organization.",
    )
    op.create_index("founding_tokens_by_expiry", "founding_tokens", ["expires_ms"], unique=False)
