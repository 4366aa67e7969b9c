"""The families of `transformers` that are read and written."""

from __future__ import annotations

from nlpcli.config.lazy_tables import LazyTable
from nlpcli.convert.family import Family
from nlpcli.convert.name_map import Config
from nlpcli.errors import NlpcliError

FAMILIES = LazyTable(
    "model type",
    {
        "bert": "nlpcli.convert.bert:BERT",
        "roberta": "nlpcli.convert.bert:ROBERTA",
        "gpt2": "nlpcli.convert.gpt:GPT2",
        "openai-gpt": "nlpcli.convert.gpt:GPT",
        "bart": "nlpcli.convert.bart:BART",
        "t5": "nlpcli.convert.t5:T5",
        "pegasus": "nlpcli.convert.bart:PEGASUS",
        "marian": "nlpcli.convert.bart:MARIAN",
        "xlnet": "nlpcli.convert.xlnet:XLNET",
        "xlm-roberta": "nlpcli.convert.bert:XLM_ROBERTA",
        "electra": "nlpcli.convert.bert:ELECTRA",
        "mpnet": "nlpcli.convert.bert:MPNET",
        "longformer": "nlpcli.convert.longformer:LONGFORMER",
        "big_bird": "nlpcli.convert.big_bird:BIG_BIRD",
        "modernbert": "nlpcli.convert.modernbert:MODERNBERT",
        "distilbert": "nlpcli.convert.distilbert:DISTILBERT",
        "gpt_neox": "nlpcli.convert.llama_gpt_neox:GPT_NEOX",
        "llama": "nlpcli.convert.llama_gpt_neox:LLAMA",
        "mistral": "nlpcli.convert.llama_gpt_neox:MISTRAL",
        "qwen3": "nlpcli.convert.llama_gpt_neox:QWEN3",
    },
)
"""The families that are read and written; of several that fit, the first is written."""


def choose_family(config: Config, read_from: str | None = None) -> Family:
    """The family that a model came from, or else the first one, that can express a configuration.

    Raises: NlpcliError naming what the nearest one can't.
    """
    if read_from is not None and read_from in FAMILIES and not (own := FAMILIES.load(read_from)).misfits(config):
        return own
    families = [FAMILIES.load(name) for name in FAMILIES]
    kinds = [(family.kind, family.fixed.get("family", "transformer")) for family in families]
    families = [f for f, kind in zip(families, kinds, strict=True) if kind == (config["kind"], config["family"])]
    if not families:
        raise NlpcliError(f"transformers has no class for model.family '{config['family']}'")
    best = min(families, key=lambda family: len(family.misfits(config)))
    best.config_out(config)
    return best
