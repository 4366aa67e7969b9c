"""ROUGE of summaries that no model made: the first or the longest utterances of a dialogue.

python benchmarks/summarization/baselines.py dialogsum.test.jsonl.gz
"""

from __future__ import annotations

import json
import sys

from nlpcli.data.readers import read_lines
from nlpcli.evaluation.rouge import Rouge1, Rouge2, RougeL


def first(utterances: list[str], count: int) -> str:
    return " ".join(utterances[:count])


def longest(utterances: list[str], count: int) -> str:
    """The longest `count` utterances, in the order of the dialogue."""
    chosen = sorted(range(len(utterances)), key=lambda i: -len(utterances[i].split()))[:count]
    return " ".join(utterances[i] for i in sorted(chosen))


def main() -> None:
    records = [json.loads(line) for line in read_lines(sys.argv[1])]
    dialogues = [record["dialogue"].split("\n") for record in records]
    columns = [name for name in ("summary", "summary1", "summary2", "summary3") if name in records[0]]
    for used in dict.fromkeys((tuple(columns[:1]), tuple(columns))):
        references = [[record[name] for record in records] for name in used]
        for choose, count in ((first, 2), (first, 3), (longest, 2), (longest, 3)):
            texts = [choose(utterances, count) for utterances in dialogues]
            scores = [kind(rouge_stemmer="porter").corpus(texts, references) for kind in (Rouge1, Rouge2, RougeL)]
            values = " ".join(f"{score.value:.2f}" for score in scores)
            print(f"{choose.__name__} {count} beside {', '.join(used)}: {values}", flush=True)
    print(scores[-1].signature)


if __name__ == "__main__":
    main()
