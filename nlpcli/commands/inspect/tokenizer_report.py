"""A tokenizer: what it is, what its tokens look like, and how it cuts a text."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from nlpcli.commands.inspect.findings import Example, Finding, Inspection, Section, finding, percent
from nlpcli.config.counting import counted
from nlpcli.data.readers import no_text, read_lines
from nlpcli.errors import reads_description
from nlpcli.runs.open_tokenizer import describe, open_tokenizer
from nlpcli.text import Tokenizer
from nlpcli.text.detokenization import BYTE_PIECES, SPACE_MARK
from nlpcli.text.unusual_characters import script_of, spelled

_BATCH = 1000  # lines
_LONGEST = 12  # tokens that are shown
_UNKNOWN = 20  # characters
_SETTINGS = ("normalization", "lowercase", "byte_fallback", "character_coverage", "lossless", "fingerprint")
_SAMPLES = {
    "Latin": "The translation isn't finished: 1,024 größere Übersetzungen are missing!",
    "Cyrillic": "Перевод ещё не закончен: не хватает 1 024 предложений!",
    "Han": "翻译还没有完成，还差1024句话。",
    "Kana": "翻訳はまだ終わっていません。",
    "Hangul": "번역이 아직 끝나지 않았습니다.",
    "Greek": "Η μετάφραση δεν έχει τελειώσει ακόμη.",
    "Arabic": "لم تنته الترجمة بعد.",
    "Hebrew": "התרגום עדיין לא הסתיים.",
}


@reads_description
def inspect_tokenizer(
    path: Path, *, text: Sequence[str] = (), show: int = 3, on_line: Callable[[int], None] | None = None
) -> Inspection:
    """The tokenizer in a folder, or in that of a model. text: files to measure it on.

    Raises: NlpcliError for a damaged tokenizer, and for bad text.
    """
    tokenizer = open_tokenizer(Path(path))
    described = describe(tokenizer)
    facts = {"tokenizer_kind": described["kind"], "vocab_size": described["vocab_size"]}
    facts |= {"special_tokens": described["special"]} | {name: described[name] for name in _SETTINGS}
    facts["training"] = {name.replace(" ", "_"): value for name, value in described["trained"].items()}
    ordinary = _ordinary(tokenizer)
    scripts = _scripts(ordinary)
    main = next((name for name in scripts if name in _SAMPLES), "Latin")
    sample = _SAMPLES[main]
    facts |= {
        "longest_tokens": sorted(ordinary, key=len, reverse=True)[:_LONGEST],
        "scripts": scripts,
        "single_character_tokens": sum(len(token.strip(SPACE_MARK)) == 1 for token in ordinary),
        "sample": {"text": sample, "tokens": [tokenizer.id_to_piece(id_) for id_ in tokenizer.encode([sample])[0]]},
    }
    sections = [_what(facts), _tokens(facts)]
    findings: list[Finding] = []
    if text:
        facts["text"], findings = measure(tokenizer, text, show=show, on_line=on_line)
        sections.append(_on_text(facts["text"]))
    title = f"a tokenizer: {tokenizer.kind}, {counted(tokenizer.vocab_size, 'token')}"
    return Inspection("tokenizer", title, str(path), facts, sections, findings)


def measure(
    tokenizer: Tokenizer, files: Sequence[str], *, show: int = 3, on_line: Callable[[int], None] | None = None
) -> tuple[dict[str, Any], list[Finding]]:
    """How a tokenizer splits a text, and the lines that are not lossless or contain unknown tokens.

    fertility: tokens per white-space separated word; unused_tokens: of the ordinary tokens (neither special nor single
    bytes), those that do not occur. Lines are counted over all files.
    """
    unk, used = tokenizer.special.unk, np.zeros(tokenizer.vocab_size, dtype=np.int64)
    total: Counter[str] = Counter()
    missing: Counter[str] = Counter()
    changed, unknown = [], []
    examples: dict[str, list[Example]] = {"changed": [], "unknown": []}
    number = 0
    lines = (line for path in files for line in read_lines(path))
    while block := list(itertools.islice(lines, _BATCH)):
        encoded = tokenizer.encode(block)
        for line, ids, back in zip(block, encoded, tokenizer.decode(encoded), strict=True):
            number += 1
            total.update(lines=1, words=len(line.split()), characters=len(line), tokens=len(ids))
            strange = ids.count(unk)
            if strange:
                unknown.append(number)
                total["unknown"] += strange
                if len(examples["unknown"]) < show:
                    examples["unknown"].append(Example(number, {"text": line, "tokens": _cut(tokenizer, ids)}))
                missing.update(_unreadable(tokenizer, line))
            if back != line:
                changed.append(number)
                if len(examples["changed"]) < show:
                    examples["changed"].append(Example(number, {"text": line, "decoded": back}))
        used += np.bincount(np.fromiter(itertools.chain.from_iterable(encoded), dtype=np.int64), minlength=len(used))
        if on_line is not None:
            on_line(number)
    if not total["tokens"]:
        raise no_text(list(files))
    return _measured(tokenizer, total, used, missing), [
        *finding("unknown", "lines with unknown tokens", unknown, examples=examples["unknown"]),
        *finding(
            "changed", "lines that change when they are encoded and decoded", changed, examples=examples["changed"]
        ),
    ]


def _measured(tokenizer: Tokenizer, total: Counter[str], used: np.ndarray, missing: Counter[str]) -> dict[str, Any]:
    tokens = total["tokens"]
    hidden = tokenizer.special.all() | _byte_ids(tokenizer)
    ordinary = [id_ for id_ in range(tokenizer.vocab_size) if id_ not in hidden]
    return {
        **{name: total[name] for name in ("lines", "words", "characters")},
        "tokens": tokens,
        "unknown_tokens": total["unknown"],
        "byte_tokens": int(used[sorted(_byte_ids(tokenizer))].sum()) if _byte_ids(tokenizer) else 0,
        "fertility": round(tokens / max(total["words"], 1), 4),
        "characters_per_token": round(total["characters"] / tokens, 4),
        "unused_tokens": int((used[ordinary] == 0).sum()),
        "ordinary_tokens": len(ordinary),
        "unknown_characters": dict(missing.most_common(_UNKNOWN)),
    }


def _byte_ids(tokenizer: Tokenizer) -> frozenset[int]:
    """The ids of the tokens that are single bytes, for characters without a token."""
    if tokenizer.kind == "byte-bpe":
        return frozenset()
    return frozenset(id_ for id_ in map(tokenizer.piece_to_id, BYTE_PIECES) if id_ != tokenizer.special.unk)


def _unreadable(tokenizer: Tokenizer, line: str) -> list[str]:
    """The characters of a line that are unknown when they stand alone."""
    characters = [character for character in set(line) if not character.isspace()]
    read = tokenizer.encode(characters)
    return [
        c for c, ids in zip(characters, read, strict=True) if tokenizer.special.unk in ids for _ in range(line.count(c))
    ]


def _cut(tokenizer: Tokenizer, ids: Sequence[int]) -> str:
    return " ".join(map(tokenizer.id_to_piece, ids))


def _ordinary(tokenizer: Tokenizer) -> list[str]:
    hidden = {*tokenizer.special.names.values(), *BYTE_PIECES}
    tokens = map(tokenizer.id_to_piece, range(tokenizer.vocab_size))
    return [token for token in tokens if token not in hidden]


def _scripts(tokens: Sequence[str]) -> dict[str, int]:
    """How many tokens are of each script, by their first letter; `none` for those without letters."""
    counts: Counter[str] = Counter()
    for token in tokens:
        counts[next((name for name in map(script_of, token) if name), "none")] += 1
    return dict(counts.most_common())


def _what(facts: dict[str, Any]) -> Section:
    special = "  ".join(f"{name} {id_}" for name, id_ in list(facts["special_tokens"].items())[:12])
    more = len(facts["special_tokens"]) - 12
    training = ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in facts["training"].items())
    changes = [facts["normalization"]] if facts["normalization"] != "identity" else []
    changes += ["lowercase"] if facts["lowercase"] else []
    rows = [
        ("kind", facts["tokenizer_kind"]),
        ("vocabulary", f"{facts['vocab_size']:,} ids, {facts['single_character_tokens']:,} of them single characters"),
        ("special tokens", special + (f"  and {more:,} more" if more > 0 else "")),
        ("normalization", ", ".join(changes) or "none"),
        ("byte fallback", "yes" if facts["byte_fallback"] else "no"),
        ("lossless", "yes, decoding restores every text" if facts["lossless"] else "no"),
        ("training", training or "unknown"),
        ("fingerprint", facts["fingerprint"][:16]),
    ]
    return Section("Tokenizer", rows)


def _tokens(facts: dict[str, Any]) -> Section:
    total = sum(facts["scripts"].values())
    rows = [
        ("scripts", ", ".join(f"{name} {percent(count, total)}" for name, count in facts["scripts"].items())),
        ("longest tokens", " ".join(facts["longest_tokens"])),
        ("sample", facts["sample"]["text"]),
        ("", " ".join(facts["sample"]["tokens"])),
    ]
    return Section("Vocabulary", rows)


def _on_text(facts: dict[str, Any]) -> Section:
    def share(name: str) -> str:
        return f"{counted(facts[name], 'token')} ({percent(facts[name], facts['tokens'])})"

    never, ordinary = facts["unused_tokens"], facts["ordinary_tokens"]
    rows = [
        (
            "text",
            f"{counted(facts['lines'], 'line')}, {counted(facts['words'], 'word')}, "
            f"{counted(facts['tokens'], 'token')}",
        ),
        ("fertility", f"{facts['fertility']:.3f} tokens per word"),
        ("token length", f"{facts['characters_per_token']:.2f} characters"),
        ("unknown tokens", share("unknown_tokens")),
        ("single-byte tokens", share("byte_tokens")),
        (
            "unused tokens",
            f"{never:,} of {ordinary:,} ({percent(never, ordinary)})",
        ),
    ]
    if facts["unknown_characters"]:
        characters = "  ".join(f"{spelled(c)} ({count:,})" for c, count in facts["unknown_characters"].items())
        rows.append(("unknown characters", characters))
    return Section("The text as tokens", rows)
