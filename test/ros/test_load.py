"""Many clients at once while several cameras publish: nobody waits in vain, and nothing is lost in the accounts."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from stream_vl_ros.bench import load

pytestmark = pytest.mark.alone

CLIENTS, SECONDS = 64, 4.0


def test_clients_and_cameras_at_once(ros_env: dict[str, str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys):
    for name in ("ROS_DOMAIN_ID", "ROS_AUTOMATIC_DISCOVERY_RANGE", "FASTDDS_BUILTIN_TRANSPORTS"):
        monkeypatch.setenv(name, ros_env[name])
    report = tmp_path / "load.json"
    code = load.main(
        [
            *("--clients", str(CLIENTS), "--seconds", str(SECONDS), "--logs", str(tmp_path), "--json", str(report)),
            # In so short a run what threads take once from the allocator shows: 1 to 20 MiB.
            *("--limit-mib", "32"),
        ]
    )
    said = capsys.readouterr().out
    assert code == 0, said
    results = json.loads(report.read_text())["results"]
    # Every way that a question can end was taken.
    assert all(results["ends"].get(end, 0) > 0 for end in ("answered", "busy", "timed_out", "cancelled")), said
    assert not results["ends"].get("lost") and not results["ends"].get("other"), said
    questions = results["questions"]
    assert questions["asked"] > CLIENTS
    assert questions["asked"] == sum(questions[end] for end in ("answered", "cancelled", "refused", "timed_out"))
    assert len(results["statuses"]) == 4
    for name, status in results["statuses"].items():
        assert status["frames_received"] == results["published"][name] > 8 * SECONDS / 2, said
    assert results["longest_wait"] < load.CALL_TIMEOUT and results["overdue"] < load.GRACE and results["unknown"] == 0
    assert "Traceback" not in (tmp_path / "node.log").read_text()
    assert "What the clients were told" in said
