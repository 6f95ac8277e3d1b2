"""Results that are kept in a file as soon as they are there, so that a run can go on."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any


class Kept:
    """Results by what they were measured with; nothing is kept without a file."""

    def __init__(self, path: Path | None) -> None:
        """Read what a run before has left, if the file exists."""
        self._path = path
        self._entries: list[dict[str, Any]] = []
        if path is not None and path.exists():
            self._entries = json.loads(path.read_text())

    def find(self, settings: Mapping[str, Any]) -> Any:
        """The result with these settings, or None."""
        wanted = json.loads(json.dumps(settings))  # tuples are lists there
        return next((e["result"] for e in self._entries if e["settings"] == wanted), None)

    def add(self, settings: Mapping[str, Any], result: Any) -> None:
        """Keep a result; a run that is cut off here leaves the file as it was."""
        self._entries.append({"settings": json.loads(json.dumps(settings)), "result": result})
        if self._path is None:
            return
        beside = self._path.with_name(f"{self._path.name}.new")
        beside.write_text(json.dumps(self._entries, indent=1))
        os.replace(beside, self._path)
