"""In which order the C dump has to declare types, and which ones it needs.

C wants a type complete where it is embedded, and a name declared where it is used. A *step* is one
thing that the dump writes:

    (id, False)  of a struct, union or FWD: the tag alone; of a typedef: its definition
    (id, True)   of a struct, union or enum: its definition; of a typedef: all that is behind it,
                 so that it can be embedded

``Order`` puts every step after the steps it needs, by depth-first search from the types wanted.
What is only pointed to needs no definition, and no forward declaration either: C declares a tag
where it is first used, at file scope even inside the braces of another struct. Only in the
parameters of a function it would be declared for that function alone, so there the tag is needed
beforehand.

Types from C have no cycles of steps; BTF can. A typedef that needs itself is not repeated, and the
declaration has to do without. A struct that has to be complete before itself is an error, whether
it embeds itself (which the planner finds) or is an element of an array that it points to.
"""

from __future__ import annotations

from collections.abc import Iterator

from ..format import kinds
from ..format.kinds import COMPOSITES, ENUMS, QUALIFIERS, SCALARS
from .c_layout import Planner
from .c_names import spelling
from .c_types import TypeTable

Step = tuple[int, bool]
BUILT_IN = "__builtin_va_list"
"""A typedef in BTF, but the compiler has it already."""


class Order:
    """Steps in an order that C accepts.

    steps      what to write, in order
    mentioned  ids of all named types that the text speaks of
    inlined    ids of all anonymous structs, unions and enums that it writes in place
    enums_without_values  of mentioned: enums that only need to be declared
    """

    def __init__(self, types: TypeTable, planner: Planner) -> None:
        self._types = types
        self._planner = planner
        self.steps: list[Step] = []
        self.mentioned: set[int] = set()
        self.inlined: set[int] = set()
        self.enums_without_values: set[int] = set()
        self._embedded_enums: set[int] = set()
        self._done: set[Step] = set()

    def add(self, root: Step) -> None:
        """Append ``root`` and all that it needs and that is not there yet."""
        if root in self._done:
            return
        self._done.add(root)
        open_steps = {root}
        stack: list[tuple[Step, Iterator[Step]]] = [(root, iter(self._needs(root)))]
        while stack:
            step, needs = stack[-1]
            for need in needs:
                if need in open_steps and need[1] and self._types.kinds[need[0]] in COMPOSITES:
                    raise self._types.error(
                        f"{self._types.name(need[0])} has to be complete before itself, by way of "
                        f"{self._types.name(step[0])}: C has no such types",
                        need[0],
                    )
                if need not in self._done:
                    self._done.add(need)
                    open_steps.add(need)
                    stack.append((need, iter(self._needs(need))))
                    break
            else:
                stack.pop()
                open_steps.discard(step)
                self.steps.append(step)

    def add_use(self, type_id: int) -> None:
        """Append all that a use of a type as in a prototype needs and that is not there yet."""
        needs: list[Step] = []
        self._walk(type_id, False, needs)
        for need in needs:
            self.add(need)

    def _needs(self, step: Step) -> list[Step]:
        type_id, complete = step
        types = self._types
        kind = types.kind(type_id)
        self.mentioned.add(type_id)
        needs: list[Step] = []
        if kind == kinds.TYPEDEF:
            if complete:
                needs.append((type_id, False))
            self._walk(types.third(type_id), complete, needs)
        elif complete and kind in COMPOSITES:
            self._walk_members(type_id, needs)
            needs = [need for need in needs if need != (type_id, False)]  # "struct x {" declares x
        elif kind in ENUMS and not types.vlen(type_id) and type_id not in self._embedded_enums:
            self.enums_without_values.add(type_id)
        return needs

    def _walk_members(self, type_id: int, needs: list[Step]) -> None:
        if not self._planner.layout(type_id).opaque:
            for member in self._types.members(type_id):
                self._walk(member.type_id, True, needs)

    def _walk(self, type_id: int, complete: bool, needs: list[Step]) -> None:
        """Append what a use of a type needs; ``complete`` when its size matters there."""
        types = self._types
        seen = set()
        pending = [(type_id, complete, False)]
        while pending:
            use = pending.pop()
            types.spend(use[0])
            if use in seen:
                continue
            seen.add(use)
            type_id, complete, in_function = use
            kind = types.kind(type_id)
            if kind in QUALIFIERS or kind == kinds.TYPE_TAG:
                pending.append((types.third(type_id), complete, in_function))
            elif kind == kinds.PTR:
                pending.append((types.third(type_id), False, in_function))
            elif kind == kinds.ARRAY:
                pending.append((types.array(type_id)[0], True, in_function))
            elif kind == kinds.FUNC_PROTO:
                uses = [target for _, target in types.params(type_id)]
                pending += [(target, False, True) for target in (*uses[::-1], types.third(type_id))]
            elif kind == kinds.TYPEDEF:
                self.mentioned.add(type_id)
                if types.name(type_id) != BUILT_IN:
                    needs.append((type_id, complete))
            elif kind in COMPOSITES and not types.name(type_id):
                self.inlined.add(type_id)
                if not self._planner.layout(type_id).opaque:
                    members = types.members(type_id)
                    pending += [(m.type_id, True, in_function) for m in reversed(members)]
            elif kind in COMPOSITES or kind == kinds.FWD:
                self.mentioned.add(type_id)
                if complete or in_function:
                    needs.append((type_id, complete and kind != kinds.FWD))
            elif kind in ENUMS and not types.name(type_id):
                self.inlined.add(type_id)
            elif kind in ENUMS:
                needs.append((type_id, True))
                if complete:
                    self.enums_without_values.discard(type_id)
                    self._embedded_enums.add(type_id)
            elif kind in SCALARS and not spelling(types, type_id):
                needs.append((type_id, True))
