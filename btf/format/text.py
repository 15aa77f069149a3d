"""Text from input, made fit to be shown: names are bytes, and may be made to do harm.

A terminal obeys control characters, and shows what follows a format character (U+202E, say) in
another order than it stands there. Whatever shows text from input passes it through here.
"""

from __future__ import annotations

from ..arguments import require


def printable(text: str | bytes) -> str:
    r"""Return ``text`` as one line of valid Unicode that stands as it reads.

    What is not printable (control, format and unassigned characters, line ends, spaces other than
    the usual one) becomes the escape that Python has for it: ``\n``, ``\x1b``, ``\u202e``; bytes
    that are no UTF-8, in a str those of "surrogateescape", become ``\xff``. All else stays as it
    is, backslashes too, so doing it twice changes nothing.
    """
    require(text, (str, bytes), "text")
    if isinstance(text, bytes):
        text = text.decode("utf-8", "surrogateescape")
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else _escape(c) for c in text)


def _escape(character: str) -> str:
    if "\udc80" <= character <= "\udcff":  # a byte, by "surrogateescape"
        return f"\\x{ord(character) - 0xDC00:02x}"
    return character.encode("unicode_escape").decode("ascii")
