"""Python source, compiled here for a machine that has the same interpreter: there it would take ten times as long."""

from __future__ import annotations

import importlib._bootstrap_external as bootstrap
import importlib.util
import io
import sys
import warnings
from pathlib import Path

# What compiling may end in, whatever the source: errors, what it warns of, and source that is nested too deeply.
REFUSED = (SyntaxError, ValueError, Warning, RecursionError, MemoryError)


def place_of(path: str, tail: str = f".{sys.implementation.cache_tag}.pyc") -> str:
    """Where the interpreter of a machine looks for the compiled form of a file, whatever is set for the one here."""
    return str(Path(path).parent / "__pycache__" / (Path(path).name.removesuffix(".py") + tail))


def compiled(source: bytes, path: str, *, is_checked: bool) -> bytes | None:
    """The compiled form of a file's source, which belongs to it by hash (PEP 552).

    None for source that has errors. Where it is checked, the interpreter compares that hash with the source before it
    takes it, and source of which the compiler warns has none: whoever imports it is to see the warning.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error" if is_checked else "ignore")
            code = compile(source, path, "exec", dont_inherit=True, optimize=0)
        return bytes(
            bootstrap._code_to_hash_pyc(code, importlib.util.source_hash(source), is_checked)  # type: ignore[attr-defined]  # noqa: SLF001
        )
    except REFUSED:
        return None


def rewritten(path: str) -> tuple[str, bytes] | None:
    """The compiled form of a file as pytest imports it, with its assertions rewritten, and where pytest looks for it.

    pytest does so with tests, conftest files and all modules of a distribution that has a plugin. None for source that
    has errors or is warned of, and for a release of pytest that does not know a file again by the hash of its source
    (_read_pyc()), or has all this elsewhere.
    """
    try:
        from _pytest.assertion import rewrite

        with warnings.catch_warnings():
            warnings.simplefilter("error")
            known, code = rewrite._rewrite_test(Path(path), None)  # type: ignore[arg-type]  # noqa: SLF001
        if not __debug__ or not isinstance(known, bytes):
            return None
        made = io.BytesIO()
        rewrite._write_pyc_fp(made, known, code)  # noqa: SLF001
        return place_of(path, rewrite.PYC_TAIL), made.getvalue()
    except (*REFUSED, OSError, ImportError, AttributeError, TypeError):
        return None
