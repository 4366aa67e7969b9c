"""The kinds of tokenizers by name; listing them imports nothing."""

from __future__ import annotations

from nlpcli.config.lazy_tables import LazyTable

_TRAINED = {
    "unigram": "nlpcli.text.sentencepiece_tokenizer:UnigramModel",
    "bpe": "nlpcli.text.sentencepiece_tokenizer:BpeModel",
    "wordpiece": "nlpcli.text.wordpiece:WordPieceModel",
    "byte-bpe": "nlpcli.text.byte_bpe:ByteBpeModel",
    "chars": "nlpcli.text.character_tokenizer:CharacterModel",
    "words": "nlpcli.text.word_tokenizer:WordModel",
}

TOKENIZERS = LazyTable("tokenizer type", _TRAINED)
"""Those that are trained here."""

KINDS = LazyTable(
    "tokenizer type",
    {
        **_TRAINED,
        "huggingface": "nlpcli.text.huggingface_tokenizer:HuggingFaceModel",
        "marian": "nlpcli.text.marian_tokenizer:MarianModel",
    },
)
"""All that can be read: those that come with somebody else's model as well."""
