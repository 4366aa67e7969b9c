"""The kinds of tokenizers by name; listing them imports nothing."""

from __future__ import annotations

from nlpcli.config.tables import LazyTable

_TRAINED = {
    "unigram": "nlpcli.text.sentence_pieces:UnigramModel",
    "bpe": "nlpcli.text.sentence_pieces:BpeModel",
    "wordpiece": "nlpcli.text.wordpiece:WordPieceModel",
    "byte-bpe": "nlpcli.text.byte_bpe:ByteBpeModel",
    "chars": "nlpcli.text.characters:CharacterModel",
    "words": "nlpcli.text.words:WordModel",
}

TOKENIZERS = LazyTable("tokenizer type", _TRAINED)
"""Those that are trained here."""

KINDS = LazyTable(
    "tokenizer type",
    {
        **_TRAINED,
        "huggingface": "nlpcli.text.huggingface:HuggingFaceModel",
        "marian": "nlpcli.text.marian:MarianModel",
    },
)
"""All that can be read: those that come with somebody else's model as well."""
