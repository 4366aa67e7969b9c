"""What a task is trained with by default."""

from __future__ import annotations

import pytest

from nlpcli.runs.finetuning.finetune import defaults, rate_for


def test_the_rate_is_berts_at_its_width_and_rises_for_narrower_models():
    assert rate_for(768) == 5e-5
    assert rate_for(384) == pytest.approx(1.2e-4) and rate_for(128) == pytest.approx(5.1e-4)
    assert rate_for(1024) < rate_for(768)


def test_two_parallel_files_have_no_batches_of_examples():
    base = defaults("translation", init=None)
    assert "batch_size" not in base["training"] and "metric" not in base["training"]
    assert defaults("classify", init=None)["training"]["metric"] == "auto"
