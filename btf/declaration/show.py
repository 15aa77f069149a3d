"""A type as pahole prints it: where each member lies, holes, padding, cache lines."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from ..errors import BtfError
from ..format import kinds
from ..types.c_text import c_text
from ..types.objects import AnyEnum, Array, Composite, Func, Member
from ..types.typebase import Reference, Type, spell

CACHE_LINE = 64  # bytes, of nearly all machines that Linux runs on
MAX_LINES = 20_000  # of one type: the largest that Linux has, amdgpu_device, comes to 4,072
MAX_CHARACTERS = 1 << 20  # of all its names and declarations
_MAX_NESTED = 32
_COMMENT_AT = 56  # column


@dataclass(frozen=True, slots=True)
class Field:
    """A member where it lies in the outermost type.

    path        as C says it, through anonymous members: ``se.load``; of an anonymous one that of
                what is around it
    text        its declaration
    bit_offset  from the beginning of the outermost type
    bits        of a bit field; 0: none
    size        bytes; None for what has no size
    hole_bits   that nothing takes up before it
    depth       how many members it is in
    inside      the fields of a struct or union that is written out; None for all others
    padding_bits   of that struct or union, behind the last of them
    """

    path: str
    text: str
    bit_offset: int
    bits: int
    size: int | None
    hole_bits: int
    depth: int
    inside: tuple[Field, ...] | None = None
    padding_bits: int = 0

    @property
    def has_name(self) -> bool:
        """Whether the member has a name of its own."""
        return bool(self.path) and not self.path.endswith(".")


@dataclass(frozen=True, slots=True)
class Layout:
    """The fields of a struct or union, and the bits behind the last one."""

    fields: tuple[Field, ...]
    padding_bits: int

    def walk(self) -> Iterator[Field]:
        """All fields, those of written-out members behind the member."""
        todo = list(reversed(self.fields))
        while todo:
            field = todo.pop()
            yield field
            todo += reversed(field.inside or ())


def layout_of(found: Composite, *, expand: bool = False) -> Layout:
    """Lay out a struct or union; members without a name, with ``expand`` all embedded ones, with
    theirs.

    Raises BtfError for types with more than MAX_LINES members or MAX_CHARACTERS that way.
    """
    return _layout(found, "", 0, 0, expand, [MAX_LINES, MAX_CHARACTERS])


def _layout(
    found: Composite, path: str, start: int, depth: int, expand: bool, room: list[int]
) -> Layout:
    fields, end = [], 0
    for member in found.members:
        name = path + member.name
        room[0] -= 1
        room[1] -= len(name)
        _check_room(found, room)
        size = _size(member.type)
        hole = max(0, member.bit_offset - end) if found.kind == kinds.STRUCT else 0
        bits = member.bitfield_size or 8 * (size or 0)
        end = max(end, member.bit_offset + bits)
        at = start + member.bit_offset
        inner = _written_out(member, expand)
        text = c_text(member.type, member.name, members=inner is None)
        room[1] -= len(text)
        _check_room(found, room)
        inside = None
        if inner is not None and depth < _MAX_NESTED:
            inside = _layout(
                inner, f"{name}." if member.name else path, at, depth + 1, expand, room
            )
        fields.append(
            Field(
                name,
                text,
                at,
                member.bitfield_size,
                size,
                hole,
                depth,
                inside.fields if inside else None,
                inside.padding_bits if inside else 0,
            )
        )
    return Layout(tuple(fields), max(0, 8 * found.size - end))


def _check_room(found: Composite, room: list[int]) -> None:
    """Raise BtfError where neither members nor characters are left."""
    for left, most, what in zip(
        room, (MAX_LINES, MAX_CHARACTERS), ("members", "characters"), strict=True
    ):
        if left < 0:
            said = f"more than {most} {what} to show"
            raise BtfError(said, found.btf.path, "types", None, found.id)


def _written_out(member: Member, expand: bool) -> Composite | None:
    """The struct or union of a member whose members are to be shown."""
    inner, named = member.type, False
    for _ in range(_MAX_NESTED):
        if inner.kind not in kinds.TRANSPARENT:
            break
        assert isinstance(inner, Reference)
        named |= inner.kind == kinds.TYPEDEF
        inner = inner.type
    # Of a member without a name C takes the members as those of the type around it, also where
    # the member's type has a name (-fms-extensions).
    if isinstance(inner, Composite) and (expand or not (named or inner.name) or not member.name):
        return inner
    return None


def _size(found: Type) -> int | None:
    try:
        return found.btf.size_of(found)
    except BtfError:
        return None


def show(found: Type, *, expand: bool = False, parameters: bool = True) -> Iterator[str]:
    """Write a type, line by line; ``parameters``: those of functions with their names.

    Raises BtfError as ``layout_of`` does.
    """
    if isinstance(found, Composite):
        yield from _composite(found, layout_of(found, expand=expand))
    elif isinstance(found, AnyEnum):
        yield f"{spell(found)} {{"
        yield from (f"\t{value.name} = {value.value}," for value in found.values)
        yield f"}}; /* size: {found.size} */"
    elif isinstance(found, Func):
        yield f"{c_text(found.type, found.name, parameters=parameters)};"
    elif isinstance(found, (Reference, Array)):
        word = "typedef " if found.kind == kinds.TYPEDEF else ""
        yield f"{word}{c_text(found.type, found.name)};"
    else:
        size = _size(found)
        yield f"{spell(found)};{f' /* size: {size} */' if size is not None else ''}"


def _composite(found: Composite, layout: Layout) -> Iterator[str]:
    yield f"{spell(found)} {{"
    yield from _fields(layout.fields, [0])
    every = [field for field in layout.walk() if field.hole_bits]
    own = sum(field.hole_bits for field in layout.fields)
    yield ""
    lines = -(-found.size // CACHE_LINE)
    yield f"\t/* size: {found.size}, cachelines: {lines}, members: {found.vlen} */"
    if every:
        yield f"\t/* holes: {len(every)}, of {_amount(sum(field.hole_bits for field in every))} */"
    if layout.padding_bits and found.vlen and (own or found.kind == kinds.STRUCT):
        yield f"\t/* padding: {_amount(layout.padding_bits)} */"
    if found.size % CACHE_LINE:
        yield f"\t/* last cacheline: {found.size % CACHE_LINE} bytes */"
    yield "};"


def _fields(fields: tuple[Field, ...], line: list[int]) -> Iterator[str]:
    """``line``: the cache line that the last field began in."""
    for field in fields:
        indent = "\t" * (field.depth + 1)
        if field.hole_bits:
            yield ""
            yield f"{indent}/* {_amount(field.hole_bits)} hole */"
            yield ""
        now, over = divmod(field.bit_offset // 8, CACHE_LINE)
        if now > line[0]:
            line[0] = now
            ago = f" was {over} bytes ago" if over else ""
            yield f"{indent}/* --- cacheline {now} boundary ({now * CACHE_LINE} bytes){ago} --- */"
        if field.inside is None:
            yield _with_place(f"{indent}{_text(field)};", field)
            continue
        head, _, tail = field.text.partition("{")
        name = tail.rpartition("}")[2] if tail else ""
        if not tail and field.has_name:  # of a named type, which is expanded: `struct rcu_head rcu`
            head, _, name = field.text.rpartition(" ")
        yield f"{indent}{head.strip()} {{"
        yield from _fields(field.inside, line)
        if field.padding_bits and "union" not in head:
            yield f"{indent}\t/* padding: {_amount(field.padding_bits)} */"
        yield _with_place(f"{indent}}} {name.strip()}".rstrip() + ";", field)


def _text(field: Field) -> str:
    return f"{field.text} : {field.bits}" if field.bits else field.text


def _with_place(text: str, field: Field) -> str:
    width = len(text.expandtabs(8))
    at, bit = divmod(field.bit_offset, 8)
    bits = f":{bit:2d}" if field.bits or bit else "   "
    size = "?" if field.size is None else str(field.size)
    return f"{text}{' ' * max(1, _COMMENT_AT - width)}/* {at:5d}{bits} {size:>5} */"


def _amount(bits: int) -> str:
    whole, rest = divmod(bits, 8)
    said = [f"{whole} byte{'s' * (whole != 1)}"] if whole else []
    said += [f"{rest} bit{'s' * (rest != 1)}"] if rest else []
    return " and ".join(said) or "0 bytes"
