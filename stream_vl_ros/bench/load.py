"""Many clients that ask at once for a minute while four cameras publish, over real DDS.

python -m stream_vl_ros.bench.load
python -m stream_vl_ros.bench.load --seconds 600 --clients 128

Six of eight clients ask again as soon as they were answered, and come back when a busy node said so; one gives the node
0.4 s only, and one asks by the action and cancels after 0.3 s. Checked: every request gets a response, at most 5 s
after its own timeout; who is refused hears when to come back; both sides count the same, every sum of every status
holds, and memory returns to where it was. Exit status 0 if so.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from stream_vl_ros.bench.arguments import as_command, count, positive
from stream_vl_ros.bench.load_account import FRAMES, QUESTIONS, Account
from stream_vl_ros.bench.load_client import CALL_TIMEOUT, GRACE
from stream_vl_ros.bench.load_run import STREAMS, Run
from stream_vl_ros.bench.records import environment, print_environment, write_json
from stream_vl_ros.demo.installed import environment as ros_environment
from stream_vl_ros.demo.installed import node_command
from stream_vl_ros.demo.processes import interruptible

# Memory is compared from here on: budgets are used up, and every buffer was as large as it gets.
_WARM_UP = 0.25
_TOKENS = 192
_FRAMES = 24  # that these are


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=positive, default=60.0, help="of asking, after a warm-up of a quarter of it")
    parser.add_argument("--clients", type=count, default=64)
    parser.add_argument("--processes", type=count, default=4, help="that the clients are spread over")
    parser.add_argument("--max-questions", type=count, default=8, help="places for questions, of each camera")
    parser.add_argument("--fps", type=positive, default=8.0, help="of each camera; the node keeps 4")
    parser.add_argument("--model", default="embedded")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--limit-mib", type=float, default=16.0, help="by which the process may grow")
    parser.add_argument("--logs", type=Path, help="folder for the processes' logs; a temporary one otherwise")
    parser.add_argument("--json", type=Path, help="write all results here")
    return parser.parse_args(argv)


def measure(args: argparse.Namespace, logs: Path) -> tuple[Account, list[str]]:
    """The account of a load, and what does not hold."""
    account = Account(CALL_TIMEOUT, GRACE, args.limit_mib)
    parameters = {
        "streams": "[" + ", ".join(STREAMS) + "]",
        "model": args.model,
        "device": args.device,
        "qos_reliability": "reliable",
        "qos_depth": 1000,
        "target_fps": 4.0,
        "eviction": "window",
        "budget_tokens": _TOKENS,
        "max_questions": args.max_questions,
    }
    run = Run(node_command(), parameters, args.clients, args.processes, args.fps, ros_environment(), logs, account)
    try:
        run.wait_ready(_FRAMES)
        run.round(args.seconds * _WARM_UP)
        while not all(status["questions_answered"] for status in account.statuses.values()):
            run.round(args.seconds * _WARM_UP)  # until then no camera's clients can be told when to come back
        before = run.memory()
        run.round(args.seconds)
        after = run.memory()
        run.end_of_video()
    finally:
        run.close()
    account.cache_bytes, account.process_mib = (before[0], after[0]), (before[1], after[1])
    return account, [*account.wrong(), *run.broken[:5]]


def tables(account: Account) -> list[Table]:
    """What came of it: for the clients, and by camera."""
    seconds = sorted(account.seconds)
    clients = Table(title="What the clients were told", title_justify="left")
    for name in (
        "requests",
        "answered",
        "busy",
        "timed out",
        "cancelled",
        "lost",
        "wait, s: median",
        "99 %",
        "longest",
        "after its timeout",
    ):
        clients.add_column(name, justify="right")
    ends = (account.ends[end] for end in ("answered", "busy", "timed_out", "cancelled", "lost"))
    waits = (statistics.median(seconds), seconds[int(0.99 * (len(seconds) - 1))], seconds[-1])
    clients.add_row(str(account.requests), *map(str, ends), *(f"{wait:.2f}" for wait in (*waits, account.overdue)))
    return [clients, _by_camera(account, "questions", QUESTIONS), _by_camera(account, "frames", FRAMES)]


def _by_camera(account: Account, what: str, parts: Sequence[str]) -> Table:
    node = Table(title=f"What the node counts: {what}", title_justify="left")
    node.add_column("camera")
    for part in parts:
        node.add_column(part.replace("_", " "), justify="right")
    for name, status in account.statuses.items():
        node.add_row(name, *(str(status[f"{what}_{part}"]) for part in parts))
    return node


def main(argv: Sequence[str] | None = None) -> int:
    args = parse(argv)
    interruptible()
    console = Console(width=120)
    record = environment(args, args.device)
    print_environment(console, record)
    with tempfile.TemporaryDirectory(prefix="stream_vl_load_") as folder:
        logs = args.logs or Path(folder)
        logs.mkdir(parents=True, exist_ok=True)
        account, wrong = measure(args, logs)
    for shown in tables(account):
        console.print(shown)
    console.print(
        f"of {account.heeded} requests that came when a busy node had said, {account.heeded_busy} found it busy again\n"
        f"memory of the node's process: {account.process_mib[0]:.1f} MiB before, {account.process_mib[1]:.1f} after; "
        f"of the caches: {account.cache_bytes[0]} bytes before, {account.cache_bytes[1]} after",
        highlight=False,
    )
    for problem in wrong:
        console.print(f"wrong: {problem}", style="red", highlight=False)
    if args.json:
        results = {
            "ends": account.ends, "questions": {end: account.questions(end) for end in QUESTIONS},
            "refusals": account.refusals, "statuses": account.statuses, "published": account.published,
            "cache_bytes": account.cache_bytes, "process_mib": account.process_mib, "wrong": wrong,
            "heeded": account.heeded, "heeded_busy": account.heeded_busy, "unknown": account.unknown,
            "overdue": account.overdue,
            "longest_wait": max(account.seconds), "median_wait": statistics.median(account.seconds),
        }  # fmt: skip
        write_json(args.json, record, results)
    return 1 if wrong else 0


if __name__ == "__main__":
    as_command(main)
