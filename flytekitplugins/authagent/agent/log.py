"""The agent's log, beside its audit file: for programs a JSON object a line, at a terminal plain lines."""

from __future__ import annotations

import json
import logging
import sys
from datetime import datetime, timezone


class Lines(logging.Formatter):
    """One JSON object for each record, on one line whatever is in it."""

    def format(self, record: logging.LogRecord) -> str:
        """`time` (ISO 8601), `level`, `logger`, `message`, and `error` where there was an exception."""
        content = {
            "time": datetime.fromtimestamp(record.created, timezone.utc).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            content["error"] = self.formatException(record.exc_info)
        return json.dumps(content)


def to_stderr() -> None:
    """Log what operators want to know to standard error."""
    handler = logging.StreamHandler(sys.stderr)
    people = sys.stderr.isatty()
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s") if people else Lines())
    logging.basicConfig(level=logging.INFO, handlers=[handler])
