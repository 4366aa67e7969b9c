"""A guess at the language of a text, by its script and its most common little words."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

_WORDS = {
    "en": "the of and to in is that it was for on are with as his they at be this have from not but what",
    "de": "der die und in den von zu das mit sich des auf für ist im dem nicht ein eine als auch es er ich sie",
    "fr": "de la le et les des en un du une que est pour qui dans par plus pas au sur ne se il elle je",
    "es": "de la que el en y los se del las un por con no una su para es al lo como más pero sus le",
    "it": "di che la il e un a per in una mi sono ho non ma lo ha le si ti con cosa come io questo della",
    "pt": "de que não o a é do da em um para com uma os no se na por mais as dos como mas ao ele das",
    "nl": "de het een van en in is dat op te zijn met voor niet aan er om ook als dan maar ik ze bij",
    "sv": "och i att det som en på är av för med den till inte har de ett om hon han var jag sig",
    "da": "og i at det er en til af på for de med der som den har ikke et han jeg var kan hun",
    "no": "og i det er på en til som av for at med de ikke den har et jeg var om han kan hun seg",
    "fi": "ja on ei se että hän oli en mutta ole olen niin kun kuin mitä mikä minä joka sen ovat",
    "pl": "i w nie na się z do to że jest o jak ale po co tak za od jego czy przez dla był",
    "cs": "a se v na je že to s z do i o jsem ale jako za by si po co jak tak podle které ve",
    "sk": "a sa v na je že to s z do aj o som ale ako za by si po čo tak podľa ktoré vo",
    "ro": "de și în a la cu nu o pe un că să din este mai care pentru se au am fost ce",
    "hu": "a az és hogy nem is egy ez meg csak volt de van ha mint már el még azt",
    "tr": "ve bir bu da de için ne ben çok o gibi ama var mi daha ile değil sen kadar olarak",
    "vi": "và của là có không được trong cho một những các người tôi với này đã để anh khi",
    "id": "yang dan di itu dengan untuk tidak ini dari dalam akan pada saya juga ke ada orang bisa",
    "lt": "ir į iš kad su yra tai ne apie bet buvo jis kaip aš už nuo po tik",
    "lv": "un ir uz ar no par ka kas bet tas viņš es kā tikai lai pie vai tā",
    "et": "ja on ei et see ta ma oli kui ka aga mis oma nii või siis",
    "ru": "и в не на что я с он как это по но из у за от так же к его она они был",
    "uk": "і в не на що я з він як це та але із у за від так до його вона вони був є",
    "bg": "и на в да не се за от е с че по ли са аз като той но това при",
    "sr": "и у да је се на не за су од са као то што али он која би",
    "fa": "و در به از که این را با است برای آن یک خود تا شد",
    "ar": "في من على أن إلى عن هذا ما لا مع هذه التي كان هو الذي",
    "ur": "کے میں کی ہے اور سے کا کو اس پر نے ہیں یہ کہ",
    "hi": "के में की है और से का को इस पर ने हैं यह कि",
    "mr": "आणि आहे या व तो ते मी नाही हे च की",
}
_COMMON = {language: frozenset(words.split()) for language, words in _WORDS.items()}
_OF_SCRIPT = {
    "Greek": "el", "Hebrew": "he", "Hangul": "ko", "Thai": "th", "Georgian": "ka", "Armenian": "hy", "Kana": "ja",
    "Han": "zh", "Bengali": "bn", "Tamil": "ta", "Telugu": "te", "Khmer": "km", "Lao": "lo", "Myanmar": "my",
    "Gujarati": "gu", "Malayalam": "ml", "Kannada": "kn", "Amharic": "am", "Ethiopic": "am", "Tibetan": "bo",
}  # fmt: skip
_LEAST = 0.08  # of all words, before a guess is made
_FEW = 5  # words, too
_KANA = 0.1  # of the letters of Japanese, at least
KNOWN = frozenset(_COMMON) | frozenset(_OF_SCRIPT.values())


class LanguageGuess:
    """Counts words; at most the first `limit` of them, which is plenty."""

    def __init__(self, limit: int = 200_000) -> None:
        self._left = limit
        self._words: Counter[str] = Counter()

    def add(self, lines: Iterable[str]) -> None:
        if self._left <= 0:
            return
        for line in lines:
            words = line.lower().split()
            self._words.update(word.strip(".,!?;:\"'()«»„“”") for word in words)
            self._left -= len(words)
            if self._left <= 0:
                return

    def best(self, scripts: Mapping[str, int]) -> tuple[str, float] | None:
        """The likeliest language, as its code of two letters (ISO 639-1), and the share of its little words.

        scripts: how many letters are of each. None where no language is known that looks like this. A script that one
        language has for itself decides alone; then the share is that of its letters.
        """
        letters = sum(scripts.values())
        if not letters:
            return None
        if scripts.get("Kana", 0) / letters >= _KANA:
            return "ja", round((scripts.get("Kana", 0) + scripts.get("Han", 0)) / letters, 3)
        main = max(scripts, key=lambda name: scripts[name])
        if main in _OF_SCRIPT:
            return _OF_SCRIPT[main], round(scripts[main] / letters, 3)
        total = sum(self._words.values())
        shares = {
            language: sum(self._words[word] for word in words) / max(total, 1) for language, words in _COMMON.items()
        }
        language = max(shares, key=lambda name: shares[name])
        enough = shares[language] >= max(_LEAST, _FEW / max(total, 1))
        return (language, round(shares[language], 3)) if enough else None
