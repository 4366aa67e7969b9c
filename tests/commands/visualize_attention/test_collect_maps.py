"""From a folder and a text to what is drawn, for every kind of model."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from nlpcli.attention.hooks import recording
from nlpcli.commands.visualize_attention.collect_maps import AttentionCollector, collect_attention
from nlpcli.commands.visualize_attention.permutation_inputs import ranks
from nlpcli.commands.visualize_attention.request import AttentionInput, AttentionRequest
from nlpcli.decoding.cross_attention import cross_attentions
from nlpcli.errors import NlpcliError
from nlpcli.models.alignment_head import choose_layer
from nlpcli.runs.open_model import open_model
from nlpcli.visualization.attention_data import Side
from nlpcli.visualization.transformations import is_self_attention

LABELS = {"problem": {"labels": ["bad", "good"], "truncate": "longest", "both_orders": False}, "max_length": 32}
TEXT_HEAD = {"kind": "text", "outputs": 2, "pooling": "first"}


def plain(tokens):
    return "".join(tokens).replace("▁", " ").strip()


def check_weights(attention):
    """Each row of weights sums to one, or to nothing."""
    for site in attention.sites:
        for layer in site.weights:
            sums = layer.sum(-1)
            assert layer.dtype == np.float32
            assert (np.isclose(sums, 1, atol=1e-5) | (sums == 0)).all()


# --- encoders ----------------------------------------------------------------------------------------------------


def test_an_encoder_shows_its_text_between_the_tokens_of_its_layout(write_model, see):
    found = see(write_model("encoder", kind="encoder"), "the dog sleeps")
    [site] = found.sites
    assert (site.name, site.layers, site.heads) == ("encoder", (1, 2, 3), (1, 2))
    assert site.keys == site.queries
    assert (site.keys.tokens[0], site.keys.tokens[-1]) == ("<cls>", "<sep>")
    assert plain(site.keys.tokens[1:-1]) == "the dog sleeps"
    assert [i for i, special in enumerate(site.keys.special) if special] == [0, len(site.keys) - 1]
    assert max(site.keys.words) == 2
    assert site.keys.groups == ()
    assert found.texts == {"text": "the dog sleeps"}
    check_weights(found)


@pytest.mark.parametrize("attention", ["linformer:4", "softmax"])
def test_weights_that_may_be_negative_have_a_scale_of_two_signs(write_model, see, attention):
    found = see(write_model("encoder", kind="encoder", attention=[attention]), "the dog sleeps")
    [site] = found.sites
    assert site.signed == (attention != "softmax") == any((layer < 0).any() for layer in site.weights)


def test_two_texts_are_two_groups_and_their_words_are_counted_on(write_model, see):
    path = write_model("encoder", kind="encoder", segments=2)
    found = see(path, AttentionInput("a dog", "the house"))
    side = found.sites[0].keys
    border = side.tokens.index("<sep>") + 1
    assert side.groups == ("a",) * border + ("b",) * (len(side) - border)
    assert plain(side.tokens[1 : border - 1]) == "a dog"
    assert [word for word in dict.fromkeys(side.words) if word >= 0] == [0, 1, 2, 3]
    loaded = open_model(path)
    ids = torch.tensor([[loaded.tokenizer.special.cls, *loaded.tokenizer.encode(["a dog"])[0]]])
    assert found.sites[0].weights[0].shape[1] > ids.size(1)


def test_segments_are_read_as_the_model_knows_them(write_model, see):
    path = write_model("encoder", kind="encoder", segments=2)
    loaded = open_model(path)
    special = loaded.tokenizer.special
    a, b = loaded.tokenizer.encode(["a dog", "the house"])
    ids = torch.tensor([[special.cls, *a, special.sep, *b, special.sep]])
    segments = torch.tensor([[0] * (len(a) + 2) + [1] * (len(b) + 1)])
    layer = loaded.model.encoder.layers[-1].self_attention
    with torch.no_grad(), recording(layer) as [recorded]:
        loaded.model(ids, None, segments)
    assert np.allclose(
        see(path, AttentionInput("a dog", "the house")).sites[0].weights[-1], recorded[0][0], atol=64 * 2**-23
    )


def test_a_text_that_is_too_long_is_cut_and_that_is_reported(write_model, see, messages):
    found = see(
        write_model("encoder", kind="encoder", positions="learned"), AttentionInput("dog " * 40, place="<stdin>:7")
    )
    assert len(found.sites[0].keys) == 32
    assert messages == ["<stdin>:7: the text has 81 tokens, but the model reads at most 30; it was truncated"]


# --- decoders ----------------------------------------------------------------------------------------------------


def test_a_row_of_a_language_model_is_the_step_that_predicts_the_token_that_names_it(write_model, see):
    path = write_model("language-model", kind="decoder", decoder_layers=2)
    [site] = see(path, "the dog sleeps").sites
    assert site.name == "decoder"
    assert plain(site.keys.tokens) == "the dog sleeps"
    assert site.queries.tokens[:-1] == site.keys.tokens[1:]
    assert site.queries.tokens[-1].endswith("?")
    assert site.queries.special == (False,) * (len(site.queries) - 1) + (True,)
    assert is_self_attention(site)
    loaded = open_model(path)
    ids = torch.tensor(loaded.tokenizer.encode(["the dog sleeps"]))
    guess = loaded.tokenizer.id_to_piece(int(loaded.model(ids)[0, -1].argmax()))
    assert site.queries.tokens[-1] == f"{guess}?"
    assert not np.triu(site.weights[0][0], 1).any()


def test_a_text_without_tokens_begins_as_writing_does(write_model, see):
    [site] = see(write_model("language-model", kind="decoder"), "").sites
    assert site.keys.tokens == ("<eos>",) and len(site.queries) == 1


def test_a_row_of_a_translator_is_named_by_what_it_predicts_and_the_end_comes_last(write_model, see):
    found = see(write_model(), AttentionInput("a man", target="der mann"))
    encoder, decoder, cross = found.sites
    assert [site.name for site in found.sites] == ["encoder", "decoder", "cross"]
    assert plain(encoder.keys.tokens[:-1]) == "a man" and encoder.keys.tokens[-1] == "<eos>"
    assert cross.keys == encoder.keys
    assert plain(cross.queries.tokens[:-1]) == "der mann" and cross.queries.tokens[-1] == "<eos>"
    assert decoder.queries == cross.queries
    assert decoder.keys.tokens == ("<bos>", *cross.queries.tokens[:-1])
    assert is_self_attention(decoder) and not is_self_attention(cross)
    assert found.texts == {"source": "a man", "target": "der mann"}
    assert found.notes == {"target": "given"}
    check_weights(found)


def test_without_a_target_the_model_writes_it_itself_as_translate_does(write_model, see):
    from nlpcli.runs.search_options import Search
    from nlpcli.runs.translation import TranslateRequest, translate

    path = write_model(info={"decoding": {"beam_size": 3, "length_penalty": 0.6}})
    found = see(path, "a man")
    assert found.notes == {"target": "generated by the model"}
    job = TranslateRequest([str(path.parent / "in")], path, Search(), device="cpu")
    (path.parent / "in").write_text("a man\n", encoding="utf-8")
    [[translation]] = translate(job, notify=print, warn=print)
    assert found.texts["target"].strip() == translation.text


def test_the_weights_of_a_translator_are_those_alignments_are_taken_from(write_model, see):
    path = write_model()
    loaded = open_model(path)
    tokenizer = loaded.tokenizer
    source = torch.tensor([[*tokenizer.encode(["a man"])[0], tokenizer.special.eos]])
    target = torch.tensor([[tokenizer.special.bos, *tokenizer.encode(["der mann"])[0]]])
    with torch.no_grad(), recording(choose_layer(loaded.model, None)) as [recorded]:
        loaded.model(source, None, target)
    place = cross_attentions(loaded.model).index(choose_layer(loaded.model, None))
    found = see(path, AttentionInput("a man", target="der mann")).site("cross").weights[place]
    assert np.allclose(found, recorded[0][0], atol=1e-6)


def test_an_encoder_of_another_source_language_has_a_site_of_its_own(write_model, see):
    source = ["un homme et un chien dorment", "une femme et un enfant", "le chat voit le chien jaune"]
    found = see(write_model(source=source), AttentionInput("un chien", target="ein hund"))
    assert [site.name for site in found.sites] == ["source-encoder", "encoder", "decoder", "cross"]
    assert plain(found.site("source-encoder").keys.tokens[:-1]) == "un chien"
    assert plain(found.site("cross").queries.tokens[:-1]) == "ein hund"


def test_several_ids_before_a_target_are_shown_and_not_predicted(write_model, see):
    path = write_model("denoising", info={"source_start": [2], "target_start": [3, 2]})
    found = see(path, AttentionInput("a man", target="der mann"))
    assert found.site("cross").keys.tokens[0] == "<bos>"
    assert found.site("decoder").keys.tokens[:2] == ("<eos>", "<bos>")
    assert found.site("decoder").queries.tokens[0] == "<bos>"
    assert found.site("decoder").queries.special[0]


def test_a_target_beyond_the_models_positions_is_refused(write_model, see):
    with pytest.raises(NlpcliError, match="the target has 81 tokens, but the model takes at most 31"):
        see(write_model(positions="learned"), AttentionInput("a man", target="dog " * 40))


def test_texts_are_answered_one_by_one_as_they_come(write_model):
    def lines():
        yield AttentionInput("a man", target="x", line=1)
        yield AttentionInput("a dog", target="x", line=2)
        raise AssertionError("read ahead")

    found = collect_attention(AttentionRequest(write_model(), device="cpu"), lines(), notify=print, warn=print)
    assert [next(found).notes["line"], next(found).notes["line"]] == [1, 2]


# --- heads and written answers -----------------------------------------------------------------------------------


def test_a_model_under_a_head_reads_as_it_was_tuned(write_model, see):
    found = see(write_model("classify", TEXT_HEAD, LABELS, kind="encoder"), "the dog sleeps")
    assert [site.name for site in found.sites] == ["encoder"]
    found = see(write_model("classify", {**TEXT_HEAD, "pooling": "last"}, LABELS, kind="decoder"), "the dog")
    assert [site.name for site in found.sites] == ["decoder"]
    assert found.sites[0].queries == found.sites[0].keys  # nothing is predicted: rows are what is read
    assert found.sites[0].keys.tokens[-1] == "<cls>"


def test_a_head_on_an_encoder_decoder_shows_all_three_kinds(write_model, see):
    head = {**TEXT_HEAD, "pooling": "last", "side": "decoder", "start": 3}
    found = see(write_model("classify", head, LABELS), AttentionInput("a dog", "a man"))
    assert [site.name for site in found.sites] == ["encoder", "decoder", "cross"]
    read = found.site("decoder").keys
    assert read.tokens == ("<eos>", *found.site("encoder").keys.tokens[:-1])
    assert read.groups[0] == "a" and read.groups[-1] == "b"
    only = see(write_model("classify", {**head, "side": "encoder"}, LABELS), "a dog")
    assert [site.name for site in only.sites] == ["encoder"]


def test_of_several_tasks_the_one_meant_has_to_be_named(write_model, see):
    parts = {name: {"task": "classify", **LABELS} for name in ("mood", "topic")}
    heads = {"heads": dict.fromkeys(parts, TEXT_HEAD)}
    path = write_model("mixture", heads, {"parts": parts}, kind="encoder")
    found = see(path, "the dog", part="topic", gradient=True, label="good")
    assert [site.name for site in found.sites] == ["encoder"]
    assert len(found.sites[0].weights) == 3 and np.abs(found.sites[0].weights[0]).max() > 0
    with pytest.raises(NlpcliError, match="several tasks"):
        see(path, "the dog")


WORDING = {"prefix": "", "max_target": 8, "measure": "rouge", "no_repeat_ngram": 0}


def test_text_to_text_puts_the_task_as_it_was_learnt(write_model, see):
    path = write_model("text-to-text", info={"problem": {**WORDING, "prefix": "see {text} here"}, "max_length": 32})
    found = see(path, AttentionInput("the dog", target="a man"))
    assert plain(found.site("cross").keys.tokens[:-1]) == "see the dog here"
    assert plain(found.site("cross").queries.tokens[:-1]) == "a man"
    assert see(path, "the dog").notes == {"target": "generated by the model"}


def test_an_answer_in_the_same_stream_is_a_group_of_its_own(write_model, see):
    path = write_model("text-to-text", info={"problem": WORDING, "max_length": 32}, kind="decoder")
    side = see(path, AttentionInput("the dog", target="a man")).site("decoder").keys
    answer = [token for token, group in zip(side.tokens, side.groups, strict=True) if group == "target"]
    assert plain(answer) == "a man"
    assert side.groups[0] == "source" and side.special[0]
    assert "target" in see(path, "the dog").site("decoder").queries.groups


# --- memory and orders -------------------------------------------------------------------------------------------

XL = {"family": "transformer-xl", "kind": "decoder"}
XLNET = {"family": "xlnet", "kind": "encoder"}


def test_a_memory_stands_before_the_text_and_has_its_tokens(write_model, see, messages):
    path = write_model("language-model", **XL, memory_length=6)
    found = see(path, "the dog", memory="a man and a child in the house")
    [site] = found.sites
    memory = [token for token, group in zip(site.keys.tokens, site.keys.groups, strict=True) if group == "memory"]
    assert len(memory) == 6
    assert "a man and a child in the house".endswith(plain(memory))
    assert "the earlier text has 13 tokens, but the memory contains only the last 6" in messages[0]
    assert plain(site.keys.tokens[6:]) == "the dog"
    assert site.queries.positions == site.keys.positions[6:] == tuple(range(6, len(site.keys)))
    assert site.weights[0].shape[1:] == (len(site.keys) - 6, len(site.keys))
    assert sorted(set(site.keys.words)) == list(range(max(site.keys.words) + 1))
    assert is_self_attention(site)
    assert found.texts["memory"] == "a man and a child in the house"
    alone = see(path, "the dog").sites[0]
    assert alone.keys.groups == () and len(alone.keys) == len(site.keys) - 6


def test_the_memory_seen_is_the_one_the_model_reads_on_from(write_model, see):
    path = write_model("language-model", **XL, memory_length=50)
    loaded = open_model(path)
    first, second = (torch.tensor([ids]) for ids in loaded.tokenizer.encode(["a man", "the dog"]))
    _, memory = loaded.model.hidden(first)
    layer = loaded.model.layers[1].attention
    with torch.no_grad(), recording(layer) as [recorded]:
        loaded.model.hidden(second, memory)
    found = see(path, "the dog", memory="a man").sites[0].weights[1]
    assert np.allclose(found, recorded[0][0], atol=1e-6)


def test_xlnet_without_an_order_shows_its_content_stream(write_model, see):
    path = write_model("encoder", **XLNET, memory_length=5)
    [site] = see(path, "the dog").sites
    assert site.name == "content" and site.keys.tokens[-2:] == ("<sep>", "<cls>")
    [after] = see(path, "the dog", memory="a man").sites
    assert after.keys.groups[0] == "memory" and after.name == "content"
    assert after.queries.tokens == site.queries.tokens


@pytest.mark.parametrize("memory", [None, "a man"])
def test_both_streams_follow_the_order_of_factorisation(write_model, see, memory):
    path = write_model("encoder", **XLNET, memory_length=50)
    found = see(path, "the dog sleeps", order="random", seed=3, memory=memory)
    content, query = found.sites
    assert (content.name, query.name) == ("content", "query")
    assert len(content.layers) == len(query.layers) == 3
    own = Side(content.queries.tokens, content.queries.words, content.queries.special)
    rank = ranks(own, "random", 3)
    n, before = len(rank), len(content.keys) - len(rank)
    assert found.notes["order"].split(" ") == [own.tokens[place] for place in np.argsort(rank)]
    for i in range(n):
        for j in range(n):
            assert (query.weights[-1][:, i, before + j] > 0).all() == (rank[j] < rank[i])
            assert (content.weights[-1][:, i, before + j] > 0).all() == (rank[j] <= rank[i])
    first = query.weights[0][:, int(np.argmin(rank))]
    assert np.allclose(first.sum(-1), 0 if memory is None else 1, atol=1e-5)  # it sees the memory, or nothing
    check_weights(found)


def test_a_random_order_depends_on_the_seed_and_leaves_special_tokens_last():
    side = Side(tuple("abcdefgh"), special=(False,) * 6 + (True, True))
    assert ranks(side, "left-to-right", 1).tolist() == list(range(8))
    one, two = ranks(side, "random", 1), ranks(side, "random", 2)
    assert sorted(one[:6]) == list(range(6)) and one[6:].tolist() == [6, 7]
    assert one.tolist() != two.tolist()
    assert one.tolist() == ranks(side, "random", 1).tolist()


# --- gradients ---------------------------------------------------------------------------------------------------


def by_hand(path, given, goal, sites):
    """A ⊙ ∂goal/∂A from the layers' weights, taken afresh."""
    from nlpcli.visualization.capture import capture

    loaded = open_model(path)
    with capture(loaded.model, gradients=True) as recorded:
        value = goal(loaded)
    weights = {site: [recorder[0] for recorder in recorded[site]] for site in sites}
    flat = [layer for layers in weights.values() for layer in layers]
    found = iter(torch.autograd.grad(value, flat))
    return {site: [(layer * next(found))[0].detach().numpy() for layer in layers] for site, layers in weights.items()}


def compare(found, wanted):
    for site, layers in wanted.items():
        shown = found.site(site)
        assert shown.signed
        for mine, theirs in zip(shown.weights, layers, strict=True):
            assert np.abs(theirs).max() > 0
            assert np.allclose(mine, theirs, atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize("label", [None, "bad", "good"])
def test_a_classifiers_gradient_is_of_a_labels_logit(write_model, see, label):
    path = write_model("classify", TEXT_HEAD, LABELS, kind="encoder")

    def goal(loaded):
        from nlpcli.models.padded_batch import Row, stack

        special = loaded.tokenizer.special
        ids = [special.cls, *loaded.tokenizer.encode(["the dog"])[0], special.sep]
        logits = loaded.model(stack([Row(ids, [0] * len(ids))], special.pad))[0]
        return logits.max() if label is None else logits[["bad", "good"].index(label)]

    found = see(path, "the dog", gradient=True, label=label)
    compare(found, by_hand(path, "the dog", goal, ["encoder"]))
    assert "logit of the" in found.notes["gradient of"] and (label or "predicted") in found.notes["gradient of"]


def test_a_translators_gradient_is_of_the_targets_log_probability(write_model, see):
    path = write_model()

    def goal(loaded):
        tokenizer = loaded.tokenizer
        source, target = tokenizer.encode(["a man", "der mann"])
        special = tokenizer.special
        logits = loaded.model(torch.tensor([[*source, special.eos]]), None, torch.tensor([[special.bos, *target]]))
        return logits[0].log_softmax(-1)[range(len(target) + 1), [*target, special.eos]].sum()

    found = see(path, AttentionInput("a man", target="der mann"), gradient=True)
    compare(found, by_hand(path, "", goal, ["encoder", "decoder", "cross"]))


@pytest.mark.parametrize("settings", [{"kind": "decoder"}, {**XL, "adaptive_cutoffs": [20, 100]}])
def test_a_language_models_gradient_is_of_the_tokens_after_the_first(write_model, see, settings):
    path = write_model("language-model", **settings)

    def goal(loaded):
        ids = loaded.tokenizer.encode(["the dog sleeps"])[0]
        logits = loaded.model(torch.tensor([ids]))
        return logits[0].log_softmax(-1)[range(len(ids) - 1), ids[1:]].sum()

    site = "decoder" if settings.get("kind") == "decoder" and "family" not in settings else "own"
    wanted = by_hand(path, "", goal, [site])
    compare(see(path, "the dog sleeps", gradient=True), {"decoder": wanted[site]})


def test_an_encoders_gradient_is_of_its_own_tokens_and_needs_what_predicts_them(write_model, see):
    found = see(write_model("encoder", kind="encoder", mlm_head=True), "the dog", gradient=True)
    assert found.sites[0].signed and np.abs(found.sites[0].weights[0]).max() > 0
    with pytest.raises(NlpcliError, match="makes no prediction"):
        see(write_model("encoder", kind="encoder"), "the dog", gradient=True)


def test_xlnets_gradient_is_of_the_tokens_in_their_order(write_model, see):
    path = write_model("encoder", **XLNET)
    content, query = see(path, "the dog sleeps", gradient=True, order="left-to-right").sites
    assert len(query.layers) == 3 and len(content.layers) == 2
    assert np.abs(query.weights[-1]).max() > 0 and np.abs(content.weights[0]).max() > 0
    with pytest.raises(NlpcliError, match="makes no prediction") as error:
        see(path, "the dog", gradient=True)
    assert "--order" in error.value.hint


HEADS = {
    "tag": ({"kind": "tokens", "outputs": 4}, "predicted tags"),
    "span": ({"kind": "tokens", "outputs": 2}, "first and last token"),
    "regress": ({"kind": "text", "outputs": 1, "pooling": "first"}, "score"),
}


@pytest.mark.parametrize("task", HEADS)
def test_other_heads_have_gradients_of_what_they_predict(write_model, see, task):
    head, named = HEADS[task]
    path = write_model(task, head, {"problem": {}, "max_length": 32}, kind="encoder")
    found = see(path, "the dog", gradient=True)
    assert named in found.notes["gradient of"]
    assert np.abs(found.sites[0].weights[0]).max() > 0
    with pytest.raises(NlpcliError, match="label 'good' is not possible"):
        see(path, "the dog", gradient=True, label="good")


# --- what is refused ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "given", "settings", "message"),
    [
        ("encoder", AttentionInput("a", target="b"), {}, "a target is not possible"),
        ("decoder", AttentionInput("a", "b"), {}, "a second text is not possible"),
        ("decoder", "a", {"memory": "b"}, "a memory is not possible"),
        ("decoder", "a", {"order": "random"}, "a factorization order is not possible"),
        ("decoder", "a", {"gradient": True, "label": "x"}, "label 'x' is not possible"),
        ("encoder-decoder", AttentionInput("a", "b"), {}, "a second text is not possible"),
        ("encoder-decoder", "a", {"gradient": True, "label": "x"}, "label 'x' is not possible"),
        ("encoder", "a", {"gradient": True, "label": "x"}, "label 'x' is not possible"),
        ("decoder", "", {"gradient": True}, "has only one token"),
    ],
)
def test_what_a_kind_of_model_has_no_use_for_is_refused(write_model, see, kind, given, settings, message):
    task = {"encoder": "encoder", "decoder": "language-model"}.get(kind, "translation")
    with pytest.raises(NlpcliError, match=message):
        see(write_model(task, kind=kind), given, **settings)


def test_a_vector_has_no_gradient(write_model, see):
    path = write_model("similarity", {"kind": "vector", "pooling": "mean"}, {"problem": {}}, kind="encoder")
    assert see(path, "the dog").sites[0].name == "encoder"
    with pytest.raises(NlpcliError, match="computes vectors"):
        see(path, "the dog", gradient=True)


def test_an_unknown_label_is_answered_with_the_nearest(write_model, see):
    with pytest.raises(NlpcliError, match="unknown label") as error:
        see(write_model("classify", TEXT_HEAD, LABELS, kind="encoder"), "a", gradient=True, label="god")
    assert "good" in error.value.hint


def test_settings_without_effect_are_refused():
    with pytest.raises(NlpcliError, match="has no effect without --gradient"):
        AttentionRequest(label="good")
    with pytest.raises(NlpcliError, match="unknown order"):
        AttentionRequest(order="sideways")


def test_of_runs_the_newest_is_taken_that_can_answer_the_request(write_model, see, messages, tmp_path, monkeypatch):
    import os

    monkeypatch.chdir(tmp_path)
    kinds = {"old": {"kind": "encoder"}, "xl": dict(**XL, memory_length=4), "new": {"kind": "decoder"}}
    for age, (name, settings) in enumerate(kinds.items()):
        path = write_model("encoder" if name == "old" else "language-model", **settings)
        (tmp_path / "runs").mkdir(exist_ok=True)
        path.rename(tmp_path / "runs" / name)
        os.utime(tmp_path / "runs" / name / "model.yaml", (1000 + age, 1000 + age))
    assert see(None, "the dog").model == "new"
    assert see(None, "the dog", memory="a man").model == "xl"
    assert "runs/xl" in messages[-1]
    with pytest.raises(NlpcliError, match="no run in runs/ is suitable"):
        see(None, "the dog", order="random")


def test_a_looker_can_be_used_again(write_model):
    collector = AttentionCollector(AttentionRequest(write_model(), device="cpu"), notify=print, warn=print)
    one = collector.collect(AttentionInput("a man", target="der mann"))
    two = collector.collect(AttentionInput("a man", target="der mann"))
    assert all(np.array_equal(a, b) for a, b in zip(one.sites[2].weights, two.sites[2].weights, strict=True))


def test_a_folder_whose_name_says_nothing_is_named_with_the_one_around_it(write_model, see):
    path = write_model()
    assert path.name == "model"
    assert see(path, "a man").model == f"{path.parent.name}/model"
    named = path.rename(path.with_name("deen"))
    assert see(named, "a man").model == "deen"
