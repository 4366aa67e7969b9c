"""`Tokenizer` -> the tokenizer files of a Hugging Face folder.

Each of our kinds becomes a pipeline of the `tokenizers` library with the same ids. Two things are that library's way
and not ours: a special token's spelling in a text is taken for the token, and letters are lowercased one by one, so
that a Greek sigma at the end of a word becomes σ and not ς.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from tokenizers import AddedToken, Regex, decoders, models, normalizers, pre_tokenizers, processors
from tokenizers import Tokenizer as Core

from nlpcli.convert.sentencepiece_file import parse_spm
from nlpcli.convert.tokenizer_template import with_template
from nlpcli.errors import NlpcliError
from nlpcli.text import Tokenizer
from nlpcli.text.detokenization import BYTE_PIECES, SPACE_MARK
from nlpcli.text.marian_tokenizer import MarianModel
from nlpcli.text.sentencepiece_tokenizer import ESCAPE
from nlpcli.text.special_tokens import ROLES, SpecialTokens

_NORMAL_FORMS: dict[str, Callable[[], Any]] = {"nfc": normalizers.NFC, "nfkc": normalizers.NFKC}
_LITERAL_BYTE = "<(?=0x[0-9A-F]{2}>)"  # what would be taken for a byte's token if its < stayed with the rest


def tokenizer_files(
    tokenizer: Tokenizer,
    *,
    kind: str,
    max_length: int | None = None,
    segments: bool = False,
    layout: Mapping[str, Any] | None = None,
    left: bool = False,
    padding: int | None = None,
) -> dict[str, bytes]:
    """File name -> content: tokenizer.json, tokenizer_config.json and special_tokens_map.json (Marian's own files for
    a tokenizer that was read from there).

    kind: of the model, which decides what `transformers` puts around a text: `<cls> A <sep> B <sep>` for an encoder,
    `A <eos>` for an encoder-decoder, nothing for a decoder. layout: what is put there instead, see
    `nlpcli.convert.tokenizer_template`. segments: whether the model reads token types. left: padding goes before a
    text. padding: the id that pads, where it is not the tokenizer's own.

    Raises: NlpcliError for what the `tokenizers` library cannot express.
    """
    special = tokenizer.special
    tokens = {f"{role}_token": name for role, name in role_names(special).items()}
    if padding is not None:
        tokens["pad_token"] = special.names[padding]
    more = [special.names[id_] for id_ in special.sentinels]
    names = ["input_ids", *(["token_type_ids"] if segments else []), "attention_mask"]
    config: dict[str, Any] = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "clean_up_tokenization_spaces": False,
        "model_input_names": names,
        **tokens,
    }
    if left:
        config["padding_side"] = "left"
    if more:
        config["additional_special_tokens"] = more
    if max_length is not None:
        config["model_max_length"] = max_length
    spelled = {"tokenizer_config.json": config, "special_tokens_map.json": tokens}
    if tokenizer.kind == "marian":
        del config["additional_special_tokens" if more else "model_input_names"]
        config["tokenizer_class"] = "MarianTokenizer"
        return _marian(tokenizer.model) | _json(spelled)
    if tokenizer.kind == "huggingface":
        data = tokenizer.model.to_bytes()
        if layout is not None:
            core = _core_of(data)
            if with_template(core, layout, special.names):
                data = core.to_str(pretty=True).encode()
        return {"tokenizer.json": data} | _json(spelled)
    core = _BUILDERS[tokenizer.kind](tokenizer)
    # in the order of their ids, so that those the model lacks get the right ones
    core.add_special_tokens([AddedToken(special.names[id_], normalized=False) for id_ in sorted(special.names)])
    template = _template(tokenizer, kind)
    if template is not None:
        core.post_processor = template
    if layout is not None:
        with_template(core, layout, special.names)
    return {"tokenizer.json": core.to_str(pretty=True).encode()} | _json(spelled)


def role_names(special: SpecialTokens) -> dict[str, str]:
    """Role to spelling, of the roles that the tokenizer has."""
    return {role: special.names[getattr(special, role)] for role in ROLES if role not in special.absent}


def _json(files: dict[str, dict[str, Any]]) -> dict[str, bytes]:
    return {name: (json.dumps(data, indent=2, ensure_ascii=False) + "\n").encode() for name, data in files.items()}


def _marian(model: object) -> dict[str, bytes]:
    assert isinstance(model, MarianModel)
    vocabulary = json.dumps(model.vocabulary, ensure_ascii=False).encode()
    return {"source.spm": model.source, "target.spm": model.target, "vocab.json": vocabulary}


def _template(tokenizer: Tokenizer, kind: str) -> Any:
    special = tokenizer.special
    named = [(special.names[id_], id_) for id_ in (special.cls, special.sep, special.eos)]
    (cls, _), (sep, _), (eos, _) = named
    if kind == "encoder":
        single, pair = f"{cls}:0 $A:0 {sep}:0", f"{cls}:0 $A:0 {sep}:0 $B:1 {sep}:1"
    elif kind == "encoder-decoder":
        single, pair = f"$A {eos}", f"$A {eos} $B {eos}"
    else:
        return None
    return processors.TemplateProcessing(single=single, pair=pair, special_tokens=list(dict.fromkeys(named)))


def _rules(tokenizer: Tokenizer) -> list[Any]:
    """The normalisation before the tokens. Raises: NlpcliError for one that the library lacks."""
    settings = tokenizer.settings
    if settings.normalization == "identity":
        rules = []
    elif settings.normalization in _NORMAL_FORMS:
        rules = [_NORMAL_FORMS[settings.normalization]()]
    else:
        raise NlpcliError(
            f"the Hugging Face format does not support the tokenizer's normalization '{settings.normalization}'",
            hint="it supports identity, nfc and nfkc",
        )
    if settings.lowercase and tokenizer.kind != "wordpiece":
        rules.append(normalizers.Lowercase())
    return rules


def _piece_rules(tokenizer: Tokenizer) -> list[Any]:
    """SentencePiece's: U+2581 escaped, then a space before the text, and spaces written as U+2581."""
    escaped = [(ESCAPE, f"{ESCAPE}0"), (SPACE_MARK, f"{ESCAPE}1"), (" ", SPACE_MARK)]
    return [*_rules(tokenizer), *(normalizers.Replace(a, b) for a, b in escaped), normalizers.Prepend(SPACE_MARK)]


def _piece_decoder() -> Any:
    parts = [
        decoders.Replace(SPACE_MARK, " "),
        decoders.ByteFallback(),
        decoders.Fuse(),
        decoders.Strip(" ", 1, 0),
        decoders.Replace(f"{ESCAPE}1", SPACE_MARK),
        decoders.Replace(f"{ESCAPE}0", ESCAPE),
    ]
    return decoders.Sequence(parts)


def _unigram(tokenizer: Tokenizer) -> Core:
    spm = parse_spm(tokenizer.model.to_bytes())
    fallback = tokenizer.settings.byte_fallback
    core = Core(models.Unigram(spm.pieces, unk_id=tokenizer.special.unk, byte_fallback=fallback))
    core.normalizer = normalizers.Sequence(_piece_rules(tokenizer))
    words = pre_tokenizers.Split(SPACE_MARK, "merged_with_next")
    literal = pre_tokenizers.Split(Regex(_LITERAL_BYTE), "merged_with_previous")
    core.pre_tokenizer = pre_tokenizers.Sequence([words, literal]) if fallback else words
    core.decoder = _piece_decoder()
    return core


def _bpe(tokenizer: Tokenizer) -> Core:
    spm = parse_spm(tokenizer.model.to_bytes())
    hidden = {*tokenizer.special.names.values(), *BYTE_PIECES}
    scores = {token: score for token, score in spm.pieces if token not in hidden}
    merges = [
        (score, token[:cut], token[cut:])
        for token, score in scores.items()
        for cut in range(1, len(token))
        if token[:cut] in scores and token[cut:] in scores
    ]
    merges.sort(key=lambda merge: -merge[0])
    model = models.BPE(
        {token: id_ for id_, (token, _) in enumerate(spm.pieces)},
        [(left, right) for _, left, right in merges],
        unk_token=tokenizer.special.names[tokenizer.special.unk],
        fuse_unk=True,
        byte_fallback=tokenizer.settings.byte_fallback,
    )
    core = Core(model)
    core.normalizer = normalizers.Sequence(_piece_rules(tokenizer))
    core.pre_tokenizer = pre_tokenizers.Split(SPACE_MARK, "merged_with_next")
    core.decoder = _piece_decoder()
    return core


def _characters(tokenizer: Tokenizer) -> Core:
    """A BPE without merges: every character is a token, or its bytes are."""
    special, fallback = tokenizer.special, tokenizer.settings.byte_fallback
    characters = json.loads(tokenizer.model.to_bytes())["characters"]
    reserved = [special.names[id_] for id_ in sorted(special.names)] + (BYTE_PIECES if fallback else [])
    vocab = {token: id_ for id_, token in enumerate([*reserved, *characters])}
    unk = None if fallback else special.names[special.unk]
    core = Core(models.BPE(vocab, [], unk_token=unk, fuse_unk=False, byte_fallback=fallback))
    _normalize(core, _rules(tokenizer))
    core.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Fuse()])
    return core


def _core_of(data: bytes) -> Core:
    """The tokenizer in a file of the `tokenizers` library. Raises: NlpcliError for one that it can't read."""
    try:
        return Core.from_str(data.decode())
    except Exception as error:  # the library raises nothing more exact
        raise NlpcliError(f"the tokenizer can't be written, because its file is damaged ({error})") from None


def _byte_bpe(tokenizer: Tokenizer) -> Core:
    content = json.loads(tokenizer.model.to_bytes())
    names = {f" {name}": name for name in tokenizer.special.names.values()}
    model = content["model"]
    model["vocab"] = {names.get(token, token): id_ for token, id_ in model["vocab"].items()}
    core = Core.from_str(json.dumps(content))
    _normalize(core, _rules(tokenizer))
    return core


def _wordpiece(tokenizer: Tokenizer) -> Core:
    core = Core.from_str(tokenizer.model.to_bytes().decode())
    _normalize(core, [*_rules(tokenizer), core.normalizer])
    return core


def _words(tokenizer: Tokenizer) -> Core:
    special, content = tokenizer.special, json.loads(tokenizer.model.to_bytes())
    names = [special.names[id_] for id_ in sorted(special.names)]
    vocab = {token: id_ for id_, token in enumerate([*names, "\n", *content["words"]])}
    core = Core(models.WordLevel(vocab, unk_token=special.names[special.unk]))
    _normalize(core, _rules(tokenizer))
    core.pre_tokenizer = pre_tokenizers.Split(Regex(r"\n|\S+"), "removed", invert=True)
    return core


def _normalize(core: Core, rules: list[Any]) -> None:
    if rules:
        core.normalizer = normalizers.Sequence(rules) if len(rules) > 1 else rules[0]


_BUILDERS: dict[str, Callable[[Tokenizer], Core]] = {
    "unigram": _unigram,
    "bpe": _bpe,
    "wordpiece": _wordpiece,
    "byte-bpe": _byte_bpe,
    "chars": _characters,
    "words": _words,
}
