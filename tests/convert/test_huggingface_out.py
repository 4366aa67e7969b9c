"""Whole folders: written, loaded by `transformers` with the same numbers, and read back bit for bit."""

from __future__ import annotations

import shutil

import torch
import transformers

from nlpcli.convert.huggingface_in import read_huggingface
from nlpcli.models.build import build_model
from nlpcli.models.model_folder import load_weights, unshared


def batch(tokenizer):
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(8, tokenizer.vocab_size, (4, 15), generator=generator)
    mask = torch.arange(15) < torch.tensor([15, 9, 4, 1])[:, None]
    segments = torch.randint(0, 2, (4, 15), generator=generator)
    return ids.masked_fill(~mask, tokenizer.special.pad), mask, segments


@torch.inference_mode()
def test_transformers_computes_the_same_numbers(written, tokenizer):
    _, ours, config, folder, architecture, expected = written
    assert architecture == expected
    theirs, report = getattr(transformers, architecture).from_pretrained(folder, output_loading_info=True)
    assert not report["unexpected_keys"] and not report["mismatched_keys"]
    assert all("embed_positions" in key for key in report["missing_keys"])  # Marian's are computed
    ids, mask, segments = batch(tokenizer)
    given = {"input_ids": ids, "attention_mask": mask.long()}
    if config["kind"] == "encoder-decoder":
        found = theirs(**given, decoder_input_ids=ids[:, :9]).logits
        expected = ours(ids, mask, ids[:, :9])
        if architecture == "MarianMTModel":  # its logits lose one number in each place, for the start's zero vector
            rows = expected.size(-1)
            assert float(found.softmax(-1)[..., rows:].max()) == 0  # `<pad>`, which is never written
            found, expected = found.log_softmax(-1)[..., :rows], expected.log_softmax(-1)
        assert torch.allclose(found, expected, atol=1e-4)
        return
    if config["kind"] == "decoder":
        assert torch.allclose(theirs.eval()(**given).logits[mask], ours(ids)[mask], atol=1e-4)
        return
    segments = segments if config.get("segments", 2) == 2 else torch.zeros_like(segments)
    if architecture.startswith(("Bert", "BigBird", "Roberta", "Electra", "XLNet")):
        given["token_type_ids"] = segments
    if architecture.startswith("Longformer"):
        tokens = ours.encoder.layers[0].self_attention.global_tokens
        given["global_attention_mask"] = (torch.arange(15) < tokens).long().expand_as(ids)
    output = theirs(**given, output_hidden_states=True)
    states = ours(ids, mask, segments if config.get("segments", 2) == 2 else None)
    assert torch.allclose(output.hidden_states[-1][mask], states[mask], atol=1e-4)
    if config.get("mlm_head"):
        logits = output.prediction_logits if "PreTraining" in architecture else output.logits
        assert torch.allclose(ours.logits(ours.mlm_hidden(states))[mask], logits[mask], atol=1e-4)
    if config.get("pair_head"):
        logits = output.seq_relationship_logits if "PreTraining" in architecture else output.logits
        assert torch.allclose(ours.pair_logits(states), logits, atol=1e-4)
    if architecture in ("BertModel", "RobertaModel", "LongformerModel", "BigBirdModel"):
        assert torch.allclose(ours.pooled(states), output.pooler_output, atol=1e-4)


def test_automodel_and_autotokenizer_find_the_class(written, tokenizer):
    folder, family = written[3], written[0].split("-")[0]
    classes = {"bert": "BertModel", "roberta": "RobertaModel", "gpt2": "GPT2Model", "gpt": "OpenAIGPTModel",
               "bart": "BartModel", "t5": "T5Model", "marian": "MarianModel", "pegasus": "PegasusModel",
               "longformer": "LongformerModel", "bigbird": "BigBirdModel",
               "xlnet": "XLNetModel", "electra": "ElectraModel", "mpnet": "MPNetModel",
               "modernbert": "ModernBertModel", "llama": "LlamaModel", "mistral": "MistralModel"}  # fmt: skip
    found = type(transformers.AutoModel.from_pretrained(folder)).__name__
    assert found == classes.get(family, found)
    loaded = transformers.AutoTokenizer.from_pretrained(folder)
    assert loaded("Two men", add_special_tokens=False).input_ids == tokenizer.encode(["Two men"])[0]


def test_what_is_read_back_is_the_same_to_the_bit(written, tokenizer, origins):
    name, ours, config, folder, *_ = written
    found = read_huggingface(folder)
    weights = unshared(ours.state_dict())
    assert found.config == config
    assert found.weights.keys() == weights.keys()
    assert all(torch.equal(found.weights[key], weights[key]) for key in weights)
    assert found.info == {"task": "some", "more": [1], **origins(name)}
    assert found.left_out == []
    assert found.tokenizer.vocab_size == tokenizer.vocab_size
    load_weights(build_model(found.config, tokenizer.vocab_size), found.weights, "here")


def test_a_folder_that_was_changed_elsewhere_is_read_as_it_is(write, tokenizer, tmp_path):
    write("bert-bare", tmp_path)
    theirs = transformers.BertForPreTraining.from_pretrained(tmp_path)
    with torch.no_grad():
        theirs.bert.encoder.layer[1].attention.self.query.bias.fill_(0.5)
    again = tmp_path / "again"
    theirs.save_pretrained(again)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(tmp_path / name, again / name)
    found = read_huggingface(again)
    assert found.config["attention_bias"]
    assert float(found.weights["encoder.layers.1.self_attention.query.bias"].max()) == 0.5
    ids, mask, _ = batch(tokenizer)
    ours = build_model(found.config, tokenizer.vocab_size).eval()
    load_weights(ours, found.weights, "again")
    with torch.inference_mode():
        expected = theirs.eval().bert(input_ids=ids, attention_mask=mask.long()).last_hidden_state
        assert torch.allclose(ours(ids, mask)[mask], expected[mask], atol=1e-4)
