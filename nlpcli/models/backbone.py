"""The interface of models that heads, pictures, vectors, costs and learning rates use."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, ClassVar, Literal

from torch import Tensor, nn

from nlpcli.attention.hooks import Recordable
from nlpcli.models.padded_batch import Rows

Direction = Literal["both", "left-to-right", "source-to-target"]
Part = nn.Module | nn.Parameter
EMBEDDINGS, FINAL, HEAD = "embeddings", "final", "head"
ENCODER, DECODER, CROSS, SOURCE_ENCODER, OWN = "encoder", "decoder", "cross", "source-encoder", "own"
"""Sites of attention: of an encoder and a decoder to themselves, of a decoder to its source, of an encoder of another
language under a pretrained one, and of a model that is one stack and nothing else, as Transformer-XL and XLNet are."""
WORDS, SENTENCES = "words", "sentences"
"""Sites of attention with learned queries: to the words of each sentence, and to the sentences of a document."""


class Backbone(nn.Module):
    """A model without the head of a task. Each kind of model is a subclass; no other code checks its class.

    direction: what the state of a token depends on: all tokens, those before it, or a source and the target before it.
    has_memory: `hidden` takes the states of an earlier segment and returns those for the next one, at most
    `memory_length` positions of each layer.
    permutes: the model predicts tokens in any order of factorization.
    """

    direction: ClassVar[Direction] = "both"
    has_memory: ClassVar[bool] = False
    permutes: ClassVar[bool] = False
    max_length: int | None

    # --- for heads of tasks

    def states(
        self, rows: Rows, *, side: str = "encoder", start: int = 0, hidden_states: list[Tensor] | None = None
    ) -> Tensor:
        """The last layer's states (rows, n, d_model) of whole texts.

        side: of an encoder-decoder, whose states; its decoder reads the same text after the token `start`.
        hidden_states: is given those of the embeddings and of all layers, where `depth` is a number.
        """
        raise NotImplementedError

    def depth(self, side: str = "encoder") -> int | None:
        """The number of layers whose states `states` can give, None when it gives the last one only."""
        raise NotImplementedError

    @property
    def body(self) -> Backbone:
        """The model itself; what has a task's head names the model under it so."""
        return self

    def task_heads(self) -> Mapping[str, Any]:
        """The `WithHead` of each task, by the prefix of its weights' names; none."""
        return {}

    def of(self, task: str) -> nn.Module:
        """The part of the model that a task uses: all of it."""
        return self

    @property
    def samples_attention(self) -> bool:
        """Whether positions of a source are sampled in training, whose probabilities need a gradient of their own."""
        return False

    @property
    def regularizes_activations(self) -> bool:
        """Whether the training loss has a penalty on hidden states, which `regularized` gives."""
        return False

    # --- for fine-tuning and vectors

    @property
    def token_embedding(self) -> nn.Embedding:
        """The vectors of tokens that the model begins with; of sources, where there are two."""
        raise NotImplementedError

    @property
    def token_frequencies(self) -> Tensor | None:
        """The share of each token in the training text (vocab,), None where it is unknown."""
        return None

    def layer_groups(self) -> Iterator[tuple[str, Part]]:
        """Parts with the names of their groups, bottom up; see `nlpcli.models.layer_groups.depth_groups`."""
        raise NotImplementedError

    # --- for pictures of attention, alignments and coverage

    def attention_sites(self) -> Mapping[str, Sequence[Recordable]]:
        """Site -> its attention layers, from the bottom to the top; those a model has not are left out."""
        return {}

    # --- for costs

    def example(self, tokens: Tensor) -> Tensor:
        """The computation for one example when the model is used; each of its sides has `tokens` (1, n)."""
        return self(tokens)

    def trained_example(self, tokens: Tensor) -> Tensor:
        """The same to train the model."""
        return self.example(tokens)

    def state_after(self, tokens: Tensor) -> Any:
        """The decoding state after tokens (1, n) of a text (and a source of a token more), None for an encoder."""
        return None


def grouped(
    embeddings: Iterable[Part | None], stacks: Mapping[str, Any], final: Iterable[Part | None] = ()
) -> Iterator[tuple[str, Part]]:
    """`Backbone.layer_groups` of stacks that follow one another; all but the last include their norm."""
    yield from _present(EMBEDDINGS, embeddings)
    yield from _present(EMBEDDINGS, (stack.positions for stack in stacks.values()))
    yield from _present(EMBEDDINGS, (stack.global_tokens for stack in stacks.values()))
    last = len(stacks) - 1
    for place, (name, stack) in enumerate(stacks.items()):
        yield from ((f"{name}.{number}", layer) for number, layer in enumerate(stack.layers))
        yield from _present(FINAL if place == last else f"{name}.{len(stack.layers) - 1}", [stack.norm])
    yield from _present(FINAL, final)


def _present(name: str, parts: Iterable[Part | None]) -> Iterator[tuple[str, Part]]:
    return ((name, part) for part in parts if part is not None)
