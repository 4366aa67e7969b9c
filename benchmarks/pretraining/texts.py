"""Text to pretrain small encoders and decoders on, from well-known sets, as documents.

    python benchmarks/pretraining/texts.py DATA en > english.txt      # 6.5 million words
    python benchmarks/pretraining/texts.py DATA ru > russian.txt      # 0.3 million words
    python benchmarks/pretraining/texts.py DATA zh > chinese.txt      # 1.2 million characters

DATA has a folder for each set, with its files as they are published (`.gz` or not). One paragraph or sentence a line,
a blank line between documents; tokenized texts are detokenized roughly. No development or test text of a task that
the model is fine-tuned for afterwards is read (of CEDR, which has one file, every fifth row is left out as the dev
set), and no labels of any set. Prints the words of each source to standard error.
"""

from __future__ import annotations

import csv
import gzip
import json
import re
import sys
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from pathlib import Path

from prepare import paragraphs

from nlpcli.data.readers import read_lines

Source = Callable[[Path], Iterator[str]]
_BEFORE = re.compile(r" ([,.;:?!%)\]]|n't\b|'(?:s|re|ve|ll|d|m)\b)")
_AFTER = re.compile(r"([(\[$]) ")
_QUOTED = re.compile(r'(``|") (.*?) (\'\'|")')


def detokenize(text: str) -> str:
    """Punctuation and clitics without the spaces of tokenized text."""
    return _QUOTED.sub(r'"\2"', _AFTER.sub(r"\1", _BEFORE.sub(r"\1", text))).strip()


def lines(root: Path, name: str) -> Iterable[str]:
    path = root / name
    return read_lines(path if path.exists() else path.with_name(path.name + ".gz"))


def wikitext(root: Path) -> Iterator[str]:
    return map(detokenize, paragraphs(lines(root, "wikitext-2/train.txt")))


def dialogues(root: Path) -> Iterator[str]:
    for line in lines(root, "dialogsum/dialogsum.train.jsonl"):
        yield from json.loads(line)["dialogue"].split("\n")
        yield ""


def column(name: str, *columns: int, header: bool = True, tokenized: bool = False) -> Source:
    """Columns of a file separated by tabs, each different text once."""

    def read(root: Path) -> Iterator[str]:
        seen = set()
        for number, line in enumerate(lines(root, name)):
            cells = line.split("\t")
            for at in columns if number or not header else ():
                if at < len(cells) and (text := cells[at].strip()) not in seen:
                    seen.add(text)
                    yield detokenize(text) if tokenized else text

    return read


def whole(*names: str, tokenized: bool = False, skip: int = 0) -> Source:
    """Lines of files; `skip` words at the start of each are left out."""

    def read(root: Path) -> Iterator[str]:
        for name in names:
            for line in lines(root, name):
                text = line.split(" ", skip)[-1]
                yield detokenize(text) if tokenized else text
            yield ""

    return read


def questions(name: str) -> Source:
    """The paragraphs of a file in SQuAD's format, without its questions."""

    def read(root: Path) -> Iterator[str]:
        path = root / name
        text = path.read_bytes() if path.exists() else gzip.decompress(path.with_name(path.name + ".gz").read_bytes())
        for article in json.loads(text)["data"]:
            yield from (" ".join(paragraph["context"].split()) for paragraph in article["paragraphs"])
            yield ""

    return read


def news(root: Path) -> Iterator[str]:
    """Titles and texts of AG News."""
    for row in csv.reader(lines(root, "ag_news/test.csv")):
        yield f"{row[1]}. {row[2]}".replace("\\", " ")


def conll(root: Path) -> Iterator[str]:
    words: list[str] = []
    for line in lines(root, "conll2003/eng.train"):
        if line.startswith("-DOCSTART-"):
            yield ""
        elif line.strip():
            words.append(line.split()[0])
        elif words:
            yield detokenize(" ".join(words))
            words = []


def treebank(root: Path) -> Iterator[str]:
    for line in lines(root, "ud-en-ewt/en_ewt-ud-train.conllu"):
        if line.startswith("# newdoc"):
            yield ""
        elif line.startswith("# text = "):
            yield line.removeprefix("# text = ")


def csv_column(name: str, at: int, *, every_fifth: bool = True) -> Source:
    """A column of a CSV file with a header; every_fifth: whether rows 0, 5, 10, … are read, too."""

    def read(root: Path) -> Iterator[str]:
        for number, row in enumerate(islice(csv.reader(f"{line}\n" for line in lines(root, name)), 1, None)):
            if every_fifth or number % 5:
                yield " ".join(row[at].split())

    return read


TALKS = ("TED.dev2010", "TED.tst2010", "TED.tst2011", "TED.tst2012", "TEDX.dev2012")
ENGLISH: dict[str, Source] = {
    "WikiText-2": wikitext,
    "DialogSum": dialogues,
    "Tatoeba": column("tatoeba-de-en/deu.txt", 0, header=False),
    "Multi30k": whole("multi30k/train.en"),
    "SNLI": column("snli/validation.tsv", 0, 1),
    "XSum": whole("xsum-scoring/gold-test-sentences.txt", tokenized=True),
    "SQuAD": questions("squad/dev-v1.1.json"),
    "AG News": news,
    "CoNLL-2003": conll,
    "UD English EWT": treebank,
    "TED": whole(*(f"iwslt14-de-en/raw/{name}.en" for name in TALKS), tokenized=True),
    "SST-2": whole("sst2/sentences/stsa.binary.train", tokenized=True, skip=1),
    "MRPC": column("mrpc/msr_paraphrase_train.txt", 3, 4),
    "RTE": column("rte/train.tsv", 1, 2),
    "STS-B": column("stsb/sts-train.csv", 5, 6, header=False),
    "TREC": whole("trec/TREC.train", tokenized=True, skip=1),
}
RUSSIAN: dict[str, Source] = {
    "CEDR": csv_column("cedr/cedr-main-train.csv", 0, every_fifth=False),
    "RuCoLA": csv_column("rucola/in_domain_train.csv", 1),
    "RuSentNE": column("rusentne/train_data.csv", 0),
    "XQuAD": questions("xquad/xquad.ru.json"),
    "WMT22": whole("wmt22-systems/en-ru/ref.A.ru"),
    "Tatoeba": whole("tatoeba-ru-en/tatoeba.rus-eng.rus"),
}
CHINESE: dict[str, Source] = {
    "ChnSentiCorp": column("chnsenticorp/train.tsv", 1),
    "THUCNews": column("thucnews-titles/dev.txt", 0, header=False),
    "XQuAD": questions("xquad/xquad.zh.json"),
    "WMT22": whole("wmt22-systems/en-zh/ref.A.zh"),
}
LANGUAGES = {"en": ENGLISH, "ru": RUSSIAN, "zh": CHINESE}


def main(root: Path, language: str) -> None:
    total = 0
    for name, read in LANGUAGES[language].items():
        size = 0
        for text in read(root):
            size += len(text) if language == "zh" else len(text.split())
            print(text)
        print()
        print(f"{name}: {size:,}", file=sys.stderr)
        total += size
    print(f"all: {total:,} {'characters' if language == 'zh' else 'words'}", file=sys.stderr)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
