"""The language of what people read: Slack, the weekly review, receipts, the export's cover sheet, the command line.

English stands where a text is made, marked by `_` or `numbered`; by `translatable` where it is a constant that is given
to `_` later, and by `Phrase` where it also holds values. A catalogue `locale/<language>/LC_MESSAGES/lifecycle.po` holds
the same in another language, read as it is: nothing is compiled. A text without a translation stays English.
"""

import gettext
from collections.abc import Callable, Mapping
from functools import cache
from io import BytesIO
from pathlib import Path
from typing import Final, Self

from lifecycle.errors import DeclarationError

CATALOGUES: Final = Path(__file__).parent / "locale"
DOMAIN: Final = "lifecycle"
ENGLISH: Final = "en"
LANGUAGES: Final = (ENGLISH, "ja")

_translations: gettext.NullTranslations = gettext.NullTranslations()


class Phrase(str):
    """An English text with its values filled in, which `_` tells in the language that is set when somebody reads it.

    To whatever keeps it, hands it to a program or makes an error of it, it is the English text. Placeholders are named;
    without values there are none. A tuple among the values is listed, and phrases among them are told in the same
    language; anything else is a name or a number.
    """

    __slots__ = ("text", "values")
    text: str
    values: dict[str, object]

    def __new__(cls, text: str, /, **values: object) -> Self:
        made = super().__new__(cls, _filled(text, values, str, ", "))
        made.text, made.values = text, values
        return made

    def told(self) -> str:
        """The text in the language that is set."""
        return _filled(_translations.gettext(self.text), self.values, _, _(", "))


def _filled(text: str, values: Mapping[str, object], tell: Callable[[str], str], comma: str) -> str:
    def shown(value: object) -> object:
        if isinstance(value, tuple):
            return comma.join(str(shown(each)) for each in value)
        return tell(value) if isinstance(value, Phrase) else value

    return text.format(**{name: shown(value) for name, value in values.items()}) if values else text


def set_language(code: str) -> None:
    """The language of this process from now on; "" is English. Raises DeclarationError where there is no catalogue."""
    global _translations
    if code and code not in LANGUAGES:
        raise DeclarationError(f"there is no language {code!r}: name one of {', '.join(LANGUAGES)}, or none")
    _translations = catalogue(code or ENGLISH)


def language() -> str:
    """The language that is set."""
    return str(_translations.info().get("language", ENGLISH))


@cache
def catalogue(code: str) -> gettext.NullTranslations:
    """The texts of one of `LANGUAGES`; of English the texts themselves."""
    if code == ENGLISH:
        return gettext.NullTranslations()
    # Who reads English need not wait for it to load.
    from babel.messages.mofile import write_mo
    from babel.messages.pofile import read_po

    compiled = BytesIO()
    with catalogue_file(code).open("rb") as file:
        write_mo(compiled, read_po(file, locale=code, domain=DOMAIN))
    compiled.seek(0)
    return gettext.GNUTranslations(compiled)


def catalogue_file(code: str) -> Path:
    """Where the texts of a language stand."""
    return CATALOGUES / code / "LC_MESSAGES" / f"{DOMAIN}.po"


def _(text: str) -> str:
    """The text in the language that is set; its placeholders are named, and filled afterwards, a phrase's before."""
    if isinstance(text, Phrase):
        return text.told()
    # Under no text a catalogue keeps its own head.
    return _translations.gettext(text) if text else ""


def numbered(one: str, many: str, count: int) -> str:
    """The text for one, or for another `count`, in the language that is set."""
    return _translations.ngettext(one, many, count)


def translatable(text: str) -> str:
    """A constant, as it is: for the catalogue, and to be given to `_` when somebody reads it."""
    return text
