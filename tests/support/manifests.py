"""Parts of manifests of which tests need just any."""

from parsec_fs.protocol.manifests import Attributes

PLAIN_FILE = Attributes(
    mode=0o100644,
    uid=0,
    gid=0,
    rdev=0,
    atime_ns=0,
    mtime_ns=0,
    ctime_ns=0,
    birth_ns=0,
    xattrs=(),
)
