"""Things by name, as a run and a program give them: read-only, and wrong names get near ones."""

from collections.abc import Iterable, Iterator, Mapping
from typing import TypeVar

from fml.engine.ir.diagnostics import did_you_mean

V = TypeVar("V")


class Named(Mapping[str, V]):
    """A mapping that cannot be changed; `kind` is what its values are called in a `KeyError`."""

    def __init__(self, kind: str, items: Mapping[str, V] | Iterable[tuple[str, V]]) -> None:
        """Keep the items in their order."""
        self._kind = kind
        self._items = dict(items)

    def __getitem__(self, name: str) -> V:
        """Return what is called so.

        Raises:
            KeyError: nothing is; the message has near names, or all of them.
        """
        if name in self._items:
            return self._items[name]
        listed = f"there are {', '.join(self._items)}" if self._items else "there are none"
        near = did_you_mean(str(name), self._items)
        raise KeyError(f"there is no {self._kind} `{name}`; {near or listed}")

    def __contains__(self, name: object) -> bool:
        """Say whether something is called so."""
        return name in self._items

    def __iter__(self) -> Iterator[str]:
        """Go through the names in order."""
        return iter(self._items)

    def __len__(self) -> int:
        """Count them."""
        return len(self._items)

    def __repr__(self) -> str:
        """Write it as Python writes a dict."""
        return repr(self._items)
