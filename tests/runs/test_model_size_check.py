"""How large a model may be, checked before it takes any memory."""

from __future__ import annotations

import pytest

from nlpcli.config.transformer_settings import TransformerConfig
from nlpcli.errors import NlpcliError
from nlpcli.runs.model_size_check import check_size


def test_a_model_beyond_the_memory_is_refused_with_the_sizes():
    with pytest.raises(
        NlpcliError, match=r"the model has 86,[\d,]+ parameters; training needs 1,\d+ GB of memory, but this"
    ):
        check_size(TransformerConfig(kind="decoder", d_model=60_000, d_ff=60_000, decoder_layers=4), 1000, whole=True)
    with pytest.raises(NlpcliError, match=r"their weights need 3\d\d GB"):
        check_size(TransformerConfig(kind="decoder", d_model=60_000, d_ff=60_000, decoder_layers=4), 1000, whole=False)


def test_usual_models_are_taken():
    check_size(TransformerConfig(), 8000, whole=True)
