"""On what a benchmark ran."""

from __future__ import annotations

import argparse
import subprocess
from pathlib import Path

from stream_vl_ros.bench.records import commit, environment

PACKAGE = Path(__file__).parents[2] / "stream_vl_ros"


def git(folder: Path, *args: str) -> str:
    names = ["-c", "user.name=A", "-c", "user.email=a@example.org"]
    done = subprocess.run(["git", "-C", str(folder), *names, *args], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_the_commit_of_a_checkout_is_recorded_and_whether_it_was_changed(tmp_path):
    package = tmp_path / "package"
    package.mkdir()
    (package / "file.py").write_text("1")
    assert commit(package) == "", "no checkout"
    git(tmp_path, "init", "-q")
    assert commit(package) == "", "nothing is committed"
    git(tmp_path, "add", "package/file.py")
    git(tmp_path, "commit", "-q", "-m", "one")
    head = git(tmp_path, "rev-parse", "HEAD")
    (tmp_path / "new").write_text("not known to git")
    assert commit(package) == head and len(head) == 40
    (package / "file.py").write_text("2")
    assert commit(package) == f"{head} and changes"
    assert commit(tmp_path / "env" / "site-packages" / "package") == "", "the repository around an environment"


def test_the_environment_has_it():
    at = commit(PACKAGE)
    assert environment(argparse.Namespace()).get("commit", "") == at
