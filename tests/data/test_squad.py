from __future__ import annotations

import io
import json
import lzma
import sys
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nlpcli.data.examples import Answer, Example
from nlpcli.data.squad import parse_question, read_answers, read_questions
from nlpcli.errors import NlpcliError

CONTEXT = "The Broncos beat the Panthers. The Broncos won 24–10."


def write(path, content):
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def squad(*questions, context=CONTEXT, **settings):
    data = {"data": [{"title": "Bowl", "paragraphs": [{"context": context, "qas": list(questions)}]}], "version": "1.1"}
    return json.dumps(data, **settings)


def question(id="q1", answers=((4, "Broncos"),), **more):
    answers = [{"answer_start": start, "text": text} for start, text in answers]
    return {"question": "Who won?", "id": id, "answers": answers} | more


def impossible(id="q2", **more):
    plausible = [{"text": "Panthers", "answer_start": 21}]
    return question(id, (), is_impossible=True, plausible_answers=plausible) | more


def test_questions_have_their_context_and_all_their_answers(tmp_path):
    path = write(tmp_path / "dev.json", squad(question(answers=[(4, "Broncos"), (31, "The Broncos")]), question("q2")))
    first, second = read_questions(path)
    answers = (Answer("Broncos", 4), Answer("The Broncos", 31))
    assert first == Example(("Who won?", CONTEXT), answers, f"{path}, question q1", "q1")
    assert second.id == "q2"


def test_questions_of_the_second_version_may_have_no_answer(tmp_path):
    path = write(tmp_path / "dev.json.xz", lzma.compress(squad(impossible(), question(is_impossible=False)).encode()))
    assert [example.label for example in read_questions(path)] == [(), (Answer("Broncos", 4),)]
    path = write(tmp_path / "dev.json", squad({"question": "Who?", "id": 3, "is_impossible": True}))
    assert [(example.id, example.label) for example in read_questions(path)] == [("3", ())]


@given(st.text(min_size=1, max_size=30), st.data())
def test_every_part_of_a_context_is_an_answer_where_it_stands(tmp_path_factory, context, data):
    if any("\ud800" <= character <= "\udfff" for character in context):
        return
    start = data.draw(st.integers(0, len(context) - 1))
    end = data.draw(st.integers(start + 1, len(context)))
    content = squad(
        question(answers=[(start, context[start:end])]), context=context, indent=data.draw(st.none() | st.just(1))
    )
    (example,) = read_questions(write(tmp_path_factory.mktemp("t") / "a.json", content))
    assert example.label == (Answer(context[start:end], start),)


def test_json_lines_have_a_question_each(tmp_path):
    record = {"id": "a", "question": "Who?", "context": CONTEXT}
    both = [record | {"answers": {"text": ["Broncos"], "answer_start": [4]}}, record | {"answers": []}]
    path = write(tmp_path / "a.jsonl", "\n".join(map(json.dumps, both)))
    read = list(read_questions(path))
    assert [(example.label, example.place) for example in read] == [
        ((Answer("Broncos", 4),), f"{path}:1"),
        ((), f"{path}:2"),
    ]


def test_questions_come_from_standard_input_and_need_no_answers_to_be_asked(monkeypatch):
    content = json.dumps({"question": "Who?", "context": CONTEXT}).encode()
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(content)))
    assert list(read_questions("-", labelled=False)) == [Example(("Who?", CONTEXT), None, "<stdin>:1")]
    assert parse_question(json.loads(content), place="p").label is None
    with pytest.raises(NlpcliError, match="p: no answers"):
        parse_question(json.loads(content), place="p", labelled=True)


# Answers that are wrong

BAD = {
    "elsewhere": (question("bad", [(5, "Broncos")]), "'Broncos' does not stand in its context at 5", "it stands at 4"),
    "nearest": (question("bad", [(33, "Broncos")]), "does not stand in its context at 33", "it stands at 35"),
    "nowhere": (
        question("bad", [(4, "Bears")]),
        "the answer 'Bears' does not stand",
        "it does not stand in the context at all",
    ),
    "beyond": (question("bad", [(400, "Broncos")]), "starts at 400, outside its context of 53 characters", None),
    "before": (question("bad", [(-1, "The")]), "starts at -1, outside its context", None),
    "over the end": (question("bad", [(47, "24–10. And")]), "does not stand in its context at 47", None),
    "empty": (question("bad", [(4, "")]), "an empty answer", None),
    "answered": (question("bad", is_impossible=True), "marked as impossible, but it has the answer 'Broncos'", None),
    "second": (question("bad", [(4, "Broncos"), (5, "Broncos")]), "does not stand in its context at 5", None),
}


@pytest.mark.parametrize("name", BAD)
def test_an_answer_its_context_does_not_bear_out_is_named(tmp_path, name):
    record, message, hint = BAD[name]
    path = write(tmp_path / "dev.json", squad(question(), record, question("last")))
    with pytest.raises(NlpcliError) as raised:
        list(read_questions(path))
    assert raised.value.message.startswith(f"{path}, question bad: ")
    assert message in raised.value.message
    assert hint in (None, raised.value.hint)


def test_bad_answers_can_be_collected_while_the_other_questions_are_read(tmp_path):
    records = [record for record, _, _ in BAD.values()]
    path = write(tmp_path / "dev.json", squad(question(), *records, question("last")))
    bad: list[NlpcliError] = []
    assert [example.id for example in read_questions(path, on_bad=bad.append)] == ["q1", "last"]
    assert len(bad) == len(BAD)


def test_without_spans_every_question_is_read_and_its_answers_start_where_they_stand(tmp_path):
    path = write(tmp_path / "dev.json", squad(*(record for record, _, _ in BAD.values())))
    read = list(read_questions(path, spans=False))
    assert [[answer.start for answer in example.label] for example in read] == [
        [4], [35], [None], [35], [0], [None], [None], [4], [4, 4],
    ]  # fmt: skip
    assert read == list(read_questions(path, labelled=False))
    assert [found.texts for found in read_answers(path)] == [
        tuple(answer.text for answer in example.label) for example in read
    ]


@pytest.mark.parametrize("start", [None, "x", -1, 10**6, 4.5, "1" * 5000, [4], True])
def test_right_answers_are_read_without_questions_contexts_or_starts(tmp_path, start):
    record = {"id": "q1", "answers": [{"text": "Broncos", "answer_start": start}, {"text": "The Broncos"}]}
    for name, content in (
        ("a.jsonl", json.dumps(record)),
        ("a.json", json.dumps({"data": [{"paragraphs": [{"qas": [record]}]}]}, indent=1)),
        ("b.jsonl", json.dumps({"id": "q1", "answers": {"text": ["Broncos", "The Broncos"], "answer_start": start}})),
    ):
        (found,) = read_answers(write(tmp_path / name, content))
        assert (found.id, found.texts) == ("q1", ("Broncos", "The Broncos"))


def test_a_number_of_thousands_of_digits_is_no_start(tmp_path):
    content = squad(question(answers=[("START", "The")])).replace('"START"', "9" * 5000)
    path = write(tmp_path / "dev.json", content)
    with pytest.raises(NlpcliError, match=r"'answer_start' is .{40}, not a number"):
        list(read_questions(path))


# Files that are wrong


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.json", "", r"a.json: is empty"),
        ("a.json", '\n{\n"data": [}', r"a.json:3: not valid JSON"),
        ("a.json", "[\n1]", r"a.json:2: not a JSON object in the list"),
        ("a.json", '{"data": {}}', r"a.json: not SQuAD's format"),
        ("a.json", '{"data": []}', r"a.json: no questions in it"),
        ("a.json", '{"data": [{"title": "x"}]}', r"a.json, article 1: there is no 'paragraphs'"),
        (
            "a.json",
            '{"data": [{"paragraphs": [{"qas": []}]}]}',
            r"a.json, article 1, paragraph 1: there is no 'context'",
        ),
        (
            "a.json",
            '{"data": [{"paragraphs": [{"context": "x", "qas": ["y"]}]}]}',
            r"paragraph 1: there is no 'question'",
        ),
        ("a.json", squad({"id": "q", "question": "?"}), r"a.json, question q: no answers"),
        ("a.json", squad({"id": "q", "question": "?", "answers": "x"}), r"a.json, question q: 'answers' is no list"),
        ("a.json", squad(question(answers=[("x", "The")])), r"""question q1: 'answer_start' is "x", not a number"""),
        ("a.jsonl", '{"question": "?", "context": "c", "answers": []}\n{', r"a.jsonl:2: not valid JSON"),
        ("a.jsonl", '{"question": "?", "context": []}', r"a.jsonl:1: it is not a text: 'context'"),
        (
            "a.jsonl",
            '{"question": "?", "context": "c", "answers": {"text": ["c"], "answer_start": []}}',
            r"1: 1 texts of",
        ),
        ("a.json", b"\x89PNG\x00", r"a.json:1: (not valid UTF-8|the line has a zero byte)"),
    ],
)
def test_what_is_not_squad_is_named_with_its_place(tmp_path, name, content, message):
    with pytest.raises(NlpcliError, match=message):
        list(read_questions(write(tmp_path / name, content)))
