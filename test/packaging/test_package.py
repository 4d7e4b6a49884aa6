"""The package's own books: versions, lists of installed files, pinned dependencies, `pip install`."""

import os
import re
import shutil
import subprocess
import sys
import venv
import xml.etree.ElementTree as ElementTree
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import stream_vl_ros

ROOT = Path(__file__).parents[2]
REQUIREMENT_FILES = ("requirements.txt", "requirements-ros.txt", "requirements-web.txt", "requirements-dev.txt")
CMAKE = (ROOT / "CMakeLists.txt").read_text()


def requirements(name: str) -> list[Requirement]:
    """The lines of a file that count for the running Python and this machine."""
    lines = (line.split("#")[0].strip() for line in (ROOT / name).read_text().splitlines())
    return [r for r in map(Requirement, filter(None, lines)) if r.marker is None or r.marker.evaluate()]


def pins() -> dict[str, str]:
    """Exact version by canonical name."""
    found = {}
    for pin in requirements("constraints.txt"):
        (specifier,) = pin.specifier
        assert specifier.operator == "==", f"constraints.txt does not pin {pin}"
        assert canonicalize_name(pin.name) not in found, f"{pin.name} is pinned twice"
        found[canonicalize_name(pin.name)] = specifier.version
    return found


def test_versions_agree() -> None:
    package = ElementTree.parse(ROOT / "package.xml").getroot()
    assert package.findtext("version") == stream_vl_ros.__version__


def test_changelog_tells_of_this_version() -> None:
    changelog = ROOT / "CHANGELOG.md"
    if not changelog.exists():
        pytest.skip("no CHANGELOG.md")
    versions = re.findall(r"^## \[?v?(\d+\.\d+\.\d+)", changelog.read_text(), re.MULTILINE)
    assert versions[:1] == [stream_vl_ros.__version__]


@pytest.mark.parametrize("folder", ["msg", "srv"])
def test_every_interface_is_generated(folder: str) -> None:
    files = {f"{folder}/{path.name}" for path in (ROOT / folder).iterdir()}
    assert files == set(re.findall(rf"^\s*({folder}/\S+)$", CMAKE, re.MULTILINE))


def test_every_executable_is_installed() -> None:
    files = {path for path in (ROOT / "scripts" / "nodes").iterdir() if path.is_file()}
    named = set(re.findall(r"scripts/nodes/(\w+)", CMAKE))
    assert {path.name for path in files} == named
    for path in files:
        assert os.access(path, os.X_OK), f"{path} is not executable"
        assert path.read_text().startswith("#!/usr/bin/env python3\n")


def installed_share() -> Path:
    share = ROOT / "install" / "stream_vl_ros" / "share" / "stream_vl_ros"
    if not share.exists():
        pytest.skip("not built: make build")
    return share


@pytest.mark.parametrize("folder", ["config", "launch", "msg", "srv"])
def test_every_shared_file_is_installed(folder: str) -> None:
    share = installed_share()
    sources = [path for path in (ROOT / folder).rglob("*") if "__pycache__" not in path.parts]
    sources = [path for path in sources if path.is_file()]
    assert sources
    for source in sources:
        target = share / source.relative_to(ROOT)
        assert target.is_file(), f"{source} is not installed: make build"
        assert target.read_bytes() == source.read_bytes()


def test_every_module_is_installed() -> None:
    (module,) = installed_share().parents[1].glob("lib/python3.*/site-packages/stream_vl_ros")
    for source in (ROOT / "stream_vl_ros").rglob("*.py"):
        target = module / source.relative_to(ROOT / "stream_vl_ros")
        assert target.is_file(), f"{source} is not installed: make build"


def test_messages_and_engine_come_from_one_package() -> None:
    installed_share()
    pytest.importorskip("rclpy")
    # From the source tree, then from elsewhere: either order of sys.path must work.
    code = "import stream_vl_ros.engine; from stream_vl_ros.srv import Ask; Ask.Request()"
    for folder in (ROOT, ROOT.parent):
        subprocess.run([sys.executable, "-c", code], check=True, cwd=folder)


@pytest.mark.parametrize("name", REQUIREMENT_FILES)
def test_every_requirement_is_pinned(name: str) -> None:
    pinned = pins()
    for requirement in requirements(name):
        version = pinned[canonicalize_name(requirement.name)]
        assert requirement.specifier.contains(version)


def test_pip_asks_for_what_the_engine_requires() -> None:
    tomllib = pytest.importorskip("tomllib")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    declared = {Requirement(line).name: Requirement(line) for line in project["dependencies"]}
    assert set(declared) == {requirement.name for requirement in requirements("requirements.txt")}
    for name, requirement in declared.items():
        assert requirement.specifier.contains(pins()[canonicalize_name(name)])
    # On a robot requirements.txt is installed without constraints.txt: what is bounded is so in both places.
    bounded = {r.name: r.specifier for r in requirements("requirements.txt") if r.specifier}
    assert bounded == {name: declared[name].specifier for name in bounded} and "transformers" in bounded
    assert not declared["transformers"].specifier.contains("6.0.0")


def test_the_web_extra_is_what_its_file_lists() -> None:
    tomllib = pytest.importorskip("tomllib")
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert {Requirement(line).name for line in extras["web"]} == {r.name for r in requirements("requirements-web.txt")}
    for line in extras["web"]:
        assert Requirement(line).specifier.contains(pins()[canonicalize_name(Requirement(line).name)])


def test_constraints_pin_all_that_the_requirements_bring_in() -> None:
    """And what somebody installed besides is nobody's business."""
    if not (Path(sys.prefix) / ".stamp").exists():
        pytest.skip("not the environment of `make env`")
    installed = {
        canonicalize_name(distribution.metadata["Name"]): distribution
        for distribution in metadata.distributions(path=[str(site_packages())])
        # The ROS wheels bring a second, unversioned record of themselves, an .egg-info.
        if distribution.read_text("WHEEL") is not None
    }
    roots = [r for name in REQUIREMENT_FILES for r in requirements(name)]
    brought = brought_in(Requirement("pip"), *roots, of=installed)
    pinned = pins()
    assert {name: installed[name].version for name in brought} == {name: pinned.get(name) for name in brought}
    assert len(brought) > 200  # most of the environment is what others need


def brought_in(*roots: Requirement, of: Mapping[str, metadata.Distribution]) -> set[str]:
    """Canonical names of what is required, and of all that it requires in turn here, as far as it is told."""
    brought: set[tuple[str, str]] = set()
    waiting = list(roots)
    while waiting:
        requirement = waiting.pop()
        name = canonicalize_name(requirement.name)
        for extra in ("", *requirement.extras):
            if (name, extra) in brought:
                continue
            brought.add((name, extra))
            assert name in of, f"{requirement} is required and not installed: make env"
            needed = (Requirement(line) for line in of[name].requires or ())
            waiting += (n for n in needed if n.marker is None or n.marker.evaluate({"extra": extra}))
    return {name for name, _ in brought}


def site_packages() -> Path:
    return Path(metadata.distribution("numpy").locate_file(""))


@pytest.mark.slow
def test_pip_install_brings_the_engine(tmp_path: Path) -> None:
    # A copy, so that what the build leaves behind does not stay in the tree.
    source = tmp_path / "source"
    source.mkdir()
    for name in ("LICENSE", "MANIFEST.in", "README.md", "package.xml", "pyproject.toml", "setup.py"):
        if (ROOT / name).exists():
            shutil.copy(ROOT / name, source)
    ignore = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "stream_vl_ros", source / "stream_vl_ros", ignore=ignore)

    target = tmp_path / "venv"
    venv.create(target, with_pip=False)
    (fresh,) = target.glob("lib/python3.*/site-packages")
    env = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation"]
    subprocess.run([*install, "--target", fresh, source], check=True, env=env)

    # The dependencies come from the environment that runs the tests. ROS is there too: block it.
    blocker = "import sys; sys.modules['rclpy'] = None; sys.path.append(sys.argv[1]); "
    code = blocker + (
        "import stream_vl_ros, pathlib, platform, importlib.metadata as m; "
        "assert m.version('stream_vl_ros') == stream_vl_ros.__version__; "
        "import stream_vl_ros.engine.stream; "
        "from stream_vl_ros.engine import few_queries; "
        "assert few_queries.library() or platform.machine() != 'x86_64', 'compiled kernel'; "
        "print(pathlib.Path(stream_vl_ros.__file__).parent)"
    )
    run = subprocess.run(
        [target / "bin" / "python", "-c", code, str(site_packages())],
        check=True, capture_output=True, text=True, cwd=tmp_path, env=env,
    )  # fmt: skip
    installed = Path(run.stdout.strip())
    assert installed == fresh / "stream_vl_ros"
    for path in (source / "stream_vl_ros").rglob("*"):
        if path.is_file():
            assert (installed / path.relative_to(source / "stream_vl_ros")).is_file(), path
