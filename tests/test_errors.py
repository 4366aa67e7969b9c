from __future__ import annotations

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nlpcli.commands.inspect.detect_kind import kind_of
from nlpcli.commands.report.read_runs import find_runs
from nlpcli.config.loading import load_yaml
from nlpcli.convert.family_table import FAMILIES
from nlpcli.data.readers import read_lines
from nlpcli.data.suites import read_suite
from nlpcli.data.vector_files import open_vectors
from nlpcli.errors import NlpcliError, is_out_of_memory, missing_path_hint, nearest, unknown
from nlpcli.evaluation import METRICS
from nlpcli.models.model_folder import read_info

WORDS = st.text(string.ascii_lowercase, min_size=4, max_size=14)


@given(WORDS, st.data())
def test_one_slip_in_a_word_is_understood(word, data):
    place = data.draw(st.integers(0, len(word) - 2))
    slips = [word[:place] + word[place + 1 :], word[:place] + "x" + word[place:],
             word[:place] + word[place + 1] + word[place] + word[place + 2 :]]  # fmt: skip
    assert {nearest(slip, ["0", word]) for slip in slips} == {word}


@given(WORDS)
def test_what_shares_no_more_than_half_of_a_word_is_no_slip(word):
    assert nearest(word, ["0" * len(word), word[: len(word) // 2], word + word]) is None


@pytest.mark.parametrize(
    ("name", "choices"),
    [("meteor", METRICS), ("rouge3", METRICS), ("f2", METRICS), ("comet", METRICS), ("camembert", FAMILIES),
     ("gemma", FAMILIES), ("qwen2", FAMILIES), ("train.json", ["test.json.gz", "a"])],
)  # fmt: skip
def test_another_name_is_not_taken_for_a_slip(name, choices):
    assert nearest(name, choices) is None


@pytest.mark.parametrize("name", ["meteor", "COMET", "BERTScore", "bert-score", "BLEURT", "GLEU", "per"])
def test_metrics_of_the_field_that_are_not_here_are_named_as_such(name):
    error = unknown("metric", name, METRICS, METRICS.absent)
    assert error.message == f"the metric '{name}' is not supported"
    assert error.hint is not None and error.hint.startswith("choose one of: bleu, ")


def test_case_and_hyphens_are_no_difference():
    assert nearest("Rouge-L", METRICS) == "rougel"
    assert nearest("norm_position", ["norm-position"]) == "norm-position"


def test_no_metric_is_both_here_and_absent():
    assert not METRICS.absent & {name.replace("-", "") for name in METRICS}


@pytest.mark.parametrize(
    ("error", "memory"),
    [
        (MemoryError(), True),
        (RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB."), True),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes"), True),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"), True),
        (type("OutOfMemoryError", (RuntimeError,), {})("none left"), True),
        (RuntimeError("could not create a primitive"), True),
        (RuntimeError("could not create a primitive descriptor for a matmul primitive"), False),
        (ValueError("not enough memory"), False),
        (RuntimeError("shapes cannot be multiplied"), False),
    ],
)
def test_a_lack_of_memory_is_distinguished_from_other_errors(error, memory):
    assert is_out_of_memory(error) is memory


@pytest.mark.parametrize(
    ("asked", "hint"),
    [
        ("runs/ende", "did you mean '{}/runs/end'?"),
        ("rnus/end", "did you mean '{}/runs/end'?"),
        ("rnus/end/part", "did you mean '{}/runs'?"),
        ("other/end", "the folder {}/other does not exist"),
        ("runs/other", None),
    ],
)
def test_the_hint_for_a_missing_path_names_what_is_there(asked, hint, tmp_path):
    (tmp_path / "runs" / "end").mkdir(parents=True)
    expected = None if hint is None else hint.format(tmp_path)
    assert missing_path_hint(tmp_path / asked) == expected


@pytest.mark.parametrize(
    "open_it",
    [
        lambda path: list(read_lines(path)),
        load_yaml,
        open_vectors,
        read_info,
        kind_of,
        lambda path: read_suite("glue", path),
        lambda path: find_runs([path], print),
    ],
    ids=["text", "yaml", "vectors", "model", "inspect", "suite", "report"],
)
def test_every_command_that_misses_a_path_names_the_one_it_may_misspell(open_it, tmp_path):
    (tmp_path / "german").mkdir()
    with pytest.raises(NlpcliError) as caught:
        open_it(tmp_path / "germna")
    assert caught.value.hint == f"did you mean '{tmp_path / 'german'}'?"
