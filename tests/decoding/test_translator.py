from __future__ import annotations

import json
import math
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from nlpcli.decoding.beam import BeamSettings
from nlpcli.decoding.constraints import Constraints, never_written
from nlpcli.decoding.length_penalty import Ranking
from nlpcli.decoding.line_translator import Request, TranslatorSettings, cut_batches, one_line
from nlpcli.decoding.sampling import SamplingSettings
from nlpcli.decoding.translator import Translator
from nlpcli.errors import NlpcliError
from nlpcli.text import SpecialTokens
from nlpcli.text.special_tokens import ROLES

NEVER = never_written(SpecialTokens())


def translator(model, tokenizer, *, warn=None, **settings):
    settings.setdefault("search", BeamSettings(3, constraints=Constraints(NEVER)))
    settings.setdefault("max_length", 6)
    return Translator(model, tokenizer, TranslatorSettings(**settings), warn=warn)


def assert_same(one, other):
    assert [item.text for item in one] == [item.text for item in other]
    scores = [item.candidates[0].score for item in one]
    assert [item.candidates[0].score for item in other] == pytest.approx(scores, abs=1e-3)


def test_the_batch_size_does_not_change_a_translation_on_1000_lines(transformer, tokenizer, sentences):
    search = BeamSettings(2, constraints=Constraints(NEVER, min_length=2))
    model, settings = transformer(), {"search": search, "max_length": 3}
    each = list(translator(model, tokenizer, batch_tokens=1, **settings).translate(sentences))
    assert len(each) == 1000
    assert len({item.text for item in each}) > 60
    assert all(item.text == "" for item, line in zip(each, sentences, strict=True) if not line.strip())
    assert_same(
        each, list(translator(model, tokenizer, batch_tokens=1500, window=400, **settings).translate(sentences))
    )


@pytest.mark.parametrize(
    "search",
    [
        BeamSettings(1, constraints=Constraints(NEVER)),
        BeamSettings(5, constraints=Constraints(NEVER, no_repeat_ngram=2, repetition_penalty=1.2)),
        SamplingSettings(temperature=0.5, top_p=0.9, seed=7, constraints=Constraints(NEVER)),
    ],
    ids=["greedy", "beam", "sampling"],
)
def test_the_batch_size_does_not_change_a_translation(transformer, tokenizer, sentences, search):
    model, lines = transformer(norm_position="pre", encoder_layers=2, decoder_layers=2), sentences[:100]
    each, batched = (
        list(
            translator(model, tokenizer, search=search, batch_tokens=size, max_length=10, scores=True).translate(lines)
        )
        for size in (1, 10_000)
    )
    assert_same(each, batched)
    assert len({item.text for item in each}) > 60


def test_samples_of_a_line_differ_and_stay_the_same_in_any_batch(transformer, tokenizer, sentences):
    search = SamplingSettings(seed=7, constraints=Constraints(NEVER))
    model, lines = transformer(sharpness=1.0), sentences[:40]
    each = list(translator(model, tokenizer, search=search, samples=3, batch_tokens=1).translate(lines))
    batched = list(translator(model, tokenizer, search=search, samples=3).translate(lines))
    for one, other in zip(each, batched, strict=True):
        assert [c.text for c in one.candidates] == [c.text for c in other.candidates]
    assert sum(len({c.text for c in item.candidates}) == 3 for item in each) > 30


@pytest.mark.parametrize("window", [1, 2, 3, 100])
def test_results_come_in_the_order_of_the_lines_whatever_is_read_ahead(transformer, tokenizer, sentences, window):
    lines = ["", *sentences[:7], " ", ""]
    found = list(translator(transformer(), tokenizer, window=window).translate(lines))
    assert [item.request.text for item in found] == lines
    assert found[0].text == found[-1].text == ""
    whole = list(translator(transformer(), tokenizer).translate(lines))
    assert [item.text for item in found] == [item.text for item in whole]


def test_no_more_is_read_ahead_than_the_window(transformer, tokenizer):
    read = []

    def lines():
        for number in range(6):
            read.append(number)
            yield "der mann"

    results = translator(transformer(), tokenizer, window=2).translate(lines())
    next(results)
    assert read == [0, 1]


def test_what_came_before_an_error_is_translated_first(transformer, tokenizer):
    def lines():
        yield from ["der mann", "die frau", "das kind"]
        raise NlpcliError("in:4: not valid UTF-8")

    found = []
    with pytest.raises(NlpcliError, match="in:4"):
        for item in translator(transformer(), tokenizer, window=2).translate(lines()):
            found.append(item.request.text)
    assert found == ["der mann", "die frau", "das kind"]


def test_an_overlong_line_is_cut_with_a_warning_that_names_it(transformer, tokenizer):
    warnings = []
    lines = ["der mann", Request("das kind " * 50, "in.txt:2"), "die frau"]
    found = list(translator(transformer(), tokenizer, max_source_length=10, warn=warnings.append).translate(lines))
    assert len(found) == 3
    tokens = len(tokenizer.encode(["das kind " * 50])[0])
    assert warnings == [f"in.txt:2: the source has {tokens} tokens and is truncated to 9, the maximum length"]
    learned = transformer(positions="learned", max_length=8)
    warnings.clear()
    assert len(list(translator(learned, tokenizer, max_length=None, warn=warnings.append).translate(lines))) == 3
    assert "is truncated to 7," in warnings[0]


def test_the_length_limit_depends_on_the_source(transformer, tokenizer):
    endless = BeamSettings(2, constraints=Constraints((*NEVER, 3)))
    job = translator(transformer(), tokenizer, search=endless, max_length=None, length_factor=1.5, length_constant=2)
    lines = ["hund", "der mann mit hund und ball und ball"]
    for line, item in zip(lines, job.translate(lines), strict=True):
        pieces = len(tokenizer.encode([line])[0])
        length = math.ceil(1.5 * pieces) + 2
        candidate = item.candidates[0]
        assert not candidate.ended
        assert candidate.score == pytest.approx(candidate.logprob / ((5 + length) / 6))


SEARCHES = [BeamSettings(1), BeamSettings(4), BeamSettings(4, n_best=3), SamplingSettings(seed=3)]


@pytest.mark.parametrize("search", SEARCHES)
@pytest.mark.parametrize("prefix", ["", "ein"])
@pytest.mark.parametrize("ends", [True, False])
def test_no_translation_is_longer_or_shorter_than_the_limits_say(transformer, tokenizer, search, prefix, ends):
    words = SimpleNamespace(
        special=tokenizer.special, encode=tokenizer.encode, decode=lambda rows: list(map(str, rows))
    )
    given = len(tokenizer.encode([prefix])[0])
    for most in range(given + 1, given + 6):
        for least in (0, most):
            limits = Constraints(NEVER if ends else (*NEVER, 3), least)
            job = translator(transformer(), words, search=replace(search, constraints=limits), max_length=most)
            [found] = job.translate([Request("der mann mit hund", prefix=prefix)])
            lengths = [len(json.loads(candidate.text)) for candidate in found.candidates]
            assert max(lengths) <= most
            assert min(lengths) >= least
            assert ends or set(lengths) == {most}
            assert len({candidate.text for candidate in found.candidates}) == len(lengths)
            assert all(not candidate.ended for candidate in found.candidates) or ends


def test_a_prefix_as_long_as_a_translation_may_be_is_refused(transformer, tokenizer):
    with pytest.raises(NlpcliError, match=r"in:3: the target prefix has \d+ tokens, but --max-length is 1"):
        list(translator(transformer(), tokenizer, max_length=1).translate([Request("der mann", "in:3", "ein hund")]))


def test_translations_begin_with_the_forced_prefix(transformer, tokenizer):
    requests = [Request("der mann", prefix="ein hund"), Request("die frau"), Request("", prefix="ein")]
    found = list(translator(transformer(), tokenizer).translate(requests))
    assert found[0].text.startswith("ein hund")
    assert found[2].text == ""
    assert found[1].text == next(translator(transformer(), tokenizer).translate(["die frau"])).text


def test_a_prefix_longer_than_the_model_can_write_is_refused_by_name(transformer, tokenizer):
    model = transformer(positions="learned", max_length=8)
    with pytest.raises(NlpcliError, match=r"in:3: the target prefix has \d+ tokens"):
        list(translator(model, tokenizer).translate([Request("der mann", "in:3", prefix="ein hund " * 9)]))


def test_the_n_best_come_best_first_and_differ(transformer, tokenizer):
    search = BeamSettings(4, n_best=4, constraints=Constraints(NEVER))
    for item in translator(transformer(), tokenizer, search=search).translate(["der mann", "", "ein kind läuft"]):
        scores = [c.score for c in item.candidates]
        assert scores == sorted(scores, reverse=True)
        assert len(item.candidates) == (4 if item.request.text else 1)


def test_greedy_and_a_beam_of_one_agree_on_the_score(transformer, tokenizer, sentences):
    ranking = Ranking(0.7, "average")
    greedy = BeamSettings(1, ranking=ranking, constraints=Constraints(NEVER))
    beam = BeamSettings(1, patience=0.5, ranking=Ranking(0.7, "average", 1e-12), constraints=Constraints(NEVER))
    results = [
        list(translator(transformer(), tokenizer, search=search, scores=True).translate(sentences[:30]))
        for search in (greedy, beam)
    ]
    for one, other in zip(*results, strict=True):
        assert one.text == other.text
        assert one.candidates[0].score == pytest.approx(other.candidates[0].score, abs=1e-4)


def test_alignments_name_words_that_are_there(transformer, tokenizer, sentences):
    search = BeamSettings(3, n_best=2, constraints=Constraints(NEVER))
    job = translator(transformer(decoder_layers=2), tokenizer, search=search, alignments=True)
    for item in job.translate(sentences[:40]):
        source = item.request.text.split()
        for candidate in item.candidates:
            target = candidate.text.split()
            assert {t for _, t in candidate.alignment} <= set(range(len(target)))
            assert len({t for _, t in candidate.alignment}) >= len(target) - 1  # one may look at the blank before words
            assert all(0 <= s < len(source) for s, _ in candidate.alignment)


def test_coverage_changes_the_ranking_only(transformer, tokenizer):
    plain, covered = (
        next(
            translator(
                transformer(decoder_layers=2),
                tokenizer,
                search=BeamSettings(3, n_best=3, ranking=Ranking(1.0, "wu", beta), constraints=Constraints(NEVER)),
            ).translate(["der mann steht auf das haus"])
        )
        for beta in (0.0, 5.0)
    )
    assert {c.text: round(c.logprob, 3) for c in plain.candidates} == {
        c.text: round(c.logprob, 3) for c in covered.candidates
    }
    assert all(c.score < p.score for c, p in zip(covered.candidates, plain.candidates, strict=True))


def test_batches_keep_to_their_budget_and_hold_every_line_once():
    lengths = [5, 1, 9, 9, 3, 2, 30, 4]
    batches = cut_batches(lengths, 18)
    assert sorted(i for batch in batches for i in batch) == list(range(8))
    assert batches[0] == [6]
    for batch in batches[1:]:
        assert len(batch) * lengths[batch[0]] <= 18
    assert cut_batches([], 10) == []


@pytest.mark.parametrize(
    ("text", "line"), [("a\nb", "a b"), ("a\r\n\nb\n", "a b"), ("\n", ""), ("a\u2028b", "a\u2028b")]
)
def test_a_translation_is_one_line(text, line):
    assert one_line(text) == line


def test_no_input_gives_no_output(transformer, tokenizer):
    assert list(translator(transformer(), tokenizer).translate([])) == []


def test_constraints_that_leave_nothing_give_an_empty_line(transformer, tokenizer):
    search = BeamSettings(2, constraints=Constraints(tuple(range(tokenizer.vocab_size))))
    found = list(translator(transformer(), tokenizer, search=search).translate(["der mann"]))
    assert [item.text for item in found] == [""]


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"batch_tokens": 0}, "--batch-tokens must be at least 1"), ({"max_length": 0}, "maximum length")],
)
def test_sizes_that_make_no_sense_are_refused(settings, message):
    with pytest.raises(NlpcliError, match=message):
        TranslatorSettings(**settings)


def test_gradients_are_not_kept(transformer, tokenizer):
    model = transformer()
    next(translator(model, tokenizer).translate(["der mann"]))
    assert all(parameter.grad is None for parameter in model.parameters())
    assert torch.is_grad_enabled()


class Renumbered:
    """A tokenizer with the same pieces, the ids counted from the other end."""

    def __init__(self, tokenizer):
        self.tokenizer, self.last = tokenizer, tokenizer.vocab_size - 1
        self.special = SpecialTokens(*(self.last - getattr(tokenizer.special, role) for role in ROLES))

    def encode(self, texts):
        return [[self.last - id_ for id_ in ids] for ids in self.tokenizer.encode(texts)]

    def word_starts(self, ids):
        return self.tokenizer.word_starts([self.last - id_ for id_ in ids])


class Renumbering(torch.nn.Module):
    """A source encoder that gives the embeddings of the ids meant."""

    def __init__(self, embedding, last):
        super().__init__()
        self.encoder = SimpleNamespace(layers=[])
        self.embedding, self.last = embedding, last

    def forward(self, source, allowed=None):
        return self.embedding.tokens(self.last - source) * self.embedding.scale


def test_sources_may_have_a_tokenizer_of_their_own(transformer, tokenizer, sentences):
    settings = TranslatorSettings(search=BeamSettings(3, constraints=Constraints(NEVER)), max_length=6, alignments=True)
    plain, model, source_tokenizer = transformer(), transformer(), Renumbered(tokenizer)
    model.source_encoder = Renumbering(model.encoder_embedding, source_tokenizer.last)
    expected = list(Translator(plain, tokenizer, settings).translate(sentences[:50]))
    found = list(Translator(model, tokenizer, settings, source_tokenizer=source_tokenizer).translate(sentences[:50]))
    assert_same(expected, found)
    alignments = [[item.candidates[0].alignment for item in items] for items in (expected, found)]
    assert alignments[0] == alignments[1] and any(alignments[0])


@pytest.mark.parametrize(
    ("written", "line"),
    [(" a b ", "a b"), ("a\r\nb\n", "a b"), ("a\x0b", "a\x0b"), ("\xa0a\u3000", "\xa0a\u3000"), ("\x1fa\t", "\x1fa\t")],
)
def test_a_translation_is_one_line_that_keeps_what_is_no_space_and_ends_no_line(written, line):
    assert one_line(written) == line
