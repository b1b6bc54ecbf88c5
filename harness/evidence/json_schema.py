"""The JSON Schema of what the harness writes, made from its types.

`python -m harness.evidence.json_schema MODULE:TYPE` prints one; `make schema` has the types and their files in docs/.
"""

from __future__ import annotations

import pkgutil
import sys

import msgspec

DIALECT = "https://json-schema.org/draft/2020-12/schema"


def schema_text(of: type[msgspec.Struct]) -> str:
    """The schema of the JSON of one type, as a text that ends with a newline; the same type gives the same text."""
    described = {"$schema": DIALECT} | msgspec.json.schema(of)
    return msgspec.json.format(msgspec.json.encode(described, order="sorted"), indent=1).decode() + "\n"


if __name__ == "__main__":
    print(schema_text(pkgutil.resolve_name(sys.argv[1])), end="")
