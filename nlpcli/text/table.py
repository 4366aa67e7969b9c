"""The kinds of tokenizers by name; listing them imports nothing."""

from __future__ import annotations

from nlpcli.config.tables import LazyTable

TOKENIZERS = LazyTable(
    "tokenizer type",
    {
        "unigram": "nlpcli.text.sentence_pieces:UnigramModel",
        "bpe": "nlpcli.text.sentence_pieces:BpeModel",
        "wordpiece": "nlpcli.text.wordpiece:WordPieceModel",
        "byte-bpe": "nlpcli.text.byte_bpe:ByteBpeModel",
        "chars": "nlpcli.text.characters:CharacterModel",
    },
)
