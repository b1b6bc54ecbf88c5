"""Options and settings: every one has the prefix; settings stand beside options; names of before say the new ones."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from harness.plugin.options import BY_NAME, OPTIONS, SETTINGS, _free, in_pytest

if TYPE_CHECKING:
    from collections.abc import Callable

pytest_plugins = ["pytester"]

SAYS = """
def pytest_sessionfinish(session):
    option = session.config.option
    print("KERNEL", option.tcp_kernel, "CLAIM", option.tcp_claim, "FULL", option.tcp_full_size)
    print("EVIDENCE", option.tcp_evidence)
"""


def options_of(*words: str) -> set[str]:
    ran = subprocess.run(
        [sys.executable, "-m", "pytest", "--help", *words], capture_output=True, text=True, check=True, cwd="/"
    )
    return {word.split("=")[0].rstrip(",") for word in ran.stdout.split() if word.startswith("--")}


def test_every_option_of_ours_has_the_prefix_and_a_setting_beside_it() -> None:
    ours = options_of() - options_of("-p", "no:harness.plugin")
    mentioned = {word for word in ours if not word.startswith("--tcp-")}
    assert mentioned == set()
    assert {option.written for option in OPTIONS} <= ours


def test_settings_are_used_where_the_command_line_says_nothing(
    pytester: pytest.Pytester, session: Callable[..., pytest.RunResult]
) -> None:
    pytester.makepyfile(says=SAYS, test_it="def test_it(): pass")
    pytester.makeini("[pytest]\ntcp_full_size = true\ntcp_claim =\n    queue\n    other.claim\ntcp_evidence = kept\n")
    session("-p", "says", "-s", "-c", "tox.ini").stdout.fnmatch_lines(
        ["*KERNEL [[][]] CLAIM [[]'queue', 'other.claim'] FULL True", f"EVIDENCE {pytester.path}/kept"]
    )
    ran = session("-p", "says", "-s", "-c", "tox.ini", "--tcp-claim=limits", "--tcp-evidence=elsewhere")
    ran.stdout.fnmatch_lines(["*KERNEL [[][]] CLAIM [[]'limits'] FULL True", "EVIDENCE elsewhere"])


def test_without_any_the_defaults_are_there(
    pytester: pytest.Pytester, session: Callable[..., pytest.RunResult]
) -> None:
    pytester.makepyfile(says=SAYS, test_it="def test_it(): pass")
    ran = session("-n1")
    ran.stdout.no_fnmatch_line("*PytestDeprecationWarning*")
    session("-p", "says", "-s").stdout.fnmatch_lines(
        ["*KERNEL [[][]] CLAIM [[][]] FULL False", "EVIDENCE out/evidence"]
    )


def test_an_option_of_before_works_and_says_its_new_name(
    pytester: pytest.Pytester, session: Callable[..., pytest.RunResult]
) -> None:
    pytester.makepyfile(says=SAYS, test_it="def test_it(): pass")
    ran = session("-p", "says", "-s", "--claim", "one", "--claim=two", "--full-size", "--evidence", "there")
    ran.stdout.fnmatch_lines(["*CLAIM [[]'one', 'two'] FULL True", "EVIDENCE there"])
    ran.stdout.fnmatch_lines(["*PytestDeprecationWarning: --claim is --tcp-claim now; the old name works until 0.3"])
    ran.stdout.fnmatch_lines(["*--evidence is --tcp-evidence now*"])
    assert ran.ret == pytest.ExitCode.NO_TESTS_COLLECTED
    assert session("-n", "1", "--full-size").ret == 0


def test_a_setting_of_before_works_and_says_its_new_name(
    pytester: pytest.Pytester, session: Callable[..., pytest.RunResult]
) -> None:
    pytester.makepyfile(says=SAYS, test_it="def test_it(): pass")
    pytester.makeini("[pytest]\nlab_isolation = sometimes\n")
    ran = session("-c", "tox.ini")
    assert ran.ret == pytest.ExitCode.USAGE_ERROR
    ran.stderr.fnmatch_lines(["*tcp_lab_isolation must be first-use or startup, not 'sometimes'"])
    pytester.makeini("[pytest]\nlab_isolation = startup\n")
    session("-c", "tox.ini").stdout.fnmatch_lines(["*lab_isolation is tcp_lab_isolation now*"])


def test_where_warnings_are_errors_a_name_of_before_is_a_mistake_of_usage(
    pytester: pytest.Pytester, session: Callable[..., pytest.RunResult]
) -> None:
    pytester.makepyfile(says=SAYS, test_it="def test_it(): pass")
    ran = session("-W", "error", "--full-size")
    assert ran.ret == pytest.ExitCode.USAGE_ERROR
    ran.stderr.fnmatch_lines(["ERROR: --full-size is --tcp-full-size now; the old name works until 0.3"])


def test_an_option_of_somebody_elses_keeps_its_name(
    pytester: pytest.Pytester, session: Callable[..., pytest.RunResult]
) -> None:
    """All of them: a plugin, here a module, that has options of these very names."""
    pytester.makepyfile(
        other=f"""
        NAMES = {sorted(BY_NAME)}

        def pytest_addoption(parser):
            for name in NAMES:
                parser.addoption(f"--{{name}}", action="append_const", const=name, dest="theirs")
            parser.addini("claims", "theirs", default="nothing of ours")
        """,
        test_it="""
        import other

        def test_it(pytestconfig):
            assert pytestconfig.option.theirs == other.NAMES
            assert pytestconfig.getini("claims") == "nothing of ours"
        """,
    )
    ran = session("-p", "other", *(f"--{name}" for name in sorted(BY_NAME)))
    ran.assert_outcomes(passed=1)
    ran.stdout.no_fnmatch_line("*PytestDeprecationWarning*")


def test_messages_name_options_as_pytest_has_them() -> None:
    text = "--kernel x: name one: --mirror ADDRESS --suite NAME; not --kernels, --my-kernel, --tcp-kernel"
    assert in_pytest(text) == (
        "--tcp-kernel x: name one: --tcp-mirror ADDRESS --tcp-suite NAME; not --kernels, --my-kernel, --tcp-kernel"
    )


def test_no_setting_has_the_name_of_an_option() -> None:
    assert {name for name, _, _ in SETTINGS} & set(BY_NAME) == set()


@pytest.mark.parametrize("columns", ["9" * 30, "9" * 10])
def test_a_width_that_no_terminal_has_is_forgotten(
    pytester: pytest.Pytester, session: Callable[..., pytest.RunResult], monkeypatch: pytest.MonkeyPatch, columns: str
) -> None:
    """pytest had an internal error of it, or took all memory."""
    monkeypatch.setenv("COLUMNS", columns)
    pytester.makepyfile(test_it="def test_it(): pass")
    ran = session()
    assert ran.ret == 0
    assert max(len(line) for line in ran.outlines) < 200


def test_names_of_before_are_looked_for_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each look goes through all options, and each worker looks; only if one is somebody's, there is one for each."""
    parser = pytest.Parser(_ispytest=True)
    looks = []
    look = parser.parse_known_and_unknown_args

    def counted(words: list[str]) -> object:
        looks.append(words)
        return look(words)

    monkeypatch.setattr(parser, "parse_known_and_unknown_args", counted)
    assert _free(parser, ["--one", "--two", "--three"]) == {"--one", "--two", "--three"}
    assert len(looks) == 1
    parser.addoption("--two", action="store_true")
    parser.addoption("--three")
    assert _free(parser, ["--one", "--two", "--three"]) == {"--one"}
