"""An OpenAPI document that answers are held against."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import yaml
from referencing import Registry, Resource
from referencing.jsonschema import DRAFT202012
from running_provider import Reply

DOCS = Path(__file__).parent.parent.parent / "docs"


class Documented:
    """The document of `name`. What is answered to a method that a path does not have stands with its first one."""

    def __init__(self, name: str) -> None:
        self.content: dict[str, Any] = yaml.safe_load((DOCS / name).read_text())
        self._registry: Any = Registry().with_resource("urn:openapi", Resource(self.content, DRAFT202012))

    def operations(self, path: str) -> dict[str, dict[str, Any]]:
        return {method: it for method, it in self.content["paths"][path].items() if method != "parameters"}

    @property
    def answers(self) -> set[tuple[str, str, int]]:
        """Every method, path and status."""
        return {
            (method, path, int(status))
            for path in self.content["paths"]
            for method, operation in self.operations(path).items()
            for status in operation["responses"]
        }

    def check(self, path: str, answer: Reply, method: str = "") -> tuple[str, str, int]:
        """Hold `answer` against what is documented for it."""
        operations = self.operations(path)
        method = method.lower() if method.lower() in operations else next(iter(operations))
        responses = operations[method]["responses"]
        assert str(answer.status) in responses, f"{method} {path}: {answer.status} {answer.body!r}"
        documented = self._part(responses[str(answer.status)])
        for name, header in documented.get("headers", {}).items():
            described, found = self._part(header), answer.headers.get(name.lower())
            assert found is not None or not described.get("required"), name
            if found is not None:
                self._validate(found, described["schema"])
        kind = answer.headers["content-type"].partition(";")[0]
        body: Any = json.loads(answer.body) if kind == "application/json" else answer.body.decode()
        self._validate(body, documented["content"][kind]["schema"])
        return method, path, answer.status

    def _part(self, node: dict[str, Any]) -> dict[str, Any]:
        """The node itself, or the named one that it refers to."""
        found: Any = node
        if "$ref" in node:
            found = self.content
            for name in node["$ref"].removeprefix("#/").split("/"):
                found = found[name]
        return dict(found)

    def _validate(self, value: Any, schema: dict[str, Any]) -> None:
        local = json.loads(json.dumps(schema).replace('"#/', '"urn:openapi#/'))
        jsonschema.Draft202012Validator(local, registry=self._registry).validate(value)
