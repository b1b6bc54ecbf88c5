"""What workers elsewhere get of this session: the project, and for virtual machines what its tests need beside it."""

from __future__ import annotations

import dataclasses
import os
import sys
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from harness.files import there_is
from harness.kernels.project import Project
from harness.plugin import selftests
from harness.plugin.options import PREFIX, key, setting

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from harness.kernels.targets import Target
    from harness.kernels.world import Wishes

NO_MACHINE = "no kernel that was named runs in a virtual machine of ours"
# Options of pytest and of its plugins that name what the run writes.
WRITTEN = ("tcp_evidence", "tcp_report", "tcp_ktap", "tcp_kcidb", "xmlpath", "htmlpath", "json_report_file", "log_file")


def project_of(config: pytest.Config, targets: Sequence[Target]) -> Project:
    """The project, with an archive of what its tests need in virtual machines if any of these kernels runs in one.

    BadInput for a program or a package that cannot be brought; UsageError for one where no machine could have it.
    """
    directory = config.invocation_params.dir
    project = Project(
        config.rootpath, tuple(map(str, config.args)), directory, tuple(_written(config)), rewritten=_rewrites(config)
    )
    if any(target.is_virtual for target in targets):
        from harness.kernels import world

        return dataclasses.replace(project, world=world.gather(_wishes(config, project)))
    for option in ("guest-program", "guest-package"):
        for name in config.getoption(key(option)):
            raise pytest.UsageError(f"{PREFIX}{option} {name}: {NO_MACHINE}")
    return project


def _rewrites(config: pytest.Config) -> bool:
    """Whether pytest rewrites assertions, and as it does unless it is told otherwise."""
    return config.getoption("assertmode", "rewrite") != "plain" and not config.getini("enable_assertion_pass_hook")


def _written(config: pytest.Config) -> Iterator[Path]:
    for option in WRITTEN:
        if value := config.getoption(option, None):
            place = Path(os.path.normpath(Path(config.invocation_params.dir, str(value))))
            if not config.rootpath.is_relative_to(place):
                yield place


def _wishes(config: pytest.Config, project: Project) -> Wishes:
    from harness.kernels import image, imports
    from harness.kernels.world import Wishes

    arguments = [Path(config.invocation_params.dir, argument.partition("::")[0]) for argument in project.arguments]
    tests = [path for path in map(Path, map(os.path.normpath, arguments)) if there_is(path)]
    path = [place for place in map(Path, sys.path) if place.is_relative_to(project.root)]
    modules = imports.of_others(tests, project.root, [project.root, *path], image.modules())
    return Wishes(
        project.root,
        frozenset(distribution.name for distribution in _plugins(config)),
        frozenset(modules | set(_named_plugins(config))),
        (*_asked(config, "guest-program"), *selftests.guest_programs(config)),
        tuple(_asked(config, "guest-package")),
    )


def _asked(config: pytest.Config, option: str) -> Iterator[str]:
    """What the settings and the command line ask for, each once."""
    yield from dict.fromkeys([*setting(config, option), *config.getoption(key(option))])


def _plugins(config: pytest.Config) -> Iterator[metadata.Distribution]:
    """The distributions whose plugins take part in this session."""
    for _, facade in config.pluginmanager.list_plugin_distinfo():
        yield metadata.distribution(facade.project_name)


def _named_plugins(config: pytest.Config) -> Iterator[str]:
    """The modules that are plugins because somebody has said so: -p NAME, PYTEST_PLUGINS."""
    named = [*(config.getoption("plugins") or ()), *os.environ.get("PYTEST_PLUGINS", "").split(",")]
    for name in named:
        if name and not name.startswith("no:"):
            yield name.partition(".")[0]
