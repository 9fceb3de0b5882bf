"""python -m tpdm.report SWEEP [key=value ...]

Tells which jobs of a sweep are queued, running, done or failed, and writes leaderboard.csv, report.html (a
page that needs nothing else) and TensorBoard's HParams table into its folder.

Examples:
  python -m tpdm.report runs/NAME
  python -m tpdm.report sweep=runs/NAME
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypedDict

from tpdm.cli import entry
from tpdm.registry import Component


class Settings(TypedDict):
    """What conf/report.yaml holds."""

    sweep: str
    debug: bool
    launcher: Component


@entry("report", Settings, first="sweep")
def main(cfg: dict[str, Any]) -> None:
    from tpdm.leaderboard import report

    report(Path(cfg["sweep"]))


if __name__ == "__main__":
    main()
