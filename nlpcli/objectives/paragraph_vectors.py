"""Paragraph vectors (Le and Mikolov 2014): a vector for each document, which helps to predict its words.

The loss is that of `nlpcli.objectives.word2vec`; the vector of a document is among what predicts its words, or alone.
A new text gets a vector by the same loss, with all other weights as they are (section 2.2).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import normalize

from nlpcli.data.even_sample import evenly_spaced
from nlpcli.objectives.objective import Loss
from nlpcli.objectives.word2vec import WordPrediction, window_loss
from nlpcli.objectives.word_windows import WindowBatch, WindowSampler, WindowSettings, WordCounts

if TYPE_CHECKING:
    from nlpcli.models.word_vectors import WordVectors

_EVALUATED = 500  # documents of the dev set
_TOGETHER = 100
_LONGEST = 1000  # words of a document from which its vector is inferred
_SEED = 2014
_STEPS, _RATE, _BETA1, _BETA2, _EPS = 50, 0.05, 0.9, 0.98, 1e-9


class ParagraphVectors(WordPrediction):
    """As `WordPrediction`, for architectures with vectors of documents."""

    def evaluate(self, model: WordVectors, device: torch.device) -> Iterator[Loss]:
        """The loss of some of the dev set's documents, each with a vector that is inferred from it."""
        infer = ParagraphInference(model, self.sampler.settings)
        rng = np.random.default_rng(_SEED)
        shards = self.dev.shards
        chosen = evenly_spaced(shards.documents, _EVALUATED)
        for start in range(0, len(chosen), _TOGETHER):
            numbers = chosen[start : start + _TOGETHER]
            texts = [shards.document(number)[:_LONGEST].astype(np.int64) for number in numbers]
            ids, owners = np.concatenate(texts), np.repeat(np.arange(len(texts)), [len(text) for text in texts])
            kept = self.sampler.keep(ids, rng)
            if len(kept):
                batch = self.sampler.batch(ids[kept], owners[kept], rng, tokens=len(ids)).to(device)
                yield window_loss(model, batch, infer(texts)[batch.documents])

    def nearest_documents(self, model: WordVectors, count: int) -> Iterator[tuple[list[int], list[int]]]:
        """Documents of the dev set, the same every time, and the training documents whose vectors have the greatest
        cosine with theirs."""
        assert model.documents is not None  # of an architecture with paragraphs
        dev, train = self.dev.shards, self.train.shards
        chosen = [dev.document(number)[:_LONGEST].tolist() for number in evenly_spaced(dev.documents, count)]
        vectors = ParagraphInference(model, self.sampler.settings)(chosen)
        cosines = normalize(vectors, dim=1) @ normalize(model.documents, dim=1).T
        for document, near in zip(chosen, cosines.argmax(dim=1).tolist(), strict=True):
            yield document, train.document(near).tolist()


class ParagraphInference:
    """Vectors of new texts: gradient descent on the loss of a text's words, with the weights of the model as they are.

    Adam (Kingma and Ba 2015) from 0 in `steps` steps at a rate that falls linearly to 0; each step samples windows and
    noise words anew, by a seed that depends on the text alone.
    """

    def __init__(self, model: WordVectors, settings: WindowSettings, *, steps: int = _STEPS) -> None:
        self.model = model
        self.steps = steps
        self._counts = WordCounts(model.frequencies.double().cpu().numpy())
        self._sampler = WindowSampler(self._counts, settings, model.architecture)

    @torch.no_grad()
    def __call__(self, texts: Sequence[Sequence[int] | np.ndarray]) -> Tensor:
        """The vectors (texts, d_model) of texts as ids; zeros for one without known words."""
        device = self.model.frequencies.device
        sampled = [self._sampled(np.asarray(text, dtype=np.int64)) for text in texts]
        owners = np.repeat(np.arange(len(texts)), [len(batch.targets) for batch in sampled])
        rounds = torch.cat([batch.documents for batch in sampled])
        order = torch.argsort(rounds, stable=True)
        parts = [torch.from_numpy(owners), *(torch.cat([getattr(b, name) for b in sampled]) for name in _READ)]
        sizes = torch.bincount(rounds, minlength=self.steps).tolist()
        steps = zip(*(part[order].to(device).split(sizes) for part in parts), strict=True)
        width = self.model.token_embedding.embedding_dim
        vectors = torch.zeros(len(texts), width, device=device)
        first, second = torch.zeros_like(vectors), torch.zeros_like(vectors)
        for step, (owner, *read) in enumerate(steps):
            gradient = torch.zeros_like(vectors).index_add_(0, owner, self._gradients(vectors[owner], *read))
            first.lerp_(gradient, 1 - _BETA1)
            second.lerp_(gradient**2, 1 - _BETA2)
            mean, variance = first / (1 - _BETA1 ** (step + 1)), second / (1 - _BETA2 ** (step + 1))
            vectors -= _RATE * (1 - step / self.steps) * mean / (variance.sqrt() + _EPS)
        return vectors

    def _sampled(self, ids: np.ndarray) -> WindowBatch:
        """The windows of a text in all steps; their number takes the place of a document's."""
        rng = np.random.default_rng([_SEED, *ids.tolist()])
        repeated = np.tile(ids, self.steps)
        steps = np.repeat(np.arange(self.steps), len(ids))
        kept = self._sampler.keep(repeated, rng)
        return self._sampler.batch(repeated[kept], steps[kept], rng, tokens=len(ids))

    def _gradients(self, vectors: Tensor, contexts: Tensor, mask: Tensor, targets: Tensor, counted: Tensor) -> Tensor:
        """The gradients of the loss of each of n words with respect to the vector of its text: (n, d_model)."""
        model = self.model
        assert model.output is not None  # an architecture with paragraphs has the matrix
        predictors = model.predictors(contexts, mask, vectors)
        errors = model.scores(predictors, targets)[:, 0].sigmoid()
        errors[:, 0] -= 1
        gradients = torch.einsum("nk,nkd->nd", errors * counted, model.output[targets])
        if model.architecture == "pv-dm":  # the vector is a part of the mean
            gradients = gradients / (1 + mask.sum(dim=1, keepdim=True))
        return gradients


_READ = ("contexts", "mask", "targets", "counted")
