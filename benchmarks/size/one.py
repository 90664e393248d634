"""One object optimised in a process of its own, as a compilation pays for it: start, imports, cache and all.

    python -m benchmarks.size.one INPUT OUTPUT CPU SETTINGS    (settings as JSON)

The last line is the record as JSON; a failure is a line that begins with "failed: ".
"""

from __future__ import annotations

import json
import sys
from typing import Any


def main(source: str, target: str, cpu: str, text: str) -> int:
    """Imports as little as the wrapper does."""
    from object_stage import optimise_in_child
    from processes import ChildFailed
    from synth.settings import Settings

    given: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value for name, value in json.loads(text).items()
    }
    with open(source, "rb") as file:  # noqa: PTH123  pathlib is slow to import
        data = file.read()
    try:
        outcome = optimise_in_child(data, Settings(**given), int(cpu) or None)
    except ChildFailed as error:
        print(f"failed: {error}")
        return 1
    with open(target, "wb") as file:  # noqa: PTH123
        file.write(outcome.data)
    print(outcome.record.to_json())
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:5]))
