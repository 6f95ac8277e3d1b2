"""Where a thing stands in a text: shared by the language, the graph and the diagnostics."""

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Source:
    """One text and the name that is shown for it (a path as the user wrote it, or `<text>`).

    `is_std` says that it came with fml: its faults are told at the call that leads into it.
    """

    name: str
    text: str = field(repr=False)
    is_std: bool = field(default=False, repr=False)

    def line(self, number: int) -> str:
        """Return the 1-based line, without its end; empty past the last line."""
        lines = self.text.split("\n")
        return lines[number - 1].rstrip("\r") if 0 < number <= len(lines) else ""


@dataclass(frozen=True, slots=True)
class Span:
    """A stretch of a source: 1-based lines and columns, the end column exclusive."""

    source: Source
    line: int
    column: int
    end_line: int
    end_column: int

    def to(self, other: "Span") -> "Span":
        """Return the span from this one's beginning to the other's end."""
        return Span(self.source, self.line, self.column, other.end_line, other.end_column)

    @property
    def place(self) -> str:
        """`file:line:column`, as editors and terminals make clickable."""
        return f"{self.source.name}:{self.line}:{self.column}"

    @property
    def order(self) -> tuple[str, int, int, int, int]:
        """Key that sorts spans by file and position."""
        return (self.source.name, self.line, self.column, self.end_line, self.end_column)

    @property
    def text(self) -> str:
        """The words between the two ends."""
        if self.line == self.end_line:
            return self.source.line(self.line)[self.column - 1 : self.end_column - 1]
        first = self.source.line(self.line)[self.column - 1 :]
        middle = [self.source.line(n) for n in range(self.line + 1, self.end_line)]
        return "\n".join([first, *middle, self.source.line(self.end_line)[: self.end_column - 1]])
