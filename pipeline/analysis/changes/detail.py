"""One thing that changed, in C's terms: ``member added: `int cpu` at 16``."""

from __future__ import annotations

from typing import NamedTuple

# What ``what`` of a detail can be, and what each means; docs/diff.md has the same table.
WHATS = {
    "size": "the type has another size",
    "member added": "only the newer type has this member",
    "member removed": "only the older type has it",
    "member moved": "it lies elsewhere",
    "member retyped": "its type is spelled otherwise",
    "bit field": "it has another width in bits, or only one of the two is a bit field",
    "order": "members of the type, or of `subject` inside it, stand in another order",
    "enumerator added": "only the newer enum has this enumerator",
    "enumerator removed": "only the older enum has it",
    "enumerator value": "it has another value",
    "enumerator order": "enumerators stand in another order",
    "parameter added": "only the newer function has this parameter",
    "parameter removed": "only the older function has it",
    "parameter retyped": "its type is spelled otherwise",
    "returns": "the function returns another type",
    "target": "the typedef or variable is of another type",
    "declaration added": "a declaration of the name that the older kernel lacks",
    "declaration removed": "a declaration of the name that the newer kernel lacks",
    "embeds": "it holds by value a type that changed: `subject`",
}


class Detail(NamedTuple):
    """One thing that changed.

    what      a key of WHATS
    subject   the member, enumerator or type that it is about; of parameters the number
    old, new  what it was and is; empty where there is none
    until     of several members in a row that moved alike, the last one
    members   and how many these are
    """

    what: str
    subject: str
    old: str
    new: str
    until: str = ""
    members: int = 1

    def facts(self) -> dict[str, str | int]:
        """All fields, and ``text``."""
        return {
            "what": self.what,
            "subject": self.subject,
            "old": self.old,
            "new": self.new,
            "until": self.until,
            "members": self.members,
            "text": self.text,
        }

    @property
    def text(self) -> str:
        """The same as words."""
        if self.what == "order":
            return f"members{f' of `{self.subject}`' if self.subject else ''} in another order"
        if self.what == "enumerator order":
            return "enumerators in another order"
        if self.what == "embeds":
            return f"embeds {self.subject}, which changed"
        if self.what.startswith(("member added", "member removed")):  # its text has the name
            return f"{self.what}: {self.old or self.new}"
        subject = f" `{self.subject}`" if self.subject else ""
        if self.until:
            subject += f" … `{self.until}` ({self.members} members)"
        if self.old and self.new:
            return f"{self.what}{subject}: {self.old} → {self.new}"
        return f"{self.what}{subject}: {self.old or self.new}"


def place_text(bit_offset: int, bitfield_size: int) -> str:
    """Where a member lies: ``16``, of what begins inside a byte ``16:3``."""
    whole, bits = divmod(bit_offset, 8)
    return f"{whole}:{bits}" if bits or bitfield_size else str(whole)


def bits_text(bitfield_size: int) -> str:
    """How wide a bit field is."""
    if not bitfield_size:
        return "no bit field"
    return f"{bitfield_size} bit{'s' * (bitfield_size > 1)}"
