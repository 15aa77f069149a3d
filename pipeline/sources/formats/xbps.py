"""xbps's packages (Void Linux): a tar with ``props.plist``, a property list in XML."""

from __future__ import annotations

import re

from .tar import packages_with_facts

_STRING = re.compile(r"<key>([^<]*)</key>\s*<string>([^<]*)</string>")


def _facts(text: str) -> tuple[str, str, str]:
    """Name, version and architecture."""
    fields: dict[str, str] = {}
    for key, value in _STRING.findall(text):
        fields.setdefault(key, value)
    return fields.get("pkgname", ""), fields.get("version", ""), fields.get("architecture", "")


FORMAT = packages_with_facts((".xbps",), "props.plist", _facts)
