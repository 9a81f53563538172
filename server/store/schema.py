"""Tables of the metadata server: what is durable, column by column.

Data flow: decisions' effects -> `logs`, `records`, `epochs` modules -> these tables -> disk.

One definition serves SQLite and PostgreSQL. Ids and hashes are raw bytes, counts are 64 bit, times
are Unix milliseconds. Nothing that a log holds is ever updated or deleted; what is updated
(`logs`, `objects`, `chains`, `roles`, `server`) is a summary that follows from the leaves, and
`parsec-server show --verify` recomputes it from them.
"""

from sqlalchemy import (
    BigInteger,
    Column,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    PrimaryKeyConstraint,
    Table,
    text,
)

metadata = MetaData()

server = Table(
    "server",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False, comment="always 1"),
    Column("server_log", LargeBinary(32), nullable=False, comment="whose database this is"),
    Column("chain_id", LargeBinary, nullable=False, comment="the chain that anchors it"),
    Column(
        "due_epoch",
        BigInteger,
        nullable=False,
        comment="next epoch that is not cut: heads promise it, cuts move it (rules 14, 16)",
    ),
    Column(
        "lease_ms",
        BigInteger,
        nullable=False,
        comment="no head has a later time; after a start none has an earlier one (rule 14)",
    ),
    comment="One row: what all logs of this server share.",
)

logs = Table(
    "logs",
    metadata,
    Column("log", LargeBinary(32), primary_key=True, comment="id of the organization or realm"),
    Column("org", LargeBinary(32), nullable=False, comment="equal to log for an org log"),
    Column("genesis", LargeBinary(32), nullable=False, comment="genesis hash of the organization"),
    Column("size", BigInteger, nullable=False, comment="number of leaves"),
    Column("frontier", LargeBinary, nullable=False, comment="32-byte nodes, largest tree first"),
    Column("log_root", LargeBinary(32), nullable=False, comment="follows from frontier"),
    Column("map_root", LargeBinary(32), nullable=False, comment="state map after the last leaf"),
    Column("time_ms", BigInteger, nullable=False, comment="time of the last leaf"),
    Column("org_size", BigInteger, nullable=False, comment="org size of the last leaf"),
    Column(
        "changed_in",
        BigInteger,
        nullable=False,
        comment="due epoch when the last leaf came: the cut of that epoch takes this log in",
    ),
    Column("bytes", BigInteger, nullable=False, comment="payloads and blocks stored (rule 19)"),
    Index("logs_by_org", "org"),
    Index("logs_by_change", "changed_in"),
    comment="One row per org log and realm log: its newest state.",
)

leaves = Table(
    "leaves",
    metadata,
    Column("log", LargeBinary(32), nullable=False),
    Column("idx", BigInteger, nullable=False, comment="position in the log, from 0"),
    Column("kind", Integer, nullable=False, comment="certificate, commit, stamps"),
    Column("time_ms", BigInteger, nullable=False, comment="strictly increases within a log"),
    Column("org_size", BigInteger, nullable=False, comment="org log size in force (rule 9)"),
    Column("map_root", LargeBinary(32), nullable=False, comment="state map before this leaf"),
    Column("body_hash", LargeBinary(32), nullable=False),
    Column("body", LargeBinary, nullable=False, comment="exact signed bytes, or the stamps"),
    PrimaryKeyConstraint("log", "idx"),
    Index(
        "leaves_certificates",
        "log",
        "idx",
        sqlite_where=text("kind = 1"),
        postgresql_where=text("kind = 1"),
    ),
    comment="The logs themselves. Append only.",
)

accepted = Table(
    "accepted",
    metadata,
    Column("log", LargeBinary(32), nullable=False),
    Column("record", LargeBinary(32), nullable=False, comment="hash that names the signed bytes"),
    Column("idx", BigInteger, nullable=False, comment="leaf that holds it"),
    PrimaryKeyConstraint("log", "record"),
    comment="Where a device's record went: identical bytes get the same answer (rule 15).",
    sqlite_with_rowid=False,
)

refusals = Table(
    "refusals",
    metadata,
    Column("log", LargeBinary(32), nullable=False),
    Column("record", LargeBinary(32), nullable=False, comment="hash of the refused commit"),
    Column("device", LargeBinary(16), nullable=False),
    Column("sequence", BigInteger, nullable=False),
    Column("signed", LargeBinary, nullable=False, comment="encoded Signed(Refusal), as first sent"),
    PrimaryKeyConstraint("log", "record"),
    Index("refusals_by_device", "log", "device", "sequence"),
    comment="Every no that was signed; repeated for ever (rule 15).",
)

chains = Table(
    "chains",
    metadata,
    Column("log", LargeBinary(32), nullable=False),
    Column("device", LargeBinary(16), nullable=False),
    Column("sequence", BigInteger, nullable=False, comment="records of the device in the log"),
    Column("last", LargeBinary(32), nullable=False, comment="hash of the last one"),
    PrimaryKeyConstraint("log", "device"),
    comment="Device chains of the realm logs (rule 1).",
    sqlite_with_rowid=False,
)

objects = Table(
    "objects",
    metadata,
    Column("log", LargeBinary(32), nullable=False),
    Column("object", LargeBinary(16), nullable=False),
    Column("version", BigInteger, nullable=False),
    Column("write_index", BigInteger, nullable=False, comment="leaf of the last write"),
    Column("write", LargeBinary(32), nullable=False, comment="record hash of the last write"),
    Column("operations", BigInteger, nullable=False),
    Column("history", LargeBinary(32), nullable=False, comment="digest over all operations"),
    Column("flags", Integer, nullable=False, comment="of the last version; 1: deleted"),
    Column("commit_hash", LargeBinary(32), nullable=False, comment="commit of the last write"),
    Column("record", LargeBinary, nullable=False, comment="encoded ObjectRecord of the last write"),
    PrimaryKeyConstraint("log", "object"),
    comment="Newest map value of every object, valid after leaf write_index; tombstones stay.",
    sqlite_with_rowid=False,
)

former_objects = Table(
    "former_objects",
    metadata,
    Column("log", LargeBinary(32), nullable=False),
    Column("object", LargeBinary(16), nullable=False),
    Column("version", BigInteger, nullable=False),
    Column("write_index", BigInteger, nullable=False, comment="valid in sizes above this"),
    Column("write", LargeBinary(32), nullable=False),
    Column("operations", BigInteger, nullable=False),
    Column("history", LargeBinary(32), nullable=False),
    Column("flags", Integer, nullable=False),
    Column("commit_hash", LargeBinary(32), nullable=False),
    Column("record", LargeBinary, nullable=False),
    Column("until_leaf", BigInteger, nullable=False, comment="valid in sizes up to this"),
    PrimaryKeyConstraint("log", "until_leaf", "object"),
    comment="Rows of objects that a later write replaced: the map at any size (rule 34).",
    sqlite_with_rowid=False,
)

subtrees = Table(
    "subtrees",
    metadata,
    Column("log", LargeBinary(32), nullable=False),
    Column("height", Integer, nullable=False, comment="2^height leaves; 8 is the lowest stored"),
    Column("idx", BigInteger, nullable=False, comment="begins at leaf idx * 2^height"),
    Column("root", LargeBinary(32), nullable=False),
    PrimaryKeyConstraint("log", "height", "idx"),
    comment="Roots of full subtrees of the logs: proofs and old frontiers without all leaves.",
    sqlite_with_rowid=False,
)

roles = Table(
    "roles",
    metadata,
    Column("log", LargeBinary(32), nullable=False),
    Column("user", LargeBinary(16), nullable=False),
    Column("role", Integer, nullable=False, comment="0: removed"),
    PrimaryKeyConstraint("log", "user"),
    Index("roles_by_user", "user"),
    comment="Roles by realm, to list a user's realms without loading every realm.",
    sqlite_with_rowid=False,
)

payloads = Table(
    "payloads",
    metadata,
    Column("log", LargeBinary(32), nullable=False),
    Column("hash", LargeBinary(32), nullable=False),
    Column("data", LargeBinary, nullable=False, comment="sealed manifest"),
    PrimaryKeyConstraint("log", "hash"),
    comment="Sealed manifests that accepted commits name.",
)

boxes = Table(
    "boxes",
    metadata,
    Column("log", LargeBinary(32), nullable=False),
    Column("key_index", BigInteger, nullable=False, comment="index of the rotation"),
    Column("position", Integer, nullable=False, comment="in the tree under boxes_root"),
    Column("user", LargeBinary(16), nullable=False),
    Column("generation", BigInteger, nullable=False, comment="of the user's box key"),
    Column("box", LargeBinary, nullable=False),
    PrimaryKeyConstraint("log", "key_index", "position"),
    comment="Realm keys, sealed to the members of each rotation.",
    sqlite_with_rowid=False,
)

blocks = Table(
    "blocks",
    metadata,
    Column("log", LargeBinary(32), nullable=False),
    Column("block", LargeBinary(16), nullable=False),
    Column("digest", LargeBinary(32), nullable=False, comment="SHA-256 of the sealed bytes"),
    Column("size", Integer, nullable=False),
    PrimaryKeyConstraint("log", "block"),
    comment="Blocks in the block store, entered after their contents are durable (rule 18).",
)

cuts = Table(
    "cuts",
    metadata,
    Column("epoch", BigInteger, nullable=False),
    Column("log", LargeBinary(32), nullable=False),
    Column("org", LargeBinary(32), nullable=False),
    Column("size", BigInteger, nullable=False),
    Column("log_root", LargeBinary(32), nullable=False),
    Column("map_root", LargeBinary(32), nullable=False),
    Column("org_size", BigInteger, nullable=False),
    PrimaryKeyConstraint("log", "epoch"),
    Index("cuts_by_epoch", "epoch"),
    Index("cuts_by_org", "org", "epoch"),
    comment="State of every log at the cut of an epoch in which it had changed (rule 16).",
    sqlite_with_rowid=False,
)

epochs = Table(
    "epochs",
    metadata,
    Column("epoch", BigInteger, primary_key=True, autoincrement=False),
    Column("map_root", LargeBinary(32), nullable=False, comment="map of organizations"),
    Column("salt", LargeBinary(32), nullable=False),
    Column("time_ms", BigInteger, nullable=False, comment="time of the statement"),
    Column("frontier", LargeBinary, nullable=False, comment="of E at size epoch + 1"),
    Column(
        "statement",
        LargeBinary,
        nullable=False,
        comment="encoded SignedStatement, stored before its first sending, never signed again",
    ),
    Column("final", Integer, nullable=False, comment="1: seen in a final chain block"),
    comment="One row per published epoch.",
)

org_roots = Table(
    "org_roots",
    metadata,
    Column("org", LargeBinary(32), nullable=False),
    Column("epoch", BigInteger, nullable=False),
    Column("root", LargeBinary(32), nullable=False, comment="map of the organization's logs"),
    PrimaryKeyConstraint("org", "epoch"),
    Index("org_roots_by_epoch", "epoch"),
    comment="Root of an organization at every epoch in which it had changed.",
    sqlite_with_rowid=False,
)

founding_tokens = Table(
    "founding_tokens",
    metadata,
    Column("token_hash", LargeBinary(32), primary_key=True, comment="the token is never stored"),
    Column("expires_ms", BigInteger, nullable=False, comment="founds nothing from this time on"),
    Column(
        "org",
        LargeBinary(32),
        nullable=True,
        comment="organization it was spent on; null: unused. Only that founding repeats",
    ),
    Index("founding_tokens_by_expiry", "expires_ms"),
    comment="One-time permissions of the operator to found an organization.",
)

mail = Table(
    "mail",
    metadata,
    Column("address", LargeBinary(32), nullable=False),
    Column("slot", Integer, nullable=False),
    Column("data", LargeBinary, nullable=False, comment="sealed; the server cannot read it"),
    Column("expires_ms", BigInteger, nullable=False),
    PrimaryKeyConstraint("address", "slot"),
    Index("mail_by_expiry", "expires_ms"),
    comment="Messages of joining devices, kept for ten minutes.",
)

recoveries = Table(
    "recoveries",
    metadata,
    Column("device", LargeBinary(16), primary_key=True, comment="id of the paper device"),
    Column("org", LargeBinary(32), nullable=False, comment="organization of who put it"),
    Column("author", LargeBinary(16), nullable=False, comment="device that put it"),
    Column("data", LargeBinary, nullable=False, comment="public; the paper pins it by digest"),
    Index("recoveries_by_author", "org", "author"),
    comment="What devices on paper begin with; kept for good.",
)
