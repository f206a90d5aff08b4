"""Put a bug into modules of this process while they are imported; their files stay as they are.

Python imports this by its name at the start of each process whose PYTHONPATH names this folder:
so the bug is in the children of the instrument too. Whether the places to change are there has
been checked by who set the variable.
"""

import json
import os
import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from types import CodeType, ModuleType

VARIABLE = "MUTANT_SOURCES"
"""Full source text by module name, as JSON."""


class _Loader(SourceFileLoader):
    """Loads a module from other text than that of its file, past the cache of compiled code."""

    def __init__(self, name: str, path: str, source: str) -> None:
        super().__init__(name, path)
        self._source = source

    def get_code(self, fullname: str) -> CodeType:
        return compile(self._source, self.path, "exec", dont_inherit=True)


class _Finder(MetaPathFinder):
    def __init__(self, sources: dict[str, str]) -> None:
        self._sources = sources

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname not in self._sources:
            return None
        spec = PathFinder.find_spec(fullname, path, target)
        assert spec is not None and spec.origin is not None, fullname
        spec.loader = _Loader(fullname, spec.origin, self._sources[fullname])
        return spec


if VARIABLE in os.environ:
    sys.meta_path.insert(0, _Finder(json.loads(os.environ[VARIABLE])))
