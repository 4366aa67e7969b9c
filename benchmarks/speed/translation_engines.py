"""Sentences per second of translation: ours with PyTorch and with CTranslate2, CTranslate2 alone, and transformers.

python benchmarks/speed/translation_engines.py RUN FILE [--rounds 5] [--sentences 256]

RUN: a translation model of nlpcli. FILE: lines to translate. All four have the same weights, tokenize and detokenize,
use one thread, and rank hypotheses by their mean log-probability. Processor time, medians of rounds in turn; a ratio is
to the first line of the block in the same round.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import ctranslate2
import torch
import transformers

from nlpcli.commands.convert import Conversion, convert
from nlpcli.runs.search_options import Search
from nlpcli.runs.translation import TranslateRequest, open_translator
from nlpcli.text import load_tokenizer

Translate = Callable[[list[str]], list[str]]


def ours(run: Path, engine: str, beam: int, quantization: str | None = None) -> Translate:
    job = TranslateRequest(
        model=run,
        search=Search(beam_size=beam, length_penalty=1.0, length_normalization="average"),
        engine=engine,
        quantization=quantization,
        batch_tokens=1_000_000,  # one batch of all sentences of a call
        device="cpu",
        threads=1,
    )
    translator = open_translator(job, notify=lambda text: None, warn=lambda text: None)
    return lambda lines: [found.text for found in translator.translate(lines)]


def library(folder: Path, beam: int) -> Translate:
    tokenizer = load_tokenizer(folder / "tokenizer")
    translator = ctranslate2.Translator(str(folder), device="cpu", inter_threads=1, intra_threads=1)

    def translate(lines: list[str]) -> list[str]:
        sources = [[tokenizer.id_to_piece(id_) for id_ in ids] for ids in tokenizer.encode(lines)]
        found = translator.translate_batch(sources, beam_size=beam, max_decoding_length=max(map(len, sources)) * 2 + 50)
        return tokenizer.decode([[tokenizer.piece_to_id(piece) for piece in one.hypotheses[0]] for one in found])

    return translate


def hugging_face(folder: Path, beam: int) -> Translate:
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    model = transformers.AutoModelForSeq2SeqLM.from_pretrained(folder).eval()

    @torch.inference_mode()
    def translate(lines: list[str]) -> list[str]:
        inputs = tokenizer(lines, return_tensors="pt", padding=True)
        longest = inputs["input_ids"].shape[1] * 2 + 50
        found = model.generate(
            input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"], num_beams=beam,
            max_new_tokens=longest, length_penalty=1.0,
        )  # fmt: skip
        return tokenizer.batch_decode(found, skip_special_tokens=True)

    return translate


def timed(translate: Translate, batches: list[list[str]]) -> tuple[float, list[str]]:
    """Sentences per second of processor time, and the translations."""
    begun, found = time.process_time(), []
    for batch in batches:
        found += translate(batch)
    return sum(map(len, batches)) / (time.process_time() - begun), found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("file", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--sentences", type=int, default=256)
    given = parser.parse_args()
    torch.set_num_threads(1)
    lines = given.file.read_text(encoding="utf-8").splitlines()[: given.sentences]
    with tempfile.TemporaryDirectory() as name:
        theirs, hf = Path(name) / "ct2", Path(name) / "hf"
        first = Conversion(given.run, theirs, "ctranslate2")
        convert(first)
        convert(replace(first, out=hf, to="huggingface"))
        print("| sentences at once | beam | engine | sentences/s | ratio | lowest to highest | same texts |")
        print("| --- | --- | --- | --- | --- | --- | --- |")
        for size in (1, 64):
            for beam in (1, 5):
                engines = {
                    "nlpcli, torch": ours(given.run, "torch", beam),
                    "nlpcli, ctranslate2": ours(given.run, "ctranslate2", beam),
                    "nlpcli, ctranslate2, int8": ours(given.run, "ctranslate2", beam, "int8"),
                    "CTranslate2": library(theirs, beam),
                    "transformers": hugging_face(hf, beam),
                }
                measure(engines, lines[: 32 if size == 1 else None], size, beam, given.rounds)


def measure(engines: dict[str, Translate], lines: list[str], size: int, beam: int, rounds: int) -> None:
    batches = [lines[i : i + size] for i in range(0, len(lines), size)]
    speeds: dict[str, list[float]] = {name: [] for name in engines}
    texts: dict[str, list[str]] = {}
    for translate in engines.values():
        translate(batches[0])  # the first call prepares
    for _ in range(rounds):
        for name, translate in engines.items():
            speed, texts[name] = timed(translate, batches)
            speeds[name].append(speed)
    base = texts["nlpcli, torch"]
    for name in engines:
        middle = statistics.median(speeds[name])
        ratios = [own / base_speed for own, base_speed in zip(speeds[name], speeds["nlpcli, torch"], strict=True)]
        spread = f"{statistics.median(ratios):.2f} | {min(ratios):.2f} to {max(ratios):.2f}"
        same = sum(one == other for one, other in zip(texts[name], base, strict=True))
        print(f"| {size} | {beam} | {name} | {middle:.1f} | {spread} | {same} of {len(base)} |", flush=True)


if __name__ == "__main__":
    main()
