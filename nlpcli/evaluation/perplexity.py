"""Perplexity and bits, from a summed negative log-likelihood and the counts of what was predicted.

    perplexity per unit = exp( L / n )        bits per unit = L / (n · ln 2)

with L the negative log-likelihood of the whole text in nats and n its tokens, words, bytes or characters. L must
cover the whole text whatever the unit: a perplexity per word divides the log-likelihood of all tokens by the words.
The protocol moves the number, so the signature names the context window and the stride between windows.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from nlpcli import __version__
from nlpcli.config.counting import counted
from nlpcli.errors import NlpcliError
from nlpcli.evaluation.score import Score


@dataclass(frozen=True)
class PerplexityProtocol:
    """How a text was cut for the model.

    window: tokens the model sees at once; None: a whole sentence, scored alone. stride: tokens from one window's start
    to the next; equal to the window there is no overlap, smaller strides give each scored token more context.
    tokenizer: what a token is, such as `unigram-8000` or `chars`. memory: the earlier text that a model with memory can
    use before the window: a number of positions, or "state" of a recurrent network. streams: equal parts of the text,
    each read without memory of the one before. dynamic: how the model is adapted to the text.
    """

    window: int | None
    stride: int | None
    tokenizer: str | None = None
    memory: str = ""
    streams: int = 1
    dynamic: str = ""

    def __post_init__(self) -> None:
        if self.window is not None and (self.stride is None or not 1 <= self.stride <= self.window):
            raise NlpcliError(
                f"the stride must lie between 1 and the window of {counted(self.window, 'token')}, not {self.stride}"
            )


def perplexity(
    nats: float,
    *,
    tokens: int,
    words: int | None = None,
    bytes: int | None = None,
    characters: int | None = None,
    protocol: PerplexityProtocol,
) -> dict[str, Score]:
    """All measures that the given counts allow, by name.

    nats: the summed negative log-likelihood of the text. Returns `loss` (nats per token) and `perplexity` (per token);
    `word_perplexity` with words; `byte_perplexity` and `bits_per_byte` with bytes; `bits_per_character` with
    characters. A perplexity too large for a float is infinite. Raises: NlpcliError for a count below 1.
    """
    per_token = nats / _positive(tokens, "token")
    scores = [
        _score("loss", "token", per_token, tokens, protocol),
        _score("perplexity", "token", _exp(per_token), tokens, protocol),
    ]
    if words is not None:
        scores.append(_score("word_perplexity", "word", _exp(nats / _positive(words, "word")), words, protocol))
    if bytes is not None:
        per_byte = nats / _positive(bytes, "byte")
        scores.append(_score("byte_perplexity", "byte", _exp(per_byte), bytes, protocol))
        scores.append(_score("bits_per_byte", "byte", per_byte / math.log(2), bytes, protocol))
    if characters is not None:
        bits = nats / _positive(characters, "character") / math.log(2)
        scores.append(_score("bits_per_character", "character", bits, characters, protocol))
    return {score.name: score for score in scores}


def _score(name: str, level: str, value: float, count: int, protocol: PerplexityProtocol) -> Score:
    tokenizer = f"|tok:{protocol.tokenizer}" if protocol.tokenizer else ""
    cut = "window:sentence" if protocol.window is None else f"window:{protocol.window}|stride:{protocol.stride}"
    cut += f"|memory:{protocol.memory}" if protocol.memory else ""
    cut += f"|streams:{protocol.streams}" if protocol.streams > 1 else ""
    cut += f"|dynamic:{protocol.dynamic}" if protocol.dynamic else ""
    signature = f"{name}|level:{level}|{cut}{tokenizer}|nlpcli:{__version__}"
    return Score(name, value, signature, summary=f"({counted(count, level)})", details={"count": count})


def _positive(count: int, unit: str) -> int:
    if count < 1:
        raise NlpcliError(f"the perplexity of a text with {counted(count, unit)} is undefined")
    return count


def _exp(value: float) -> float:
    try:
        return math.exp(value)
    except OverflowError:
        return math.inf
