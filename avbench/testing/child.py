"""A process that makes the checks of one plugin: ``python -m avbench.testing.child REQUEST REPORT``.

``REQUEST`` is a JSON file; to ``REPORT`` it adds a line of JSON before and after each check, so that whoever waits
knows which check a plugin ended or hung in.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

from avbench.errors import AvbenchError
from avbench.testing import Failure, NotChecked, checks
from avbench.testing.registry import Check


def main(request: Path, report: Path) -> int:
    """Make the checks that are not made yet; what it can't begin it tells in the report."""
    wanted = json.loads(request.read_text(encoding="utf-8"))
    with report.open("a", encoding="utf-8", buffering=1) as file:

        def tell(**line: Any) -> None:
            file.write(json.dumps(line) + "\n")

        try:
            found = checks(wanted["plugin"], options=wanted["options"], source=wanted["source"])
        except AvbenchError as error:
            tell(error=str(error), exit_status=error.exit_status)
            return 0
        tell(names=[check.name for check in found])
        for check in found:
            if check.name not in wanted["made"]:
                tell(begun=check.name)
                tell(made=check.name, **_made(check))
    return 0


def _made(check: Check) -> dict[str, Any]:
    began = time.monotonic()
    try:
        status, reason = "ok", check()
    except Failure as error:
        status, reason = "failed", str(error)
    except NotChecked as error:
        status, reason = "not checked", str(error)
    return {"status": status, "reason": reason, "duration_s": round(time.monotonic() - began, 3)}


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), Path(sys.argv[2])))
