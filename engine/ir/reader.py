"""Reads one line of a graph's text (`fml.engine.ir.text`) by recursive descent."""

import json
import re
from collections.abc import Callable
from types import MappingProxyType
from typing import NoReturn, TypeVar

from fml.engine.ir.dims import Dim
from fml.engine.ir.graph import NO_ATTRIBUTES, Attribute, Attributes, Node, Phase
from fml.engine.ir.types import Element, Label, TensorType

T = TypeVar("T")

_TOKEN = re.compile(
    r"""\s*(?:
        (?P<string>"(?:[^"\\]|\\.)*")
      | (?P<node>%\d+)
      | (?P<number>\d+(?:\.\d+)?(?:e[+-]?\d+)?)
      | (?P<word>\.\.\.|[^\W\d][\w.]*)
      | (?P<sign>[()\[\]{},=:+*/^-])
    )""",
    re.VERBOSE,
)
_CONSTANTS: dict[str, Attribute] = {
    "true": True, "false": False, "none": None, "inf": float("inf"), "nan": float("nan"),
}  # fmt: skip
_ELEMENTS = {element.value: element for element in Element}


class Reader:
    """The tokens of a line, and where it has got to; every method reads what its name says.

    All raise ValueError where the text is something else.
    """

    def __init__(self, line: str, number: int) -> None:
        """`number` is the line's, for messages."""
        self._line, self._line_number = line, number
        self._tokens = self._split()
        self._at = 0

    def _split(self) -> list[tuple[str, str]]:
        tokens: list[tuple[str, str]] = []
        position, text = 0, self._line.rstrip()
        while position < len(text):
            match = _TOKEN.match(text, position)
            if match is None or match.lastgroup is None:
                self._fail(f"unexpected `{text[position:].strip()[:1]}`")
            kind, start = match.lastgroup, match.start(match.lastgroup)
            # A shape follows its element at once, which tells `f32[N]` from `f32 [update]`.
            if text[start] == "[" and start == position and re.match(r"[\w\]]", text[start - 1]):
                kind = "shape"
            tokens.append((kind, match.group(match.lastgroup)))
            position = match.end()
        tokens.append(("end", "the end of the line"))
        return tokens

    def _fail(self, message: str) -> NoReturn:
        raise ValueError(f"line {self._line_number}: {message} in `{self._line.strip()}`")

    def accept(self, text: str) -> bool:
        """Step over this word or sign if it comes next."""
        kind, found = self._tokens[self._at]
        if kind in {"word", "sign"} and found == text:
            self._at += 1
            return True
        return False

    def _accept_shape(self) -> bool:
        if self._next()[0] != "shape":
            return False
        self._at += 1
        return True

    def _expect(self, text: str) -> None:
        if not self.accept(text):
            self._fail(f"expected `{text}`, found `{self._tokens[self._at][1]}`")

    def _take(self, kind: str) -> str:
        found, text = self._tokens[self._at]
        if found != kind:
            self._fail(f"expected a {kind}, found `{text}`")
        self._at += 1
        return text

    def _next(self) -> tuple[str, str]:
        return self._tokens[self._at]

    def _list(self, item: Callable[[], T], close: str) -> list[T]:
        """Items between commas up to the closing sign; one comma may stand before it."""
        items: list[T] = []
        while not self.accept(close):
            items.append(item())
            if not self.accept(","):
                self._expect(close)
                break
        return items

    def end(self) -> None:
        """Nothing more."""
        if self._next()[0] != "end":
            self._fail(f"unexpected `{self._next()[1]}`")

    def string(self) -> str:
        """A quoted string."""
        return str(json.loads(self._take("string")))

    def _reference(self) -> int:
        return int(self._take("node")[1:])

    def outputs(self) -> dict[str, int]:
        """`loss = %3, "net.W" = %4`."""
        results: dict[str, int] = {}
        while True:
            name = self.string() if self._next()[0] == "string" else self._take("word")
            self._expect("=")
            results[name] = self._reference()
            if not self.accept(","):
                return results

    def node(self) -> Node:
        """A whole node."""
        number = self._reference()
        self._expect("=")
        op = self._take("word")
        self._expect("(")
        inputs = tuple(self._list(self._reference, ")"))
        attributes = self._attributes() if self.accept("{") else NO_ATTRIBUTES
        self._expect(":")
        type = self._type()
        scope = self.string() if self.accept("in") else ""
        phase = self._phase() if self.accept("[") else Phase.FORWARD
        mapped = self.accept("over")
        if mapped:
            self._expect("learners")
        guard = self._reference() if self.accept("when") else None
        return Node(number, op, type, inputs, attributes, scope, phase, mapped, guard)

    def _attributes(self) -> Attributes:
        return MappingProxyType(dict(self._list(self._pair, "}")))

    def _pair(self) -> tuple[str, Attribute]:
        name = self._take("word")
        self._expect("=")
        return name, self._attribute()

    def _phase(self) -> Phase:
        word = self._take("word")
        self._expect("]")
        try:
            return Phase(word)
        except ValueError:
            self._fail(f"unknown phase `{word}`")

    def _attribute(self) -> Attribute:
        kind, text = self._next()
        if kind == "string":
            return self.string()
        if self.accept("("):
            return tuple(self._list(self._attribute, ")"))
        if self.accept("["):
            return tuple(self._list(self._dim, "]"))
        if self.accept("dim"):
            return self._in_brackets()
        if text in _ELEMENTS or text == "label":
            return self._element_or_type()
        return self._number()

    def _number(self) -> Attribute:
        if self.accept("-"):
            value = self._number()
            if isinstance(value, bool) or not isinstance(value, int | float):
                self._fail("expected a number behind `-`")
            return -value
        kind, text = self._next()
        if kind == "word" and text in _CONSTANTS:
            self._at += 1
            return _CONSTANTS[text]
        text = self._take("number")
        return int(text) if text.isdigit() else float(text)

    def _element_or_type(self) -> Attribute:
        before = self._at
        word = self._take("word")
        if word in _ELEMENTS and self._next()[0] != "shape":
            return _ELEMENTS[word]
        self._at = before
        return self._type()

    def _type(self) -> TensorType:
        word = self._take("word")
        if word == "label" and self._accept_shape():
            classes = self._dim()
            self._expect("]")
            element = Label(classes)
        elif word in _ELEMENTS:
            element = _ELEMENTS[word]
        else:
            self._fail(f"unknown element `{word}`")
        shape = tuple(self._list(self._dim, "]")) if self._accept_shape() else ()
        return TensorType(element, shape)

    def _dim(self) -> Dim:
        """Sum of terms, as `str(Dim)` writes it."""
        total = -self._term() if self.accept("-") else self._term()
        while True:
            if self.accept("+"):
                total = total + self._term()
            elif self.accept("-"):
                total = total - self._term()
            else:
                return total

    def _term(self) -> Dim:
        total = self._power()
        while True:
            if self.accept("*"):
                total = total * self._power()
            elif self.accept("/"):
                total = total / self._power()
            else:
                return total

    def _power(self) -> Dim:
        base = self._atom()
        return base ** int(self._take("number")) if self.accept("^") else base

    def _atom(self) -> Dim:
        kind, text = self._next()
        if kind == "number":
            return Dim.of(int(self._take("number")))
        if text == "(":
            return self._in_brackets()
        word = self._take("word")
        if word in {"floor", "ceil"} and self._next()[1] == "(":
            inside = self._in_brackets()
            return inside.floor() if word == "floor" else inside.ceil()
        return Dim.of(word)

    def _in_brackets(self) -> Dim:
        self._expect("(")
        inside = self._dim()
        self._expect(")")
        return inside
