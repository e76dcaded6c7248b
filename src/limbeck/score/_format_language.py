"""Telling languages apart by script and by their commonest words: enough to check "answer in Hindi", with no model and no download.

    looks_like("Kuna mtu alisema kwamba ni kama mpira", "sw")      True
    looks_like("एक आदमी है जिसका नाम आरव है", "hi")                   True        the same script as Marathi and Nepali: words decide
    looks_like("Salam, kya haal hai?", "ur")                       False       Urdu is written in Arabic letters
    looks_like("Oreo, Panda", "en")                                None        the right letters, too few words to tell

Two thirds of the letters must be of the language's script, and where languages share a script, more of its common words must occur
than of any other language's that is known here. A name or a title in English inside does no harm.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter

SCRIPTS = {
    "ar": "ARABIC", "fa": "ARABIC", "ur": "ARABIC", "he": "HEBREW", "hi": "DEVANAGARI", "mr": "DEVANAGARI", "ne":
    "DEVANAGARI", "bn": "BENGALI", "pa": "GURMUKHI", "gu": "GUJARATI", "ta": "TAMIL", "te": "TELUGU", "kn":
    "KANNADA", "ml": "MALAYALAM", "th": "THAI", "ko": "HANGUL", "ja": "HIRAGANA", "zh": "CJK", "ru": "CYRILLIC",
    "bg": "CYRILLIC", "uk": "CYRILLIC", "el": "GREEK", "en": "LATIN", "de": "LATIN", "fr": "LATIN", "es": "LATIN",
    "pt": "LATIN", "it": "LATIN", "nl": "LATIN", "fi": "LATIN", "sw": "LATIN", "vi": "LATIN", "pl": "LATIN", "sv":
    "LATIN", "tr": "LATIN", "id": "LATIN", "ro": "LATIN", "cs": "LATIN", "hu": "LATIN",
}  # fmt: skip
COMMON = {
    "en": (
        "the of and to in is that it for was on are with as be at this have from or by not but you your i we they "
        "my me she he his her its an can will would if do so what all there their our when more about which has "
        "been who no up out just like how him them where while into very good some only then than also much two "
        "most over many time"
    ),
    "de": (
        "der die das und ist nicht ein eine zu den von mit sich des auf für im dem auch als es an werden aus er "
        "sie ich wir ihr haben wie wird sind oder bei einen einem einer nach über kann nur noch zur zum wenn aber "
        "diese"
    ),
    "fr": (
        "le la les de des et est un une que qui dans pour pas sur au avec ce il elle plus par nous vous je se son "
        "sa ses du en ne sont mais ou où comme cette"
    ),
    "es": (
        "el la los las de que y en un una es por con para no se su al lo como más pero sus del este esta son está "
        "muy también yo hay donde"
    ),
    "pt": (
        "o a os as de que e em um uma é por com para não se do da dos das no na ao como mais mas foi são também "
        "pelo pela eles ele eu seu sua está você uns"
    ),
    "it": (
        "il lo la i gli le di che e è un una per con non si del della dei delle nel nella sul al come più ma anche "
        "sono questo questa io ha o sua suo"
    ),
    "nl": (
        "de het een en van ik te dat die in is niet op aan met als voor zijn er maar om hem dan zou wat mijn men "
        "dit ook naar heb hij bij uit"
    ),
    "fi": (
        "ja on ei se että hän oli olen ovat mutta niin kun kuin joka myös voi tämä sen ne minä sinä sinun mitä jos "
        "tai sekä ole hyvin kanssa vain eli"
    ),
    "sw": (
        "na ya wa ni kwa katika la za kuwa cha hii huo kama lakini kwamba yake wake hiyo hizi huu mtu watu sana "
        "pia au moja yangu yako alisema nini vya hivyo si"
    ),
    "vi": (
        "là và của có không một những được cho trong với các này đó người tôi bạn chúng ta để khi từ như về sẽ "
        "cũng đã làm nhiều thể ở hay nhưng nó câu năm"
    ),
    "pl": (
        "i w na z do się nie to jest że jak o co po za od ale czy tak ma być który jego jej dla przez są ich tylko jako"
    ),
    "sv": (
        "och det att i en jag som är på med för av inte den till har de ett om men var sig så från vi kan när nu "
        "eller hon han"
    ),
    "tr": (
        "ve bir bu da de için ile çok ne ama gibi daha en kadar olarak olan ben sen o mi mı var yok değil sonra her"
    ),
    "id": (
        "yang dan di itu dengan untuk tidak ini dari dalam akan pada juga saya ke karena ada mereka anda adalah "
        "kita bisa oleh atau"
    ),
    "ro": "și de la în a cu este pe un o că nu se din pentru mai care sunt au fi ca ce dar sau prin fost",
    "cs": "a je v na se že to s z do o jako ale po za jsem by jeho k od tak jsou pro které když co už",
    "hu": "a az és hogy nem is egy ez meg de van volt csak már ha mint vagy aki ki el még lesz nagyon",
    "hi": ("है हैं और के की का में से को पर यह एक नहीं था थी थे भी तो ने कि जो हो कर वह हम मैं आप करने लिए अपने इस अपनी"),
    "mr": (
        "आहे आहेत आणि च्या मध्ये नाही हा ही हे ते तो ती होते होता होती मी तू आम्ही त्या त्याचा एक साठी पण की तर आपण असे नसते असते म्हणून"
    ),
    "ne": ("छ छन् र को का मा लाई हो भएको गर्न पनि यो त्यो तर गर्नुहोस् बाट एक हुन्छ थियो म तपाईं हामी दिन जानुहोस् पछि हुने गरी"),
    "ar": "في من على إلى أن هذا هذه التي الذي مع عن كان لا ما هو هي أو ثم قد كل لم بعد هناك كما إن ذلك بين",
    "fa": "و در به از که این را با است برای آن یک خود تا کرد بر هم نیز شد می‌شود بود ما من شما هر یا اما می های است‌",
    "ur": "اور کے کی میں ہے سے کا کو ہیں نے پر یہ کہ بھی ایک اس تھا ہو نہیں جو وہ لیے کر کیا تھے ان ہم آپ",
    "ru": (
        "и в не на я что он с как это по но они мы она так его все от для ты если бы был к из за у же или которую можно"
    ),
    "bg": "и в на се да не за от с че е по като са ще това но му го си бе съм беше те до при или през тази така",
    "uk": "і в не на що я з у та як це він до для але ми за від є про щоб його вони ви чи або був",
}
WORDS = {language: frozenset(text.split()) for language, text in COMMON.items()}
TOKEN = re.compile(r"[^\W\d_]+(?:['’][^\W\d_]+)?(?:[\u0900-\u097f\u200c]+[^\W\d_]*)*")
FEW = 3
"""Fewer common words than this, of any language, are no proof that a text is in another one."""
SHARE = 2 / 3
"""The share of the letters that must be of the language's script."""


def looks_like(text: str, language: str) -> bool | None:
    """Say whether a text is written in the language with this ISO 639-1 code; None if its words do not tell.

    Raises KeyError for a code that is not in SCRIPTS.
    """
    wanted = SCRIPTS[language]
    letters = Counter(_script(letter) for letter in text if letter.isalpha())
    total = letters.total()
    if not total:
        return False
    if language == "ja":
        return letters["HIRAGANA"] + letters["KATAKANA"] > 0 and (total - letters["LATIN"]) / total >= SHARE
    if language == "zh" and letters["HIRAGANA"]:
        return False
    if letters[wanted] / total < SHARE:
        return False
    return _most_common_words(text, language, wanted)


def _most_common_words(text: str, language: str, script: str) -> bool | None:
    rivals = [code for code in WORDS if SCRIPTS[code] == script]
    if language not in rivals:
        return True
    tokens = [token.casefold() for token in TOKEN.findall(unicodedata.normalize("NFC", text))]
    found = {code: sum(token in WORDS[code] for token in tokens) for code in rivals}
    best = max(found.values())
    if found[language] == best > 0:
        return True
    return None if best < (FEW if found[language] else FEW - 1) else False


def _script(letter: str) -> str:
    if letter.isascii():
        return "LATIN"
    return unicodedata.name(letter, "?").split(" ")[0].split("-")[0]
