"""What else differs between two reports: parts, answers, attempts, and on what they were made."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from stream_vl_ros.bench.compare_better import Verdict
from stream_vl_ros.report.results import Results, Rung, Said, Section
from stream_vl_ros.report.words import OUT_OF_MEMORY, answer, mark

HARDWARE = ("device", "threads")
# Times and memory compare only where these are the same.
DECISIVE = (*HARDWARE, "model", "dtype", "setting shape", "setting size", "setting tokens")
# Settings that say where a report lies, and nothing of what was measured.
PLACES = ("name", "out", "json")
ABSENT = "not there"
RAN = "ran"


@dataclass(frozen=True, slots=True)
class Difference:
    """One thing that is not the same.

    Attributes:
        what: a part, the answer of a side, an attempt, or something of the environment.
        where: section, frames and question, as far as there are any.
    """

    what: str
    where: str
    before: str
    after: str
    verdict: Verdict = "changed"


def parts(before: Results, after: Results) -> list[Difference]:
    """Parts that stopped or started to work: that failed, or that were asked for when the report ended before them."""
    a, b = _outcomes(before), _outcomes(after)
    return [
        Difference("part", name, a[name], b[name], _gained(a[name] == RAN, b[name] == RAN))
        for name in a
        if name in b and a[name] != b[name]
    ]


def answers(before: Results, after: Results) -> list[Difference]:
    """Answers that are not the same, and answers that stopped or started to be identical."""
    a, b = dict(_said(before)), dict(_said(after))
    found = []
    for key in [*a, *(k for k in b if k not in a)]:
        where = " / ".join(key[:3])
        if key not in a or key not in b:
            found.append(Difference("question", where, _there(key in a), _there(key in b)))
            continue
        for side in ("stream", "native"):
            one, other = _words(a[key], side), _words(b[key], side)
            if one != other:
                found.append(Difference(f"answer, {side}", where, one, other))
        if mark(a[key]) != mark(b[key]):
            found.append(Difference("comparison", where, mark(a[key]), mark(b[key]), _agreement(a[key], b[key])))
    return found


def attempts(before: Results, after: Results, alike: bool = True) -> list[Difference]:
    """Attempts that stopped or started to run, or that have another number of frames.

    Args:
        alike: whether the memory they ran in is that of one machine and model.
    """
    a, b = dict(_rungs(before)), dict(_rungs(after))
    found = []
    for key in [*a, *(k for k in b if k not in a)]:
        one, other = a.get(key), b.get(key)
        verdict: Verdict = "changed"
        if one is not None and other is not None:
            if (one.ran, one.frames) == (other.ran, other.frames):
                continue
            if alike:
                verdict = _gained(one.ran, other.ran)
        where = f"{key[0]} / {key[1]}, stride {key[3]}"
        found.append(Difference(f"attempt, {key[2]}", where, _ran(one), _ran(other), verdict))
    return found


def environments(before: Results, after: Results) -> list[Difference]:
    """Hardware, versions, model and settings; the date and the command line may differ."""
    a, b = (_flat(results) for results in (before, after))
    return [
        Difference(name, "", a.get(name, ABSENT), b.get(name, ABSENT))
        for name in dict.fromkeys([*a, *b])
        if a.get(name, ABSENT) != b.get(name, ABSENT)
    ]


def unlike(before: Results, after: Results) -> list[Difference]:
    """What keeps times and memory from being compared, as far as both reports tell it: older ones have no dtype."""
    return [d for d in environments(before, after) if d.what in DECISIVE and ABSENT not in (d.before, d.after)]


def _outcomes(results: Results) -> dict[str, str]:
    asked = results.environment.get("settings", {}).get("sections")
    found = {name: ABSENT for name in asked if isinstance(name, str)} if isinstance(asked, list) else {}
    return found | {s.name: _reason(s) if s.failed else RAN for s in results.sections}


def _reason(section: Section) -> str:
    return "; ".join(section.findings) or "failed"


def _gained(before: bool, after: bool) -> Verdict:
    if before == after:
        return "changed"
    return "better" if after else "worse"


def _said(results: Results) -> Iterator[tuple[tuple[str, str, str, int], Said]]:
    seen: Counter[tuple[str, str, str]] = Counter()
    for section in results.sections:
        for said in section.said:
            key = (section.name, said.about, said.question)
            yield (*key, seen[key]), said
            seen[key] += 1


def _rungs(results: Results) -> Iterator[tuple[tuple[str, str, str, int, int], Rung]]:
    seen: Counter[tuple[str, str, str, int]] = Counter()
    for section in results.sections:
        for rung in section.rungs:
            key = (section.name, rung.about, rung.side, rung.stride)
            yield (*key, seen[key]), rung
            seen[key] += 1


def _agreement(before: Said, after: Said) -> Verdict:
    if before.identical is None or after.identical is None:
        return "changed"
    return "better" if after.identical else "worse"


def _there(there: bool) -> str:
    return "there" if there else ABSENT


def _words(said: Said, side: str) -> str:
    text = getattr(said, side)
    return OUT_OF_MEMORY if text is None else answer(text, getattr(said, f"{side}_ids"))


def _ran(rung: Rung | None) -> str:
    if rung is None:
        return ABSENT
    return f"{'ran' if rung.ran else 'FAILED'}, {rung.frames} frames"


def _flat(results: Results) -> dict[str, str]:
    e: dict[str, Any] = results.environment
    found = {name: str(e[name]) for name in HARDWARE if name in e}
    found["model"] = results.model
    found |= {name: str(e[name]) for name in ("dtype",) if name in e}
    found |= {name: str(version) for name, version in e.get("versions", {}).items()}
    found |= {name: str(e[name]) for name in ("python",) if name in e}
    settings = {n: value for n, value in e.get("settings", {}).items() if n not in PLACES}
    return found | {f"setting {name}": str(value) for name, value in settings.items()}
