"""Which kernels the archive's packages make, and which of them somebody means."""

from __future__ import annotations

import pytest

from harness.errors import BadInput
from harness.kernels.archive import Archive, named_sources
from harness.kernels.catalogue import choose, kernels_of, newest_of_each_series, with_unlisted
from harness.kernels.indices import Package, Source

SIGNED = "7.1.13+deb13-amd64"
PACKAGES = [
    Package("linux-image-5.10.0-9-amd64", "5.10.70-1", "bullseye", size=50_000_000),
    Package("linux-image-5.10.0-46-amd64", "5.10.262-1", "bullseye-security", size=56_000_000),
    Package("linux-image-5.10.0-46-cloud-amd64", "5.10.262-1", "bullseye-security"),
    Package("linux-image-5.10.0-46-rt-amd64", "5.10.262-1", "bullseye-security"),
    Package("linux-image-5.10.0-46-amd64-unsigned", "5.10.262-1", "bullseye-security"),
    Package("linux-image-6.1-amd64", "6.1.180-1~deb11u1", "bullseye-security"),
    Package("linux-image-6.1.0-0.deb11.43-amd64", "6.1.180-1~deb11u1", "bullseye-security"),
    Package("linux-image-6.12.117+deb13-amd64", "6.12.117-1", "trixie-security"),
    Package("linux-image-6.12.9+deb13-amd64", "6.12.9-1", "trixie"),
    Package(
        f"linux-image-{SIGNED}", "7.1.13-1~bpo13+1", "trixie-backports",
        (f"linux-base-{SIGNED}", f"linux-binary-{SIGNED}", f"linux-modules-{SIGNED}"), 1000,
    ),
    Package(f"linux-binary-{SIGNED}", "7.1.13-1~bpo13+1", "trixie-backports", (f"linux-base-{SIGNED}",), 13_000_000),
]  # fmt: skip
KERNELS = kernels_of(PACKAGES)


def test_only_the_ordinary_kernels_count() -> None:
    assert [one.release for one in KERNELS] == [
        "5.10.0-9-amd64",
        "5.10.0-46-amd64",
        "6.1.0-0.deb11.43-amd64",
        "6.12.9+deb13-amd64",
        "6.12.117+deb13-amd64",
        SIGNED,
    ]


def test_the_version_is_the_stable_release() -> None:
    assert [one.version for one in KERNELS] == ["5.10.70", "5.10.262", "6.1.180", "6.12.9", "6.12.117", "7.1.13"]
    assert [one.series for one in KERNELS] == ["5.10", "5.10", "6.1", "6.12", "6.12", "7.1"]
    assert KERNELS[1].megabytes == 56


def test_the_newest_of_a_series_is_so_by_number() -> None:
    newest = [one.version for one in newest_of_each_series(KERNELS)]
    assert newest == ["5.10.262", "6.1.180", "6.12.117", "7.1.13"]


def test_a_kernel_in_parts_names_those_that_no_index_lists() -> None:
    (kernel,) = choose(["7.1"], KERNELS)
    assert [one.name for one in kernel.packages] == [f"linux-binary-{SIGNED}"]
    assert kernel.missing == (f"linux-modules-{SIGNED}",)


def test_a_part_that_no_index_lists_is_looked_for_in_the_pool(tmp_path: object) -> None:
    archive = Archive(tmp_path, [Source("http://mirror/debian/", "trixie-backports")])  # type: ignore[arg-type]
    complete = with_unlisted(choose(["7.1"], KERNELS)[0], archive)
    assert complete.packages[-1].address == (
        f"http://mirror/debian/pool/main/l/linux/linux-modules-{SIGNED}_7.1.13-1~bpo13+1_amd64.deb"
    )


@pytest.mark.parametrize(
    ("wanted", "versions"),
    [
        (["6.12"], ["6.12.117"]),
        (["6.12.9"], ["6.12.9"]),
        (["5.10.0-9-amd64"], ["5.10.70"]),
        (["newest"], ["7.1.13"]),
        (["all"], ["5.10.262", "6.1.180", "6.12.117", "7.1.13"]),
        ([">=6.12"], ["6.12.117", "7.1.13"]),
        ([">=5.10,<6.12"], ["5.10.262", "6.1.180"]),
        (["7.1", "5.10", "5.10.262"], ["5.10.262", "7.1.13"]),
    ],
)
def test_what_is_meant(wanted: list[str], versions: list[str]) -> None:
    assert [one.version for one in choose(wanted, KERNELS)] == versions


@pytest.mark.parametrize("word", ["4.9", "6.12.118", ">=8", "latest", ""])
def test_what_means_none_says_what_there_is(word: str) -> None:
    with pytest.raises(BadInput, match=r"no kernel is meant by '.*'; there are 5.10, 6.1, 6.12, 7.1, and `harness"):
        choose([word], KERNELS)


def test_a_range_that_is_none_is_refused() -> None:
    with pytest.raises(BadInput, match=r"'>=six' is not a range of versions; write it like '>=6.12,<7.1'"):
        choose([">=six"], KERNELS)


def test_a_mirror_needs_its_suites() -> None:
    with pytest.raises(BadInput, match=r"name the suites of file:/mirror as well: --suite stretch"):
        named_sources("file:/mirror", [])
    assert named_sources("file:/mirror", ["stretch"]) == [Source("file:/mirror", "stretch")]
