"""Recurrent translation beside JoeyNMT's: the same shape, vocabulary and text, training and search.

    python benchmarks/attention/speed_joeynmt.py MULTI30K OUT --joeynmt PYTHON --tokenizer DIR [--lines 4000]

MULTI30K holds train.en, train.de, test.en and test.de, PYTHON is an interpreter that has JoeyNMT 2.3. Every training is
a pass over the first lines. Of our first model the weights are copied to one of JoeyNMT's, so that both search with the
same numbers: greedy translations must be the same. Everything runs on one thread in float32, the programs in turn;
JoeyNMT reads text that is cut into our subwords already. Times are those the programs report, without their start.
--sorted gives JoeyNMT the text by length, not shuffled, so that its batches hold little padding.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import torch
import yaml

import nlpcli

WIDTH, BATCH_TOKENS, RATE, DROPOUT = 256, 4096, 0.002, 0.3
SEARCHED, LONGEST = 64, 50  # sentences at once, tokens of a translation
SHAPES = {"general": "luong", "additive": "bahdanau"}  # our scores, and JoeyNMT's names of them
SETTINGS = (
    "extends: luong-global\ntask: translation\n"
    f"model: {{rnn_type: CELL, score: SCORE, d_model: {WIDTH}, d_embedding: {WIDTH}, tie: source-target}}\n"
    f"training: {{batch_tokens: {BATCH_TOKENS}, lr: {RATE}, schedule: constant, warmup_steps: 0, max_epochs: 1,\n"
    "  evaluate_every: 1000000, average_last: 0, metric: loss, bleu_sentences: 0, threads: 1, precision: float32}\n"
)


def command(*words: object, **more: str) -> str:
    """What a command writes to both outputs."""
    one = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    found = subprocess.run([str(word) for word in words], env=os.environ | one | more, text=True, capture_output=True)
    if found.returncode:
        sys.exit(found.stdout + found.stderr)
    return found.stdout + found.stderr


def nlp(*words: object) -> str:
    return command(sys.executable, "-m", "nlpcli", *words)


def recipe(out: Path, cell: str, score: str) -> Path:
    path = out / f"{cell}-{score}.yaml"
    path.write_text(SETTINGS.replace("CELL", cell).replace("SCORE", score), encoding="utf-8")
    return path


def cut(tokenizer: Any, path: Path) -> list[str]:
    text = path.read_text(encoding="utf-8").split("\n")[:-1]
    return [" ".join(tokenizer.id_to_piece(id_) for id_ in ids) for ids in tokenizer.encode(text)]


def joey_settings(out: Path, cell: str, score: str, batch: int) -> dict[str, Any]:
    side = {"level": "word", "max_length": 500, "voc_file": str(out / "vocabulary.txt"), "tokenizer_cfg": {}}
    special = {"unk_token": "<unk>", "pad_token": "<pad>", "bos_token": "<s>", "eos_token": "</s>"}
    layer: dict[str, Any] = {
        "type": "recurrent",
        "rnn_type": cell,
        "embeddings": {"embedding_dim": WIDTH, "scale": True},
    }
    layer |= {"num_layers": 1, "dropout": DROPOUT}
    return {
        "name": "speed",
        "model_dir": str(out / f"joey-{cell}-{score}"),
        "use_cuda": False,
        "fp16": False,
        "data": {
            **{part: str(out / part) for part in ("train", "dev", "test")},
            "dataset_type": "plain",
            "src": {"lang": "en", **side},
            "trg": {"lang": "de", **side},
            "special_symbols": special | {"unk_id": 0, "pad_id": 1, "bos_id": 2, "eos_id": 3},
        },
        "testing": {"beam_size": 1, "beam_alpha": 1.0, "batch_size": SEARCHED, "max_output_length": LONGEST},
        "training": {
            **{"optimizer": "adamw", "learning_rate": RATE, "clip_grad_norm": 1.0, "label_smoothing": 0.1},
            **{"batch_size": batch, "batch_type": "sentence", "normalization": "tokens", "epochs": 1},
            **{"validation_freq": 100000, "logging_freq": 100000, "overwrite": True, "shuffle": True},
            "scheduling": "exponential",
            "decrease_factor": 1.0,
        },
        "model": {
            "initializer": "xavier_uniform",
            "tied_embeddings": True,
            "encoder": {**layer, "hidden_size": WIDTH // 2, "bidirectional": True},
            "decoder": {**layer, "hidden_size": WIDTH, "hidden_dropout": DROPOUT, "input_feeding": True}
            | {"init_hidden": "bridge", "attention": SHAPES[score], "activation": "tanh"},
        },
    }


def copied(run: Path, order: list[int]) -> dict[str, torch.Tensor]:
    """Our GRU with the additive score and its decoder's weights under JoeyNMT's names. order: our id of each of its."""
    ours = nlpcli.load(run)._loaded.model.body.state_dict()
    table = ours["encoder_embedding.tokens.weight"][order]
    left = ours["decoder.combine.weight"]
    found = {"src_embed.lut.weight": table, "trg_embed.lut.weight": table}
    for name, weight in ours.items():
        if name.startswith("encoder.layers.0."):
            found[name.replace("encoder.layers.0.", "encoder.rnn.")] = weight
        if name.startswith("decoder.layers.0."):
            found[name.replace("decoder.layers.0.", "decoder.rnn.")] = weight
    score = "decoder.cross_attention.score."
    return found | {
        "decoder.bridge_layer.weight": ours["decoder.bridge.weight"],
        "decoder.bridge_layer.bias": ours["decoder.bridge.bias"],
        "decoder.att_vector_layer.weight": torch.cat((left[:, WIDTH:], left[:, :WIDTH]), dim=1),  # state, then context
        "decoder.att_vector_layer.bias": torch.zeros(WIDTH),
        "decoder.output_layer.weight": ours["output_weight_owner.weight"][order],
        "decoder.attention.key_layer.weight": ours[score + "key_weight"][0].T,
        "decoder.attention.query_layer.weight": ours[score + "query_weight"][0].T,
        "decoder.attention.energy_layer.weight": ours[score + "vector"][0].T,
    }


class Comparison:
    """The folders and what is measured in them; each method takes one measurement."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.out, self.python, self.joey = options.out, options.joeynmt, options.joey_path
        self.out.mkdir(parents=True, exist_ok=True)
        self.tokenizer, self.sorted = options.tokenizer, options.sorted
        for part, count in (("train", options.lines), ("dev", 50), ("test", None)):
            for language in ("en", "de"):
                path = options.multi30k / f"{'test' if part == 'dev' else part}.{language}"
                lines = path.read_text(encoding="utf-8").split("\n")[:-1][:count]
                (self.out / f"raw-{part}.{language}").write_text("\n".join(lines) + "\n", encoding="utf-8")
        self.sentences = options.lines
        self.searched = options.searched or self.out / "ours-gru-additive"

    def files(self, part: str) -> list[Path]:
        return [self.out / f"raw-{part}.{language}" for language in ("en", "de")]

    def train_ours(self, cell: str, score: str) -> tuple[float, float]:
        """Target tokens a second, and sentences of a batch."""
        run = self.out / f"ours-{cell}-{score}"
        config = ["--config", recipe(self.out, cell, score), "--tokenizer", self.tokenizer]
        text = ["--train", *self.files("train"), "--dev", *self.files("dev")]
        nlp("finetune", *config, *text, "--overwrite", "--out", run)
        rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
        last = [row for row in rows if row["kind"] == "train"][-1]
        return self.target_tokens(run) / last["seconds"], self.sentences / last["step"]

    def target_tokens(self, run: Path) -> int:
        from nlpcli.runs.open_tokenizer import open_tokenizer

        ids = open_tokenizer(run / "tokenizer").encode(self.files("train")[1].read_text(encoding="utf-8").split("\n"))
        return sum(len(row) + 1 for row in ids[:-1])

    def prepare_joey(self, run: Path, batch: int) -> None:
        """Its text, vocabulary, settings, and the checkpoint with our weights."""
        from nlpcli.runs.open_tokenizer import open_tokenizer

        tokenizer = open_tokenizer(run / "tokenizer")
        for part in ("train", "dev", "test"):
            sides = [cut(tokenizer, path) for path in self.files(part)]
            if self.sorted and part == "train":
                pairs = sorted(zip(*sides, strict=True), key=lambda pair: (len(pair[1].split()), len(pair[0].split())))
                sides = [[pair[side] for pair in pairs] for side in (0, 1)]
            for lines, language in zip(sides, ("en", "de"), strict=True):
                (self.out / f"{part}.{language}").write_text("\n".join(lines) + "\n", encoding="utf-8")
        special = tokenizer.special
        first = [special.unk, special.pad, special.bos, special.eos]
        order = first + [id_ for id_ in range(tokenizer.vocab_size) if id_ not in first]
        names = ["<unk>", "<pad>", "<s>", "</s>", *(tokenizer.id_to_piece(id_) for id_ in order[4:])]
        (self.out / "vocabulary.txt").write_text("\n".join(names) + "\n", encoding="utf-8")
        for cell, score in (("lstm", "general"), ("gru", "additive")):
            settings = joey_settings(self.out, cell, score, batch)
            settings["training"]["shuffle"] = not self.sorted
            (self.out / f"joey-{cell}-{score}.yaml").write_text(yaml.safe_dump(settings), encoding="utf-8")
        folder = self.out / "joey-search"
        folder.mkdir(exist_ok=True)
        torch.save({"model_state": copied(run, order)}, folder / "ours.ckpt")
        for beam in (1, 5):
            settings = joey_settings(self.out, "gru", "additive", batch) | {"model_dir": str(folder)}
            settings["data"] = {key: value for key, value in settings["data"].items() if key not in ("train", "dev")}
            settings["testing"] |= {"beam_size": beam, "load_model": str(folder / "ours.ckpt")}
            (self.out / f"joey-beam{beam}.yaml").write_text(yaml.safe_dump(settings), encoding="utf-8")

    def run_joey(self, *words: object) -> str:
        more = {"PYTHONPATH": self.joey} if self.joey else {}
        return command(self.python, "-m", "joeynmt", *words, **more)

    def train_joey(self, cell: str, score: str) -> float:
        """Target tokens a second."""
        log = self.run_joey("train", self.out / f"joey-{cell}-{score}.yaml", "--skip-test")
        found = re.search(r"num. of tokens: (\d+), ([\d.]+)\[sec\]", log)
        assert found is not None, log
        return int(found[1]) / float(found[2])

    def search_joey(self, beam: int) -> tuple[float, list[str]]:
        """Sentences a second, and the translations."""
        path = self.out / f"joey-beam{beam}"
        log = self.run_joey("test", path.with_suffix(".yaml"), "-o", path)
        found = re.search(r"Generation took ([\d.]+)\[sec\]", log)
        assert found is not None, log
        lines = Path(f"{path}.test").read_text(encoding="utf-8").split("\n")[:-1]
        return len(lines) / float(found[1]), ["".join(line.split()).replace("▁", " ").strip() for line in lines]

    def search_ours(self, beam: int) -> tuple[float, list[str]]:
        """As `search_joey`; cutting sentences into subwords, and joining them, counts, too."""
        code = (
            "import json, sys, time, nlpcli\n"
            "model = nlpcli.load(sys.argv[1], threads=1)\n"
            "lines = open(sys.argv[2], encoding='utf-8').read().split('\\n')[:-1]\n"
            "model.translate(lines[:1], beam_size=int(sys.argv[3]))\n"  # what is imported at the first call
            "start = time.perf_counter()\n"
            "found = model.translate(lines, beam_size=int(sys.argv[3]), length_penalty=1.0,\n"
            f"  max_length={LONGEST})\n"
            "print(json.dumps([time.perf_counter() - start, [one.text for one in found]]))"
        )
        printed = command(sys.executable, "-c", code, self.searched, self.files("test")[0], beam)
        seconds, lines = json.loads(next(line for line in printed.splitlines() if line.startswith("[")))
        return len(lines) / seconds, lines


def spread(values: list[float]) -> str:
    return f"{statistics.median(values):,.1f} ({min(values):,.1f} to {max(values):,.1f})"


def show(name: str, ours: list[float], theirs: list[float]) -> None:
    ratio = statistics.median(ours) / statistics.median(theirs)
    print(f"| {name} | {spread(ours)} | {spread(theirs)} | {ratio:.2f} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("multi30k", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--joeynmt", required=True, help="an interpreter that has JoeyNMT")
    parser.add_argument("--joey-path", default="", help="its PYTHONPATH, for JoeyNMT that is not installed")
    parser.add_argument("--tokenizer", type=Path, required=True, help="folder of the tokenizer, of 6,000 subwords")
    parser.add_argument("--searched", type=Path, help="a run by OUT/gru-additive.yaml to search with")
    parser.add_argument("--sorted", action="store_true", help="JoeyNMT's text by length")
    parser.add_argument("--parts", nargs="+", choices=("training", "search"), default=("training", "search"))
    parser.add_argument("--lines", type=int, default=4000)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    this = Comparison(options)
    _, batch = this.train_ours("gru", "additive")
    this.prepare_joey(options.out / "ours-gru-additive", round(batch))
    print(f"{batch:.1f} sentences a batch; {time.strftime('%H:%M')}")
    print("| | ours | JoeyNMT | ours / JoeyNMT |\n|---|---|---|---|", flush=True)
    for cell, score in (("gru", "additive"), ("lstm", "general")) if "training" in options.parts else ():
        pairs = [(this.train_ours(cell, score)[0], this.train_joey(cell, score)) for _ in range(options.rounds)]
        ours, theirs = map(list, zip(*pairs, strict=True))
        show(f"training, {cell.upper()}, {score}: target tokens/s", ours, theirs)
    this.prepare_joey(this.searched, round(batch))
    for beam in (1, 5) if "search" in options.parts else ():
        found = [(this.search_ours(beam), this.search_joey(beam)) for _ in range(options.rounds)]
        show(f"search, beam {beam}: sentences/s", *([one[side][0] for one in found] for side in (0, 1)))
        same = sum(a == b for a, b in zip(found[-1][0][1], found[-1][1][1], strict=True))
        print(f"the same translation: {same} of {len(found[-1][0][1])}", file=sys.stderr)


if __name__ == "__main__":
    main()
