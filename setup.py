"""The one step of the build that `pyproject.toml` cannot name: the parser's tables."""

import sys
from pathlib import Path
from types import ModuleType

from setuptools import setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).parent


class BuildWithTables(build_py):
    """Copies the modules, and writes the tables made of the grammar beside it."""

    def run(self) -> None:
        """Build the packages and the tables."""
        super().run()
        tables = import_tables()
        target = Path(self.build_lib, "fml", "grammar")
        target.mkdir(parents=True, exist_ok=True)
        tables.write_tables(ROOT / "grammar", target)

    def get_outputs(self, include_bytecode: bool = True) -> list[str]:
        """List what was built; a strict editable installation links no other file."""
        made = str(Path(self.build_lib, "fml", "grammar", import_tables().TABLES))
        return [*super().get_outputs(include_bytecode), made]


def import_tables() -> ModuleType:
    """Import `fml.dsl.tables` from this folder, where the packages have not their names yet."""
    for name, folder in (("fml", "api"), ("fml.dsl", "dsl")):
        package = ModuleType(name)
        package.__path__ = [str(ROOT / folder)]
        sys.modules.setdefault(name, package)
    from fml.dsl import tables

    return tables


setup(cmdclass={"build_py": BuildWithTables})
