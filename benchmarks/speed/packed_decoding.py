"""Time of greedy search and beam search with the model's own steps and with the packed decoder, in turn.

python benchmarks/speed/packed_decoding.py [--rounds 3]
"""

from __future__ import annotations

import argparse
import statistics
import time
from typing import Any

import torch

from nlpcli.decoding.beam import BeamSettings, beam_search
from nlpcli.decoding.greedy import greedy_search
from nlpcli.decoding.stop_conditions import StopConditions
from nlpcli.models.build import build_model
from nlpcli.models.packed_decoder import packed

LENGTH = 15
SHAPE = {"kind": "encoder-decoder", "d_model": 128, "heads": 4, "d_ff": 512, "encoder_layers": 4, "decoder_layers": 4}


@torch.inference_mode()
def texts(model: Any, rows: int, beam: int) -> list[tuple[int, ...]]:
    source = torch.randint(5, 8000, (rows, LENGTH), generator=torch.Generator().manual_seed(1))
    state, prefixes = model.init_state(model.encode(source)), [[2]] * rows
    if beam == 1:
        found = greedy_search(model, state, prefixes, StopConditions(eos=None, max_length=LENGTH))
    else:
        found = beam_search(model, state, prefixes, eos=None, max_length=LENGTH, settings=BeamSettings(beam_size=beam))
    return [hypotheses[0].ids for hypotheses in found]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    model = build_model({**SHAPE, "norm_position": "pre"}, 8000).eval()
    both = {"model": model, "packed": packed(model)}
    print("| sentences at once | beam | model, ms | packed, ms | ratio | same texts |")
    print("| --- | --- | --- | --- | --- | --- |")
    for rows, beam in ((1, 1), (1, 5), (64, 1), (64, 5)):
        times: dict[str, list[float]] = {name: [] for name in both}
        found = {}
        for _ in range(given.rounds):
            for name, one in both.items():
                texts(one, rows, beam)
                begun, count = time.process_time(), 10 if rows == 1 else 1
                for _ in range(count):
                    found[name] = texts(one, rows, beam)
                times[name].append(1000 * (time.process_time() - begun) / count)
        before, after = (statistics.median(times[name]) for name in both)
        same = "yes" if found["model"] == found["packed"] else "no"
        print(f"| {rows} | {beam} | {before:.1f} | {after:.1f} | {before / after:.2f} | {same} |", flush=True)


if __name__ == "__main__":
    main()
