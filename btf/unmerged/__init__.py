"""Why types stay in a module although the base has a type of that name.

Most of what stays has no fault of its own. A struct that differs takes with it whatever refers to
it, directly or not, and the pointers and prototypes between them: one clash of names in a driver
can keep hundreds of core structs. So every type that stays is followed to its *root cause*: the
innermost named type whose own difference explains it. For each root cause it is worked out what
would go if the module had the base's definition in its place. A type may stay for three reasons:

* it differs from its namesake, or leads to a type that does;
* it is equal but for forward declarations: somewhere the base declares what the module defines.
  Dedup cannot change the base, so the first struct of the module that leads there stays (the
  later ones do not: by then the declaration has a definition);
* it is a pointer, prototype or the like, and what it refers to has stayed.

names        the base's types by name
pairs        own types and those of the base that they are compared with
root_causes  which pairs differ by themselves, and which only because they lead there
blocked      which types stay because of a forward declaration
simulate     what would become of the module if a root cause were replaced
part         which of its types dedup has to see again for that
find         all of that for one module, in words
"""
