"""Speed of translating and of continuing texts: ours with PyTorch and with CTranslate2, CTranslate2 alone, and
transformers.

python benchmarks/speed/translation_engines.py RUN FILE [--rounds 5] [--lines 256]

RUN: a translation model of nlpcli, or a language model. FILE: lines to translate, or the prompts. All have the same
weights, tokenize and detokenize, and use one thread. Translations are measured in sentences a second; hypotheses are
ranked by their mean log-probability. Texts are continued by greedy search with 100 tokens or fewer, and measured in new
tokens a second. Processor time, medians of rounds in turn; a ratio is to the first line of the block in the same round.
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
from nlpcli.commands.generate.generate import Generator
from nlpcli.commands.generate.generate_request import GenerateRequest
from nlpcli.decoding.constraints import never_written
from nlpcli.models.model_folder import load_model
from nlpcli.runs.decoding_settings import end_of, window_of
from nlpcli.runs.open_model import task_of
from nlpcli.runs.search_options import Search
from nlpcli.runs.translation import TranslateRequest, open_translator
from nlpcli.text import load_tokenizer

Work = Callable[[list[str]], tuple[list[str], int]]
"""Lines -> texts, and how much was done: sentences or new tokens."""
NEW_TOKENS = 100


def silent(text: str) -> None:
    pass


def ours(run: Path, engine: str, beam: int, quantization: str | None = None) -> Work:
    job = TranslateRequest(
        model=run,
        search=Search(beam_size=beam, length_penalty=1.0, length_normalization="average"),
        engine=engine,
        quantization=quantization,
        batch_tokens=1_000_000,  # one batch of all sentences of a call
        device="cpu",
        threads=1,
    )
    translator = open_translator(job, notify=silent, warn=silent)
    return lambda lines: ([found.text for found in translator.translate(lines)], len(lines))


def library(folder: Path, beam: int) -> Work:
    tokenizer = load_tokenizer(folder / "tokenizer")
    translator = ctranslate2.Translator(str(folder), device="cpu", inter_threads=1, intra_threads=1)

    def translate(lines: list[str]) -> tuple[list[str], int]:
        sources = [[tokenizer.id_to_piece(id_) for id_ in ids] for ids in tokenizer.encode(lines)]
        found = translator.translate_batch(sources, beam_size=beam, max_decoding_length=max(map(len, sources)) * 2 + 50)
        ids = [[tokenizer.piece_to_id(piece) for piece in one.hypotheses[0]] for one in found]
        return tokenizer.decode(ids), len(lines)

    return translate


def hugging_face(folder: Path, beam: int) -> Work:
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    model = transformers.AutoModelForSeq2SeqLM.from_pretrained(folder).eval()

    @torch.inference_mode()
    def translate(lines: list[str]) -> tuple[list[str], int]:
        inputs = tokenizer(lines, return_tensors="pt", padding=True)
        longest = inputs["input_ids"].shape[1] * 2 + 50
        found = model.generate(
            input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"], num_beams=beam,
            max_new_tokens=longest, length_penalty=1.0,
        )  # fmt: skip
        return tokenizer.batch_decode(found, skip_special_tokens=True), len(lines)

    return translate


def our_generator(run: Path, engine: str, quantization: str | None = None) -> Work:
    job = GenerateRequest(
        model=run, max_new_tokens=NEW_TOKENS, greedy=True, engine=engine, quantization=quantization, scores=False,
        rows=1_000, device="cpu", threads=1,
    )  # fmt: skip
    generator = Generator(job, notify=silent, warn=silent)

    def generate(lines: list[str]) -> tuple[list[str], int]:
        found = [one for portion in generator.generate(lines) for one in portion]
        return [one.text for one in found], sum(one.tokens for one in found)

    return generate


def library_generator(run: Path, folder: Path) -> Work:
    """All prompts of a call in one batch; what goes beyond the window of the model is left out."""
    loaded = load_model(run)
    tokenizer, window = loaded.tokenizer, window_of(loaded)
    generator = ctranslate2.Generator(str(folder), device="cpu", inter_threads=1, intra_threads=1)
    never = never_written(tokenizer.special, end=end_of(loaded) is not None)

    def generate(lines: list[str]) -> tuple[list[str], int]:
        prompts = tokenizer.encode(lines)
        found = generator.generate_batch(
            [[tokenizer.id_to_piece(id_) for id_ in ids] for ids in prompts],
            max_length=min(NEW_TOKENS, window + 1 - max(map(len, prompts))),
            suppress_sequences=[[tokenizer.id_to_piece(id_)] for id_ in never],
            include_prompt_in_result=False,
        )
        ids = [one.sequences_ids[0] for one in found]
        return tokenizer.decode(ids), sum(map(len, ids))

    return generate


def timed(work: Work, batches: list[list[str]]) -> tuple[float, list[str]]:
    """Sentences or tokens per second of processor time, and the texts."""
    begun, texts, done = time.process_time(), [], 0
    for batch in batches:
        found, amount = work(batch)
        texts += found
        done += amount
    return done / (time.process_time() - begun), texts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n\n")[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("file", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--lines", type=int, default=256)
    given = parser.parse_args()
    torch.set_num_threads(1)
    lines = given.file.read_text(encoding="utf-8").splitlines()[: given.lines]
    measured = continuations if task_of(given.run) == "language-model" else translations
    with tempfile.TemporaryDirectory() as name:
        measured(given.run, lines, given.rounds, Path(name))


def translations(run: Path, lines: list[str], rounds: int, place: Path) -> None:
    theirs, hf = place / "ct2", place / "hf"
    first = Conversion(run, theirs, "ctranslate2")
    convert(first)
    convert(replace(first, out=hf, to="huggingface"))
    print("| sentences at once | beam | engine | sentences/s | ratio | lowest to highest | same texts |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for size in (1, 64):
        for beam in (1, 5):
            engines = {
                "nlpcli, torch": ours(run, "torch", beam),
                "nlpcli, ctranslate2": ours(run, "ctranslate2", beam),
                "nlpcli, ctranslate2, int8": ours(run, "ctranslate2", beam, "int8"),
                "CTranslate2": library(theirs, beam),
                "transformers": hugging_face(hf, beam),
            }
            measure(engines, lines[: 32 if size == 1 else None], size, f"{size} | {beam}", rounds)


def continuations(run: Path, lines: list[str], rounds: int, place: Path) -> None:
    convert(Conversion(run, place / "ct2", "ctranslate2"))
    engines = {
        "nlpcli, torch": our_generator(run, "torch"),
        "nlpcli, ctranslate2": our_generator(run, "ctranslate2"),
        "nlpcli, ctranslate2, int8": our_generator(run, "ctranslate2", "int8"),
        "CTranslate2": library_generator(run, place / "ct2"),
    }
    print("| prompts at once | engine | tokens/s | ratio | lowest to highest | same texts |")
    print("| --- | --- | --- | --- | --- | --- |")
    for size in (1, 32):
        measure(engines, [line for line in lines if line][: 32 if size == 1 else None], size, str(size), rounds)


def measure(engines: dict[str, Work], lines: list[str], size: int, label: str, rounds: int) -> None:
    batches = [lines[i : i + size] for i in range(0, len(lines), size)]
    speeds: dict[str, list[float]] = {name: [] for name in engines}
    texts: dict[str, list[str]] = {}
    for work in engines.values():
        work(batches[0])  # the first call prepares
    for _ in range(rounds):
        for name, work in engines.items():
            speed, texts[name] = timed(work, batches)
            speeds[name].append(speed)
    base = texts["nlpcli, torch"]
    for name in engines:
        middle = statistics.median(speeds[name])
        ratios = [own / base_speed for own, base_speed in zip(speeds[name], speeds["nlpcli, torch"], strict=True)]
        spread = f"{statistics.median(ratios):.2f} | {min(ratios):.2f} to {max(ratios):.2f}"
        same = sum(one == other for one, other in zip(texts[name], base, strict=True))
        print(f"| {label} | {name} | {middle:.1f} | {spread} | {same} of {len(base)} |", flush=True)


if __name__ == "__main__":
    main()
