"""A `tokenizer.json` that is damaged or made to do harm ends in a sentence."""

from __future__ import annotations

import base64
import json

import pytest
from tokenizers import Tokenizer, models, normalizers

from nlpcli.errors import NlpcliError
from nlpcli.text.huggingface_tokenizer import HuggingFaceModel
from nlpcli.text.special_tokens import SpecialTokens
from nlpcli.text.tokenizers_errors import MOST_GROWTH, check_rules, is_charsmap

PIECES = ["<unk>", "a", "b", "!"]
ALL = SpecialTokens(**dict.fromkeys(("unk", "bos", "eos", "pad", "cls", "sep", "mask"), 0), spellings=((0, "<unk>"),))


def model(**rules):
    core = json.loads(Tokenizer(models.BPE({piece: id_ for id_, piece in enumerate(PIECES)}, [])).to_str())
    return HuggingFaceModel(json.dumps({**core, **rules}).encode(), ALL)


def split(regex):
    return {"type": "Split", "pattern": {"Regex": regex}, "behavior": "Isolated", "invert": False}


def replace(pattern, content):
    return {"type": "Replace", "pattern": pattern, "content": content}


def sequence(*rules):
    return {"type": "Sequence", "normalizers": list(rules)}


def charsmap(data):
    return {"type": "Precompiled", "precompiled_charsmap": base64.b64encode(data).decode()}


@pytest.mark.parametrize(
    "rules",
    [
        {"pre_tokenizer": split(r"(a+)+$")},
        {"normalizer": replace({"Regex": r"(a+)+$"}, "b")},
        {"normalizer": charsmap(b"\x08\0\0\0\x01\0\0\0\x02\0\0\0")},
    ],
    ids=["a pattern that takes forever", "one in a normalizer", "compiled rules that lead nowhere"],
)  # fmt: skip
def test_a_panic_of_the_library_is_a_sentence(rules):
    found = model(**rules)
    for use in (found.encode, found.encode_with_offsets):
        with pytest.raises(NlpcliError, match=r"tokenizer\.json: its rules can't be applied"):
            use(["a" * 40 + "!"])


def test_an_exception_of_the_library_is_a_sentence_and_others_are_what_they_are():
    words = {"type": "WordLevel", "vocab": {"a": 0}, "unk_token": "<none>"}
    found = model(model=words, pre_tokenizer={"type": "Whitespace"})
    with pytest.raises(NlpcliError, match=r"unknown token|UNK|unk"):
        found.encode(["b"])
    with pytest.raises(TypeError):
        found.encode([1])
    with pytest.raises(NlpcliError, match="its rules can't be applied"):
        model(pre_tokenizer=split("(a"))


@pytest.mark.parametrize(
    "normalizer",
    [
        replace({"String": "a"}, "a" * 2000),
        replace({"Regex": "a"}, "a" * 2000),
        {"type": "Prepend", "prepend": "a" * 2000},
        sequence(*[replace({"String": "a"}, "a" * 10)] * 12),
        sequence(
            sequence(replace({"String": "ab"}, "a" * 200)), {"type": "NFC"}, {"type": "Prepend", "prepend": "a" * 99}
        ),
    ],
    ids=["a text", "a pattern", "a beginning", "step by step", "nested"],
)  # fmt: skip
def test_rules_that_make_texts_far_too_long_are_refused(normalizer):
    with pytest.raises(NlpcliError, match=f"the normalizer can make a text more than {MOST_GROWTH:,} times longer"):
        model(normalizer=normalizer)


@pytest.mark.parametrize("rules", [{}, {"normalizer": None}, {"normalizer": "x"}, {"normalizer": {"normalizers": 3}},
                                   {"normalizer": {"type": "Replace", "pattern": [], "content": 3}},
                                   {"decoder": {"type": ["Prepend"], "prepend": {}}}])  # fmt: skip
def test_rules_of_any_form_are_looked_at(rules):
    check_rules(rules)


def test_usual_rules_stay_below_the_limit():
    usual = sequence(
        {"type": "Prepend", "prepend": "▁"}, replace({"String": " "}, "▁"), replace({"Regex": " {2,}"}, "▁")
    )
    check_rules({"normalizer": usual, "decoder": {"type": "Sequence", "decoders": [replace({"String": "▁"}, " ")]}})
    core = Tokenizer(models.BPE())
    core.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Replace("``", '"')])
    check_rules(json.loads(core.to_str()))


def test_compiled_rules_that_promise_more_than_they_have_are_refused_before_memory_is_taken_for_them():
    assert is_charsmap(b"") and is_charsmap(b"\x04\0\0\0abcdtext")
    assert not is_charsmap(b"\xff\xff\xff\xffabcd") and not is_charsmap(b"\x04\0")
    with pytest.raises(NlpcliError, match="compiled rules of the normalizer are damaged"):
        model(normalizer=charsmap(b"\xff\xff\xff\xff\0\0\0"))
