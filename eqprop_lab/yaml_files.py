"""Safe YAML, read in one place.

What would take forever or mean something else than it seems is an error at once.

1e-3 is a number (YAML 1.1 takes it for text); numbers that YAML reads otherwise than a person (010,
1:30), a key given twice, nesting deeper than DEEPEST and more than MOST values, counted as often as
aliases repeat them, are refused; every error names the file
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

DEEPEST, MOST = 20, 10_000
LARGEST = 2**20  # bytes


class YamlError(ValueError):
    """A file that is not YAML, or YAML that is refused; the message names the file."""


class StrictLoader(yaml.SafeLoader):
    """The loader of the text above."""

    def __init__(self, stream: Any) -> None:
        super().__init__(stream)
        self.depth = 0
        self.values = 0
        self.counted: dict[int, int] = {}  # values in a finished node, aliases followed

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        """A node, counted before it is built: a short alias may stand for billions of values."""
        alias = self.check_event(yaml.AliasEvent)
        mark = self.peek_event().start_mark
        before = self.values
        if self.depth >= DEEPEST:
            raise yaml.composer.ComposerError(None, None, f"nested deeper than {DEEPEST}", mark)
        self.depth += 1
        node = super().compose_node(parent, index)
        self.depth -= 1
        if alias and id(node) not in self.counted:
            raise yaml.composer.ComposerError(None, None, "an alias of what it is part of", mark)
        self.values += self.counted[id(node)] if alias else 1
        if not alias:
            self.counted[id(node)] = self.values - before
        if self.values > MOST:
            raise yaml.composer.ComposerError(
                None, None, f"more than {MOST} values, aliases followed", mark
            )
        return node

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """A mapping in which every key is given once."""
        seen: set[str] = set()
        for text in (key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)):
            if text in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"key {text[:60]!r} is given twice", node.start_mark
                )
            seen.add(text)
        return super().construct_mapping(node, deep)

    def plain_int(self, node: yaml.ScalarNode) -> int:
        """Decimal digits. Elsewhere 010 is eight, 1:30 is ninety: such a number is refused."""
        text = str(self.construct_scalar(node))
        if not re.fullmatch(r"[-+]?(0|[1-9][0-9]*)", text):
            raise yaml.constructor.ConstructorError(
                None, None, f"{text} is no plain decimal number", node.start_mark
            )
        return int(text)

    def plain_float(self, node: yaml.ScalarNode) -> float:
        """A float without colons (1:30.5 is 90.5 elsewhere)."""
        if ":" in node.value:
            raise yaml.constructor.ConstructorError(
                None, None, f"{node.value} is no plain number", node.start_mark
            )
        return float(self.construct_yaml_float(node))


_FLOAT = re.compile(r"^[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+$")
StrictLoader.yaml_implicit_resolvers = {
    k: list(v) for k, v in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
StrictLoader.add_implicit_resolver("tag:yaml.org,2002:float", _FLOAT, list("-+0123456789."))
StrictLoader.add_constructor("tag:yaml.org,2002:int", StrictLoader.plain_int)
StrictLoader.add_constructor("tag:yaml.org,2002:float", StrictLoader.plain_float)


def parse_yaml(text: str, name: str) -> Any:
    """The content of a YAML text. name: of its file, for errors. Raises YamlError."""
    if len(text) > LARGEST:
        raise YamlError(
            f"{name} is too large to be read as YAML: {len(text)} characters, at most {LARGEST}"
        )
    try:
        return yaml.load(text, Loader=StrictLoader)
    except yaml.YAMLError as error:
        raise YamlError(f"{name} is not valid YAML: {error}") from error
    except (ValueError, TypeError, RecursionError) as error:  # a date or number that there is not
        raise YamlError(f"{name} is not valid YAML: {str(error)[:200]}") from error


def read_yaml(path: Path) -> Any:
    """The content of a YAML file. Raises YamlError; OSError, which names the file too."""
    if path.stat().st_size > 4 * LARGEST:
        raise YamlError(f"{path} is too large to be read as YAML: {path.stat().st_size} bytes")
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise YamlError(f"{path} is not text in UTF-8: {error}") from error
    return parse_yaml(text, str(path))
