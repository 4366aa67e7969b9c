"""CTranslate2 finds the translations that our own search finds, whatever the length penalty and the beam."""

from __future__ import annotations

import random

import pytest
import torch
from model_settings import of_family

from nlpcli.convert.ctranslate2_limits import position_count, vocabulary
from nlpcli.convert.ctranslate2_out import write_ctranslate2
from nlpcli.decoding.beam import BeamSettings
from nlpcli.decoding.constraints import Constraints, never_written
from nlpcli.decoding.ctranslate2_translator import CTranslate2Model, CTranslate2Translator, unsupported
from nlpcli.decoding.length_penalty import Ranking
from nlpcli.decoding.line_translator import TranslatorSettings
from nlpcli.decoding.sampling import SamplingSettings
from nlpcli.decoding.translator import Translator
from nlpcli.models.build import build_model
from nlpcli.text import train_tokenizer

ctranslate2 = pytest.importorskip("ctranslate2", reason="needs the extra 'fast'")

WORDS = ["the", "quick", "brown", "fox", "jumps", "over", "a", "lazy", "dog", "and", "runs", "far", "away", "home"]
numbers = random.Random(4)
TEXTS = [" ".join(numbers.choices(WORDS, k=1 + place % 9)) for place in range(40)]
SETTINGS = {
    "d_model": 32, "heads": 2, "d_ff": 48, "encoder_layers": 1, "decoder_layers": 1, "max_length": 64, "dropout": 0.0,
    "output_bias": True,
}  # fmt: skip


@pytest.fixture(scope="module")
def tokenizer():
    return train_tokenizer("words", [" ".join(WORDS)], vocab_size=8 + len(WORDS))


@pytest.fixture(scope="module")
def made(tokenizer, tmp_path_factory):
    """made(steps, settings…) -> a model that has begun to learn to write its source backwards, and its folder."""

    def of(steps, **settings):
        torch.manual_seed(3)
        config = of_family({**SETTINGS, **settings})
        model = build_model(config, tokenizer.vocab_size)
        model.output_bias.data[list(never_written(tokenizer.special))] = -20.0  # as after long training
        optimizer = torch.optim.AdamW(model.parameters(), lr=0.006)
        special, words = tokenizer.special, [tokenizer.piece_to_id(word) for word in WORDS]
        for step in range(steps):
            length = 1 + step % 9
            source = torch.tensor(words)[torch.randint(len(words), (32, length))]
            start, end = (source.new_full((32, 1), id_) for id_ in (special.bos, special.eos))
            logits = model(torch.cat((source, end), 1), None, torch.cat((start, source.flip(1)), 1))
            loss = torch.nn.functional.cross_entropy(
                logits.flatten(0, 1), torch.cat((source.flip(1), end), 1).flatten()
            )
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        model.eval()
        folder = tmp_path_factory.mktemp("ct2")
        write_ctranslate2(folder, config=config, weights=model.state_dict(), tokenizer=tokenizer, info={"task": "any"})
        return config, model, folder

    return of


@pytest.fixture(scope="module")
def usual(made):
    return made(250)


def translators(model, tokenizer, **settings):
    """Ours and that of the library, and a list of the jobs that the second gave to the first."""
    config, module, folder = model
    settings = TranslatorSettings(**settings)
    ours = Translator(module, tokenizer, settings)
    given = []

    class Noting:
        def search(self, jobs):
            given.extend(jobs)
            return ours.search(jobs)

    library = ctranslate2.Translator(str(folder), compute_type="float32", intra_threads=1)
    fast = CTranslate2Model(library, vocabulary(tokenizer), position_count(config), config.position_limit)
    theirs = CTranslate2Translator(fast, tokenizer, settings, otherwise=Noting)
    return ours, theirs, given


def beam(tokenizer, size=5, penalty=1.0, normalization="wu", **more):
    constraints = Constraints(suppress=never_written(tokenizer.special))
    return BeamSettings(size, ranking=Ranking(penalty, normalization), constraints=constraints, **more)


@pytest.mark.parametrize("size", [1, 2, 5])
@pytest.mark.parametrize(
    ("penalty", "normalization"),
    [(1.0, "wu"), (0.6, "wu"), (0.0, "wu"), (3.0, "wu"), (1.0, "average"), (0.0, "average"), (-1.0, "average")],
)
def test_texts_and_scores_are_those_of_our_search(usual, tokenizer, size, penalty, normalization):
    ours, theirs, given = translators(
        usual, tokenizer, search=beam(tokenizer, size, penalty, normalization), scores=True
    )
    expected, found = list(ours.translate(TEXTS)), list(theirs.translate(TEXTS))
    assert [one.text for one in found] == [one.text for one in expected]
    assert len({one.text for one in expected}) > 10
    assert len(given) < 3  # most searches are the library's own
    for name in ("score", "logprob"):
        pairs = [[getattr(one.candidates[0], name) for one in side] for side in (found, expected)]
        assert torch.allclose(*map(torch.tensor, pairs), atol=1e-3)


def with_bias(model, tokenizer, ids, bias):
    """The model with another bias of some ids, and a folder of it."""
    config, module, folder = model
    module.output_bias.data[list(ids)] = bias
    write_ctranslate2(folder, config=config, weights=module.state_dict(), tokenizer=tokenizer, info={"task": "any"})
    return model


@pytest.mark.parametrize(("size", "scores"), [(1, True), (1, False), (5, True), (5, False)])
def test_probabilities_of_tokens_that_are_never_written_change_neither_texts_nor_scores(made, tokenizer, size, scores):
    model = with_bias(made(120), tokenizer, never_written(tokenizer.special), -3.0)
    ours, theirs, given = translators(model, tokenizer, search=beam(tokenizer, size), scores=scores)
    expected, found = (list(side.translate(TEXTS)) for side in (ours, theirs))
    assert [one.text for one in found] == [one.text for one in expected]
    assert len(given) < 3
    pairs = [torch.tensor([one.candidates[0].logprob for one in side]) for side in (found, expected)]
    assert torch.allclose(*pairs, atol=1e-4) == (scores or size > 1)


@pytest.mark.parametrize(("size", "scores"), [(1, True), (5, False)])
def test_a_sentence_with_a_token_that_is_never_written_is_searched_by_the_other(made, tokenizer, size, scores):
    model = with_bias(made(120), tokenizer, [tokenizer.special.unk], 3.0)
    ours, theirs, given = translators(model, tokenizer, search=beam(tokenizer, size), scores=scores)
    assert [one.text for one in theirs.translate(TEXTS)] == [one.text for one in ours.translate(TEXTS)]
    assert len(given) > 5


def test_where_most_sentences_are_searched_by_the_other_it_does_all_the_rest(usual, tokenizer):
    _, theirs, given = translators(usual, tokenizer, search=beam(tokenizer), max_length=1, window=32)
    texts = TEXTS[:32] * 6
    assert len(list(theirs.translate(texts))) == len(texts)
    assert theirs._searched < len(texts) and len(given) >= len(texts) - 64


@pytest.mark.parametrize("patience", [0.4, 1.0, 1.5])
def test_the_n_best_are_the_same_at_every_patience(usual, tokenizer, patience):
    search = beam(tokenizer, normalization="average", n_best=3, patience=patience)
    ours, theirs, _ = translators(usual, tokenizer, search=search)
    for found, expected in zip(theirs.translate(TEXTS), ours.translate(TEXTS), strict=True):
        assert [one.text for one in found.candidates] == [one.text for one in expected.candidates]


@pytest.mark.parametrize(("size", "scores"), [(1, True), (1, False), (5, False)])
@pytest.mark.parametrize("limit", [1, 3])
def test_a_sentence_that_needs_more_tokens_than_it_may_have_is_cut_or_searched_by_the_other(
    usual, tokenizer, size, scores, limit
):
    ours, theirs, given = translators(usual, tokenizer, search=beam(tokenizer, size), max_length=limit, scores=scores)
    expected, found = list(ours.translate(TEXTS)), list(theirs.translate(TEXTS))
    assert [(one.text, one.candidates[0].ended) for one in found] == [
        (one.text, one.candidates[0].ended) for one in expected
    ]
    assert bool(given) == (scores or size > 1)


def test_greedy_search_cuts_each_sentence_at_its_own_limit(made, tokenizer):
    """Hardly trained, the model writes endless translations; a batch has the limit of its longest sentence."""
    ours, theirs, given = translators(
        with_bias(made(5), tokenizer, [tokenizer.special.eos], -9.0), tokenizer, search=beam(tokenizer, 1)
    )
    expected, found = list(ours.translate(TEXTS)), list(theirs.translate(TEXTS))
    assert [(one.text, one.candidates[0].ended) for one in found] == [
        (one.text, one.candidates[0].ended) for one in expected
    ]
    assert not any(one.candidates[0].ended for one in expected)
    assert len({len(one.text.split()) for one in found}) > 5 and not given


@pytest.mark.parametrize("settings", [{"positions": "learned", "max_length": 11}, {"positions": "relative"}])
def test_models_translate_up_to_their_last_position(made, tokenizer, settings):
    ours, theirs, _ = translators(made(20, **settings), tokenizer, search=beam(tokenizer))
    warned = []
    theirs.warn = ours.warn = warned.append
    assert [t.text for t in theirs.translate(TEXTS)] == [t.text for t in ours.translate(TEXTS)]


def test_blank_lines_stay_and_lines_keep_their_places_in_every_batch(usual, tokenizer):
    texts = ["", *TEXTS[:9], " ", *TEXTS[9:]]
    alone = [translators(usual, tokenizer, search=beam(tokenizer))[1].translate([text]) for text in texts]
    together = translators(usual, tokenizer, search=beam(tokenizer), batch_tokens=40, window=11)[1].translate(texts)
    assert [one.text for one in together] == [next(one).text for one in alone]


def test_source_tokens_at_the_front_are_read(usual, tokenizer):
    start = (tokenizer.piece_to_id("fox"),)
    ours, theirs, _ = translators(usual, tokenizer, search=beam(tokenizer), source_start=start)
    plain = translators(usual, tokenizer, search=beam(tokenizer))[1]
    found = [one.text for one in theirs.translate(TEXTS)]
    assert found == [one.text for one in ours.translate(TEXTS)] != [one.text for one in plain.translate(TEXTS)]


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"search": SamplingSettings()}, "--sample"),
        ({"search": BeamSettings(ranking=Ranking(coverage_penalty=0.1))}, "--coverage-penalty"),
        ({"search": BeamSettings(constraints=Constraints(min_length=2))}, "--min-length"),
        ({"search": BeamSettings(constraints=Constraints(no_repeat_ngram=2))}, "--no-repeat-ngram"),
        ({"search": BeamSettings(constraints=Constraints(repetition_penalty=1.1))}, "--repetition-penalty"),
        ({"search": BeamSettings(patience=float("inf"))}, "--beam-patience inf"),
        ({"search": BeamSettings(1, patience=2.0)}, "--beam-patience with --beam-size 1"),
        ({"search": BeamSettings(n_best=2)}, "--n-best with --length-normalization wu"),
        (
            {"search": BeamSettings(ranking=Ranking(-0.5))},
            "--length-penalty below 0 with --length-normalization wu",
        ),
        ({"alignments": True}, "--alignments"),
    ],
)
def test_what_the_library_lacks_is_named(settings, named):
    assert unsupported(TranslatorSettings(**settings)) == [named]
    assert unsupported(TranslatorSettings()) == []
