"""YAML read strictly: every mistake named with its place and the nearest right spelling."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from nlpcli.config.loading import Strict, apply_overrides, dump_yaml, from_json, load_yaml, merge, parse
from nlpcli.config.model_settings import ModelConfig
from nlpcli.config.schema import RunConfig
from nlpcli.config.transformer_settings import TransformerConfig
from nlpcli.errors import NlpcliError
from nlpcli.escaping import quoted


def read(tmp_path, content):
    path = tmp_path / "run.yaml"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return load_yaml(path)


def test_a_file_is_a_mapping_and_an_empty_one_an_empty_mapping(tmp_path):
    assert read(tmp_path, "a: 1\nb: {c: [x, 2.5, null]}\n") == {"a": 1, "b": {"c": ["x", 2.5, None]}}
    assert read(tmp_path, "") == read(tmp_path, "# nothing\n") == {}
    assert read(tmp_path, b"\xef\xbb\xbfa: gr\xc3\xbcn\r\n") == {"a": "grün"}


def test_a_value_that_is_changed_after_reading_is_read_again_as_it_stands(tmp_path):
    first = read(tmp_path, "a: {b: [1]}\n")
    first["a"]["b"] = 2
    assert read(tmp_path, "a: {b: [1]}\n") == {"a": {"b": [1]}}


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("[" * 5000, r"run\.yaml:1: the file is not valid YAML \(nested deeper than 64\)"),
        ("a: &x {b: *x}\n", r"run\.yaml:1: the file is not valid YAML \('\*x' contains itself\)"),
        ("a: &x\n- [1, *x]\n", r"run\.yaml:2: the file is not valid YAML \('\*x' contains itself\)"),
        ("a: " + "9" * 400, r"run\.yaml:1: the file is not valid YAML \(the number is too large\)"),
        ("b: 1\na: " + "9" * 5000, r"run\.yaml:2: the file is not valid YAML \(the number is too large\)"),
        ("~: 1\n", r"run\.yaml: the key None must be text or a number"),
        (
            "a: {(2020-01-01): 1}\nb: {2020-01-01: 1}\n",
            r"run\.yaml: the key datetime.date\(2020, 1, 1\) must be text or a number",
        ),
        ("a: !!binary aGk=\n", r"run\.yaml:1: the file is not valid YAML \(could not determine"),
        ("a: !!set {b}\n", r"run\.yaml:1: the file is not valid YAML \(could not determine"),
        ("a: 1\nb: [1, 2\nc: 3\n", r"run\.yaml:3: the file is not valid YAML \("),
        ("a: 1\n\tb: 2\n", r"run\.yaml:2: the file is not valid YAML \("),
        ("a: b: c\n", r"run\.yaml:1: the file is not valid YAML \("),
        ("a: 'open\n", r"run\.yaml:2: the file is not valid YAML \("),
        ("a: !!python/object/apply:os.system [ls]\n", r"run\.yaml:1: the file is not valid YAML \(could not determine"),
        ("a: *nobody\n", r"run\.yaml:1: the file is not valid YAML \("),
        ("{[1]: 2}\n", r"run\.yaml:1: the file is not valid YAML \("),
        ("a: 2020-13-45\n", r"run\.yaml: the file is not valid YAML \(month must be in"),
        ("a: \x00\n", r"run\.yaml: the file is not valid YAML \("),
        ("- a\n- b\n", r"run\.yaml:1: the file must contain lines of the form 'key: value', not a list"),
        ("just words\n", r"run\.yaml:1: the file must contain lines of the form 'key: value', not a single value"),
        (b"a: 1\nb: \xff\n", r"run\.yaml: the file is not valid UTF-8 at byte 8"),
        ("a: 1\nb: 2\na: 3\n", r"run\.yaml:3: the file is not valid YAML \('a' occurs twice\)"),
        ("m:\n  x: 1\n  x: 1\n", r"run\.yaml:3: the file is not valid YAML \('x' occurs twice\)"),
    ],
)
def test_what_is_no_mapping_in_yaml_is_refused_with_its_line(tmp_path, content, words):
    with pytest.raises(NlpcliError, match=words) as caught:
        read(tmp_path, content)
    assert "\n" not in caught.value.message


def test_a_file_that_cant_be_read_is_named(tmp_path):
    with pytest.raises(NlpcliError, match=r"absent\.yaml: no such file"):
        load_yaml(tmp_path / "absent.yaml")
    with pytest.raises(NlpcliError, match="is a folder, not a YAML file"):
        load_yaml(tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(NlpcliError, match="can't be read"):
        load_yaml(tmp_path / "file" / "run.yaml")


@pytest.mark.parametrize(
    ("data", "message", "hint"),
    [
        ({"modle": {}}, "unknown key 'modle'", "did you mean 'model'?"),
        ({"model": {"d_modle": 8}}, "unknown key 'model.d_modle'", "did you mean 'd_model'?"),
        (
            {"training": {"lable_smoothing": 0}},
            "unknown key 'training.lable_smoothing'",
            "did you mean 'label_smoothing'?",
        ),
        ({"model": {"tei": "all"}}, "unknown key 'model.tei'", "did you mean 'tie'?"),
        (
            {"decoding": {"qqqq": 1}},
            "unknown key 'decoding.qqqq'",
            "known here: beam_size, length_penalty, lowercase, bleu_tokenize",
        ),
        (
            {"model": {"d_model": "wide"}},
            "model.d_model must be a whole number (got 'wide')",
            None,
        ),
        ({"model": {"d_model": 0}}, "model.d_model must be at least 1 (got 0)", None),
        (
            {"model": {"d_model": 2.5}},
            "model.d_model must be a whole number (got 2.5)",
            None,
        ),
        (
            {"model": {"tie": "some"}},
            "model.tie must be 'all', 'source-target', 'target-output' or 'none' (got 'some')",
            None,
        ),
        ({"training": {"lr": -1}}, "training.lr must be greater than 0 (got -1)", None),
        ({"model": {"dropout": 1.0}}, "model.dropout must be less than 1 (got 1.0)", None),
        (
            {"model": {"d_model": 10, "heads": 4}},
            "model: d_model 10 can't be split into 4 heads; set d_key and d_value",
            None,
        ),
    ],
)
def test_a_mistake_is_named_with_its_key_its_value_and_the_nearest_spelling(data, message, hint):
    with pytest.raises(NlpcliError) as caught:
        parse(RunConfig, data, "run.yaml")
    assert caught.value.message.startswith("run.yaml: ")
    assert caught.value.message.removeprefix("run.yaml: ") == message
    assert caught.value.hint == hint


@pytest.mark.parametrize("data", [{1: 2}, {"model": {1: 2}}, {"model": None}, {"model": 3}, {"data": {"train": {}}}])
def test_what_is_no_group_of_settings_is_one_sentence_too(data):
    with pytest.raises(NlpcliError) as caught:
        parse(RunConfig, data, "run.yaml")
    assert "\n" not in caught.value.message


def test_a_missing_key_is_named():
    class Needs(Strict):
        name: str

    with pytest.raises(NlpcliError, match=r"^here: 'name' is missing$"):
        parse(Needs, {}, "here")


def test_a_configuration_does_not_change_after_reading():
    config = parse(ModelConfig, {}, "here")
    with pytest.raises(ValueError, match="frozen"):
        config.d_model = 3


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1", 1),
        ("-2", -2),
        ("0.5", 0.5),
        ("1e-3", 0.001),
        ("1E5", 100000.0),
        ("2.5e+1", 25.0),
        ("true", True),
        ("null", None),
        ("~", None),
        ("", None),
        ("[a, 2, null]", ["a", 2, None]),
        ("[1e-3, x]", [0.001, "x"]),
        ("words of text", "words of text"),
        ("'1e-3'", "1e-3"),
        ('"nan"', "nan"),
        ("nan", "nan"),
        ("infinity", "infinity"),
        ("1_000", "1_000"),  # numbers of YAML 1.1 alone, which people don't mean
        ("1_0.5", "1_0.5"),
        ("0x10", "0x10"),
        ("0b1", "0b1"),
        ("1:30", "1:30"),
        ("010", 10),
        ("+5", 5),
        (".5", 0.5),
        ("5.", 5.0),
        ("a=b", "a=b"),
        ("C:/x", "C:/x"),
        ("bleu:13a", "bleu:13a"),
    ],
)
def test_a_value_given_on_the_command_line_is_yaml_with_numbers_as_people_write_them(text, value):
    found = apply_overrides({}, [f"section.key={text}"])["section"]["key"]
    assert found == value
    assert type(found) is type(value)


def test_settings_win_in_order_and_leave_the_rest_and_the_original():
    data = {"model": {"d_model": 8, "heads": 2}, "task": "translation"}
    changed = apply_overrides(data, ["model.d_model=16", "training.lr=1e-3", "model.d_model=32", " task = null"])
    assert changed == {"model": {"d_model": 32, "heads": 2}, "task": None, "training": {"lr": 0.001}}
    assert data == {"model": {"d_model": 8, "heads": 2}, "task": "translation"}


def test_a_whole_group_may_be_given_and_is_laid_over():
    assert apply_overrides({"model": {"a": 1, "b": 2}}, ["model={b: 3}"]) == {"model": {"a": 1, "b": 3}}


@pytest.mark.parametrize(
    ("assignment", "words"),
    [
        ("model.d_model", "--set needs KEY=VALUE, not 'model.d_model'"),
        ("=3", "--set needs KEY=VALUE, not '=3'"),
        ("model..d_model=3", "--set needs KEY=VALUE, not 'model..d_model=3'"),
        (".x=3", "--set needs KEY=VALUE, not '.x=3'"),
        ("x.=3", "--set needs KEY=VALUE, not 'x.=3'"),
        ("x=[1", "'[1' is not a YAML value"),
        ("x=2020-13-45", "'2020-13-45' is not a YAML value"),
        ("task.x=1", "'task' is a single value, not a group of settings"),
    ],
)
def test_an_assignment_of_another_form_is_refused(assignment, words):
    with pytest.raises(NlpcliError) as caught:
        apply_overrides({"task": "clm"}, [assignment])
    assert words in caught.value.message


SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text()
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3)
)


@given(data=st.dictionaries(st.text(), VALUES, max_size=4))
def test_what_is_dumped_reads_back_the_same_and_in_its_order(tmp_path_factory, data):
    path = tmp_path_factory.getbasetemp() / "dumped.yaml"
    path.write_text(dump_yaml(data), encoding="utf-8", newline="")
    assert load_yaml(path) == data
    assert list(load_yaml(path)) == list(data)


def test_a_resolved_configuration_reads_back_the_same(tmp_path):
    config = RunConfig(model=TransformerConfig(d_key=3, d_value=4), description="grün: [1]")
    (tmp_path / "config.yaml").write_text(dump_yaml(config.model_dump()), encoding="utf-8")
    assert parse(RunConfig, load_yaml(tmp_path / "config.yaml"), "config.yaml") == config


@given(
    a=st.dictionaries(st.sampled_from("abc"), st.integers()), b=st.dictionaries(st.sampled_from("abc"), st.integers())
)
def test_merging_flat_groups_is_updating(a, b):
    assert merge(dict(a), b) == {**a, **b}


def test_merging_goes_into_groups_and_replaces_lists():
    base = {"m": {"x": 1, "l": [1, 2]}, "n": None}
    assert merge(base, {"m": {"l": [3]}, "n": {"y": 2}}) == {"m": {"x": 1, "l": [3]}, "n": {"y": 2}}
    with pytest.raises(NlpcliError, match=r"^here: 'x' is a single value, not a group of settings$"):
        merge(base, {"m": {"x": {"z": 1}}}, "here")


def bomb(levels: int, width: int, leaf: str = "x") -> str:
    """Lists of the list before: width ** levels leaves in some bytes."""
    lines = [f"a0: &a0 [{', '.join([leaf] * width)}]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * width)}]" for n in range(1, levels)]
    return "\n".join(lines) + "\n"


@pytest.mark.parametrize(
    "text",
    [
        bomb(9, 9),
        bomb(7, 12),
        "a: &a " + "x" * 2000 + "\nb: [" + ", ".join(["*a"] * 1000) + "]\n",
        "a: &a {" + ", ".join(f"k{n}: 1" for n in range(300)) + "}\nb: {<<: ["
        + ", ".join(["*a"] * 500) + "]}\n",
    ],
)  # fmt: skip
def test_aliases_that_stand_for_more_than_anyone_writes_are_refused(tmp_path, text):
    with pytest.raises(
        NlpcliError, match=r"run\.yaml:\d+: the file is not valid YAML \(its aliases expand to more than 100,000"
    ):
        read(tmp_path, text)
    with pytest.raises(NlpcliError, match=r"--set model: .* is not a YAML value \(its aliases expand to") as caught:
        apply_overrides({}, ["model=[{" + text.replace("\n", "}, {") + "}]"])
    assert len(caught.value.message) < 600


@given(st.integers(1, 5), st.integers(1, 5))
def test_aliases_as_people_use_them_are_read(levels, width):
    (found,) = apply_overrides({}, ["m=[{" + bomb(levels, width).strip().replace("\n", "}, {") + "}]"]).values()
    assert str(found).count("x") == sum(width ** (n + 1) for n in range(levels))


def test_a_file_without_end_is_not_read_whole():
    with pytest.raises(NlpcliError, match=r"/dev/zero: this is a pipe or a device"):
        load_yaml("/dev/zero")


@given(
    st.recursive(
        st.text() | st.integers() | st.floats(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)
    )
)
@example(10**400)
@example({"a": "\x1b]0;title\x07"})
def test_a_wrong_value_is_quoted_in_bounded_length(value):
    with pytest.raises(NlpcliError) as caught:
        parse(ModelConfig, {"norm": value, "heads": value, "attention": value}, "run.yaml")
    assert len(caught.value.message) < 1000


def test_a_wrong_value_of_any_size_is_quoted_at_once():
    assert len(quoted([["x" * 10_000] * 10_000] * 10_000)) <= 300


@pytest.mark.parametrize("text", ["a." * 2000 + "a=1", "a.b=" + "[" * 3000, "a=" + "9" * 5000, "a.b=!!binary aGk="])
def test_an_assignment_that_reaches_too_far_is_refused(text):
    with pytest.raises(NlpcliError, match=r"--set (a|needs KEY=VALUE, not 'a)"):
        apply_overrides({}, [text])


@pytest.mark.parametrize("text", ["[" * 100_000, "9" * 5000, "{", '"\\ud8', ""])
def test_json_that_cannot_be_read_is_named_with_its_place(text):
    with pytest.raises(NlpcliError, match=r"^file:3: this is not valid JSON \("):
        from_json(text, "file:3")


@pytest.mark.parametrize(
    "text", ["1_0", "010", "08", "0x10", "1:30", "1e3", ".inf", "5.", "+5", "-", "~", "yes", "NaN"]
)
def test_a_text_that_looks_like_a_number_is_written_so_that_it_is_read_as_a_text(tmp_path, text):
    (tmp_path / "a.yaml").write_text(dump_yaml({"labels": [text]}))
    assert load_yaml(tmp_path / "a.yaml") == {"labels": [text]}


@pytest.mark.parametrize("truth", ["true", "false", "yes", "on", "[true]"])
@pytest.mark.parametrize("key", ["model.heads", "training.lr", "training.max_steps", "training.seed", "data.workers"])
def test_a_truth_value_is_no_number(key, truth):
    with pytest.raises(NlpcliError, match=f"{key} must be a (whole )?number"):
        parse(RunConfig, apply_overrides({}, [f"{key}={truth}"]), "the configuration")


def test_a_truth_value_stays_one_where_one_belongs():
    config = parse(RunConfig, apply_overrides({}, ["head.no_answer=true", "training.compile=yes"]), "the configuration")
    assert config.head.no_answer is True and config.training.compile is True


@pytest.mark.parametrize("key", ["training.threads", "data.workers"])
def test_processes_and_threads_are_bounded(key):
    with pytest.raises(NlpcliError, match=f"{key} must be at most 1024"):
        parse(RunConfig, apply_overrides({}, [f"{key}=100000"]), "the configuration")
