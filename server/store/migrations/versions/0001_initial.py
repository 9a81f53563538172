"""The first schema: every table of `schema.py`."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "accepted",
        sa.Column("log", sa.LargeBinary(length=32), nullable=False),
        sa.Column(
            "record",
            sa.LargeBinary(length=32),
            nullable=False,
            comment="hash that names the signed bytes",
        ),
        sa.Column("idx", sa.BigInteger(), nullable=False, comment="leaf that holds it"),
        sa.PrimaryKeyConstraint("log", "record"),
        comment="Where a device's record went: identical bytes get the same answer (rule 15).",
        sqlite_with_rowid=False,
    )
    op.create_table(
        "blocks",
        sa.Column("log", sa.LargeBinary(length=32), nullable=False),
        sa.Column("block", sa.LargeBinary(length=16), nullable=False),
        sa.Column(
            "digest",
            sa.LargeBinary(length=32),
            nullable=False,
            comment="SHA-256 of the sealed bytes",
        ),
        sa.Column("size", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("log", "block"),
        comment="Blocks in the block store, entered after their contents are durable (rule 18).",
    )
    op.create_table(
        "boxes",
        sa.Column("log", sa.LargeBinary(length=32), nullable=False),
        sa.Column("key_index", sa.BigInteger(), nullable=False, comment="index of the rotation"),
        sa.Column("position", sa.Integer(), nullable=False, comment="in the tree under boxes_root"),
        sa.Column("user", sa.LargeBinary(length=16), nullable=False),
        sa.Column("generation", sa.BigInteger(), nullable=False, comment="of the user's box key"),
        sa.Column("box", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("log", "key_index", "position"),
        comment="Realm keys, sealed to the members of each rotation.",
        sqlite_with_rowid=False,
    )
    op.create_table(
        "chains",
        sa.Column("log", sa.LargeBinary(length=32), nullable=False),
        sa.Column("device", sa.LargeBinary(length=16), nullable=False),
        sa.Column(
            "sequence", sa.BigInteger(), nullable=False, comment="records of the device in the log"
        ),
        sa.Column(
            "last", sa.LargeBinary(length=32), nullable=False, comment="hash of the last one"
        ),
        sa.PrimaryKeyConstraint("log", "device"),
        comment="Device chains of the realm logs (rule 1).",
        sqlite_with_rowid=False,
    )
    op.create_table(
        "cuts",
        sa.Column("epoch", sa.BigInteger(), nullable=False),
        sa.Column("log", sa.LargeBinary(length=32), nullable=False),
        sa.Column("org", sa.LargeBinary(length=32), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("log_root", sa.LargeBinary(length=32), nullable=False),
        sa.Column("map_root", sa.LargeBinary(length=32), nullable=False),
        sa.Column("org_size", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("log", "epoch"),
        comment="State of every log at the cut of an epoch in which it had changed (rule 16).",
        sqlite_with_rowid=False,
    )
    op.create_index("cuts_by_epoch", "cuts", ["epoch"], unique=False)
    op.create_index("cuts_by_org", "cuts", ["org", "epoch"], unique=False)
    op.create_table(
        "epochs",
        sa.Column("epoch", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column(
            "map_root", sa.LargeBinary(length=32), nullable=False, comment="map of organizations"
        ),
        sa.Column("salt", sa.LargeBinary(length=32), nullable=False),
        sa.Column("time_ms", sa.BigInteger(), nullable=False, comment="time of the statement"),
        sa.Column("frontier", sa.LargeBinary(), nullable=False, comment="of E at size epoch + 1"),
        sa.Column(
            "statement",
            sa.LargeBinary(),
            nullable=False,
            comment="encoded SignedStatement, stored before its first sending, never signed again",
        ),
        sa.Column("final", sa.Integer(), nullable=False, comment="1: seen in a final chain block"),
        sa.PrimaryKeyConstraint("epoch"),
        comment="One row per published epoch.",
    )
    op.create_table(
        "leaves",
        sa.Column("log", sa.LargeBinary(length=32), nullable=False),
        sa.Column("idx", sa.BigInteger(), nullable=False, comment="position in the log, from 0"),
        sa.Column("kind", sa.Integer(), nullable=False, comment="certificate, commit, stamps"),
        sa.Column(
            "time_ms", sa.BigInteger(), nullable=False, comment="strictly increases within a log"
        ),
        sa.Column(
            "org_size", sa.BigInteger(), nullable=False, comment="org log size in force (rule 9)"
        ),
        sa.Column(
            "map_root",
            sa.LargeBinary(length=32),
            nullable=False,
            comment="state map before this leaf",
        ),
        sa.Column("body_hash", sa.LargeBinary(length=32), nullable=False),
        sa.Column(
            "body", sa.LargeBinary(), nullable=False, comment="exact signed bytes, or the stamps"
        ),
        sa.PrimaryKeyConstraint("log", "idx"),
        comment="The logs themselves. Append only.",
    )
    op.create_index(
        "leaves_certificates",
        "leaves",
        ["log", "idx"],
        unique=False,
        sqlite_where=sa.text("kind = 1"),
        postgresql_where=sa.text("kind = 1"),
    )
    op.create_table(
        "logs",
        sa.Column(
            "log",
            sa.LargeBinary(length=32),
            nullable=False,
            comment="id of the organization or realm",
        ),
        sa.Column(
            "org", sa.LargeBinary(length=32), nullable=False, comment="equal to log for an org log"
        ),
        sa.Column(
            "genesis",
            sa.LargeBinary(length=32),
            nullable=False,
            comment="genesis hash of the organization",
        ),
        sa.Column("size", sa.BigInteger(), nullable=False, comment="number of leaves"),
        sa.Column(
            "frontier",
            sa.LargeBinary(),
            nullable=False,
            comment="32-byte nodes, largest tree first",
        ),
        sa.Column(
            "log_root", sa.LargeBinary(length=32), nullable=False, comment="follows from frontier"
        ),
        sa.Column(
            "map_root",
            sa.LargeBinary(length=32),
            nullable=False,
            comment="state map after the last leaf",
        ),
        sa.Column("time_ms", sa.BigInteger(), nullable=False, comment="time of the last leaf"),
        sa.Column("org_size", sa.BigInteger(), nullable=False, comment="org size of the last leaf"),
        sa.Column(
            "changed_in",
            sa.BigInteger(),
            nullable=False,
            comment="due epoch when the last leaf came: the cut of that epoch takes this log in",
        ),
        sa.Column(
            "bytes", sa.BigInteger(), nullable=False, comment="payloads and blocks stored (rule 19)"
        ),
        sa.PrimaryKeyConstraint("log"),
        comment="One row per org log and realm log: its newest state.",
    )
    op.create_index("logs_by_change", "logs", ["changed_in"], unique=False)
    op.create_index("logs_by_org", "logs", ["org"], unique=False)
    op.create_table(
        "mail",
        sa.Column("address", sa.LargeBinary(length=32), nullable=False),
        sa.Column("slot", sa.Integer(), nullable=False),
        sa.Column(
            "data", sa.LargeBinary(), nullable=False, comment="sealed; the server cannot read it"
        ),
        sa.Column("expires_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("address", "slot"),
        comment="Messages of joining devices, kept for ten minutes.",
    )
    op.create_index("mail_by_expiry", "mail", ["expires_ms"], unique=False)
    op.create_table(
        "objects",
        sa.Column("log", sa.LargeBinary(length=32), nullable=False),
        sa.Column("object", sa.LargeBinary(length=16), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("write_index", sa.BigInteger(), nullable=False, comment="leaf of the last write"),
        sa.Column(
            "write",
            sa.LargeBinary(length=32),
            nullable=False,
            comment="record hash of the last write",
        ),
        sa.Column("operations", sa.BigInteger(), nullable=False),
        sa.Column(
            "history",
            sa.LargeBinary(length=32),
            nullable=False,
            comment="digest over all operations",
        ),
        sa.Column("flags", sa.Integer(), nullable=False, comment="of the last version; 1: deleted"),
        sa.Column(
            "commit_hash",
            sa.LargeBinary(length=32),
            nullable=False,
            comment="commit of the last write",
        ),
        sa.Column(
            "record",
            sa.LargeBinary(),
            nullable=False,
            comment="encoded ObjectRecord of the last write",
        ),
        sa.PrimaryKeyConstraint("log", "object"),
        comment="Newest map value of every object, valid after leaf write_index; tombstones stay.",
        sqlite_with_rowid=False,
    )
    op.create_table(
        "former_objects",
        sa.Column("log", sa.LargeBinary(length=32), nullable=False),
        sa.Column("object", sa.LargeBinary(length=16), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column(
            "write_index", sa.BigInteger(), nullable=False, comment="valid in sizes above this"
        ),
        sa.Column("write", sa.LargeBinary(length=32), nullable=False),
        sa.Column("operations", sa.BigInteger(), nullable=False),
        sa.Column("history", sa.LargeBinary(length=32), nullable=False),
        sa.Column("flags", sa.Integer(), nullable=False),
        sa.Column("commit_hash", sa.LargeBinary(length=32), nullable=False),
        sa.Column("record", sa.LargeBinary(), nullable=False),
        sa.Column(
            "until_leaf", sa.BigInteger(), nullable=False, comment="valid in sizes up to this"
        ),
        sa.PrimaryKeyConstraint("log", "until_leaf", "object"),
        comment="Rows of objects that a later write replaced: the map at any size (rule 34).",
        sqlite_with_rowid=False,
    )
    op.create_table(
        "subtrees",
        sa.Column("log", sa.LargeBinary(length=32), nullable=False),
        sa.Column(
            "height",
            sa.Integer(),
            nullable=False,
            comment="2^height leaves; 8 is the lowest stored",
        ),
        sa.Column("idx", sa.BigInteger(), nullable=False, comment="begins at leaf idx * 2^height"),
        sa.Column("root", sa.LargeBinary(length=32), nullable=False),
        sa.PrimaryKeyConstraint("log", "height", "idx"),
        comment="Roots of full subtrees of the logs: proofs and old frontiers without all leaves.",
        sqlite_with_rowid=False,
    )
    op.create_table(
        "org_roots",
        sa.Column("org", sa.LargeBinary(length=32), nullable=False),
        sa.Column("epoch", sa.BigInteger(), nullable=False),
        sa.Column(
            "root",
            sa.LargeBinary(length=32),
            nullable=False,
            comment="map of the organization's logs",
        ),
        sa.PrimaryKeyConstraint("org", "epoch"),
        comment="Root of an organization at every epoch in which it had changed.",
        sqlite_with_rowid=False,
    )
    op.create_index("org_roots_by_epoch", "org_roots", ["epoch"], unique=False)
    op.create_table(
        "payloads",
        sa.Column("log", sa.LargeBinary(length=32), nullable=False),
        sa.Column("hash", sa.LargeBinary(length=32), nullable=False),
        sa.Column("data", sa.LargeBinary(), nullable=False, comment="sealed manifest"),
        sa.PrimaryKeyConstraint("log", "hash"),
        comment="Sealed manifests that accepted commits name.",
    )
    op.create_table(
        "refusals",
        sa.Column("log", sa.LargeBinary(length=32), nullable=False),
        sa.Column(
            "record",
            sa.LargeBinary(length=32),
            nullable=False,
            comment="hash of the refused commit",
        ),
        sa.Column("device", sa.LargeBinary(length=16), nullable=False),
        sa.Column("sequence", sa.BigInteger(), nullable=False),
        sa.Column(
            "signed",
            sa.LargeBinary(),
            nullable=False,
            comment="encoded Signed(Refusal), as first sent",
        ),
        sa.PrimaryKeyConstraint("log", "record"),
        comment="Every no that was signed; repeated for ever (rule 15).",
    )
    op.create_index("refusals_by_device", "refusals", ["log", "device", "sequence"], unique=False)
    op.create_table(
        "roles",
        sa.Column("log", sa.LargeBinary(length=32), nullable=False),
        sa.Column("user", sa.LargeBinary(length=16), nullable=False),
        sa.Column("role", sa.Integer(), nullable=False, comment="0: removed"),
        sa.PrimaryKeyConstraint("log", "user"),
        comment="Roles by realm, to list a user's realms without loading every realm.",
        sqlite_with_rowid=False,
    )
    op.create_index("roles_by_user", "roles", ["user"], unique=False)
    op.create_table(
        "server",
        sa.Column("id", sa.Integer(), autoincrement=False, nullable=False, comment="always 1"),
        sa.Column(
            "server_log",
            sa.LargeBinary(length=32),
            nullable=False,
            comment="whose database this is",
        ),
        sa.Column(
            "chain_id", sa.LargeBinary(), nullable=False, comment="the chain that anchors it"
        ),
        sa.Column(
            "due_epoch",
            sa.BigInteger(),
            nullable=False,
            comment="next epoch that is not cut: heads promise it, cuts move it (rules 14, 16)",
        ),
        sa.Column(
            "lease_ms",
            sa.BigInteger(),
            nullable=False,
            comment="no head has a later time; after a start none has an earlier one (rule 14)",
        ),
        sa.PrimaryKeyConstraint("id"),
        comment="One row: what all logs of this server share.",
    )
