"""The dialogues of DialogSum, never their summaries, as documents of one line with a blank line between them.

python benchmarks/summarization/prepare.py dialogsum.train.jsonl.gz > dialogues.txt
"""

from __future__ import annotations

import json
import sys

from nlpcli.data.readers import read_lines

for number, line in enumerate(read_lines(sys.argv[1])):
    if number:
        print()
    print(" ".join(json.loads(line)["dialogue"].split()))
