"""``python -m tokenworlds.config.record <method> ...``: record the settings of methods as shipped.

The record, ``pipeline/<method>/published.yaml``, repeats the values of ``params.yaml`` beside it: what differs from it
was set by a person. Write it anew only to ship other values.
"""

from __future__ import annotations

import sys
from typing import Any

import yaml

from tokenworlds.cli import exit_status
from tokenworlds.config.method_file import MethodFile
from tokenworlds.config.yaml_files import read_mapping
from tokenworlds.files import write_atomic

REMARK = (
    "# The values of params.yaml as shipped, by `python -m tokenworlds.config.record {}`: leave them as they are.\n"
)


class _Dumper(yaml.SafeDumper):  # type: ignore[misc]
    """Sections without subsections on lines of their own."""

    def represent_mapping(self, tag: str, mapping: Any, flow_style: bool | None = None) -> yaml.MappingNode:
        node = super().represent_mapping(tag, mapping, flow_style)
        node.flow_style = not any(isinstance(value, yaml.MappingNode) for _, value in node.value)
        return node

    def ignore_aliases(self, data: Any) -> bool:
        return True


def main(methods: list[str] | None = None) -> None:
    for method in sys.argv[1:] if methods is None else methods:
        file = MethodFile(method)
        values = dict(read_mapping(file.source.path, file.source.shown))
        text = yaml.dump(values, Dumper=_Dumper, default_flow_style=None, sort_keys=False, width=120)
        write_atomic(file.record.path, (REMARK.format(method) + text).encode())
        print(f"wrote {file.record.shown}")


if __name__ == "__main__":
    sys.exit(exit_status(main))
