"""CTranslate2 continues texts with the tokens of our own greedy search, whatever the prompts, window and end."""

from __future__ import annotations

import math
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
import torch
from model_settings import of_family

from nlpcli.convert.ctranslate2_limits import vocabulary
from nlpcli.convert.ctranslate2_out import write_ctranslate2
from nlpcli.decoding import ctranslate2_generator
from nlpcli.decoding.autoregressive import ContextShift
from nlpcli.decoding.constraints import Constraints, never_written
from nlpcli.decoding.ctranslate2_generator import CTranslate2Generator, unsupported
from nlpcli.decoding.greedy import greedy_search
from nlpcli.decoding.stop_conditions import Stop, StopConditions
from nlpcli.models.build import build_model
from nlpcli.text import train_tokenizer

ctranslate2 = pytest.importorskip("ctranslate2", reason="needs the extra 'fast'")

TEXTS = ["the quick brown fox", "a", "jumps over a lazy dog and runs", "over", "far away", "home"]
SIZES = {"kind": "decoder", "d_model": 32, "heads": 2, "d_ff": 48, "decoder_layers": 2, "max_length": 64}


@pytest.fixture(scope="module")
def tokenizer():
    return train_tokenizer("chars", TEXTS, byte_fallback=False)


class Both:
    """A model with random weights in PyTorch and in CTranslate2. biases: added to those of special tokens."""

    def __init__(self, tokenizer, folder, biases=None, **settings):
        torch.manual_seed(3)
        config = of_family({**SIZES, "output_bias": True, "tie": "none", **settings})
        self.model, self.tokenizer = build_model(config, tokenizer.vocab_size).eval(), tokenizer
        for weight in self.model.parameters():
            weight.data += torch.randn_like(weight) * 0.3
        for name, bias in (biases or {}).items():
            self.model.output_bias.data[getattr(tokenizer.special, name)] += bias
        write_ctranslate2(
            folder, config=config, weights=self.model.state_dict(), tokenizer=tokenizer, info={"task": "any"}
        )
        self.library = ctranslate2.Generator(str(folder), compute_type="float32", intra_threads=1)
        self.constraints = Constraints(suppress=never_written(tokenizer.special))

    def ours(self, prefixes, conditions, window=64, watch=None):
        state, context_shift = self.model.init_state(len(prefixes)), ContextShift(self.model.init_state, window)
        found = greedy_search(
            self.model,
            state,
            prefixes,
            conditions,
            constraints=self.constraints,
            context_shift=context_shift,
            watch=watch,
        )
        return [hypotheses[0] for hypotheses in found]

    def theirs(self, prefixes, conditions, window=64, watch=None, scores=True, library=None):
        names = vocabulary(self.tokenizer)
        generator = CTranslate2Generator(library or self.library, names, window=window, scores=scores)
        return generator.greedy_search(prefixes, conditions, constraints=self.constraints, watch=watch)


@pytest.fixture(scope="module")
def made(tokenizer, tmp_path_factory):
    return lambda **settings: Both(tokenizer, tmp_path_factory.mktemp("ct2"), **settings)


@pytest.fixture(scope="module")
def usual(made):
    return made(biases={"eos": 2.0})


@pytest.fixture(scope="module")
def prefixes(tokenizer):
    return tokenizer.encode(TEXTS)


def check_same(found, expected):
    assert [(one.ids, one.ended, one.end) for one in found] == [(one.ids, one.ended, one.end) for one in expected]
    logprobs = [torch.tensor([one.logprob for one in side], dtype=torch.float64) for side in (found, expected)]
    assert torch.allclose(*logprobs, atol=1e-4, rtol=0)


@pytest.mark.parametrize("limit", [1, 2, 20, 40])
def test_tokens_and_log_probabilities_are_those_of_our_search(usual, prefixes, tokenizer, limit):
    conditions = StopConditions(tokenizer.special.eos, limit)
    expected = usual.ours(prefixes, conditions)
    check_same(usual.theirs(prefixes, conditions), expected)
    assert len({one.ids for one in expected}) > 1


def test_some_texts_end_and_others_reach_their_limits(usual, prefixes, tokenizer):
    conditions = StopConditions(tokenizer.special.eos, [30, 4, 5, 30, 1, 9])
    expected = usual.ours(prefixes, conditions)
    check_same(usual.theirs(prefixes, conditions), expected)
    assert {one.ended for one in expected} == {True, False}


@pytest.mark.parametrize("window", [1, 2, 7, 31])
@pytest.mark.parametrize("positions", ["learned", "rotary", "alibi", "relative"])
def test_a_text_continues_beyond_the_window_from_its_last_half(made, prefixes, tokenizer, window, positions):
    both = made(positions=positions, max_length=31)
    cut = [prefix[-window:] for prefix in prefixes]
    conditions = StopConditions(tokenizer.special.eos, 75)
    expected = both.ours(cut, conditions, window)
    check_same(both.theirs(cut, conditions, window), expected)
    assert max(len(one.ids) for one in expected) > 2 * window


@pytest.mark.parametrize(("least", "window"), [(3, 64), (35, 64), (35, 31)])
def test_no_text_ends_before_the_least_number_of_tokens(usual, prefixes, tokenizer, monkeypatch, least, window):
    monkeypatch.setattr(usual, "constraints", replace(usual.constraints, min_length=least))
    expected = usual.ours(prefixes, StopConditions(tokenizer.special.eos, 50), window)
    check_same(usual.theirs(prefixes, StopConditions(tokenizer.special.eos, 50), window), expected)
    assert min(len(one.ids) for one in expected) >= least
    assert any(one.ended for one in expected) == (window == 64)


def test_a_model_without_end_writes_up_to_the_limit(usual, prefixes, tokenizer, monkeypatch):
    endless = Constraints(suppress=never_written(tokenizer.special, end=False))
    monkeypatch.setattr(usual, "constraints", endless)
    expected = usual.ours(prefixes, StopConditions(None, 50))
    check_same(usual.theirs(prefixes, StopConditions(None, 50)), expected)
    assert {len(one.ids) for one in expected} == {50}


def test_tokens_that_are_never_written_are_read_in_prompts_and_change_no_log_probability(made, prefixes, tokenizer):
    both, unknown = made(biases={"unk": 4.0}), tokenizer.special.unk
    strange = [[*prefix, unknown] if place % 2 else [unknown, *prefix] for place, prefix in enumerate(prefixes)]
    conditions = StopConditions(tokenizer.special.eos, 30)
    check_same(both.theirs(strange, conditions), both.ours(strange, conditions))


def test_log_probabilities_that_nobody_wants_are_not_computed(usual, prefixes, tokenizer):
    conditions = StopConditions(tokenizer.special.eos, 20)
    found = usual.theirs(prefixes, conditions, scores=False)
    assert [one.ids for one in found] == [one.ids for one in usual.ours(prefixes, conditions)]
    assert all(math.isnan(one.logprob) and math.isnan(one.score) for one in found)


@pytest.mark.parametrize("window", [64, 31])
def test_a_stop_ends_a_text_with_its_last_token(usual, prefixes, tokenizer, window):
    whole = usual.ours(prefixes, StopConditions(tokenizer.special.eos, 45), window)
    pair = max(whole, key=lambda one: len(one.ids)).ids[10:12]
    stop = Stop(lambda ids: tuple(ids[-2:]) == pair, looks_back=2)
    conditions = StopConditions(tokenizer.special.eos, 45, stop=stop)
    expected = usual.ours(prefixes, conditions, window)
    check_same(usual.theirs(prefixes, conditions, window), expected)
    assert [one.ids for one in expected] != [one.ids for one in whole]


@pytest.mark.parametrize("window", [64, 9])
def test_a_watcher_gets_the_tokens_of_each_text_as_they_are_chosen(usual, prefixes, tokenizer, window):
    cut = [prefix[-window:] for prefix in prefixes]
    conditions = StopConditions(tokenizer.special.eos, 25)
    seen = {place: [] for place in range(len(cut))}
    found = usual.theirs(cut, conditions, window, watch=lambda place, token: seen[place].append(token))
    assert [tuple(seen[place]) for place in range(len(cut))] == [one.ids for one in found]
    assert [one.ids for one in found] == [one.ids for one in usual.ours(cut, conditions, window)]


def test_an_error_of_a_watcher_reaches_the_caller(usual, prefixes, tokenizer):
    def watch(place, token):
        raise BrokenPipeError

    with pytest.raises(BrokenPipeError):
        usual.theirs(prefixes, StopConditions(tokenizer.special.eos, 25), watch=watch)


def test_texts_of_like_length_share_a_batch_and_others_do_not(usual, prefixes, tokenizer):
    batches = []

    class Noting:
        def generate_batch(self, contexts, **options):
            batches.append(([len(context) for context in contexts], options["max_length"]))
            return usual.library.generate_batch(contexts, **options)

    usual.theirs(prefixes, StopConditions(tokenizer.special.eos, 16), scores=False, library=Noting())
    assert batches == [([1], 16), ([4, 4], 16), ([8], 16), ([19], 16), ([30], 16)]


def test_an_interrupted_search_ends_after_the_token_it_computes(usual, prefixes, tokenizer, monkeypatch):
    """The library runs in another thread; what waits for it can be interrupted."""
    begun, caught, tokens, futures = threading.Event(), threading.Event(), [], []

    def watch(place, token):
        tokens.append(token)
        begun.set()
        caught.wait(10)

    def interrupt():
        begun.wait(10)
        raise KeyboardInterrupt

    class Interrupted(ThreadPoolExecutor):
        def submit(self, *arguments, **options):
            future = super().submit(*arguments, **options)
            futures.append(future.result)
            future.result = interrupt
            return future

    monkeypatch.setattr(ctranslate2_generator, "ThreadPoolExecutor", Interrupted)
    with pytest.raises(KeyboardInterrupt):
        usual.theirs(prefixes[:1], StopConditions(None, 40), watch=watch)
    caught.set()
    [result] = futures
    assert len(result(10)) == len(tokens) == 1


def test_no_thread_is_left_behind(usual, prefixes, tokenizer):
    before = threading.active_count()
    usual.theirs(prefixes, StopConditions(tokenizer.special.eos, 5))
    assert threading.active_count() == before


@pytest.mark.parametrize(
    ("constraints", "named"),
    [
        (Constraints(no_repeat_ngram=2), ["--no-repeat-ngram"]),
        (Constraints(repetition_penalty=1.1), ["--repetition-penalty"]),
        (Constraints(suppress=(1, 2), min_length=2), []),
    ],
)
def test_what_the_library_lacks_is_named(constraints, named):
    assert unsupported(constraints) == named
