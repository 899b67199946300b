"""Compare publishing and consuming with the peers on private servers: make bench."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from benchmarks.bars import verdicts
from benchmarks.contenders import ENTRANTS
from benchmarks.contest import Contest, Rows
from benchmarks.picture import draw
from benchmarks.report import circumstances, markdown, table
from benchmarks.scenario import Scenario
from benchmarks.scenarios import scenarios
from benchmarks.servers import Servers

ROOT = Path(__file__).parent.parent
PICTURE = ROOT / "docs" / "figures" / "benchmark.png"
RESULTS = ROOT / "benchmarks" / "results.md"
QUICK_MOST, MOST = 200_000, 1_000_000


def main() -> None:
    options = _options()
    chosen = _chosen(options)
    if options.list:
        print("\n".join(f"{scenario.name:<18}{scenario.title}" for scenario in chosen))
        return
    names = list(dict.fromkeys(name for scenario in chosen for name in scenario.contenders))
    with_database = any(ENTRANTS[name].has_database for name in names)
    with Servers(with_database=with_database) as servers:
        versions = servers.versions()
        rows = _run(servers, chosen, names, options.rounds)

    met = list(verdicts(rows))
    where = circumstances(versions, options.rounds, with_database=with_database)
    print(f"\n{where}")
    print(table(rows, met))
    if options.markdown:
        written = options.markdown.read_text() if options.markdown.exists() else ""
        _save(options.markdown, markdown(rows, met, where, written).encode())
    if options.png:
        _save(options.png, draw(rows, where))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="make bench",
        description=__doc__,
        epilog="A whole run writes its table and its picture into the repository. A part of it (--only, "
        "--quick) writes them only where it is told to.",
    )
    parser.add_argument("--rounds", type=int, help="measured rounds after the warm-up (5, or 3 with --quick)")
    parser.add_argument("--quick", action="store_true", help="a fifth of the messages: about two minutes")
    parser.add_argument("--only", nargs="+", metavar="SCENARIO", default=[], help="these scenarios")
    parser.add_argument("--list", action="store_true", help="list the scenarios and end")
    parser.add_argument("--most", type=int, help="messages of the longest publish_many() (1,000,000)")
    parser.add_argument("--png", type=Path, metavar="PATH", help="write the picture there")
    parser.add_argument("--markdown", type=Path, metavar="PATH", help="write the table there")
    options = parser.parse_args()
    options.rounds = options.rounds or (3 if options.quick else 5)
    options.most = options.most or (QUICK_MOST if options.quick else MOST)
    if not (options.quick or options.only):
        options.png = options.png or PICTURE
        options.markdown = options.markdown or RESULTS
    return options


def _chosen(options: argparse.Namespace) -> list[Scenario]:
    known = scenarios(is_quick=options.quick, most=options.most)
    names = [scenario.name for scenario in known]
    unknown = sorted(set(options.only) - set(names))
    if unknown:
        sys.exit(f"Unknown: {', '.join(unknown)}. The scenarios are: {', '.join(names)}")
    return [scenario for scenario in known if not options.only or scenario.name in options.only]


def _run(servers: Servers, chosen: list[Scenario], names: list[str], rounds: int) -> Rows:
    started = time.monotonic()

    def tell(line: str) -> None:
        print(f"[{time.monotonic() - started:4.0f} s] {line}", file=sys.stderr, flush=True)

    contest = Contest(servers, rounds=rounds, tell=tell)
    try:
        contest.start(names)
        rows = [row for scenario in chosen for row in contest.run(scenario)]
    finally:
        contest.stop()
    tell("done")
    return rows


def _save(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    print(f"\nWrote {path}")


if __name__ == "__main__":
    main()
