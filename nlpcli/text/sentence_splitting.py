"""Cutting running text into sentences by rule, in many scripts, without any model.

A sentence ends with its line, or after one of the marks below and the quotes and brackets that close there, if

- the mark is one of those that never stand inside a sentence (。！？｡ । ॥ ؟ ۔ ። ։), or
- it is one of . ! ? … and a space follows, and what comes next does not begin with a small letter or with a mark such
  as a comma; a line without any capital letter may go on with a small one;
- and a full stop does not belong to an abbreviation (Dr., e.g., z. B., т.е.), to an initial (J. Smith), to a number at
  the beginning of a line (1. First), or to a German date (3. Oktober).

Tokenised text, where the marks stand alone ("he left . " Then"), is cut by the same rules.

Limits: an abbreviation or a single letter before a capital never ends a sentence, even where it does ("in the U.S. He
left"); abbreviations that aren't in the list do. Scripts without marks between sentences, such as Thai, are cut at
ends of lines only. Nothing is cut inside text that is cased but whose sentences begin with small letters.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

_HARD = "。！？｡।॥؟۔።։"
_SOFT = ".!?…‼⁇⁈⁉"
_CLOSING = "'\"’”»›«“)]}）」』】〉》〕］｝"  # « and “ close where German and Danish quote
_OPENING = "'\"‘“”„‚«»‹›([{¿¡（「『【〈《〔［｛"
_MARK = re.compile(f"[{re.escape(_HARD + _SOFT)}]+")
_CLOSED = re.compile(f"[{re.escape(_CLOSING)}]*")
_QUOTE_APART = re.compile(r'\s+"(?=\s|$)')
_CLOSED_APART = re.compile(r"\s+(?:''|[’”»)\]}]+)(?=\s|$)")
_CLOSED_HARD = re.compile(r"[’”»›)\]}）」』】〉》〕］｝]*")
_NEXT = re.compile(rf"\s*(?:[{re.escape(_OPENING)}`]\s*)*(\S?)")
_GOES_ON = set(",;:，、；：-–—)]}）」』】%*/=<>|&")
_QUOTED_ON = set("とって、，")  # Japanese speech that is only quoted: 「行く。」と言った
_LETTERS = re.compile(r"(?:[^\W\d_]\.)*[^\W\d_]")
_WORD_BEFORE = re.compile(r"[\w.\-]*\Z")
_NUMBER = re.compile(r"\s*(?:\d|[IVXLC]{2,}\b)")
_MONTH = re.compile(r"\s*(?:Jan|Feb|Mär|Apr|Mai|Jun|Jul|Aug|Sep|Okt|Nov|Dez)")  # German, after an ordinal number

_BEFORE_NAMES = frozenset(
    """
    mr mrs ms messrs mme mlle mgr dr prof rev st gen col lt cpt capt cmdr maj sgt sen rep gov pres supt mt vs viz cf
    approx ca est dept univ assn bros ed eds
    bzw ggf evtl vgl hr fr hrsg inkl exkl zzgl dipl str allg bspw sog geb gest
    sra srta dra ud uds dott dhr mevr bijv
    ул просп обл респ им проф акад св см ср
    """.split()  # noqa: SIM905
)
"""Abbreviations in small letters that end no sentence, in English, German, Romance languages and Dutch, Russian."""
_BEFORE_NUMBERS = frozenset(
    """
    no nos fig figs eq eqs ch sec vol vols pp art jan feb mar apr jun jul aug sep sept oct nov dec
    nr bd abs aufl tel jh pág págs núm гл стр рис табл вв
    """.split()  # noqa: SIM905
)
"""Abbreviations that end no sentence where a number follows; some of them are words too."""


def split_sentences(text: str) -> list[str]:
    """The sentences of a text in order, without the white space around them; blank ones are left out.

    Nothing but white space is lost: the sentences laid end to end are the text without the white space between them.
    """
    return [text[start:stop] for start, stop in sentence_spans(text)]


def sentence_spans(text: str) -> Iterator[tuple[int, int]]:
    """Where the sentences of `split_sentences` begin and end in the text."""
    begin = 0
    for line in text.split("\n"):
        borders = _borders(line)
        for start, stop in zip([0, *borders], [*borders, len(line)], strict=True):
            sentence = line[start:stop]
            stripped = sentence.strip()
            if stripped:
                first = begin + start + len(sentence) - len(sentence.lstrip())
                yield first, first + len(stripped)
        begin += len(line) + 1


def _borders(line: str) -> list[int]:
    """Where sentences end inside a line, from left to right."""
    borders: list[int] = []
    uncased = None  # computed only where it matters
    quotes_open, counted = False, 0
    start = 0  # of the sentence under way
    for mark in _MARK.finditer(line):
        end = mark.end()
        if end <= start or end == len(line):  # inside closing marks that were passed over; or nothing follows
            continue
        quotes_open ^= bool(line.count('"', counted, end) % 2)
        counted = end
        hard = any(character in _HARD for character in mark.group())
        stop = _past_closing(line, end, hard, quotes_open)
        if stop >= len(line) or not (hard or line[stop].isspace()):
            continue
        following = _NEXT.match(line, stop)
        follows = following.group(1) if following else ""
        if follows in _GOES_ON or not follows:
            continue
        if hard:
            if stop > end and follows in _QUOTED_ON:
                continue
        else:
            if follows.islower():
                uncased = not any(map(str.isupper, line)) if uncased is None else uncased
                if not uncased:
                    continue
            if mark.group() == "." and stop == end and _abbreviated(line, start, mark.start(), end):
                continue
        borders.append(stop)
        start = stop
    return borders


def _past_closing(line: str, end: int, hard: bool, quotes_open: bool) -> int:
    """Past the quotes and brackets that close after a mark, apart from it too where the text is tokenised."""
    closing = (_CLOSED_HARD if hard else _CLOSED).match(line, end)
    stop = closing.end() if closing else end
    if hard and quotes_open and line.startswith('"', stop):
        stop += 1
    if not hard and stop > end and not (stop == len(line) or line[stop].isspace()):
        return stop
    if stop == end and quotes_open and (apart := _QUOTE_APART.match(line, stop)):
        stop = apart.end()
    while apart := _CLOSED_APART.match(line, stop):
        stop = apart.end()
    return stop


def _abbreviated(line: str, start: int, stop: int, end: int) -> bool:
    """Whether the full stop at `stop` belongs to the word before it."""
    before = _WORD_BEFORE.search(line, max(start, stop - 40), stop)
    word = before.group().lstrip("-.") if before else ""
    if not word:  # a full stop on its own
        return False
    if word.isdecimal():
        first = not line[start : stop - len(word)].strip()
        return first or (len(word) <= 2 and bool(_MONTH.match(line, end)))
    if _LETTERS.fullmatch(word):
        return True
    word = word.lower()
    return word in _BEFORE_NAMES or (word in _BEFORE_NUMBERS and bool(_NUMBER.match(line, end)))
