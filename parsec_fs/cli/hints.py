"""What several commands tell people to do next.

Data flow: org create, user join, status -> one line.
"""

from typing import Final

NO_KIT: Final = (
    "! recovery: none. Whoever loses every device, or the passphrase of the only one, loses the "
    "data. Make a kit on paper: parsec-fs recovery create"
)
"""While the user has no recovery kit."""
