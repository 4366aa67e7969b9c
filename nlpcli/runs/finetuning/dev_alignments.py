"""Guided alignment in a run: its settings as objects, its links, and the alignment error rate on the dev set."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from nlpcli.config.schema import RunConfig
from nlpcli.errors import NlpcliError

if TYPE_CHECKING:
    import torch

    from nlpcli.models.alignment_head import AlignmentHead
    from nlpcli.models.transformer import EncoderDecoder
    from nlpcli.objectives.guided_alignment import GuidedAlignment
    from nlpcli.tasks.alignment_file import WordLinks
    from nlpcli.tasks.translation import Translation

ALIGNED = ("alignment_loss", "aer")
"""The metrics of a dev set with word alignments."""


def check_alignment(config: RunConfig) -> None:
    """Raises: NlpcliError for settings that guided alignment can't be used with, and files that can't be read."""
    from nlpcli.attention.kinds import check_attention
    from nlpcli.data.open_text import check_opens

    settings = config.alignment
    if settings.links is None:
        return
    for path in (settings.links, settings.dev_links):
        if path is not None:
            check_opens(path)
    others = {
        "data.subword_sampling": config.data.subword_sampling > 0,
        "training.scheduled_sampling": config.training.scheduled_sampling != "none",
        "training.r_drop": config.training.r_drop > 0,
        "training.activation_checkpointing": config.training.activation_checkpointing,
        "hard attention that samples positions": config.model.samples_attention,
    }
    for name, given in others.items():
        if given:
            raise NlpcliError(
                f"{name} and alignment.links (--align-train) can't be used together", hint="leave out one"
            )
    if settings.context == "full" and config.model.family == "transformer":
        entries = getattr(config.model, "decoder_attention", None) or getattr(config.model, "attention", [])
        check_attention(entries, setting="a decoder whose head sees the whole target", needs=["bidirectional"])


def guided_alignment(config: RunConfig) -> GuidedAlignment | None:
    """The alignment head and the weight of its loss, None where no links are trained."""
    from nlpcli.models.alignment_head import AlignmentHead
    from nlpcli.objectives.guided_alignment import GuidedAlignment

    settings = config.alignment
    if settings.links is None:
        return None
    head = AlignmentHead(settings.layer, settings.head, settings.context, settings.step)
    return GuidedAlignment(head, settings.weight)


def training_links(config: RunConfig, texts: Sequence[tuple[str, str]] | None) -> WordLinks | None:
    """The links of the training pairs, None where none are learned. Raises: NlpcliError as `WordLinks.read`."""
    from nlpcli.tasks.alignment_file import WordLinks

    if config.alignment.links is None:
        return None
    assert texts is not None  # they are read for it
    return WordLinks.read(config.alignment.links, texts)


class DevAlignments:
    """The loss of a model's alignment head on the dev set, and the alignment error rate of its links, one a word."""

    def __init__(self, task: Translation, head: AlignmentHead, config: RunConfig, device: torch.device) -> None:
        from nlpcli.data.readers import read_parallel
        from nlpcli.decoding.aligner import AlignerSettings
        from nlpcli.evaluation.alignment_error_rate import AlignmentErrorRate
        from nlpcli.tasks.alignment_file import read_links

        assert config.alignment.dev_links is not None  # see `of`
        texts = list(read_parallel(*config.data.dev))
        self.task, self.head, self.texts, self.device = task, head, texts, device
        self.reference = read_links(config.alignment.dev_links, texts)
        self.metric = AlignmentErrorRate()
        self.settings = AlignerSettings(
            batch_tokens=config.training.batch_tokens, source_start=tuple(task.source_start),
            target_start=tuple(task.target_start),
        )  # fmt: skip
        self.signatures: dict[str, str] = {}

    @classmethod
    def of(cls, task: Translation, config: RunConfig, device: torch.device) -> DevAlignments | None:
        """None where no dev links are named."""
        if task.guided is None or config.alignment.dev_links is None:
            return None
        return cls(task, task.guided.head, config, device)

    def __call__(self, model: EncoderDecoder) -> dict[str, float]:
        from nlpcli.decoding.aligner import Aligner, Pair, WeightSelector
        from nlpcli.decoding.alignment_symmetrization import links_of_targets
        from nlpcli.evaluation.alignment_error_rate import Links

        source, target = self.task.tokenizers
        aligner = Aligner(model, target, self.settings, device=self.device, source_tokenizer=source)
        pairs = [Pair(*pair) for pair in self.texts]
        [shares] = aligner.shares(pairs, [WeightSelector.at(self.head)])
        found = [links_of_targets(weights) for weights in shares]
        score = self.metric.corpus([Links(links, links) for links in found], [self.reference])
        self.signatures["aer"] = score.signature
        return {"alignment_loss": mean_loss(shares, self.reference), "aer": score.value}


def mean_loss(shares: Sequence[Any], reference: Sequence[Any]) -> float:
    """The mean of - Σ G log A over the target words with links, in nats; shares: A (target words, source words)."""
    import numpy as np

    total, count = 0.0, 0
    for weights, links in zip(shares, reference, strict=True):
        linked = np.zeros_like(weights)
        for source, target in links.possible:
            linked[target, source] = 1
        rows = linked.any(axis=1)
        wanted = linked[rows] / linked[rows].sum(axis=1, keepdims=True)
        total -= float((wanted * np.log(np.maximum(weights[rows], 1e-9))).sum())
        count += int(rows.sum())
    return total / max(1, count)
