"""One target under atheris: python -m tests.fuzz.fuzzer TARGET [libFuzzer's words]…

With no fuzzer installed, or with --once, it tries the seeds and what is in the corpus.
"""

from __future__ import annotations

import sys
from pathlib import Path

from tests.fuzz.targets import TARGETS

# What the fuzzer has found worth keeping, a directory for each target.
CORPUS = Path(__file__).parent / "corpus"


def once(name: str) -> int:
    """Try what is there; how many that was."""
    target = TARGETS[name]
    tried = [*target.seeds(), *(file.read_bytes() for file in sorted((CORPUS / name).glob("*")))]
    for data in (b"", *tried):
        target.run(data)
    return len(tried)


def main() -> None:
    """Fuzz one."""
    name, *words = sys.argv[1:]
    once(name)  # what is imported late is imported now, and instrumented
    import atheris

    for module in [module for loaded, module in sys.modules.items() if loaded.startswith("harness.")]:
        for attribute, function in list(vars(module).items()):
            if getattr(function, "__module__", "") == module.__name__ and hasattr(function, "__code__"):
                setattr(module, attribute, atheris.instrument_func(function))
    target = TARGETS[name]
    atheris.Setup([sys.argv[0], *words], lambda data: target.run(bytes(data)))
    atheris.Fuzz()


if __name__ == "__main__":
    main()
