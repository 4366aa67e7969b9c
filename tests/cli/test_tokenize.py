"""`nlpcli tokenize` as a shell runs it."""

from __future__ import annotations

import gzip
import io
import json
import select
import subprocess

import pytest

KINDS = ["unigram", "bpe", "wordpiece", "byte-bpe", "chars"]
TEXT = "".join(
    f"{number} dogs sat on the mat while the housekeeper was reading.\nEin Mädchen läuft {number} Straßen weit.\n"
    for number in range(200)
)
STRANGE = "a  b \n\n\t▁ <pad> <0x41>\n日本語 \u2028 \U0001f600\n\0\x1b[0m\n last"


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    folder = tmp_path_factory.mktemp("corpus")
    (folder / "train.txt").write_text(TEXT, encoding="utf-8")
    with gzip.open(folder / "train.gz", "wt", encoding="utf-8") as file:
        file.write(TEXT)
    return folder


@pytest.fixture(scope="module")
def folders(corpus, tmp_path_factory):
    """A folder of each kind, made through the recipe."""
    from pathlib import Path

    from nlpcli.commands.tokenize import TrainingSettings, train

    out = tmp_path_factory.mktemp("tokenizers")
    sizes = {"unigram": 310, "bpe": 320, "wordpiece": 120, "byte-bpe": 300, "chars": None}
    for kind, size in sizes.items():
        train(TrainingSettings(Path(out / kind), [str(corpus / "train.txt")], kind=kind, vocab_size=size))
    return out


def test_train_encode_decode_and_info_work_together(run, corpus):
    done = run(
        *("tokenize", "train", "--type", "unigram", "--vocab-size", 310, "--out", "tok/"),
        *(corpus / "train.txt", corpus / "train.gz"),
    )
    assert (done.returncode, done.stdout) == (0, "")
    assert done.stderr.splitlines()[-1].startswith("tok: trained a unigram tokenizer with 310 tokens on 800 lines, in")
    ids = run("tokenize", "encode", "tok", stdin=STRANGE).stdout
    assert run("tokenize", "decode", "tok", stdin=ids).stdout == STRANGE + "\n"
    shown = run("tokenize", "info", "tok").stdout
    assert "unigram" in shown
    assert "<mask> 6" in shown


def test_training_reads_standard_input_and_says_what_it_left_out(run):
    done = run(
        *("tokenize", "train", "--type", "bpe", "--vocab-size", 300, "--max-lines", 100, "--out", "tok", "--json", "-"),
        stdin=TEXT,
    )
    assert done.returncode == 0
    assert "300 tokens on 100 lines, sampled from 400 (--max-lines)" in done.stderr
    made = json.loads(done.stdout)
    assert (made["kind"], made["vocab_size"], made["out"]) == ("bpe", 300, "tok")


@pytest.mark.parametrize("kind", ["unigram", "byte-bpe", "chars"])
@pytest.mark.parametrize("form", ["ids", "tokens"])
def test_one_line_out_for_each_line_in_and_back(run, folders, kind, form):
    encoded = run("tokenize", "encode", folders / kind, "--unit", form, stdin=STRANGE)
    assert encoded.returncode == 0
    assert encoded.stdout.count("\n") == STRANGE.count("\n") + 1
    back = run("tokenize", "decode", folders / kind, "--unit", form, stdin=encoded.stdout)
    assert (back.returncode, back.stdout, back.stderr) == (0, STRANGE + "\n", "")


def test_files_are_read_one_after_the_other(run, folders, tmp_path):
    (tmp_path / "a").write_text("the mat\n")
    (tmp_path / "b").write_text("the dogs")
    done = run("tokenize", "encode", folders / "byte-bpe", "--unit", "tokens", "a", "-", "b", stdin="was")
    lines = [line.replace(" ", "").replace("Ġ", " ") for line in done.stdout.splitlines()]
    assert lines == ["the mat", "was", "the dogs"]


def test_sampling_is_repeated_by_its_seed(run, folders):
    text = TEXT[:2000]

    def sample(*options: object) -> str:
        return run("tokenize", "encode", folders / "bpe", "--sampling", 0.2, *options, stdin=text).stdout

    assert sample() == sample("--seed", 0)
    assert sample() != sample("--seed", 1)
    assert run("tokenize", "decode", folders / "bpe", stdin=sample()).stdout == text + "\n" * (text[-1] != "\n")


@pytest.mark.processes
def test_line_buffered_answers_before_the_next_line_comes(nlpcli_command, environment, folders):
    child = subprocess.Popen(
        [*nlpcli_command, "tokenize", "encode", str(folders / "chars"), "--line-buffered"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=environment,
    )
    try:
        for text in (b"dogs\n", b"\n", b"mat\n"):
            child.stdin.write(text)
            child.stdin.flush()
            assert select.select([child.stdout], [], [], 60)[0]
            assert len(child.stdout.readline().split()) == len(text) - 1
    finally:
        child.stdin.close()
        assert child.wait(60) == 0
        child.stdout.close()


def test_line_ends_inside_a_text_do_not_break_the_line_and_json_keeps_them(run, folders):
    pieces = "d <0x0A> o\n<0x0A>"
    done = run("tokenize", "decode", folders / "chars", "--unit", "tokens", stdin=pieces)
    assert done.stdout == "d o\n \n"
    assert done.stderr.count("warning: line breaks inside a text") == 1
    done = run("tokenize", "decode", folders / "chars", "--unit", "tokens", "--json", stdin=pieces)
    assert [json.loads(line)["text"] for line in done.stdout.splitlines()] == ["d\no", "\n"]


@pytest.mark.parametrize("kind", KINDS)
def test_info_measures_a_text(run, folders, kind):
    text = "the dogs sat\n\nEin ☃\n"
    done = run("tokenize", "info", folders / kind, "-", "--json", stdin=text)
    shown = json.loads(done.stdout)
    assert shown["kind"] == kind
    assert len(shown["fingerprint"]) == 64
    assert shown["special"]["<eos>"] == 3
    assert shown["example_tokens"]
    measured = shown["text"]
    assert (measured["lines"], measured["words"]) == (3, 5)
    assert measured["fertility"] == measured["tokens"] / 5
    assert measured["characters_per_token"] == 17 / measured["tokens"]
    if kind == "wordpiece":
        assert measured["unknown_share"] == 1 / measured["tokens"]
        assert measured["changed_lines"] == 1
    else:
        assert (measured["unknown_share"], measured["changed_lines"]) == (0, 0)
        assert measured["byte_share"] == (0 if kind == "byte-bpe" else 3 / measured["tokens"])


def test_a_run_folder_is_taken_for_the_tokenizer_in_it(run, folders, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "tokenizer").symlink_to(folders / "chars")
    assert run("tokenize", "info", "run").returncode == 0


def test_head_ends_the_filter_quietly(nlpcli_command, environment, folders):
    command = " ".join(nlpcli_command)
    line = f"yes 'the dogs' | head -50000 | {command} tokenize encode {folders / 'unigram'} | head -1"
    done = subprocess.run(["bash", "-c", line], capture_output=True, env=environment, timeout=120, check=False)
    assert done.stdout.count(b"\n") == 1
    assert done.stderr == b""


@pytest.fixture
def inside(monkeypatch, capsys, tmp_path):
    """As `run`, but within this process, for many small calls."""
    from nlpcli.cli.main import main

    def call(*arguments: object, stdin: str | bytes = "") -> subprocess.CompletedProcess:
        data = stdin.encode() if isinstance(stdin, str) else stdin
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(data), encoding="utf-8"))
        status = main([str(argument) for argument in arguments])
        return subprocess.CompletedProcess(arguments, status, *capsys.readouterr())

    return call


def refused(done) -> str:
    """The sentence of a refused call."""
    assert (done.returncode, done.stdout) == (2, "")
    assert "Traceback" not in done.stderr
    assert done.stderr.startswith("nlpcli: ")
    return done.stderr


def train(run, *arguments: object, stdin: str | bytes = TEXT):
    return run("tokenize", "train", *arguments, "--out", "tok", "-", stdin=stdin)


def test_wrong_training_calls_are_refused(inside, tmp_path):
    for arguments, message in (
        (["--type", "unigrm"], "unknown tokenizer type 'unigrm'\n  hint: did you mean 'unigram'?"),
        (["--normalization", "nfkccf"], "unknown normalization 'nfkccf'\n  hint: did you mean 'nfkc_cf'?"),
        (["--vocab-size", 50_000], "a vocabulary of 50,000 tokens is too large for this text, which allows at most"),
        (["--vocab-size", 20], "a vocabulary of 20 tokens is too small"),
        (["--type", "wordpiece", "--byte-fallback"], "wordpiece has no byte fallback"),
        (["--type", "byte-bpe", "--no-byte-fallback"], "byte-bpe always uses bytes"),
        (["--documents", "line"], "unknown document format 'line'\n  hint: did you mean 'lines'?"),
        (["--character-coverage", 2], "the character coverage must be greater than 0 and at most 1, not 2"),
    ):
        assert message in refused(train(inside, *arguments))
    assert not (tmp_path / "tok").exists()
    assert "<stdin> contains no text" in refused(train(inside, stdin=""))
    assert "<stdin>:2: the line is not valid UTF-8 (byte 0xff at column 3)" in refused(
        train(inside, stdin=b"fine\nab\xff\n")
    )
    done = inside("tokenize", "train", "--out", "tok", "nowhere.txt")
    assert "nowhere.txt: no such file" in refused(done)
    assert list(tmp_path.iterdir()) == []


def test_an_output_folder_in_use_is_left_alone(run, tmp_path, corpus):
    arguments = ["tokenize", "train", "--type", "chars", "--out", "tok", corpus / "train.txt"]
    (tmp_path / "tok").mkdir()
    assert run(*arguments).returncode == 0
    before = (tmp_path / "tok" / "tokenizer.yaml").read_bytes()
    assert "tok already contains a tokenizer" in refused(run(*arguments))
    assert (tmp_path / "tok" / "tokenizer.yaml").read_bytes() == before
    assert run(*arguments, "--overwrite", "--lowercase").returncode == 0
    assert (tmp_path / "tok" / "tokenizer.yaml").read_bytes() != before
    (tmp_path / "tok" / "thesis.tex").write_text("years of work")
    assert "contains files that do not belong to a tokenizer (thesis.tex)" in refused(run(*arguments, "--overwrite"))
    assert (tmp_path / "tok" / "thesis.tex").exists()


def test_a_failed_overwriting_leaves_the_old_tokenizer(run, tmp_path, corpus):
    arguments = ["tokenize", "train", "--type", "bpe", "--out", "tok", "--overwrite", corpus / "train.txt"]
    assert run(*arguments, "--vocab-size", 300).returncode == 0
    before = (tmp_path / "tok" / "tokenizer.yaml").read_bytes()
    refused(run(*arguments, "--vocab-size", 1_000_000))
    assert (tmp_path / "tok" / "tokenizer.yaml").read_bytes() == before


def test_wrong_lines_are_named(inside, folders):
    bpe = folders / "bpe"
    for arguments, stdin, message in (
        (["decode", bpe], "5 6\n7 eight\n", "<stdin>:2: 'eight' is not an id"),
        (["decode", bpe], "5\n\n99999", "<stdin>:3: the id 99999 is not in the vocabulary (0 to 319)"),
        (["decode", bpe], "5\n1_0", "<stdin>:2: '1_0' is not an id"),
        (["decode", bpe], "٣", "<stdin>:1: '٣' is not an id"),
        (["decode", bpe], "-1", "<stdin>:1: the id -1 is not in the vocabulary"),
        (["decode", bpe], "9" * 5000, f"<stdin>:1: '{'9' * 40}' is not an id\n"),
        (["decode", bpe], "▁the", "hint: add --unit tokens to decode tokens"),
        (["decode", bpe, "--unit", "tokens"], "▁the ▁qqq", "<stdin>:1: '▁qqq' is not a token of this tokenizer"),
        (["decode", bpe, "--unit", "token"], "", "unknown unit 'token'\n  hint: did you mean 'tokens'?"),
        (["encode", bpe, "--unit", "id"], "", "unknown unit 'id'\n  hint: did you mean 'ids'?"),
        (["encode", bpe, "--sampling", 1.5], "", "--sampling must be between 0 and 1, not 1.5"),
        (
            ["encode", folders / "wordpiece", "--sampling", 0.1],
            "a",
            "a tokenizer of type wordpiece does not support subword sampling",
        ),
        (["encode", bpe], b"a\n\xff", "<stdin>:2: the line is not valid UTF-8"),
        (["info", bpe, "-"], "", "<stdin> contains no text"),
    ):
        done = inside("tokenize", *arguments, stdin=stdin)
        assert done.returncode == 2
        assert message in done.stderr


def test_missing_and_damaged_tokenizers_are_refused(run, tmp_path):
    assert "nowhere contains no tokenizer" in refused(run("tokenize", "info", "nowhere"))
    train(run, "--type", "unigram", "--vocab-size", 300)
    model = tmp_path / "tok" / "sentencepiece.model"
    model.write_bytes(model.read_bytes()[:1000])
    for command in ("encode", "decode", "info"):
        assert "sentencepiece.model: the tokenizer is damaged" in refused(run("tokenize", command, "tok"))
