"""Libraries that come with an extra and are imported where they are used."""

from __future__ import annotations

import importlib
from typing import Any

from nlpcli.errors import NlpcliError


def optional(module: str, extra: str, what: str) -> Any:
    """The module, if it is installed. Raises: NlpcliError that names the extra."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        name = module.partition(".")[0]
        if error.name is not None and error.name.partition(".")[0] != name:
            raise
        raise NlpcliError(
            f"{what} needs {name}, which is not installed", hint=f"pip install 'nlpcli[{extra}]'"
        ) from None
