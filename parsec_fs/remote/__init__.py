"""Requests to server, block storage and chain nodes: the only network door."""

import sys
from typing import Any, cast

# httpx loads a command line program of its own where rich is installed: as long as all the rest of
# it. `None` is the interpreter's word for a module that cannot be imported; httpx goes without.
sys.modules.setdefault("httpx._main", cast(Any, None))
