"""The threads of the `tokenizers` library: off unless the user chose, since this program encodes in processes.

With its threads on, the library warns on stderr after every fork.
"""

from __future__ import annotations

import os


def quiet_threads() -> None:
    """Leaves the user's own choice of TOKENIZERS_PARALLELISM alone."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
