"""What CTranslate2's converter makes of our folders gives the same translations with the same probabilities."""

from __future__ import annotations

import pytest
import torch

from nlpcli.decoding.greedy import greedy_search
from nlpcli.decoding.stop_conditions import StopConditions

ctranslate2 = pytest.importorskip("ctranslate2", reason="needs CTranslate2")
transformers = pytest.importorskip("transformers", reason="exchange is tested against the extra 'test'")

TEXTS = ["Two men", "the dogs sit", "a kitchen"]


# Not here: T5 1.1, whose outputs it scales by mistake.
@pytest.mark.parametrize(
    "name", ["bart", "bart-no-offset", "pegasus", "transformer-pre", "t5", "marian", "transformer"]
)
@torch.inference_mode()
def test_converted_models_write_the_same(write, tokenizer, tmp_path, name):
    from ctranslate2.converters import TransformersConverter

    folder = tmp_path / "hf"
    folder.mkdir()
    ours, *_ = write(name, folder, task="translation")
    TransformersConverter(str(folder)).convert(str(tmp_path / "ct2"))
    theirs = ctranslate2.Translator(str(tmp_path / "ct2"), device="cpu", inter_threads=1, intra_threads=1)
    spell = transformers.AutoTokenizer.from_pretrained(folder).convert_ids_to_tokens
    special = tokenizer.special
    for ids in tokenizer.encode(TEXTS):
        source, target = [*ids, special.eos], ids[::-1]
        [[one]] = greedy_search(
            ours, ours.init_state(ours.encode(torch.tensor([source]), None)), [[special.bos]],
            StopConditions(special.eos, 9),
        )  # fmt: skip
        result = theirs.translate_batch([spell(source)], beam_size=1, max_decoding_length=9)
        assert result[0].hypotheses[0] == spell(list(one.ids))
        read = torch.tensor([[special.bos, *target]])
        logprobs = ours(torch.tensor([source]), None, read).log_softmax(-1)[0]
        expected = logprobs.gather(1, torch.tensor([*target, special.eos])[:, None])[:, 0]
        [scored] = theirs.score_batch([spell(source)], [spell(target)])
        assert torch.allclose(torch.tensor(scored.log_probs), expected, atol=1e-4)
