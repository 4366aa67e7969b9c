"""A Hugging Face folder's tokenizer files -> `Tokenizer`.

`tokenizer.json` is taken as it is. Older folders hold only a vocabulary, and the way a text is cut is known from the
model's type: BERT's words, GPT-2's bytes, SentencePiece with the rules of T5, PEGASUS or XLNet.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from tokenizers import Regex, decoders, models, normalizers, pre_tokenizers
from tokenizers import Tokenizer as Core

from nlpcli.config.files import read_regular, real_path
from nlpcli.convert.marian_target_start import ZeroStart
from nlpcli.convert.sentencepiece_file import UNIGRAM, SentencePieceFile, parse_spm
from nlpcli.errors import NlpcliError
from nlpcli.text import Tokenizer
from nlpcli.text.huggingface_tokenizer import HuggingFaceModel, parse, vocabulary
from nlpcli.text.marian_tokenizer import MarianModel
from nlpcli.text.special_tokens import ROLES, SpecialTokens
from nlpcli.text.tokenizer import TokenizerSettings
from nlpcli.text.tokenizer_model import TokenizerModel
from nlpcli.text.tokenizers_errors import is_charsmap

TOKENIZER_JSON = "tokenizer.json"
_SPM_FILES = ("spiece.model", "sentencepiece.model", "sentencepiece.bpe.model", "tokenizer.model")
_FILES = (TOKENIZER_JSON, "vocab.txt", "vocab.json", "merges.txt", "source.spm", "target.spm", *_SPM_FILES)
_BRACKETS = {"pad": "[PAD]", "unk": "[UNK]", "cls": "[CLS]", "sep": "[SEP]", "mask": "[MASK]"}
_ANGLES = {"bos": "<s>", "eos": "</s>", "pad": "<pad>", "unk": "<unk>", "mask": "<mask>"}
_PLAIN = {name: _ANGLES[name] for name in ("eos", "pad", "unk")}
_TOKENS: dict[str, dict[str, str]] = {  # each family's special tokens, if the folder does not name them
    "bert": _BRACKETS,
    "distilbert": _BRACKETS,
    "electra": _BRACKETS,
    "modernbert": _BRACKETS,
    "big_bird": {**_ANGLES, "cls": "[CLS]", "sep": "[SEP]", "mask": "[MASK]"},
    "mpnet": {**_ANGLES, "unk": "[UNK]", "cls": "<s>", "sep": "</s>"},
    "roberta": {**_ANGLES, "cls": "<s>", "sep": "</s>"},
    "longformer": {**_ANGLES, "cls": "<s>", "sep": "</s>"},
    "xlm-roberta": {**_ANGLES, "cls": "<s>", "sep": "</s>"},
    "bart": {**_ANGLES, "cls": "<s>", "sep": "</s>"},
    "gpt2": dict.fromkeys(("bos", "eos", "unk"), "<|endoftext|>"),
    "openai-gpt": {"unk": "<unk>"},
    "t5": _PLAIN,
    "pegasus": {**_PLAIN, "mask": "<mask_2>"},
    "xlnet": {**_ANGLES, "cls": "<cls>", "sep": "<sep>"},
    "marian": _PLAIN,
}
_SHARED = {  # whose id a role has that has no token of its own, the first that there is
    "bos": ("cls", "eos"),
    "eos": ("sep", "bos"),
    "pad": ("eos", "unk"),
    "unk": ("eos", "pad"),
    "cls": ("bos", "eos"),
    "sep": ("eos",),
    "mask": ("unk", "eos"),
}
_PLAYS = {("bos", "cls"), ("eos", "sep")}  # BERT's [CLS] begins and its [SEP] ends a text: not absent
_EXTRA_IDS = 100  # T5's sentinels
_PEGASUS_OFFSET = 103  # ids before PEGASUS's own tokens


def has_tokenizer(folder: Path) -> bool:
    """Whether a checkpoint folder holds any of a tokenizer's files."""
    return any((Path(folder) / name).exists() for name in _FILES)


def no_tokenizer_files(folder: Path) -> NlpcliError:
    return NlpcliError(
        f"{folder}: the tokenizer is missing (tokenizer.json, vocab.txt, vocab.json with merges.txt, or spiece.model)",
        hint="copy the tokenizer's files into this folder",
    )


def read_tokenizer(folder: Path, config: Mapping[str, Any], zero_start: ZeroStart | None = None) -> Tokenizer:
    """The tokenizer of a checkpoint folder; `config` is its config.json. zero_start: a change that is undone.

    The ids are those of `transformers`; what a model's vocabulary has beyond them is named `<unused_i>` and special.

    Raises: NlpcliError when there are no tokenizer files, or none that can be understood.
    """
    folder = Path(folder)
    settings = _special_settings(folder)
    if zero_start is not None and zero_start.row is not None:
        settings["roles"] = dict(zero_start.tokens)
    tokens = _TOKENS.get(config.get("model_type", ""), {}) | settings["roles"]
    if (folder / "source.spm").exists():
        return _read_marian(folder, config, {role: name for role, name in tokens.items() if name}, zero_start)
    path = folder / TOKENIZER_JSON
    try:
        data = read_regular(path) if path.exists() else _built(folder, config, settings)
        content = parse(data)
        if zero_start is not None:
            zero_start.content_before(content)
            data = json.dumps(content, ensure_ascii=False).encode()
        spellings = vocabulary(content)
    except (NlpcliError, RecursionError):
        raise
    except Exception as error:  # libraries raise what they like for a file they can't read
        raise NlpcliError(f"{folder}: the tokenizer can't be read: {error}") from None
    ids = {spelling: id_ for id_, spelling in enumerate(spellings)}
    hidden = {token["id"] for token in content["added_tokens"] if token["special"]}
    hidden |= {ids[name] for name in settings["more"] if name in ids}
    special = _special(spellings, ids, {role: name for role, name in tokens.items() if name}, hidden, config)
    try:
        model = HuggingFaceModel(data, special)
    except NlpcliError as error:
        raise NlpcliError(f"{folder}: {error.message}", hint=error.hint) from None
    except Exception as error:  # the library raises plain exceptions
        raise NlpcliError(f"{path}: the tokenizer can't be read: {error}") from None
    return _tokenizer("huggingface", model, special, folder)


def _tokenizer(kind: str, model: TokenizerModel, special: SpecialTokens, folder: Path) -> Tokenizer:
    settings = TokenizerSettings(kind=kind, byte_fallback=False)
    return Tokenizer(settings, model, special, {"read from": real_path(folder).name})


def _special_settings(folder: Path) -> dict[str, Any]:
    """The folder's special tokens: `roles` (name or None), `more` spellings, `config` the whole."""
    roles: dict[str, str | None] = {}
    more: list[str] = []
    config: dict[str, Any] = {}
    for name in ("special_tokens_map.json", "tokenizer_config.json"):
        path = folder / name
        if not path.exists():
            continue
        config = read_json(path)
        for role in ROLES:
            if f"{role}_token" in config:
                roles[role] = _spelling(config[f"{role}_token"])
        for key in ("additional_special_tokens", "extra_special_tokens"):
            listed = config.get(key) or []
            more += [_spelling(token) or "" for token in (listed.values() if isinstance(listed, dict) else listed)]
        more += [token["content"] for token in config.get("added_tokens_decoder", {}).values() if token.get("special")]
    return {"roles": roles, "more": more, "config": config}


def _spelling(token: dict[str, Any] | str | None) -> str | None:
    return token.get("content") if isinstance(token, dict) else token


def read_json(path: Path) -> dict[str, Any]:
    """Raises: NlpcliError when the file is not a JSON object."""
    try:
        content = json.loads(read_regular(Path(path)).decode("utf-8-sig"))
    except RecursionError:
        raise NlpcliError(f"{path}: the JSON in this file is nested too deeply") from None
    except (OSError, ValueError) as error:
        raise NlpcliError(f"{path}: the file is not valid JSON ({error})") from None
    if not isinstance(content, dict):
        raise NlpcliError(f"{path}: the file is not a JSON object")
    return content


def _special(
    known: list[str], ids: Mapping[str, int], tokens: Mapping[str, str], hidden: set[int], config: Mapping[str, Any]
) -> SpecialTokens:
    """The roles' ids: those of the tokens the folder names, then those config.json names, then another role's."""
    found = {role: ids[name] for role, name in tokens.items() if name in ids}
    named = {"bos": "decoder_start_token_id"} if config.get("is_encoder_decoder") else {"bos": "bos_token_id"}
    named |= {"eos": "eos_token_id", "pad": "pad_token_id"}
    if config.get("decoder_start_token_id") is None:  # may be missing in T5 folders
        config = {**config, "decoder_start_token_id": config.get("pad_token_id")}
    size = max(len(known), config.get("vocab_size", 0))
    for role, key in named.items():
        id_ = config.get(key)
        if role not in found and isinstance(id_, int) and 0 <= id_ < size:
            found[role] = id_
    absent = []
    for role in ROLES:
        if role in found:
            continue
        other = next((other for other in _SHARED[role] if other in found), None)
        if other is None:
            other = next(iter(found), None)
        if other is None:
            raise NlpcliError(
                "the tokenizer defines no special tokens", hint="add its special_tokens_map.json to the folder"
            )
        found[role] = found[other]
        if (role, other) not in _PLAYS:
            absent.append(role)
    sentinels = _sentinels(ids)
    unused = range(len(known), size)
    named_ids = sorted({*found.values(), *hidden, *sentinels})
    spellings = [(id_, known[id_]) for id_ in named_ids if id_ < len(known)]
    spellings += [(id_, f"<unused_{id_}>") for id_ in unused]
    return SpecialTokens(**found, sentinels=sentinels, spellings=tuple(spellings), absent=tuple(absent))


def _sentinels(ids: Mapping[str, int]) -> tuple[int, ...]:
    found: list[int] = []
    while (name := f"<extra_id_{len(found)}>") in ids:
        found.append(ids[name])
    return tuple(found)


# --- folders without tokenizer.json ------------------------------------------------------------------------------


def _built(folder: Path, config: Mapping[str, Any], settings: Mapping[str, Any]) -> bytes:
    """A tokenizer.json out of older files."""
    core = _core(folder, str(config.get("model_type")), settings["config"])
    added = {} if not (folder / "added_tokens.json").exists() else read_json(folder / "added_tokens.json")
    for name, id_ in sorted(added.items(), key=lambda item: item[1]):
        if core.token_to_id(name) is None:
            core.add_special_tokens([name])
        if core.token_to_id(name) != id_:
            raise NlpcliError(f"{folder / 'added_tokens.json'}: the token '{name}' can't have the id {id_}")
    return core.to_str().encode()


def _core(folder: Path, model_type: str, settings: Mapping[str, Any]) -> Core:
    if (folder / "vocab.txt").exists():
        lines = read_regular(folder / "vocab.txt").decode().split("\n")
        return _wordpiece([line.rstrip("\r") for line in lines], settings)
    if (folder / "vocab.json").exists() and (folder / "merges.txt").exists():
        vocab = read_json(folder / "vocab.json")
        lines = read_regular(folder / "merges.txt").decode().split("\n")
        lines = lines[1:] if lines and lines[0].startswith("#version") else lines
        merges = [(left, right) for left, _, right in (line.partition(" ") for line in lines) if right]
        return _gpt(vocab, merges) if model_type == "openai-gpt" else _byte_level(vocab, merges, settings)
    for name in _SPM_FILES:
        if (folder / name).exists():
            spm = parse_spm(read_regular(folder / name))
            if model_type not in _SENTENCE_PIECES or spm.model_type != UNIGRAM:
                raise NlpcliError(f"{folder / name}: this file is not supported for the model type '{model_type}'")
            return _SENTENCE_PIECES[model_type](spm, settings)
    raise no_tokenizer_files(folder)


def _wordpiece(lines: list[str], settings: Mapping[str, Any]) -> Core:
    while lines and not lines[-1]:
        lines.pop()
    unk = _spelling(settings.get("unk_token")) or _BRACKETS["unk"]
    core = Core(models.WordPiece({token: id_ for id_, token in enumerate(lines)}, unk_token=unk))
    core.normalizer = normalizers.BertNormalizer(
        clean_text=True,
        handle_chinese_chars=settings.get("tokenize_chinese_chars", True),
        strip_accents=settings.get("strip_accents"),
        lowercase=settings.get("do_lower_case", True),
    )
    core.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    core.decoder = decoders.WordPiece(prefix="##")
    return core


def _byte_level(vocab: dict[str, int], merges: list[tuple[str, str]], settings: Mapping[str, Any]) -> Core:
    core = Core(models.BPE(vocab, merges, continuing_subword_prefix="", end_of_word_suffix="", fuse_unk=False))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=settings.get("add_prefix_space", False))
    core.decoder = decoders.ByteLevel()
    return core


def _gpt(vocab: dict[str, int], merges: list[tuple[str, str]]) -> Core:
    model = models.BPE(
        vocab, merges, continuing_subword_prefix="", end_of_word_suffix="</w>", fuse_unk=False, unk_token="<unk>"
    )
    core = Core(model)
    core.normalizer = normalizers.BertNormalizer(lowercase=True)
    core.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    core.decoder = decoders.BPEDecoder(suffix="</w>")
    return core


def _unigram(tokens: list[tuple[str, float]], unk: int, rules: list[Any]) -> Core:
    core = Core(models.Unigram(tokens, unk_id=unk, byte_fallback=False))
    if rules:
        core.normalizer = normalizers.Sequence(rules)
    cut = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="always", split=True)
    core.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), cut])
    core.decoder = decoders.Metaspace(replacement="▁", prepend_scheme="always", split=True)
    return core


def _precompiled(spm: SentencePieceFile) -> list[Any]:
    if not is_charsmap(spm.normalization):
        raise NlpcliError("the compiled rules of the normalizer in the SentencePiece model are damaged")
    return [normalizers.Precompiled(spm.normalization)] if spm.normalization else []


def _t5(spm: SentencePieceFile, settings: Mapping[str, Any]) -> Core:
    count = settings.get("extra_ids", _EXTRA_IDS)
    sentinels = [(f"<extra_id_{i}>", 0.0) for i in reversed(range(count))]
    core = _unigram(spm.pieces + sentinels, spm.unk, _precompiled(spm))
    core.add_special_tokens([name for name, _ in reversed(sentinels)])
    return core


def _pegasus(spm: SentencePieceFile, settings: Mapping[str, Any]) -> Core:
    offset = settings.get("offset", _PEGASUS_OFFSET)
    first = [("<pad>", 0.0), ("</s>", 0.0), ("<mask_1>", 0.0), ("<mask_2>", 0.0)]
    first += [(f"<unk_{i}>", -100.0) for i in range(2, offset)]
    rules = [*_precompiled(spm), normalizers.Replace(Regex(" {2,}"), " ")]
    core = _unigram(first + spm.pieces[2:], spm.unk + offset, rules)
    core.add_special_tokens([name for name, _ in first])
    return core


def _xlnet(spm: SentencePieceFile, settings: Mapping[str, Any]) -> Core:
    rules: list[Any] = [normalizers.Replace("``", '"'), normalizers.Replace("''", '"')]
    if not settings.get("keep_accents", False):
        rules += [normalizers.NFKD(), normalizers.StripAccents()]
    if settings.get("do_lower_case", False):
        rules.append(normalizers.Lowercase())
    rules += [*_precompiled(spm), normalizers.Replace(Regex(" {2,}"), " ")]
    # XLNet cuts the comma off a number that ends with one, as if the token for both were hardly ever seen
    tokens = [(token, score - 100.0 * _number_with_comma(token)) for token, score in spm.pieces]
    core = _unigram(tokens, spm.unk, rules)
    names = [*_TOKENS["xlnet"].values(), "<eop>", "<eod>"]
    core.add_special_tokens([name for name in dict.fromkeys(names) if core.token_to_id(name) is not None])
    return core


def _xlm_roberta(spm: SentencePieceFile, settings: Mapping[str, Any]) -> Core:
    """The first ids are fairseq's, in the place of SentencePiece's three, and the last one is the mask."""
    first = ["<s>", "<pad>", "</s>", "<unk>"]
    tokens = [*((name, 0.0) for name in first), *spm.pieces[3:], ("<mask>", 0.0)]
    core = _unigram(tokens, first.index("<unk>"), _precompiled(spm))
    core.add_special_tokens([*first, "<mask>"])
    return core


def _big_bird(spm: SentencePieceFile, settings: Mapping[str, Any]) -> Core:
    """The rules of the file's normalizer are not used."""
    core = Core(models.Unigram(spm.pieces, unk_id=spm.unk, byte_fallback=False))
    core.normalizer = normalizers.Sequence([normalizers.Replace(Regex(" {2,}"), "▁")])
    core.pre_tokenizer = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="always", split=True)
    core.decoder = decoders.Metaspace(replacement="▁", prepend_scheme="always", split=True)
    names = dict.fromkeys(_TOKENS["big_bird"].values())
    core.add_special_tokens([name for name in names if core.token_to_id(name) is not None])
    return core


def _number_with_comma(token: str) -> bool:
    return len(token) > 1 and token[-1] == "," and token[-2].isdigit()


_SENTENCE_PIECES: dict[str, Callable[[SentencePieceFile, Mapping[str, Any]], Core]] = {
    "t5": _t5,
    "pegasus": _pegasus,
    "xlnet": _xlnet,
    "xlm-roberta": _xlm_roberta,
    "big_bird": _big_bird,
}


def _read_marian(
    folder: Path, config: Mapping[str, Any], tokens: Mapping[str, str], zero_start: ZeroStart | None
) -> Tokenizer:
    if (folder / "target_vocab.json").exists():
        raise NlpcliError(f"{folder}: Marian models with two vocabularies are not supported")
    vocab = read_json(folder / "vocab.json")
    if zero_start is not None:
        vocab = zero_start.vocabulary_before(vocab)
    spellings = [""] * (max(vocab.values()) + 1)
    for spelling, id_ in vocab.items():
        spellings[id_] = spelling
    special = _special(spellings, vocab, tokens, set(), config)
    try:
        source, target = (read_regular(folder / name) for name in ("source.spm", "target.spm"))
        model = MarianModel(vocab, source, target, special)
    except (OSError, RuntimeError) as error:
        raise NlpcliError(f"{folder}: the tokenizer can't be read: {error}") from None
    return _tokenizer("marian", model, special, folder)
