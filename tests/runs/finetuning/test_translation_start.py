"""Translation learnt from a pretrained model keeps to what that model reads and writes first."""

from __future__ import annotations

import io
import json
import math

import pytest
import sentencepiece
import torch

from nlpcli.config.transformer_settings import TransformerConfig
from nlpcli.convert.huggingface_out import write_huggingface
from nlpcli.decoding.beam import BeamSettings
from nlpcli.decoding.constraints import Constraints, never_written
from nlpcli.decoding.line_translator import TranslatorSettings
from nlpcli.decoding.translator import Translator
from nlpcli.evaluation.bleu import bleu
from nlpcli.models.build import build_model
from nlpcli.models.model_folder import DESCRIPTION, load_model, read_info
from nlpcli.runs.finetuning.finetune import defaults, finetune
from nlpcli.runs.open_model import open_model
from nlpcli.runs.search_options import Search
from nlpcli.runs.training_request import Request
from nlpcli.runs.translation import TranslateRequest, translate
from nlpcli.text import Tokenizer, train_tokenizer
from nlpcli.text.marian_tokenizer import MarianModel
from nlpcli.text.special_tokens import SpecialTokens
from nlpcli.text.tokenizer import TokenizerSettings

PAIRS = [("ab", "x y x y"), ("b", "y y x y x"), ("aab ba", "x x x x"), ("ba", "y x x y")]
SMALL = {"d_model": 16, "heads": 2, "d_ff": 32, "encoder_layers": 1, "decoder_layers": 1, "dropout": 0.0}
BART = {"positions": "learned", "max_length": 24, "scale_embeddings": False, "attention_bias": True,
        "embedding_norm": True, "position_offset": 2, "activation": "gelu"}  # fmt: skip
T5 = {"norm": "rmsnorm", "norm_position": "pre", "norm_eps": 1e-6, "positions": "relative", "score": "dot",
      "feed_forward_bias": False, "scale_embeddings": False, "initialization": "t5"}  # fmt: skip
MARIAN = {"positions": "sinusoidal-halves", "attention_bias": True, "output_bias": True, "max_length": 24}
MODELS = {"bart": BART, "t5": T5, "marian": MARIAN}


class Quiet:
    def __getattr__(self, name):
        return lambda *_, **__: None


@pytest.fixture(params=MODELS)
def family(request):
    return request.param


def marian():
    """A tokenizer that reads sources letter by letter and targets by their pieces."""
    sides = []
    for texts, kind in ((zip(*PAIRS, strict=True), "char"), (reversed([*zip(*PAIRS, strict=True)]), "bpe")):
        written = io.BytesIO()
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=(f"{a} {b}" for a, b in zip(*texts, strict=True)), model_writer=written, vocab_size=20,
            model_type=kind, minloglevel=2, hard_vocab_limit=False,
        )  # fmt: skip
        sides.append(written.getvalue())
    pieces: dict[str, None] = {}
    for proto in sides:
        processor = sentencepiece.SentencePieceProcessor(model_proto=proto)
        pieces |= dict.fromkeys(map(processor.id_to_piece, range(3, processor.vocab_size())))
    vocabulary = {piece: id_ for id_, piece in enumerate(["</s>", "<unk>", *pieces, "<pad>"])}
    last = len(vocabulary) - 1
    spellings = ((0, "</s>"), (1, "<unk>"), (last, "<pad>"))
    absent = ("bos", "cls", "mask")
    special = SpecialTokens(
        pad=last, unk=1, bos=last, eos=0, cls=last, sep=0, mask=1, spellings=spellings, absent=absent
    )
    model = MarianModel(vocabulary, *sides, special)
    return Tokenizer(TokenizerSettings(kind="marian", byte_fallback=False), model, special, {})


@pytest.fixture
def published(family, tmp_path):
    """A model in a folder as others publish it: nothing of this program is in it."""
    tokenizer = marian() if family == "marian" else train_tokenizer("chars", ["ab xy"], byte_fallback=False)
    config = TransformerConfig(**SMALL, **MODELS[family])
    torch.manual_seed(3)
    model = build_model(config, tokenizer.vocab_size)
    with torch.no_grad():
        for weight in model.parameters():
            weight.copy_(torch.randn_like(weight) * 0.3)
    folder = tmp_path / family
    folder.mkdir()
    weights = model.state_dict()
    write_huggingface(folder, config=config.model_dump(), weights=weights, tokenizer=tokenizer, info={})
    special = tokenizer.special
    content = json.loads((folder / "config.json").read_text())
    del content["nlpcli"], content["decoder_start_token_id"]
    if family == "bart":
        content["decoder_start_token_id"] = special.eos
    (folder / "config.json").write_text(json.dumps(content))
    (folder / "generation_config.json").unlink(missing_ok=True)  # of this program, too
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    settings = {key: value for key, value in settings.items() if family == "bart" or key != "bos_token"}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    (folder / "special_tokens_map.json").unlink(missing_ok=True)
    return folder


@pytest.fixture
def starts(family, published):
    """What comes before sources and before targets, as the papers' code has it: </s> <s> for BART, <pad> for others."""
    special = open_model(published).tokenizer.special
    return ([special.bos], [special.eos, special.bos]) if family == "bart" else ([], [special.pad])


@pytest.fixture
def tuned(published, tmp_path):
    """Fine-tunes on `PAIRS`: (steps) -> the run."""
    for part in ("train", "dev"):
        for side, texts in zip(("src", "tgt"), zip(*PAIRS, strict=True), strict=True):
            (tmp_path / f"{part}.{side}").write_text("".join(f"{text}\n" for text in texts))

    data = {part: [str(tmp_path / f"{part}.{side}") for side in ("src", "tgt")] for part in ("train", "dev")}
    loop = {"max_epochs": None, "evaluate_every": 50, "save_every": 2, "schedule": "constant", "device": "cpu",
            "precision": "float32", "bleu_sentences": 4}  # fmt: skip

    def run_it(steps, *, resume=False, lr=0.01):
        training = {"max_steps": steps} if resume else {"max_steps": steps, "lr": lr, **loop}
        settings = {"training": training}
        if not resume:
            settings |= {
                "init": str(published),
                "task": "translation",
                "data": {**data, "max_length": 24, "workers": 1},
            }
        base = None if resume else defaults("translation", init=str(published))
        request = Request("", base=base, settings=settings, out=tmp_path / "run", resume=resume, overwrite=not resume)
        return finetune(request, Quiet())[0]

    return run_it


def nats(loaded, starts):
    """Of every target given its source, by the equation; and how many tokens these are."""
    total, count = 0.0, 0
    special = loaded.tokenizer.special
    for source, target in PAIRS:
        [x], [y] = loaded.tokenizer.encode([source]), loaded.tokenizer.for_targets().encode([target])
        read = torch.tensor([[*starts[0], *x, special.eos]])
        written = torch.tensor([[*starts[1], *y]])
        logits = loaded.model(read, None, written)[0, len(starts[1]) - 1 :]
        goal = torch.tensor([*y, special.eos])
        total += torch.nn.functional.cross_entropy(logits, goal, reduction="sum").item()
        count += len(goal)
    return total, count


def test_the_loss_is_that_of_the_texts_as_the_model_was_made_to_read_and_write_them(published, tuned, starts):
    run = tuned(1, lr=1e-12)
    with torch.inference_mode():
        total, count = nats(open_model(published), starts)
    assert math.isclose(read_info(run)["metrics"]["loss"], total / count, rel_tol=1e-4)


def test_what_was_learnt_is_used_as_it_was_learnt(published, tuned, starts, tmp_path):
    run = tuned(60)
    job = TranslateRequest(files=[str(tmp_path / "dev.src")], model=run, search=Search(beam_size=1))
    translations = [t.text for window in translate(job, notify=lambda _: None, warn=lambda _: None) for t in window]
    measured = read_info(run)["metrics"]["bleu"]
    assert measured == pytest.approx(bleu(translations, [[target for _, target in PAIRS]]).value)
    loaded = load_model(run)
    search = BeamSettings(1, constraints=Constraints(never_written(loaded.tokenizer.special)))
    settings = TranslatorSettings(search, source_start=tuple(starts[0]), target_start=tuple(starts[1]))
    again = Translator(loaded.model, loaded.tokenizer, settings).translate([source for source, _ in PAIRS])
    assert [t.text for t in again] == translations
    with torch.inference_mode():
        (total, count), (before, _) = nats(loaded, starts), nats(open_model(published), starts)
    assert read_info(run)["metrics"]["loss"] == pytest.approx(total / count, rel=1e-4)
    assert total < before / 2


def test_a_run_that_goes_on_keeps_to_it_even_if_it_was_interrupted_before_its_model_was_kept(tuned):
    straight = (tuned(4) / "model.safetensors").read_bytes()
    run = tuned(2)
    known = {key: value for key, value in read_info(run).items() if key.endswith("_start")}
    (run / DESCRIPTION).unlink()
    tuned(4, resume=True)
    assert (run / "model.safetensors").read_bytes() == straight
    assert {key: value for key, value in read_info(run).items() if key.endswith("_start")} == known
