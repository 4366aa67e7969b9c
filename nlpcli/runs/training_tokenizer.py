"""The tokenizer that a run trains with."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from nlpcli.config.schema import RunConfig
from nlpcli.errors import NlpcliError
from nlpcli.models.model_folder import no_tokenizer
from nlpcli.runs.init_from_model import InitialModel
from nlpcli.runs.training_request import Listener, Request

if TYPE_CHECKING:
    from nlpcli.text import Tokenizer


def tokenizer_of(
    request: Request,
    config: RunConfig,
    start: InitialModel | None,
    run: Path,
    texts: Callable[[], Iterable[str]],
    listener: Listener,
) -> Tokenizer:
    """The tokenizer to train with: that of the model there is, the one named, or one trained on `texts`.

    Raises: NlpcliError for one that is not the model's, unless an exchange is requested.
    """
    if start is None or request.resume:
        return get_tokenizer(request, texts, config, run, listener)
    if request.tokenizer is None:
        if start.tokenizer is None:
            raise no_tokenizer(start.path, "name the tokenizer of its training with --tokenizer DIR")
        return start.tokenizer
    from nlpcli.runs.open_tokenizer import open_tokenizer

    given = open_tokenizer(Path(request.tokenizer))
    if start.tokenizer is None:
        if given.vocab_size != start.vocab_size:
            raise NlpcliError(
                f"{request.tokenizer}: the tokenizer has {given.vocab_size:,} tokens, "
                f"but the model {start.path} has {start.vocab_size:,}",
                hint="name the tokenizer that the model was trained with",
            )
        return given
    if given.fingerprint != start.tokenizer.fingerprint and not config.tuning.new_tokenizer:
        raise NlpcliError(
            f"{request.tokenizer} is not the tokenizer that {start.path} was trained with",
            hint="leave out --tokenizer, or replace the tokenizer with --set tuning.new_tokenizer=true",
        )
    return given


def get_tokenizer(
    request: Request, texts: Callable[[], Iterable[str]], config: RunConfig, run: Path, listener: Listener
) -> Tokenizer:
    """The tokenizer that was given, the run's own when it is resumed, or one trained on `texts`."""
    from nlpcli.models.model_folder import TOKENIZER
    from nlpcli.runs.open_tokenizer import open_tokenizer
    from nlpcli.runs.tokenizer_cache import trained_tokenizer
    from nlpcli.text import load_tokenizer

    if request.resume:
        return load_tokenizer(run / TOKENIZER)
    if request.tokenizer is not None:
        return open_tokenizer(Path(request.tokenizer))
    return trained_tokenizer(texts, config.tokenizer, listener.note)
