"""Strategies of Hypothesis: evidence from its types, and what is near to it; files of claims by their grammar."""

from __future__ import annotations

import string
from functools import cache
from typing import TYPE_CHECKING, Any

import msgspec
from hypothesis import strategies as st
from msgspec import inspect

from harness.evidence.types import SCHEMA, EvidenceFile, Run

if TYPE_CHECKING:
    from collections.abc import Callable

# What finds more than the average text: terminals, HTML, paths, numbers that are none, what is not printable.
ODD = (
    "", "\0", "\x1b[2J", "<script>alert(1)</script>", "../../x", "/etc/passwd", "%s{}", "-", "--", "\u202e", "a\nb",
    "|",
    "test_a[ipv4]", "test_a.py::test_b[x]", "[", "]", "::", "6.12", "9" * 400, "1e999", "0.0.0.0", "::", "host:1", "ﷺ",
    "x" * 3000, "net.ipv4.ip_local_port_range", "1 2", "99999999999999999999 1", "pid=1", "timer:(keepalive,1sec,0)",
)  # fmt: skip
TEXTS = st.sampled_from(ODD) | st.text(max_size=12)
NUMBERS = st.sampled_from([0, 1, -1, 2**31, 2**53, 2**63 - 1, -(2**63)]) | st.integers(-(2**63), 2**63 - 1)
FRACTIONS = (
    st.sampled_from([0.0, -0.0, 1e300, -1e300, 5e-324, 1e16, 253402300800.0])
    | st.floats(allow_nan=False, allow_infinity=False)
)  # fmt: skip
DEEP = 3


@cache
def of_type(kind: Any) -> st.SearchStrategy[Any]:
    """Plain values, as JSON would have them, of a type that msgspec knows."""
    return _of(inspect.type_info(kind), 0)


def _of(info: inspect.Type, depth: int) -> st.SearchStrategy[Any]:
    key = (getattr(info, "cls", None), depth)
    if key[0] is None:
        return _made(info, depth)
    if key not in _KNOWN:
        _KNOWN[key] = _made(info, depth)
    return _KNOWN[key]


_KNOWN: dict[tuple[Any, int], st.SearchStrategy[Any]] = {}


def _made(info: inspect.Type, depth: int) -> st.SearchStrategy[Any]:
    for known, make in _MAKERS:
        if isinstance(info, known):
            return make(info, depth)
    raise TypeError(f"nothing makes {info}")


def _texts(info: Any, _: int) -> st.SearchStrategy[Any]:
    return st.from_regex(info.pattern) if info.pattern else TEXTS


def _fractions(info: Any, _: int) -> st.SearchStrategy[Any]:
    if info.ge is None:
        return FRACTIONS
    return st.floats(info.ge, info.lt, exclude_max=True) | st.sampled_from([info.ge, info.lt - 1])


def _several(info: Any, depth: int) -> st.SearchStrategy[Any]:
    return st.just([]) if depth > DEEP else st.lists(_of(info.item_type, depth + 1), max_size=3)


def _exactly(info: Any, depth: int) -> st.SearchStrategy[Any]:
    return st.tuples(*(_of(each, depth + 1) for each in info.item_types)).map(list)


def _mappings(info: Any, depth: int) -> st.SearchStrategy[Any]:
    return st.just({}) if depth > DEEP else st.dictionaries(TEXTS, _of(info.value_type, depth + 1), max_size=3)


def _unions(info: Any, depth: int) -> st.SearchStrategy[Any]:
    return st.one_of(*(st.deferred(lambda each=each: _of(each, depth)) for each in info.types))  # type: ignore[misc]


def _structs(info: Any, depth: int) -> st.SearchStrategy[Any]:
    fields = {each.encode_name: st.deferred(lambda each=each: _of(each.type, depth + 1)) for each in info.fields}  # type: ignore[misc]
    if getattr(info, "array_like", False):
        return st.tuples(*fields.values()).map(list)
    needed = {each.encode_name for each in info.fields if each.required}
    made = st.fixed_dictionaries(
        {name: strategy for name, strategy in fields.items() if name in needed},
        optional={} if depth > DEEP else {name: each for name, each in fields.items() if name not in needed},
    )
    tag = getattr(info, "tag", None)
    return made if tag is None else made.map(lambda each: {info.tag_field: tag, **each})


_MAKERS: tuple[tuple[type, Callable[[Any, int], st.SearchStrategy[Any]]], ...] = (
    (inspect.StructType, _structs),
    (inspect.DataclassType, _structs),
    (inspect.UnionType, _unions),
    (inspect.DictType, _mappings),
    (inspect.TupleType, _exactly),
    (inspect.CollectionType, _several),
    (inspect.EnumType, lambda info, _: st.sampled_from([each.value for each in info.cls])),
    (inspect.LiteralType, lambda info, _: st.sampled_from(info.values)),
    (inspect.StrType, _texts),
    (inspect.BoolType, lambda _, __: st.booleans()),
    (inspect.IntType, lambda _, __: NUMBERS),
    (inspect.FloatType, _fractions),
    (inspect.NoneType, lambda _, __: st.none()),
)

# JSON that is nearly what is wanted: somewhere in it stands something else.
OTHER: st.SearchStrategy[Any] = st.none() | st.booleans() | NUMBERS | FRACTIONS | TEXTS | st.just([]) | st.just({})


@st.composite
def spoilt(draw: st.DrawFn, whole: st.SearchStrategy[Any]) -> Any:
    """A value in which one place has another value."""
    made = draw(whole)
    place = made
    for _ in range(draw(st.integers(0, 8))):
        if isinstance(place, dict) and place:
            key: Any = draw(st.sampled_from(sorted(place)))
        elif isinstance(place, list) and place:
            key = draw(st.integers(0, len(place) - 1))
        else:
            break
        if isinstance(place[key], (dict, list)) and place[key] and draw(st.booleans()):
            place = place[key]
        else:
            place[key] = draw(OTHER)
            break
    return made


@st.composite
def evidence(draw: st.DrawFn, kernels: tuple[str, ...] = ("6.1.2", "6.12.3")) -> bytes:
    """A file of evidence of queue.limit on these kernels, or of something else, as the types allow it, or nearly so."""
    file = draw(of_type(EvidenceFile) | spoilt(of_type(EvidenceFile)))
    if isinstance(file, dict) and draw(st.booleans()):
        file["schema"], file["claim"] = SCHEMA, draw(st.just(CLAIM) | st.just(file.get("claim", CLAIM)))
        runs = [draw(of_type(Run) | spoilt(of_type(Run))) for _ in kernels]
        for run, kernel in zip(runs, kernels, strict=True):
            if isinstance(run, dict):
                run["kernel"] = {"release": kernel, "version": kernel, "machine": "x86_64"}
                run["nodeid"] = draw(st.just("test_queue.py::test_limit[ipv4]") | TEXTS)
        file["runs"] = runs
    return msgspec.json.encode(file)


CLAIM = {
    "group": "queue",
    "id": "limit",
    "statement": "ten wait",
    "sources": [{"document": "000", "heading": "h"}],
    "expectations": [{"kernels": ">=3.0", "ranges": [[[3, 0, 0], None]], "verdict": "holds", "because": "so"}],
}

# Files of claims: keys that there are, values that there may be, and others; tables in tables; what TOML does not take.
WORDS = """
group claim id statement source document heading expect kernels verdict because commit subject release since before
cause tool title headings headings_english line wanted correction worth instead
"""
KEYS = st.sampled_from(WORDS.split()) | st.text(alphabet=string.ascii_lowercase + ' ."', min_size=1, max_size=6)
RANGES = st.sampled_from(
    [">=3.0", "<4.4", "3.0 - 4.4", ">=4.4,<4.9", "*", "", ">=" + "9" * 5000, "<", "6", "6.1.2.3.4.5"]
)
SCALARS = (
    st.builds(repr, NUMBERS)
    | st.sampled_from(["true", "nan", "inf", "1979-05-27", "1979-05-27T07:32:00Z", "0x10", "'", '"""', "1e400"])
    | (TEXTS | RANGES | st.sampled_from(["holds", "refuted", "not-applicable", "queue"])).map(
        lambda text: msgspec.json.encode(text).decode()
    )
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3).map(lambda each: f"[{', '.join(each)}]")
        | st.dictionaries(KEYS, inner, max_size=3).map(
            lambda each: "{" + ", ".join(f"{_key(name)} = {value}" for name, value in each.items()) + "}"
        )
    ),
    max_leaves=8,
)
LINES = (
    st.sampled_from(
        ["[[claim]]", "[[claim.expect]]", "[[claim.source]]", "[[document]]", "[claim]", "[x.y]", "[[", "#"]
    )
    | st.tuples(KEYS, VALUES).map(lambda pair: f"{_key(pair[0])} = {pair[1]}")
    | st.sampled_from(
        ["a = " + "[" * 3000 + "]" * 3000, "a." * 3000 + "b = 1", "\0", "\ud800".encode(errors="replace").decode()]
    )
)


def _key(name: str) -> str:
    return name if name.isalpha() and name.isascii() else msgspec.json.encode(name).decode()


def toml() -> st.SearchStrategy[str]:
    """A file of claims, or something that begins as one."""
    head = st.just('group = "queue"\n[[claim]]\nid = "limit"\nstatement = "ten"\n') | st.just("")
    return st.tuples(head, st.lists(LINES, max_size=12)).map(lambda parts: parts[0] + "\n".join(parts[1]))
