"""A trained model with other attention and more positions: the same numbers where both see the same, and refusals."""

from __future__ import annotations

import json

import pytest
import torch
from model_settings import of_family

from nlpcli.cli.main import main
from nlpcli.errors import NlpcliError
from nlpcli.models.build import build_model
from nlpcli.models.context_extension import longer_table, with_length_and_attention
from nlpcli.models.model_folder import LoadedModel, load_model, save_model
from nlpcli.text import train_tokenizer

SIZES = {"d_model": 16, "heads": 2, "d_ff": 24, "encoder_layers": 2, "decoder_layers": 2, "dropout": 0.0}
ROBERTA = {**SIZES, "kind": "encoder", "positions": "learned", "max_length": 64, "position_offset": 2, "segments": 1,
           "embedding_norm": True, "activation": "gelu", "scale_embeddings": False, "attention_bias": True,
           "mlm_head": True, "norm_eps": 1e-5, "initialization": "bert"}  # fmt: skip
GPT = {**SIZES, "kind": "decoder", "positions": "learned", "max_length": 32, "norm_position": "pre"}
BART = {**SIZES, "positions": "learned", "max_length": 32, "position_offset": 2}
VOCABULARY = 40


def scattered(model):
    torch.manual_seed(7)
    with torch.no_grad():
        for weight in model.parameters():
            weight.copy_(torch.randn_like(weight) * 0.3)
    return model.double().eval()


def loaded(tmp_path, settings, **info):
    config = of_family(settings)
    model = scattered(build_model(config, VOCABULARY, info.get("head")))
    return LoadedModel(model, None, config, {"task": "x", "vocab_size": VOCABULARY, **info}, tmp_path)


def changed(before, **changes):
    after = with_length_and_attention(before, **changes)
    after.model.double()
    return after


def ids(n, rows=2):
    return torch.randint(VOCABULARY, (rows, n), generator=torch.Generator().manual_seed(n))


def encoder_logits(model, tokens, mask=None):
    return model.logits(model.mlm_hidden(model(tokens, mask)))


@pytest.mark.parametrize("attention", ["longformer:128", "longformer:128:3", "bigbird:64", "window:64", "full"])
@torch.inference_mode()
def test_texts_that_fit_into_the_window_have_the_same_logits_and_long_ones_run(tmp_path, attention):
    before = loaded(tmp_path, ROBERTA)
    after = changed(before, max_length=700, attention=[attention])
    mask = torch.arange(64) < torch.tensor([64, 23])[:, None]
    given = (ids(64), mask)
    found, expected = (encoder_logits(one.model, *given)[mask] for one in (after, before))
    assert torch.allclose(found, expected, atol=1e-5)
    long = encoder_logits(after.model, ids(700))
    assert long.shape == (2, 700, VOCABULARY) and long.isfinite().all()
    assert (after.config.max_length, after.config.attention) == (700, [attention])
    assert before.config.max_length == 64 and before.model.max_length == 64  # nothing is changed in place


@torch.inference_mode()
def test_the_weights_are_those_of_the_model_positions_again_and_again_and_global_projections_those_of_local_ones(
    tmp_path,
):
    before = loaded(tmp_path, ROBERTA)
    old, new = (
        before.model.state_dict(),
        changed(before, max_length=150, attention=["longformer:4"]).model.state_dict(),
    )
    table, longer = (weights["encoder_embedding.positions.weight"] for weights in (old, new))
    assert longer.size(0) == 152 and torch.equal(longer[:2], table[:2])
    for place in range(150):
        assert torch.equal(longer[2 + place], table[2 + place % 64])
    for name, tensor in new.items():
        if "positions" not in name:
            assert torch.equal(tensor, old[name.replace("global_", "")]), name


def test_a_table_is_copied_over_and_over():
    table = torch.arange(10.0).view(5, 2)
    assert longer_table(table, 7, 2)[:, 0].tolist() == [0, 2, 4, 6, 8, 4, 6, 8, 4]
    assert torch.equal(longer_table(table, 3, 2), table)


@torch.inference_mode()
def test_length_alone_and_attention_alone_work_in_decoders_and_encoder_decoders_too(tmp_path):
    before = loaded(tmp_path, GPT, context=32)
    after = changed(before, max_length=80)
    assert torch.allclose(after.model(ids(32)), before.model(ids(32)), atol=1e-10)
    assert after.model(ids(80)).shape == (2, 80, VOCABULARY) and after.info["context"] == 80
    after = changed(before, attention=["window:32", "linear"])
    assert after.config.attention == ["window:32", "linear"] and after.model(ids(32)).isfinite().all()

    before = loaded(tmp_path, BART)
    after = changed(before, max_length=90, attention=["longformer:64"])
    assert after.config.decoder_attention == ["full"]
    given = (ids(32), None, ids(32))
    assert torch.allclose(after.model(*given), before.model(*given), atol=1e-5)
    assert after.model(ids(90), None, ids(90)).shape == (2, 90, VOCABULARY)


@torch.inference_mode()
def test_a_model_under_a_head_keeps_it(tmp_path):
    head = {"kind": "text", "outputs": 3, "pooling": "first", "dense": True}
    before = loaded(tmp_path, {**ROBERTA, "mlm_head": False}, head=head, max_length=64)
    after = changed(before, max_length=200, attention=["longformer:128"])
    assert torch.equal(after.model.state_dict()["head.output.weight"], before.model.state_dict()["head.output.weight"])
    assert after.info["max_length"] == 200 and before.info["max_length"] == 64


@torch.inference_mode()
def test_a_softmax_becomes_a_performer_and_softmax_again_and_the_draw_of_its_features_is_kept(tmp_path):
    before = loaded(tmp_path, GPT)
    performer = changed(before, attention=["performer:64"])
    performer.model.decoder.layers[1].self_attention.core.redraw(3)
    more = changed(performer, attention=["performer:128"])
    assert [int(layer.self_attention.core.draw) for layer in more.model.decoder.layers] == [0, 3]
    again = changed(more, attention=["full"]).model.state_dict()
    assert {name: tensor.tolist() for name, tensor in again.items()} == {
        name: tensor.tolist() for name, tensor in before.model.state_dict().items()
    }


def test_a_longformer_becomes_one_with_other_windows_and_softmax_again(tmp_path):
    before = loaded(tmp_path, {**ROBERTA, "attention": ["longformer:8"]})
    after = changed(before, attention=["longformer:16", "longformer:8"])
    weights = before.model.state_dict()
    assert all(torch.equal(tensor, weights[name]) for name, tensor in after.model.state_dict().items())
    assert changed(before, attention=["window:5+global:1"]).model(ids(40)).isfinite().all()


@pytest.mark.parametrize(
    ("settings", "changes", "message"),
    [
        (ROBERTA, {"max_length": 64}, "--max-length 64 is not greater than the 64 tokens of this model"),
        (ROBERTA, {"max_length": 8}, "--max-length 8 is not greater"),
        ({**ROBERTA, "positions": "rotary"}, {"max_length": 99}, "needs learned positions, but this model has"),
        ({**ROBERTA, "positions": "none"}, {"max_length": 99}, "model.positions 'none'"),
        (ROBERTA, {"attention": ["longformer:5"]}, "W is 5, but must be even"),
        (ROBERTA, {"attention": ["windw:5"]}, "unknown pattern 'windw'"),
        (GPT, {"attention": ["longformer:4"]}, "longformer does not support causal attention"),
        (ROBERTA, {"attention": ["linformer:4"]}, "because it has the weight '.*key_map'"),
        (ROBERTA, {"attention": ["synthesizer-random"]}, "--attention 'synthesizer-random' can't be that of this"),
        ({**ROBERTA, "attention": ["linformer:4"]}, {"attention": ["full"]}, "it has no place for the weight '.*map'"),
        ({**ROBERTA, "attention": ["linformer:4"]}, {"max_length": 99}, "is for texts of 64 tokens"),
        ({"family": "xlnet", "kind": "encoder", **SIZES}, {"max_length": 99}, "family 'xlnet'"),
    ],
)
def test_what_makes_no_sense_is_refused_in_words(tmp_path, settings, changes, message):
    with pytest.raises(NlpcliError, match=message):
        with_length_and_attention(loaded(tmp_path, settings), **changes)


# --- the command ---------------------------------------------------------------------------------------------------

LINES = ["a man runs", "two dogs and a child", "the woman stands on the house"]


@pytest.fixture
def call(capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)

    def run_it(*arguments):
        status = main([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    return run_it


def test_a_roberta_folder_becomes_a_longformer_and_goes_back_as_one(call, tmp_path):
    transformers = pytest.importorskip("transformers", reason="exchange is tested against the extra 'test'")
    tokenizer = train_tokenizer("byte-bpe", LINES, vocab_size=280)
    model = scattered(build_model(ROBERTA, tokenizer.vocab_size)).float()
    info = {"task": "encoder"}
    save_model(tmp_path / "a", weights=model.state_dict(), config=of_family(ROBERTA), tokenizer=tokenizer, info=info)
    assert call("convert", "a", "roberta")[0] == 0
    changes = ["--max-length", 300, "--attention", "longformer:16"]
    status, out, err = call("convert", "roberta", "long", *changes, "--json")
    assert status == 0, err
    assert json.loads(out)["form"] == "nlpcli" and load_model(tmp_path / "long").config.max_length == 300
    assert call("convert", "a", "same", *changes)[0] == 0  # a run of ours stays one, too
    first, second = (load_model(tmp_path / name).model.state_dict() for name in ("long", "same"))
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert call("convert", "long", "there")[0] == 0
    theirs = transformers.AutoModelForMaskedLM.from_pretrained("there").eval()
    assert type(theirs).__name__ == "LongformerForMaskedLM"
    tokens = torch.randint(5, 280, (1, 250), generator=torch.Generator().manual_seed(1))
    ours = load_model(tmp_path / "long").model.eval()
    with torch.inference_mode():
        seen = (torch.arange(250) < 1).long()[None]
        found = theirs(input_ids=tokens, global_attention_mask=seen).logits
        assert torch.allclose(ours.logits(ours.mlm_hidden(ours(tokens))), found, atol=1e-4)


def test_the_command_refuses_in_words(call, tmp_path):
    tokenizer = train_tokenizer("chars", LINES)
    model = build_model(GPT, tokenizer.vocab_size)
    info = {"task": "language-model", "document_end": True}
    save_model(tmp_path / "a", weights=model.state_dict(), config=of_family(GPT), tokenizer=tokenizer, info=info)
    status, _, err = call("convert", "a", "b", "--max-length", 16)
    assert status == 2 and "--max-length 16 is not greater than the 32 tokens" in err
    status, _, err = call("convert", "a", "b.txt", "--max-length", 160, "--to", "word2vec")
    assert status == 2 and "have no effect on a file of word vectors" in err
    assert not list(tmp_path.glob("b*"))
    assert call("convert", "a", "b", "--max-length", 160)[0] == 0
    longer = load_model(tmp_path / "b")
    tokens = ids(160) % longer.vocab_size
    assert longer.model(tokens).isfinite().all()
