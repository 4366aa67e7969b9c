"""Calls of every command, drawn by a random number generator, with their files."""

from __future__ import annotations

import functools
import itertools
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from random import Random

from hostile import inputs, models
from hostile.forked_calls import Call

STRANGE = [
    *inputs.NUMBERS, "\x1b]0;title\x07", "../x", "/", "/dev/full", "/dev/null", ".", "-", "--", "-1.5", "nan",
    "a" * 4000, "é", "\ud83d", "auto", "none", "a=b", "0:0", "1-0", "1-99999999999", "a,b", "*", "~", "cuda", "cuda:99",
    "cpu:0", "in", "window:4", "window:-1", "window:99999999999", "full", "mask:2", "text", "json", "html", "png",
    "huggingface", "all",
]  # fmt: skip
_SETTINGS = [
    "model.d_model", "model.heads", "model.decoder_layers", "model.d_ff", "training.lr", "training.batch_tokens",
    "training.max_steps", "tokenizer.type", "tokenizer.vocab_size", "data.dev_fraction", "model.family",
    "model.dropout", "training.schedule", "training.warmup_steps", "model.activation", "model.max_length",
    "training.clip", "no.such",
]  # fmt: skip


class Case:
    """One case: a random number generator, and a working folder that is filled while the call is made."""

    def __init__(self, rng: Random, zoo: Path, work: Path) -> None:
        self.rng, self.zoo, self.work = rng, zoo, work
        self._count = 0
        self.outputs: list[str] = []
        self._sealed: list[str] = []

    def __getattr__(self, name: str) -> Callable[..., str]:
        """`text`, `jsonl`, `table`, `yaml`, `any_bytes`: the name of a new hostile file."""
        make = getattr(inputs, name)
        return functools.partial(self._written, make, name)

    def _written(self, make: Callable[[Random], bytes], kind: str, suffix: str | None = None) -> str:
        self._count += 1
        usual = {"text": ["", ".txt", ".txt", ".gz"], "jsonl": [".jsonl", ".json", ".txt"], "yaml": [".yaml"]}
        usual |= {"table": [".tsv", ".tsv", ".csv", ".conll", ".jsonl"], "any_bytes": ["", ".json", ".npy", ".tsv"]}
        name = f"in{self._count}{self.rng.choice(usual[kind]) if suffix is None else suffix}"
        if self.rng.random() < 0.03:
            name = self.rng.choice(["in\x1b[31m", "in\u202e", "-in", "in " + "x" * 200, "é\u0301", "in\n"]) + name
        path = self.work / name
        path.write_bytes(make(self.rng))
        if self.rng.random() < 0.02:
            inputs.write_special(path, self.rng, pipe=False)
        return f"./{name}" if name.startswith("-") else name

    def good(self, name: str) -> str:
        """A file of the collection as it is."""
        if not (self.work / name).exists():
            shutil.copyfile(self.zoo / name, self.work / name)
        return name

    def model(self, *names: str, damaged: float = 0.35) -> str:
        """A model, tokenizer or index of those names, with that probability damaged."""
        if self.rng.random() < 0.02:
            return self.rng.choice(["no-such", "..", "/", "\x1b]0;x\x07", self.text(), "/dev/zero", ""])
        name = self.rng.choice(names)
        if not (self.work / name).exists():
            shutil.copytree(self.zoo / name, self.work / name)
            if self.rng.random() < damaged:
                models.damage_folder(self.work / name, self.rng)
                self._sealed.append(name)
                self.outputs.append(f"{name}/model.yaml")
        return name

    def vectors(self) -> str:
        name = self.good("v.npy")
        if self.rng.random() < 0.7:
            models.damage_vectors(self.work / name, self.rng)
        return name

    def out(self, suffix: str = "") -> str:
        """The name of something new."""
        name = f"out{suffix}"
        if self.rng.random() < 0.05:
            name = self.rng.choice([f"no/such/{name}", ".", "/dev/full", "/", f"../work/{name}", "", "in1"])
        self.outputs.append(name.removeprefix("../work/").split("/")[0])  # folders above that of a model are made
        return name

    def number(self) -> str:
        return self.rng.choice(inputs.NUMBERS) if self.rng.random() < 0.3 else str(self.rng.randrange(1, 5))

    def words(self) -> str:
        line = inputs.words(self.rng)
        return line.replace("\x00", "") if self.rng.random() < 0.9 else "a " * 2000

    def chance(self, probability: float) -> bool:
        return self.rng.random() < probability

    def prepare(self) -> None:
        for name in self._sealed:
            models.seal_tokenizer(self.work / name)


def _tokenize_train(case: Case) -> list[str]:
    kind = case.rng.choice(["unigram", "bpe", "byte-bpe", "wordpiece", "chars", "words", "bytes", "x"])
    size = case.rng.choice([[], [], ["--vocab-size", case.rng.choice(["40", "300", case.number()])]])
    source = case.rng.choice([case.text, case.text, case.jsonl, case.table])()
    return ["tokenize", "train", "--type", kind, *size, "--out", case.out(), source]


def _tokenize_encode(case: Case) -> list[str]:
    more = case.rng.choice([[], ["--unit", "tokens"], ["--json"], ["--sampling", "0.5"]])
    return ["tokenize", "encode", case.model(*models.TOKENIZERS, "lm", damaged=0.3), *more, case.text()]


def _tokenize_decode(case: Case) -> list[str]:
    def ids(rng: Random) -> bytes:
        tokens = [str(rng.randrange(60)) if rng.random() < 0.9 else rng.choice(inputs.NUMBERS) for _ in range(12)]
        return (" ".join(tokens) + "\n").encode() if rng.random() < 0.7 else inputs.text(rng)

    more = case.rng.choice([[], ["--unit", "tokens"], ["--json"]])
    source = case._written(ids, "text", ".txt")
    return ["tokenize", "decode", case.model(*models.TOKENIZERS, "lm", damaged=0.3), *more, source]


def _tokenize_info(case: Case) -> list[str]:
    return ["tokenize", "info", case.model(*models.TOKENIZERS, "lm", "hf-mlm"), *([case.text()] * case.chance(0.4))]


def _nano(case: Case, kind: str) -> list[str]:
    sizes = {"model.d_model": "8", "model.d_ff": "8", "model.heads": "2", f"model.{kind}_layers": "1"}
    sizes["tokenizer.type"] = case.rng.choice(["chars", "chars", "words", "byte-bpe"])
    if case.chance(0.3):
        sizes[case.rng.choice(_SETTINGS)] = case.rng.choice([*STRANGE, "[1, 2]", "{a: 1}", "*a", "!!x", "1e400"])
    return [
        "--max-steps",
        "1",
        "--device",
        "cpu",
        *(part for pair in sizes.items() for part in ("--set", "=".join(pair))),
    ]


def _pretrain(case: Case) -> list[str]:
    how = case.rng.random()
    if how < 0.2:
        return ["pretrain", "--resume", "--out", case.model("lm", "mlm", "lstm", damaged=0.9), "--max-steps", "2"]
    source = case.rng.choice([case.text, case.text, case.jsonl, case.table])()
    if how < 0.35:
        return ["pretrain", "--config", case.yaml(), "--data", source, *_nano(case, "decoder"), "--out", case.out()]
    if how < 0.5:
        start = case.model("lm", "mlm", "hf-lm", damaged=0.8)
        return ["pretrain", "--model", start, "--data", source, "--max-steps", "1", "--out", case.out()]
    objective, preset = case.rng.choice([("clm", "gpt-mini"), ("clm", "gpt-mini"), ("mlm", "roberta-nano"), ("x", "x")])
    documents = case.rng.choice([[], ["--documents", case.rng.choice(["lines", "paragraphs", "file", "jsonl", "tsv"])]])
    sizes = _nano(case, "encoder" if objective == "mlm" else "decoder")
    line = ["pretrain", "--objective", objective, "--preset", preset, *sizes, *documents, "--data", source]
    return [*line, *(["--show", "2"] if case.chance(0.2) else ["--out", case.out()])]


def _finetune(case: Case) -> list[str]:
    how = case.rng.random()
    if how < 0.15:
        return ["finetune", "--resume", "--out", case.model("cls", "tag", "mt", damaged=0.9), "--max-steps", "2"]
    if how < 0.25:
        mixture = ["--mixture", case.yaml(), "--max-steps", "1"]
        return ["finetune", *mixture, "--model", case.model("mlm", damaged=0.1), "--out", case.out()]
    if how < 0.45:
        pair = [case.text(), case.text() if case.chance(0.5) else case.good("u.txt")]
        sizes = [*_nano(case, "encoder"), "--set", "model.decoder_layers=1"]
        return ["finetune", "--task", "translation", "--model", "transformer-tiny", *sizes, "--train", *pair,
                "--dev", case.good("s.txt"), case.good("u.txt"), "--out", case.out()]  # fmt: skip
    task = case.rng.choice(
        ["classify", "classify", "classify", "regress", "tag", "multi-label", "span", "choice", "similarity", "x"]
    )
    start = case.model("mlm", "hf-mlm", damaged=0.2)
    dev = ["--dev", case.table()] if case.chance(0.4) else []
    line = ["finetune", "--task", task, "--model", start, "--train", case.table(), *dev, "--max-steps", "1"]
    return [*line, "--device", "cpu", "--out", case.out()]


def _translate(case: Case) -> list[str]:
    source = case.rng.choice([case.text, case.text, case.jsonl])()
    more = case.rng.choice(
        [
            [],
            ["--json"],
            ["--n-best", "2", "--scores"],
            ["--sample", "--seed", "1"],
            ["--alignments"],
            ["--beam-size", "1"],
        ]
    )
    return ["translate", "--model", case.model(*models.TRANSLATORS), "--max-length", "6", *more, source]


def _generate(case: Case) -> list[str]:
    model = ["--model", case.model(*models.LANGUAGE_MODELS)]
    if case.chance(0.3):
        return ["generate", *model, "--template", case.yaml(), "--data", case.table(), "--max-new-tokens", "3"]
    more = case.rng.choice([[], ["--json"], ["--greedy"], ["--num-samples", "2"], ["--stop", case.words()]])
    prompts = ["--prompt", case.words().replace("\x00", "")] if case.chance(0.6) else ["-"]
    if prompts == ["-"]:
        case.text("")
        prompts = []
    return ["generate", *model, "--max-new-tokens", "3", *more, *prompts]


_METRICS = [
    "bleu", "chrf", "ter", "rouge", "wer", "cer", "accuracy", "f1", "pearson", "spearman", "entity-f1", "squad", "aer",
    "bleu,chrf", "mcc", "mse", "x",
]  # fmt: skip


def _score(case: Case) -> list[str]:
    if case.chance(0.15):
        model = case.model(*models.LANGUAGE_MODELS, "mlm")
        return ["score", "perplexity", "--model", model, case.rng.choice([case.text, case.jsonl])()]
    metric = case.rng.choice(_METRICS)
    make = case.rng.choice([case.text, case.text, case.table, case.jsonl])
    hypothesis = make()
    if case.chance(0.5):  # as many lines in both
        reference = f"ref{Path(hypothesis).suffix}"
        source = case.work / hypothesis
        data = source.read_bytes() if source.is_file() and not source.is_symlink() else b""
        (case.work / reference).write_bytes(data.replace(b"a", b"b", 2))
    else:
        reference = make()
    more = case.rng.choice(
        [[], ["--json"], ["--confidence", "--bootstrap-samples", "20"], ["--sentence"], ["--lowercase"]]
    )
    return ["score", metric, hypothesis, "--ref", reference, *more]


def _predict(case: Case) -> list[str]:
    source = case.rng.choice([case.text, case.table, case.jsonl])()
    more = case.rng.choice([[], ["--json"], ["--top", "2"], ["--format", "jsonl"], ["--line-buffered"]])
    return ["predict", "--model", case.model(*models.PREDICTORS), *more, source]


def _evaluate(case: Case) -> list[str]:
    more = case.rng.choice([[], ["--json"], ["--confusion"], ["--worst", "3"], ["--no-confidence"]])
    more = [*more, "--bootstrap-samples", "20"]
    return ["evaluate", "--model", case.model(*models.PREDICTORS), *more, "--data", case.table()]


def _embed(case: Case) -> list[str]:
    source = case.rng.choice([case.text, case.jsonl])()
    more = case.rng.choice([[], ["--out", case.out(".npy")], ["--tokens"], ["--pooling", "mean"], ["--normalize"]])
    model = case.any_bytes(".txt") if case.chance(0.1) else case.model(*models.EMBEDDERS)
    return ["embed", "--model", model, *more, source]


def _search(case: Case) -> list[str]:
    model = ["--model", case.model("mlm", "words", damaged=0.2)]
    more = case.rng.choice([[], ["--json"], ["--top", case.number()]])
    query = case.words().lstrip("-") or "x"
    if case.chance(0.4):
        return ["search", *model, "--vectors", case.model("idx", damaged=0.9), *more, query]
    if case.chance(0.4):
        return ["search", *model, "--vectors", case.vectors(), "--texts", case.good("s.txt"), *more, query]
    return ["search", *model, "--corpus", case.text(), *more, query]


def _cluster(case: Case) -> list[str]:
    more = [*case.rng.choice([["--k", case.number()], ["--distance-threshold", case.number()]]), "--seed", "1"]
    more += ["--summary"] * case.chance(0.3)
    if case.chance(0.4):
        return ["cluster", "--vectors", case.vectors(), *more, case.good("s.txt")]
    return ["cluster", "--model", case.model("mlm", "words", damaged=0.2), *more, case.text()]


def _compare(case: Case) -> list[str]:
    return ["compare", case.yaml(), "--dry-run", *(["--train", case.text()] if case.chance(0.5) else [])]


def _report(case: Case) -> list[str]:
    runs = [case.model("lm", "mlm", "cls", "mt", "tag", damaged=0.8)]
    runs += [case.model("mlm")] * case.chance(0.2)
    form = case.rng.choice(["terminal", "markdown", "html", "json", "x"])
    out = ["--out", case.out(f".{form}")] if case.chance(0.4) else []
    case.outputs.append("out.png")  # the figure of a report in Markdown
    return ["report", *runs, "--format", form, "--samples", "2", "--bootstrap-samples", "20", *out]


def _inspect(case: Case) -> list[str]:
    what = case.rng.randrange(6)
    more = case.rng.choice([[], [], ["--json"], ["--strict"], ["--show", "2"], ["--weights"]])
    if what == 0:
        return ["inspect", case.text(), case.text(), *more]
    if what == 1:
        return ["inspect", case.rng.choice([case.vectors, case.any_bytes])(), *more]
    if what == 2:
        return ["inspect", "--as", case.rng.choice(["run", "model", "tokenizer", "text", "x"]), case.any_bytes(), *more]
    if what == 3:
        return ["inspect", case.rng.choice([case.text, case.table, case.jsonl])(), *more]
    return ["inspect", case.model(*models.MODELS, *models.TOKENIZERS, "idx", damaged=0.9), *more]


def _visualize(case: Case) -> list[str]:
    how = case.rng.random()
    form = case.rng.choice(["terminal", "terminal", "json", "html", "svg", "pharaoh"])
    out = ["--format", form, *(["--out", case.out(f".{form}")] if case.chance(0.3) else [])]
    if how < 0.1:
        return ["visualize-attention", "--kernel-regression", case.table(), *out]
    if how < 0.2:
        pattern = case.rng.choice([*STRANGE, "window:2+global:1", "bigbird:2:1:1", "causal&window:3"])
        return ["visualize-attention", "--pattern", pattern, "--length", case.number(), *out]
    text = case.words().replace("\x00", "").lstrip("-") or "a cat"
    model = case.model("mt", "rnn", "lm", "mlm", "xl", "cls", "hf-mlm")
    more = case.rng.choice([[], ["--layer", case.number()], ["--stats"], ["--words"], ["--rollout"], ["--title", text]])
    target = ["--target", case.words().replace("\x00", "")] if model in ("mt", "rnn") else []
    return ["visualize-attention", "--model", model, *more, *out, *target, text]


def _convert(case: Case) -> list[str]:
    if case.chance(0.5):
        model = case.model("hf-lm", "hf-mlm", "hf-cls", "hf-mt", damaged=0.9)
        return ["convert", model, case.out(), *(["--allow-pickle"] if case.chance(0.1) else [])]
    if case.chance(0.1):
        return ["convert", case.any_bytes(".txt"), case.out()]
    form = case.rng.choice(["huggingface", "huggingface", "nlpcli", "word2vec", "x"])
    return ["convert", "--to", form, case.model(*models.MODELS, damaged=0.8), case.out()]


def _config(case: Case) -> list[str]:
    if case.chance(0.1):
        return ["config", "list", *case.rng.choice([[], ["--json"]])]
    name = case.rng.choice([case.yaml(), case.yaml(), "gpt-mini", case.rng.choice(STRANGE)])
    settings = ["--set", f"{case.rng.choice(_SETTINGS)}={case.rng.choice(STRANGE)}"] if case.chance(0.3) else []
    return ["config", "show", name, *settings]


def _program(case: Case) -> list[str]:
    words = [
        "nlpcli",
        "--help",
        "-h",
        "--version",
        "tokenize",
        "config",
        "demo --minutes -1",
        "--traceback-",
        case.words(),
    ]
    return [case.rng.choice([*STRANGE, *words]) for _ in range(case.rng.randrange(3))]


COMMANDS: dict[str, tuple[Callable[[Case], list[str]], bool, float]] = {
    "tokenize train": (_tokenize_train, False, 1.0),
    "tokenize encode": (_tokenize_encode, True, 1.0),
    "tokenize decode": (_tokenize_decode, True, 1.0),
    "tokenize info": (_tokenize_info, False, 1.0),
    "pretrain": (_pretrain, False, 0.7),
    "finetune": (_finetune, False, 0.7),
    "translate": (_translate, True, 1.5),
    "generate": (_generate, True, 1.5),
    "score": (_score, False, 2.0),
    "predict": (_predict, True, 1.5),
    "evaluate": (_evaluate, False, 0.5),
    "embed": (_embed, True, 1.0),
    "search": (_search, True, 1.0),
    "cluster": (_cluster, True, 1.0),
    "compare": (_compare, False, 0.5),
    "report": (_report, False, 1.0),
    "inspect": (_inspect, False, 2.0),
    "visualize-attention": (_visualize, False, 1.0),
    "convert": (_convert, False, 1.5),
    "config": (_config, False, 1.0),
    "program": (_program, False, 0.3),
}
"""Each command: how a call is made, whether its standard output repeats text, and its share of the cases."""

_KEPT = {"--help", "--traceback", "--version", "--install-completion", "--show-completion", "--device", "--threads"}


@functools.cache
def options(command: str) -> tuple[tuple[str, bool], ...]:
    """The options of a command, and whether each takes a value."""
    from nlpcli.cli.app import build_command

    found = build_command(command.split()[0])
    for name in command.split()[1:]:
        found = found.commands[name]
    return tuple(
        (name, not getattr(parameter, "is_flag", False))
        for parameter in found.params
        for name in parameter.opts
        if name.startswith("--") and name not in _KEPT
    )


def _strange_options(command: str, case: Case) -> Iterator[str]:
    for _ in range(case.rng.choice([1, 1, 2])):
        name, takes_value = case.rng.choice(options(command))
        yield name
        if name in ("--out", "--save-index", "--predictions", "--report"):
            yield case.out()
        elif takes_value:
            value = case.rng.choice([case.rng.choice(STRANGE), case.number(), case.words().replace("\x00", "")])
            asks_for_output = name == "--num-samples" and value.isdecimal() and len(value) < 20
            yield "2" if asks_for_output else value  # as many texts as are asked for are written, however many


def make_call(command: str, seed: int, zoo: Path, work: Path) -> Call:
    """The call of `command` that belongs to `seed`; its files are put into `work`."""
    rng = Random(f"{command} {seed}")
    case = Case(rng, zoo, work)
    make, text_out, _ = COMMANDS[command]
    argv = make(case)
    if command not in ("program", "config") and case.chance(0.18):
        argv += _strange_options(command, case)
    if command in ("pretrain", "finetune") and "--out" not in argv and "--show" not in argv:
        case.outputs.append("runs")
    argv = [part.replace("\x00", "") for part in argv]
    stdin = _standard_input(case, argv)
    text_out = text_out or _is_data(argv)
    terminal = case.chance(0.15) and "--json" not in argv
    outputs = (*case.outputs, *_named_outputs(argv))
    return Call(argv, text_out, stdin, terminal, outputs, "--resume" in argv, case.prepare)


def _standard_input(case: Case, argv: list[str]) -> str | None:
    """Sometimes the last file is given on standard input instead of by its name."""
    if argv and argv[-1].startswith("in") and (case.work / argv[-1]).is_file() and case.chance(0.3):
        name, argv[-1] = argv[-1], "-"
        return name if not (case.work / name).is_symlink() else None
    return "in1" if "generate" in argv and (case.work / "in1").is_file() else None


def _is_data(argv: Sequence[str]) -> bool:
    return "--json" in argv or "-j" in argv or bool({"json", "markdown", "html", "pharaoh", "svg"} & set(argv))


def _named_outputs(argv: Sequence[str]) -> list[str]:
    """What options for outputs name, below the working folder."""
    named = []
    for option, value in itertools.pairwise(argv):
        if option in ("--out", "-o", "--output", "--save-index", "--predictions", "--report"):
            named.append(value.removeprefix("./").removeprefix("../work/").split("/")[0] or value)
    return named
