"""Which of all the weights are shown, and in what form: what a reader can take in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from nlpcli.config.counting import counted
from nlpcli.errors import NlpcliError, unknown
from nlpcli.visualization import transformations
from nlpcli.visualization.attention_data import Attention, Site

AVERAGES = ("heads", "layers", "both")
_OWN = ("encoder", "source-encoder", "decoder", "content")
"""Sites in which one layer's output is the next one's keys, so that attention can be followed through the layers."""


@dataclass(frozen=True)
class AttentionSelection:
    """sites, layers, heads: those to show, () for all or for what `few` chooses. words: subwords merged to words;
    special: whether special tokens are shown; average: over one of AVERAGES; rollout: see `transformations.rollout`.

    Raises: NlpcliError for an unknown average, and for settings that can't be used together.
    """

    sites: tuple[str, ...] = ()
    layers: tuple[int, ...] = ()
    heads: tuple[int, ...] = ()
    words: bool = False
    special: bool = True
    average: str | None = None
    rollout: bool = False

    def __post_init__(self) -> None:
        if self.average is not None and self.average not in AVERAGES:
            raise unknown("average", self.average, AVERAGES)
        if self.rollout and self.heads:
            raise NlpcliError("--rollout uses the mean of all heads, so --head has no effect", hint="leave out --head")
        if self.rollout and self.average is not None:
            raise NlpcliError(
                "--rollout uses the mean of all heads, so --average has no effect", hint="leave out --average"
            )


def select(attention: Attention, selection: AttentionSelection, *, few: bool) -> Attention:
    """The part of an attention that is drawn.

    few: where nothing was chosen, one matrix of each site instead of all of them, and of an encoder-decoder the
    cross-attention alone: see `few_of`.

    Raises: NlpcliError for a site, layer or head that isn't there, and a rollout of what has none.
    """
    chosen = transformations.select(attention, selection.sites or None)
    if few and not selection.sites and any(site.name == "cross" for site in chosen.sites) and not selection.rollout:
        chosen = transformations.select(chosen, ("cross",))
    if selection.rollout:
        chosen = _rolled_out(chosen, required=bool(selection.sites))
    chosen = transformations.select(chosen, None, selection.layers or None, selection.heads or None)
    if few:
        gradient = "gradient of" in attention.notes
        chosen = replace(chosen, sites=tuple(few_of(site, selection, gradient=gradient) for site in chosen.sites))
    if not selection.special:
        chosen = transformations.without_special(chosen)
    if selection.words:
        chosen = transformations.merge_words(chosen)
    return chosen if selection.average is None else transformations.average(chosen, selection.average)


def few_of(site: Site, selection: AttentionSelection, *, gradient: bool = False) -> Site:
    """One matrix of a site, unless more were chosen: of the last layer, the mean over heads.

    Of the cross-attention it is the last layer but one, which aligns best (Garg et al. 2019); of gradients, which are
    spread over the layers, the mean of all.
    """
    if not selection.layers and selection.average not in ("layers", "both"):
        if gradient:
            site = _mean(site, "layers")
        else:
            place = max(len(site.layers) - 2, 0) if site.name == "cross" else -1
            site = transformations.select(Attention((site,)), layers=(site.layers[place],)).sites[0]
    if not selection.heads and selection.average is None and len(site.heads) > 1:
        return _mean(site, "heads")
    return site


def _mean(site: Site, over: str) -> Site:
    return transformations.average(Attention((site,)), over).sites[0]


def _rolled_out(attention: Attention, *, required: bool) -> Attention:
    """The rollout of each site that has one; required: raise for a site without one."""
    sites = [site for site in attention.sites if required or _can_roll_out(site)]
    return replace(attention, sites=tuple(map(_rollout, sites or attention.sites)))


def _can_roll_out(site: Site) -> bool:
    return site.name in _OWN and not site.signed and site.queries.positions == site.keys.positions


def _rollout(site: Site) -> Site:
    if site.name == "query":
        raise NlpcliError(
            "attention rollout is not possible for the query stream, because it attends to the content stream",
            hint="use --site content",
        )
    return transformations.rollout(site)


def has_chosen(attention: Attention, shown: Attention, selection: AttentionSelection) -> bool:
    """Whether something of an attention is not shown without having been left out by `selection`."""
    whole = [(site, attention.site(site.name)) for site in shown.sites]
    layers = (
        selection.layers
        or selection.average in ("layers", "both")
        or all(len(site.layers) == len(all_of.layers) for site, all_of in whole)
    )
    heads = (
        selection.heads
        or selection.average is not None
        or selection.rollout
        or all(len(site.heads) == len(all_of.heads) for site, all_of in whole)
    )
    sites = selection.sites or len(shown.sites) == len(attention.sites)
    return not (layers and heads and sites)


def describe_selection(attention: Attention, shown: Attention) -> str:
    """The shown part of an attention, in words: `Cross-attention, layer 3 of 4, mean of 8 heads`."""
    parts = []
    for site in shown.sites:
        whole = attention.site(site.name)
        layers = f"layer{'s' * (len(site.layers) > 1)} {_listed(site.layers)} of {len(whole.layers)}"
        heads = f"head{'s' * (len(site.heads) > 1)} {_listed(site.heads)} of {len(whole.heads)}"
        if site.heads == (transformations.MEAN,):
            heads = f"mean of {counted(len(whole.heads), 'head')}"
        if site.layers == (transformations.MEAN,):
            layers = f"mean of {counted(len(whole.layers), 'layer')}"
        parts.append(", ".join([whole.title, layers] + [heads] * (site.heads != (transformations.ROLLOUT,))))
    return "; ".join(parts)


def _listed(names: Sequence[int | str]) -> str:
    return ", ".join(map(str, names))


def mean_numbers(attentions: Sequence[Sequence[transformations.HeadNumbers]]) -> list[transformations.HeadNumbers]:
    """The numbers of each head, each the mean over the texts in which it has one."""
    found: dict[tuple, list[transformations.HeadNumbers]] = {}
    for numbers in attentions:
        for one in numbers:
            found.setdefault((one.site, one.layer, one.head), []).append(one)
    return [
        replace(
            group[0],
            entropy=_mean_of([one.entropy for one in group]),
            most=_mean_of([one.most for one in group]) or 0.0,
            distance=_mean_of([one.distance for one in group]),
        )
        for group in found.values()
    ]


def _mean_of(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None
