from __future__ import annotations

import gzip
import json

import pytest

from nlpcli.data.suites import SUITES, candidate_of, group_of, read_suite
from nlpcli.errors import NlpcliError


def put(folder, name, content):
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def lines(*rows):
    return "".join("\t".join(row) + "\n" for row in rows)


def objects(*records):
    return "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records)


def found(suite, folder):
    return {task.task.name: task for task in read_suite(suite, folder)}


def only(suite, folder, split="dev", part="", **settings):
    (task,) = read_suite(suite, folder)
    return list(task.read(split, part, **settings))


# GLUE

GLUE = {  # with | for tabs
    "CoLA/dev.tsv": "gj04|1||The sailors rode the breeze.\ngj04|0|*|The car honked down.\n",
    "SST-2/dev.tsv": 'sentence|label\nit "s a charming journey |1\nbleak |0\n',
    "MRPC/dev.tsv": '\ufeffQuality|#1 ID|#2 ID|#1 String|#2 String\n1|10|11|He said "no|He said no\n',
    "QQP/dev.tsv": "id|qid1|qid2|question1|question2|is_duplicate\n7|15|16|Why?|Why not?|0\n",
    "STS-B/dev.tsv": "index|genre|filename|year|old_index|source1|source2|sentence1|sentence2|score\n"
    "0|main-captions|MSRvid|2012test|0000|none|none|A man.|A woman.|5.000\n",
    "MNLI/dev_matched.tsv": "index|promptID|pairID|genre|sentence1_binary_parse|sentence2_binary_parse|sentence1_parse|"
    "sentence2_parse|sentence1|sentence2|label1|label2|label3|label4|label5|gold_label\n"
    "0|63735|63735n|slate|( x )|( y )|(X)|(Y)|New.|Old.|entailment|neutral|neutral|neutral|neutral|neutral\n",
    "MNLI/dev_mismatched.tsv": "index|sentence1|sentence2|gold_label\n0|A|B|entailment\n",
    "QNLI/dev.tsv": "index|question|sentence|label\n0|What?|That.|not_entailment\n",
    "RTE/dev.tsv": "index|sentence1|sentence2|label\n0|A|B|entailment\n",
    "WNLI/dev.tsv": "index|sentence1|sentence2|label\n0|A|B|0\n",
    "diagnostic-full.tsv": "Lexical Semantics|Predicate-Argument Structure|Logic|Knowledge|Domain|Premise|Hypothesis|"
    "Label\n||Negation||Artificial|The cat sat.|No cat sat.|contradiction\n",
}


@pytest.fixture
def glue(tmp_path):
    for name, rows in GLUE.items():
        put(tmp_path, name, rows.replace("|", "\t"))
    return tmp_path


def test_every_task_of_glue_is_found_and_read(glue):
    tasks = found("glue", glue)
    assert list(tasks) == [task.name for task in SUITES["glue"]]
    read = {
        (name, part): [(example.texts, example.label) for example in task.read("dev", part)]
        for name, task in tasks.items()
        for part in task.files["dev"]
    }
    assert read == {
        ("CoLA", ""): [(("The sailors rode the breeze.",), "1"), (("The car honked down.",), "0")],
        ("SST-2", ""): [(('it "s a charming journey ',), "1"), (("bleak ",), "0")],
        ("MRPC", ""): [(('He said "no', "He said no"), "1")],
        ("QQP", ""): [(("Why?", "Why not?"), "0")],
        ("STS-B", ""): [(("A man.", "A woman."), "5.000")],
        ("MNLI", "matched"): [(("New.", "Old."), "neutral")],
        ("MNLI", "mismatched"): [(("A", "B"), "entailment")],
        ("QNLI", ""): [(("What?", "That."), "not_entailment")],
        ("RTE", ""): [(("A", "B"), "entailment")],
        ("WNLI", ""): [(("A", "B"), "0")],
        ("AX", ""): [(("The cat sat.", "No cat sat."), "contradiction")],
    }


def test_test_sets_of_glue_have_headers_of_their_own_and_no_labels(tmp_path):
    put(tmp_path, "CoLA/test.tsv", lines(("index", "sentence"), ("0", "Bill whistled past the house.")))
    put(tmp_path, "SST-2/test.tsv", lines(("index", "sentence"), ("0", "uneasy mishmash of styles .")))
    put(tmp_path, "MRPC/test.tsv", lines(("index", "#1 ID", "#2 ID", "#1 String", "#2 String"), tuple("01234")))
    put(tmp_path, "QQP/test.tsv", lines(("id", "question1", "question2"), ("0", "A?", "B?")))
    put(tmp_path, "MNLI/AX.tsv", lines(("index", "sentence1", "sentence2"), ("0", "The cat sat.", "The cat did not.")))
    read = {name: list(task.read("test", labelled=False)) for name, task in found("glue", tmp_path).items()}
    assert {name: example.texts for name, (example,) in read.items()} == {
        "CoLA": ("Bill whistled past the house.",),
        "SST-2": ("uneasy mishmash of styles .",),
        "MRPC": ("3", "4"),
        "QQP": ("A?", "B?"),
        "AX": ("The cat sat.", "The cat did not."),
    }
    assert all(example.label is None for (example,) in read.values())


def test_damaged_rows_of_training_data_are_left_out_and_those_of_dev_data_are_named(tmp_path):
    header = ("id", "qid1", "qid2", "question1", "question2", "is_duplicate")
    good, short = ("1", "2", "3", "A?", "B?", "1"), ("4", "5", "6", "cut off")
    put(tmp_path, "QQP/train.tsv", lines(header, short, good))
    put(tmp_path, "QQP/dev.tsv", lines(header, good, short))
    assert [example.id for example in only("glue", tmp_path, "train")] == ["1"]
    with pytest.raises(NlpcliError, match=r"dev.tsv:3: the row has 4 columns, but the header has 6"):
        only("glue", tmp_path, "dev")


def test_paraphrases_of_the_makers_are_parted_by_the_ids_of_glue(tmp_path):
    header = ("\ufeffQuality", "#1 ID", "#2 ID", "#1 String", "#2 String")
    rows = [("1", str(i), str(i + 100), f"left {i}", f"right {i}") for i in range(6)]
    put(tmp_path, "MRPC/msr_paraphrase_train.txt.gz", gzip.compress(lines(header, *rows).encode()))
    with pytest.raises(NlpcliError, match="contains no task of glue"):
        read_suite("glue", tmp_path)
    put(tmp_path, "MRPC/dev_ids.tsv", lines(("1", "101"), ("4", "104")))
    put(tmp_path, "MRPC/msr_paraphrase_test.txt", lines(header, rows[0]))
    assert [example.texts[0] for example in only("glue", tmp_path, "dev")] == ["left 1", "left 4"]
    assert [example.texts[0] for example in only("glue", tmp_path, "train")] == ["left 0", "left 2", "left 3", "left 5"]
    assert [example.label for example in only("glue", tmp_path, "test")] == ["1"]


# SuperGLUE and Russian SuperGLUE


def test_pairs_of_superglue_are_read_as_they_are(tmp_path):
    put(tmp_path, "BoolQ/val.jsonl", objects({"question": "is it", "passage": "It is.", "idx": 0, "label": True}))
    put(tmp_path, "CB/val.jsonl", objects({"premise": "A", "hypothesis": "B", "label": "neutral", "idx": 23}))
    put(tmp_path, "RTE/val.jsonl", objects({"premise": "A", "hypothesis": "B", "label": "entailment", "idx": 0}))
    record = {"sentence1": "A", "sentence2": "B", "idx": "0", "label": "entailment", "logic": "Negation"}
    put(tmp_path, "AX-b/AX-b.jsonl", objects(record))
    record = {"premise": "A", "hypothesis": "B", "label": "not_entailment", "idx": 1, "pair_id": 2}
    put(tmp_path, "AX-g/AX-g.jsonl", objects(record))
    read = {name: next(task.read("dev")) for name, task in found("superglue", tmp_path).items()}
    assert {name: (example.texts, example.label) for name, example in read.items()} == {
        "BoolQ": (("is it", "It is."), "true"),
        "CB": (("A", "B"), "neutral"),
        "RTE": (("A", "B"), "entailment"),
        "AX-b": (("A", "B"), "entailment"),
        "AX-g": (("A", "B"), "not_entailment"),
    }
    assert read["CB"].id == "23"


def test_copa_is_a_question_with_two_choices(tmp_path):
    record = {"premise": "My body cast a shadow.", "choice1": "The sun was rising.", "choice2": "The grass was cut."}
    put(tmp_path, "COPA/val.jsonl", objects(record | {"question": "cause", "label": 0, "idx": 0}))
    put(tmp_path, "COPA/test.jsonl", objects(record | {"question": "effect", "idx": 1}))
    (example,) = only("superglue", tmp_path)
    assert example.texts == (
        "My body cast a shadow. What was the cause of this?", "The sun was rising.", "The grass was cut.",
    )  # fmt: skip
    assert example.label == "0"
    (example,) = only("superglue", tmp_path, "test", labelled=False)
    assert example.texts[0].endswith("What happened as a result?")
    assert example.label is None
    with pytest.raises(NlpcliError, match=r"test.jsonl:1: the label is missing"):
        only("superglue", tmp_path, "test")


def test_parus_asks_in_russian(tmp_path):
    record = {"premise": "Гости съели всё.", "choice1": "Они голодны.", "choice2": "Они спали.", "question": "cause"}
    put(tmp_path, "PARus/val.jsonl", objects(record | {"label": 0, "idx": 0}))
    assert only("russian-superglue", tmp_path)[0].texts[0] == "Гости съели всё. Что было причиной этого?"


def test_answers_of_multirc_are_examples_grouped_by_question(tmp_path):
    def question(idx, answers):
        return {"question": f"Q{idx}?", "idx": idx, "answers": answers, "sentences_used": [0, 1]}

    answers = [{"text": "yes", "idx": 7, "label": 1}, {"text": "no", "idx": 8, "label": 0}]
    passage = {"text": "<b>Sent 1: </b>One.<br>Two.", "questions": [question(4, answers), question(5, answers[:1])]}
    put(tmp_path, "MultiRC/val.jsonl", objects({"passage": passage, "idx": 3}))
    read = only("superglue", tmp_path)
    assert [(example.texts[1], example.label, group_of(example), candidate_of(example)) for example in read] == [
        ("Q4? yes", "1", "3:4", "7"),
        ("Q4? no", "0", "3:4", "8"),
        ("Q5? yes", "1", "3:5", "7"),
    ]
    assert {example.texts[0] for example in read} == {"Sent 1: One. Two."}


@pytest.mark.parametrize(("suite", "name", "last"), [("superglue", "ReCoRD", 1), ("russian-superglue", "RuCoS", 0)])
def test_gaps_are_filled_with_every_entity_of_the_passage(tmp_path, suite, name, last):
    text = "Ann: B met Bob.\n@highlight\nBob ran"
    entities = [{"start": text.index(word), "end": text.index(word) + len(word) - last} for word in ("Ann: B", "Bob")]
    entities.append({"start": 27, "end": 30 - last})
    query = {"query": "@placeholder ran home", "idx": 9, "answers": [{"start": 11, "end": 13, "text": "Bob"}]}
    record = {"source": "x", "passage": {"text": text, "entities": entities}, "qas": [query], "idx": 2}
    put(tmp_path, f"{name}/val.jsonl", objects(record))
    read = only(suite, tmp_path)
    assert [(example.texts, example.label) for example in read] == [
        (("Ann: B met Bob. Bob ran", "Ann: B ran home"), "false"),
        (("Ann: B met Bob. Bob ran", "Bob ran home"), "true"),
    ]
    assert {group_of(example) for example in read} == {"2:9"}
    assert [candidate_of(example) for example in read] == ["Ann: B", "Bob"]
    assert [example.label for example in read] == ["false", "true"]


def test_entities_outside_their_passage_are_named(tmp_path):
    record = {"passage": {"text": "short", "entities": [{"start": 3, "end": 9}]}, "qas": [], "idx": 2}
    put(tmp_path, "ReCoRD/val.jsonl", objects(record))
    with pytest.raises(NlpcliError, match=r"val.jsonl:1: the entity from character 3 to 10 is outside its passage"):
        only("superglue", tmp_path)


def test_words_in_context_stand_before_the_first_sentence(tmp_path):
    record = {"word": "place", "sentence1": "Do you want to come over?", "sentence2": "A political system.", "idx": 0}
    put(tmp_path, "WiC/val.jsonl", objects(record | {"label": False, "start1": 1, "end1": 2, "version": 1.1}))
    put(tmp_path, "RUSSE/val.jsonl", objects(record | {"label": True}))
    (english,), (russian,) = only("superglue", tmp_path), only("russian-superglue", tmp_path)
    assert english.texts == russian.texts == ("place: Do you want to come over?", "A political system.")
    assert (english.label, russian.label) == ("false", "true")


@pytest.mark.parametrize(
    ("text", "span", "word", "marked"),
    [
        ("Mark told it, and it listened.", "it", 4, "Mark told it, and *it* listened."),
        ("Mark told it, and it listened.", "It", 2, "Mark told *it*, and it listened."),
        ("Emma passed it to Janie. She ran.", "she", 99, "Emma passed it to Janie. *She* ran."),
        ("Emma ran.", "them", 1, "Emma ran. *them*"),
    ],
)
def test_the_pronoun_of_a_winograd_schema_is_marked(tmp_path, text, span, word, marked):
    target = {"span1_index": 0, "span1_text": "Mark", "span2_index": word, "span2_text": span}
    put(tmp_path, "WSC/val.jsonl", objects({"text": text, "target": target, "idx": 0, "label": False}))
    put(tmp_path, "RWSD/val.jsonl", objects({"text": text, "target": target, "idx": 0, "label": False}))
    for suite in ("superglue", "russian-superglue"):
        (example,) = only(suite, tmp_path)
        assert (example.texts, example.label) == ((marked, "Mark"), "false")


def test_every_task_of_russian_superglue_is_found(tmp_path):
    for task in SUITES["russian-superglue"]:
        put(tmp_path, f"{task.name}/{task.dev[''][0]}", "{}")
    assert [task.task.name for task in read_suite("russian-superglue", tmp_path)] == [
        "LiDiRus", "RCB", "PARus", "MuSeRC", "TERRa", "RUSSE", "RWSD", "DaNetQA", "RuCoS",
    ]  # fmt: skip
    put(tmp_path, "LiDiRus/LiDiRus.jsonl", objects({"sentence1": "A", "sentence2": "B", "label": "entailment"}))
    put(tmp_path, "RCB/val.jsonl", objects({"premise": "A", "hypothesis": "B", "label": "neutral", "verb": "знать"}))
    put(tmp_path, "DaNetQA/val.jsonl", objects({"question": "Да?", "passage": "Да.", "label": True, "idx": 1}))
    tasks = found("russian-superglue", tmp_path)
    read = [next(tasks[name].read("dev")) for name in ("LiDiRus", "RCB", "DaNetQA")]
    assert [(example.texts, example.label) for example in read] == [
        (("A", "B"), "entailment"),
        (("A", "B"), "neutral"),
        (("Да?", "Да."), "true"),
    ]


# Folders


def test_folders_are_found_whatever_their_case_or_compression(tmp_path):
    put(tmp_path, "sst2/dev.tsv.gz", gzip.compress(GLUE["SST-2/dev.tsv"].replace("|", "\t").encode()))
    assert [example.label for example in only("glue", tmp_path)] == ["1", "0"]
    assert [example.label for example in only("glue", tmp_path / "sst2")] == ["1", "0"]


def test_what_is_not_there_is_named(tmp_path, glue):
    with pytest.raises(NlpcliError, match="unknown suite 'gleu'") as error:
        read_suite("gleu", tmp_path)
    assert error.value.hint == "did you mean 'glue'?"
    with pytest.raises(NlpcliError, match="does not exist"):
        read_suite("glue", tmp_path / "nowhere")
    with pytest.raises(NlpcliError, match="contains no task of superglue"):
        read_suite("superglue", put(tmp_path, "empty/notes.txt", "").parent)
    with pytest.raises(NlpcliError, match="contains no train data of MNLI, only: dev matched, dev mismatched"):
        found("glue", glue)["MNLI"].read("train")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"passage": "flat", "idx": 0}', "val.jsonl:2: the field 'passage' must be a JSON object, not 'flat'"),
        (
            '{"passage": {"text": "a", "questions": [{"idx": 1}]}, "idx": 0}',
            "val.jsonl:2: the field 'question' is missing",
        ),
        ("{", r"val.jsonl:2: this is not valid JSON"),
    ],
)
def test_records_of_another_shape_are_named_with_their_line(tmp_path, line, message):
    put(tmp_path, "MultiRC/val.jsonl", f"\n{line}\n")
    with pytest.raises(NlpcliError, match=message):
        only("superglue", tmp_path)


def test_the_scores_of_a_suite_come_from_the_tasks_of_its_leaderboard():
    counted = {suite: [task.name for task in tasks if task.counts] for suite, tasks in SUITES.items()}
    assert [len(names) for names in counted.values()] == [9, 8, 9]
    assert "AX" not in counted["glue"]
    assert "LiDiRus" in counted["russian-superglue"]
