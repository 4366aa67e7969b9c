"""Tasks as prompts: what is shown, what is measured, and which candidate wins."""

from __future__ import annotations

import json

import pytest
import torch
from model_settings import of_family

from nlpcli.commands.generate.prompt_data import read_records
from nlpcli.commands.generate.prompt_layout import Demonstrations
from nlpcli.commands.generate.prompt_template import Case, Record, read_template
from nlpcli.commands.generate.prompting import Prompter, PromptRequest
from nlpcli.config.transformer_settings import TransformerConfig
from nlpcli.data.columns import Columns
from nlpcli.errors import NlpcliError
from nlpcli.models.build import build_model
from nlpcli.models.model_folder import load_model, save_model
from nlpcli.text import train_tokenizer

LINES = [
    "good film, a positive review", "bad film, a negative one", "It is: positive\n\nIt is: negative\n",
    "Film or not?\n--\ngood", "a film is not a good review of what it is: review the film", "not bad, not good",
] * 9  # fmt: skip
FILMS = "text\tlabel\na good film\tpos\na bad film\tneg\nfilm, film\tpos\n"
REVIEWS = {"prompt": "{text}\nIt is:", "labels": {"pos": "positive", "neg": "negative"}}


@pytest.fixture(scope="module", params=["byte-bpe", "unigram"])
def tokenizer(request):
    size = {"byte-bpe": 290, "unigram": 44}[request.param]
    return train_tokenizer(request.param, LINES, vocab_size=size, byte_fallback=False, seed=1)


@pytest.fixture
def write(tmp_path):
    """Writes files: YAML and JSON out of plain data, text as it is."""

    def it(name, content):
        path = tmp_path / name
        path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
        return path

    return it


@pytest.fixture
def model(tmp_path):
    def it(tokenizer, kind="decoder", task="language-model", info=None, **shape):
        torch.manual_seed(5)
        sizes = {"d_model": 16, "heads": 2, "d_ff": 16, "encoder_layers": 1, "decoder_layers": 1, "max_length": 80}
        config = of_family({"kind": kind, **sizes, "positions": "learned", **shape})
        body = build_model(config, tokenizer.vocab_size)
        if hasattr(body, "output_weight"):
            body.output_weight.data.mul_(8)
        path = tmp_path / "model"
        save_model(
            path, weights=body.state_dict(), config=config, tokenizer=tokenizer, info={"task": task, **(info or {})}
        )
        return path

    return it


@pytest.fixture
def solve(write):
    """The answers to some data, the scores, and the messages and warnings."""

    def it(model, template, data=FILMS, name="dev.tsv", **settings):
        messages: list[str] = []
        if "examples" in settings:
            settings["examples"] = str(write("train.tsv", settings["examples"]))
        job = PromptRequest(write("task.yaml", template), str(write(name, data)), model, device="cpu", **settings)
        prompter = Prompter(job, notify=messages.append, warn=messages.append)
        answers = [answer for portion in prompter.answers() for answer in portion]
        return answers, prompter.scores(), messages

    return it


# --- ranking -----------------------------------------------------------------------------------------------------


def brute_force(path, context, text):
    """log P(text | context) and its tokens, the border left where all candidates still agree."""
    loaded = load_model(path)
    ids = {name: loaded.tokenizer.encode([context + f" {name}"])[0] for name in ("positive", "negative")}
    before = loaded.tokenizer.encode([context])[0]
    common = 0
    while len({*(row[common : common + 1][0] if row[common:] else -1 for row in (before, *ids.values()))}) == 1:
        common += 1
        if common == len(before):
            break
    whole = ids[text.strip()]
    with torch.no_grad():
        logprobs = loaded.model(torch.tensor([whole]))[0].double().log_softmax(-1)
    return sum(float(logprobs[i - 1, whole[i]]) for i in range(common, len(whole))), len(whole) - common


@pytest.mark.parametrize("normalize", ["none", "tokens", "unconditional"])
def test_candidates_are_ranked_as_by_single_passes_over_each_text(model, solve, tokenizer, normalize):
    path = model(tokenizer)
    template = {**REVIEWS, "normalize": normalize}
    if normalize == "unconditional":
        template["answer_context"] = "It is:"
    answers, [score], _ = solve(path, template)
    for answer, context in zip(answers, ["a good film", "a bad film", "film, film"], strict=True):
        found = []
        for candidate in answer.candidates:
            logprob, tokens = brute_force(path, f"{context}\nIt is:", candidate.text)
            assert candidate.logprob == pytest.approx(logprob, abs=1e-4)
            assert candidate.tokens == tokens
            base = brute_force(path, "It is:", candidate.text)[0] if normalize == "unconditional" else 0.0
            found.append((logprob - base) / (tokens if normalize == "tokens" else 1))
            assert candidate.score == pytest.approx(found[-1], abs=1e-4)
        assert answer.prediction == ("pos" if found[0] >= found[1] else "neg")
    right = sum(a.prediction == gold for a, gold in zip(answers, ["pos", "neg", "pos"], strict=True))
    assert score.value == pytest.approx(100 * right / 3)


def test_an_encoder_decoder_scores_whole_answers_given_the_prompt_as_its_source(model, solve, tokenizer):
    path = model(tokenizer, "encoder-decoder", "denoising")
    answers, _, _ = solve(path, REVIEWS)
    loaded, special = load_model(path), tokenizer.special
    source = torch.tensor([[*tokenizer.encode(["a good film\nIt is:"])[0], special.eos]])
    for candidate, word in zip(answers[0].candidates, ["positive", "negative"], strict=True):
        goal = [*tokenizer.encode([word])[0], special.eos]
        with torch.no_grad():
            logits = loaded.model(source, None, torch.tensor([[special.bos, *goal[:-1]]]))[0]
        wanted = float(logits.double().log_softmax(-1).gather(1, torch.tensor(goal)[:, None]).sum())
        assert candidate.logprob == pytest.approx(wanted, abs=1e-4)


def test_a_model_with_memory_reads_prompts_in_segments(model, solve, tokenizer):
    shape = {"family": "transformer-xl", "memory_length": 7, "info": {"context": 5}}
    answers, _, _ = solve(model(tokenizer, **shape), REVIEWS)
    one, _, _ = solve(model(tokenizer, **shape), REVIEWS, batch_tokens=1)
    for first, second in zip(answers, one, strict=True):
        assert first.prediction == second.prediction
        assert [c.logprob for c in first.candidates] == pytest.approx([c.logprob for c in second.candidates], abs=1e-4)


def test_a_multiple_choice_has_its_own_candidates_and_names_them_as_the_data_do(model, solve, tokenizer):
    data = "q\tone\ttwo\tlabel\nfilm\tgood\tbad\tB\nfilm\tnegative\tpositive\tA\n"
    template = {"prompt": "{q}:", "choices": ["one", "two"], "first_choice": "A"}
    answers, [score], _ = solve(model(tokenizer), template, data)
    assert [[(c.label, c.text) for c in answer.candidates] for answer in answers] == [
        [("A", " good"), ("B", " bad")],
        [("A", " negative"), ("B", " positive")],
    ]
    assert score.details["examples"] == 2
    named, _, _ = solve(model(tokenizer), {"prompt": "{q}:", "choices": {"A": "one", "B": "two"}}, data)
    assert [answer.candidates for answer in named] == [answer.candidates for answer in answers]


def test_a_list_in_json_lines_holds_candidates_and_a_label_may_be_their_text(model, solve, tokenizer):
    data = '{"q": "film", "choices": ["good", "bad", "positive"], "answer": "bad"}\n'
    answers, _, _ = solve(model(tokenizer), {"prompt": "{q}:", "choices": "choices"}, data, "dev.jsonl")
    assert answers[0].references == ("1",) and len(answers[0].candidates) == 3


# --- examples that are shown -------------------------------------------------------------------------------------


def test_prompts_show_examples_with_their_answers_below_the_instruction(model, solve, tokenizer):
    template = {**REVIEWS, "instruction": "Film or not?", "separator": "\n--\n"}
    answers, _, messages = solve(model(tokenizer), template, shots=1, examples="text\tlabel\ngood\tpos\n")
    assert answers[0].prompt == "Film or not?\n--\ngood\nIt is: positive\n--\na good film\nIt is:"
    assert (answers[0].shots, messages) == (1, [])


def cases(count):
    return [Case(f"text {i}", "", {}, None, f" answer {i}", f"train:{i}") for i in range(count)]


def test_examples_are_drawn_by_seed_and_number_without_the_prompt_itself():
    pool = cases(6)
    for number in range(20):
        shown = Demonstrations(pool, 5, 1).sampled(number, pool[number % 6])
        assert shown == Demonstrations(pool, 5, 1).sampled(number, pool[number % 6])
        assert sorted(case.place for case in [*shown, pool[number % 6]]) == [case.place for case in pool]
    orders = {tuple(case.place for case in Demonstrations(pool, 3, seed).sampled(0, pool[0])) for seed in range(20)}
    assert len(orders) > 5


def test_a_prompt_that_is_too_long_loses_its_oldest_examples_first_and_says_so(model, solve, tokenizer):
    examples = "text\tlabel\n" + "".join(f"good film, {'bad ' * i}film\tpos\n" for i in range(6))
    full, _, _ = solve(model(tokenizer, max_length=900), REVIEWS, shots=5, examples=examples)
    answers, _, messages = solve(model(tokenizer, max_length=60), REVIEWS, shots=5, examples=examples)
    for answer, whole in zip(answers, full, strict=True):
        assert answer.shots < whole.shots == 5
        shots = whole.prompt.split("\n\n")
        assert answer.prompt == "\n\n".join(shots[5 - answer.shots :])
    [line] = messages
    assert line == (
        f"3 of 3 prompts contain fewer than 5 examples (at least {min(a.shots for a in answers)}), because "
        "the model's maximum is 60 tokens"
    )


def test_an_example_that_is_too_long_alone_is_cut_from_its_beginning_and_named(model, solve, tokenizer):
    path = model(tokenizer, max_length=30)
    answers, _, messages = solve(path, REVIEWS, f"text\tlabel\n{'bad ' * 30}film\tneg\n")
    assert len(answers) == 1
    assert "dev.tsv:2: the prompt has " in messages[0]
    assert (
        "tokens and is truncated to its last " in messages[0] and "maximum for prompt and answer is 30" in messages[0]
    )


def test_an_answer_without_room_for_a_prompt_is_refused(model, solve, tokenizer):
    with pytest.raises(NlpcliError, match=r"dev.tsv:2: an answer may have 40 tokens, so no token is left"):
        solve(model(tokenizer, max_length=20), {"prompt": "{text}", "max_new_tokens": 40})


# --- written answers ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["decoder", "encoder-decoder", "transformer-xl"])
@pytest.mark.parametrize("beam_size", [1, 3])
def test_a_written_answer_ends_before_the_stop_text_and_does_not_depend_on_the_batch(
    model, solve, tokenizer, kind, beam_size
):
    shape = {"kind": kind} if "-xl" not in kind else {"family": kind, "memory_length": 9}
    template = {"prompt": "{text}:", "stop": [" ", "\n", "i"], "max_new_tokens": 9, "beam_size": beam_size}
    path = model(tokenizer, **shape)
    answers, scores, _ = solve(path, template)
    for answer in answers:
        assert not any(stop in answer.prediction for stop in (" ", "\n", "i"))
        assert answer.logprob < 0 and not answer.candidates
    alone, _, _ = solve(path, template, batch_tokens=1)
    assert [a.prediction for a in alone] == [a.prediction for a in answers]
    assert [score.name for score in scores] == ["EM"]


def test_written_answers_are_measured_by_any_metric_of_texts(model, solve, tokenizer):
    data = '{"q": "film", "answer": ["good", "bad film"]}\n{"q": "good film", "answer": ["film"]}\n'
    template = {"prompt": "{q}", "metric": ["answer-f1", "bleu", "accuracy"], "max_new_tokens": 4}
    _, scores, _ = solve(model(tokenizer), template, data, "dev.jsonl")
    assert [score.signature.split("|")[0] for score in scores] == ["answer-F1", "BLEU", "accuracy"]
    assert "nrefs:var" in scores[1].signature


def test_examples_without_a_label_are_answered_and_not_measured(model, solve, tokenizer):
    answers, scores, messages = solve(model(tokenizer), REVIEWS, "text\ngood\nbad\n", columns=Columns(header="yes"))
    assert len(answers) == 2 and scores == []
    assert messages == ["no example has a label, so no score is computed"]


def test_answers_before_a_bad_line_are_given(model, write, tokenizer):
    data = write("dev.tsv", FILMS + "x\tgood\n")
    prompter = Prompter(PromptRequest(write("t.yaml", REVIEWS), str(data), model(tokenizer)), notify=print, warn=print)
    portions = prompter.answers()
    assert len(next(portions)) == 3
    with pytest.raises(NlpcliError, match=r"dev.tsv:5: the label 'good' is not one of pos, neg"):
        next(portions)


# --- data --------------------------------------------------------------------------------------------------------


def test_columns_without_a_header_are_numbers_and_the_one_left_is_the_label(write):
    path = write("a.tsv", "good film\tbad one\t1\n")
    [record] = read_records(path, Columns(), {"1", "2"})
    assert (record.fields["2"], record.label) == ("bad one", ("1",))
    [record] = read_records(path, Columns(), {"text", "text2"})
    assert (record.fields["text2"], record.label) == ("bad one", ("1",))


def test_a_first_row_with_a_name_of_the_template_is_a_header(write):
    path = write("a.tsv", "q\tlabel\nfilm\tgood\n")
    assert [record.label for record in read_records(path, Columns(), {"q"})] == [("good",)]
    assert len(list(read_records(path, Columns(header="no"), {"1"}))) == 2


def test_text_stands_for_the_column_that_holds_the_text(write):
    path = write("a.tsv", "id\tsentence1\tsentence2\tscore\n7\ta\tb\t5\n")
    [record] = read_records(path, Columns(), {"text", "text2"})
    assert (record.fields["text"], record.fields["text2"], record.label) == ("a", "b", ("5",))
    [record] = read_records(path, Columns(text="sentence2", label="id"), {"text"})
    assert (record.fields["text"], record.label) == ("b", ("7",))


def test_a_requested_column_is_taken_even_beside_one_called_text(write):
    path = write("a.tsv", "text\tbody\tlabel\na\tb\tc\n")
    [record] = read_records(path, Columns(text="body"), {"text"})
    assert (record.fields["text"], record.label) == ("b", ("c",))


def test_squads_questions_have_all_their_answers_once(write):
    answers = [{"text": "a", "answer_start": 0}, {"text": "a", "answer_start": 0}, {"text": "b", "answer_start": 2}]
    paragraph = {"context": "a b", "qas": [{"id": "1", "question": "q?", "answers": answers}]}
    path = write("dev.json", {"version": "1.1", "data": [{"title": "t", "paragraphs": [paragraph]}]})
    [record] = read_records(path, Columns(), {"question"})
    assert (record.fields["question"], record.fields["context"], record.label) == ("q?", "a b", ("a", "b"))


# --- templates ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ({"prompt": "a", "lable": "b"}, "unknown key 'lable'"),
        ({"prompt": "a } b"}, "prompt: the text contains a brace without its partner"),
        ({"prompt": "a {} b"}, "do not contain the name of a column"),
        ({"prompt": "{label}"}, "which is the answer"),
        ({"prompt": "a", "label": "x"}, "must contain {label}"),
        ({"prompt": "a", "labels": {"x": "y"}}, "labels must contain at least 2 labels"),
        (
            {"prompt": "a", "labels": {"x": "y", "z": "w"}, "choices": ["a", "b"]},
            "labels and choices can't be used together",
        ),
        ({"prompt": "a", "normalize": "tokens"}, "normalize has no effect without labels or choices"),
        ({"prompt": "a", "choices": ["a", "b"], "stop": "."}, "stop has no effect where candidates are ranked"),
        ({"prompt": "a", "choices": ["a", "b"], "answer_context": "."}, "unless normalize is unconditional"),
        ({"prompt": "a", "labels": {"x": "y", "z": "w"}, "first_choice": 1}, "where the candidates are named"),
        ({"prompt": "a", "length_penalty": 1}, "with a beam of 1"),
        ({"prompt": "a", "stop": ""}, "an empty text"),
    ],
)
def test_templates_that_make_no_sense_are_refused(write, template, message):
    with pytest.raises(NlpcliError) as caught:
        read_template(write("task.yaml", template))
    assert message in caught.value.message and "task.yaml" in caught.value.message


def test_truth_values_of_yaml_are_no_labels(write):
    with pytest.raises(NlpcliError, match="quotation marks"):
        read_template(write("task.yaml", "prompt: a\nlabels: {yes: Yes it is, no: No}\n"))


def test_numbers_are_labels_and_braces_can_be_written(write):
    template = read_template(write("task.yaml", 'prompt: "{{{a}}}"\nlabels: {1: yes it is, 0: "no"}\n'))
    case = template.case(Record({"a": "x"}, ("0",), "dev:1"))
    assert (case.prompt, case.completion, case.references) == ("{x}", " no", ("0",))


def test_a_column_that_is_not_there_is_named_with_those_that_are(write):
    template = read_template(write("task.yaml", {"prompt": "{texts}"}))
    with pytest.raises(NlpcliError, match="dev:1: the column 'texts', which") as caught:
        template.case(Record({"text": "x", "id": "1"}, None, "dev:1"))
    assert caught.value.hint == "did you mean 'text'? the columns are: text, id"


# --- models and calls that don't go together ---------------------------------------------------------------------


def test_an_encoder_is_refused_in_words(model, solve, tokenizer):
    with pytest.raises(NlpcliError, match="is an encoder"):
        solve(model(tokenizer, "encoder", "encoder"), REVIEWS)


def test_a_model_with_a_tasks_head_is_refused_in_words(solve, tokenizer, tmp_path):
    config = TransformerConfig(kind="decoder", d_model=16, heads=2, d_ff=16, decoder_layers=1)
    head = {"kind": "text", "outputs": 2, "pooling": "last", "dense": False, "dropout": 0.0, "layers": "last"}
    body = build_model(config, tokenizer.vocab_size, head)
    info = {"task": "classify", "head": head}
    save_model(tmp_path / "model", weights=body.state_dict(), config=config, tokenizer=tokenizer, info=info)
    with pytest.raises(NlpcliError, match="was fine-tuned for classify"):
        solve(tmp_path / "model", REVIEWS)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"shots": 2}, "--shots 2 needs a file of examples"),
        ({"shots": -1}, "--shots must be at least 0, not -1"),
        ({"examples": FILMS}, "--examples has no effect without --shots"),
        (
            {"shots": 4, "examples": FILMS},
            "--shots 4 needs 4 examples with an answer, but the file of --examples contains only 3",
        ),
    ],
)
def test_shots_that_cannot_be_shown_are_refused(model, solve, tokenizer, settings, message):
    with pytest.raises(NlpcliError, match=message):
        solve(model(tokenizer), REVIEWS, **settings)


def test_a_column_that_the_template_does_not_show_is_reported(model, solve, tokenizer):
    _, _, messages = solve(model(tokenizer), {"prompt": "{label_text}:"}, "label_text\na\n", columns=Columns(text="1"))
    assert messages[0] == "--text has no effect, because the template does not contain {text}"


def test_a_metric_that_does_not_fit_is_refused(model, solve, tokenizer):
    with pytest.raises(NlpcliError, match="metric bleu can't score candidates"):
        solve(model(tokenizer), {**REVIEWS, "metric": "bleu"})
