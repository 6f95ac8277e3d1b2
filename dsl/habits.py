"""What hands used to other languages write, and how fml says it: hints for `fml.dsl.explain`."""

import re
from dataclasses import dataclass

from lark import Token

_FUNCTION = "a function is declared `fn f(x) = x + 1`"
_BINDING = "a name is bound by `name = value`"
_LOOP = (
    "there are no loops: operations take whole tensors, `repeat(n, layer)` stacks layers, and a "
    "plan goes on until its `stop`"
)
_BODY = "a body stands in `{ }`, or behind `=`"
# Words that begin a statement elsewhere and nothing in fml.
_FIRST_WORDS = {
    **dict.fromkeys(("def", "function", "func", "fun", "lambda"), _FUNCTION),
    **dict.fromkeys(("let", "var", "const", "val", "auto", "set"), _BINDING),
    **dict.fromkeys(("for", "while", "foreach", "loop", "do"), _LOOP),
    "class": "a model is declared `model m(x: f32[N, D]) = ...`, and a part of it `layer ...`",
    "return": "the last line of a body is its value: leave `return` out",
    "print": '`log e as "name" every 1 epoch` in a plan records a value',
    "elif": "write `else if ... then ...`",
    **dict.fromkeys(
        ("with", "try", "except", "finally", "assert", "raise", "del", "pass", "break",
         "continue", "global", "yield", "async", "await"),
        "there is nothing like it in fml: a text says what is computed, and the engine when",
    ),
}  # fmt: skip
_IF = "`if c then a else b` is a value: `name = if c then a else b`; in a plan, `when c { ... }`"
_IMPORTS = (
    '`import "blocks.fml" as blocks` and `from "blocks.fml" import name` read other .fml files; '
    "what numpy has is in scope already"
)
_GRADIENTS = "gradients come with `minimize loss = ...`, and `using sgd(0.1)` takes the steps"
# What is called on an object elsewhere.
_METHODS = re.compile(r"[\w.]+\.(?:backward|step|zero_grad)\(")
_SELF = re.compile(r"self\.\w+[ \t]*=")
_OWNED = "a layer has no attributes to assign: declare what it owns, `param W: f32[D, K] ~ zeros`"
_BRACED = frozenset({"fn", "layer", "model", "optimizer", "strategy"})
_ASSIGNING = re.compile(r"[-+*/@^]=(?!=)")


@dataclass(frozen=True, slots=True)
class Habit:
    """What was meant to be said (`token` marks it), and how fml says it."""

    token: Token
    message: str
    help: str


def habit(text: str, token: Token, first: Token | None, last: Token | None) -> Habit | None:
    """Recognise a habit at a fault.

    `token` is what fits nowhere, `first` begins its statement, `last` came before it.
    """
    if first is None:
        return _at_beginning(text, token)
    if last is first or _is_call(text, first):
        found = _first_word(first)
        if found is not None:
            return found
    if token == ":" and last is first and first.type == "NAME":
        help = "`name = value`; in a layer, `param name: f32[D, K] ~ zeros`"
        return Habit(token, "a name is bound without its type", help)
    found = _of_object(text, first) or _with_sign(token, first, last)
    if found is not None:
        return found
    return _in_the_middle(text, token, last)


def _at_beginning(text: str, token: Token) -> Habit | None:
    position = token.start_pos or 0
    if text.startswith(("//", "/*"), position):
        return Habit(token, "a comment does not begin with `/`", "comments begin with `#`")
    if token == "if":
        return Habit(token, "`if` begins no statement", _IF)
    return None


def _first_word(first: Token) -> Habit | None:
    if first.type in {"_IMPORT", "_FROM"}:
        return Habit(first, f"`{first}` takes a file of fml", _IMPORTS)
    if first in _FIRST_WORDS:
        return Habit(first, f"`{first}` begins no statement of fml", _FIRST_WORDS[str(first)])
    return None


def _of_object(text: str, first: Token) -> Habit | None:
    """`loss.backward()` and `self.W = 3`."""
    position = first.start_pos or 0
    if _METHODS.match(text, position):
        return Habit(first, "no statement of fml is a call", _GRADIENTS)
    if _SELF.match(text, position):
        return Habit(first, "there is no `self`", _OWNED)
    return None


def _with_sign(token: Token, first: Token, last: Token | None) -> Habit | None:
    """A `=` where `~` or nothing stands."""
    if token == "=" and first in {"param", "state"}:
        help = f"write `~`: `{first} name: f32[D, K] ~ zeros`"
        return Habit(token, f"the first value of a `{first}` stands behind `~`", help)
    if token == "{" and last == "=" and first in _BRACED:
        return Habit(token, "a body in braces has no `=` before it", "leave out the `=`")
    return None


def _in_the_middle(text: str, token: Token, last: Token | None) -> Habit | None:
    position = token.start_pos or 0
    if last == "lambda":
        return Habit(last, "`lambda` is no word of fml", _FUNCTION)
    if token == "for":
        help = "a list is written out, `[1, 2, 3]`; operations take whole tensors"
        return Habit(token, "a list is not made by a loop", help)
    if token == "if":
        return Habit(token, "the condition stands before both values", "`if c then a else b`")
    # Where an expression may stand, `x +` is read before `=` fits nowhere.
    begin = position - (token == "=" and last is not None and last.end_pos == position)
    if _ASSIGNING.match(text, begin):
        sign = text[begin]
        help = f"a name is bound once, `y = x {sign} e`; a state changes by `x <- x {sign} e`"
        return Habit(token, f"`{sign}=` is no symbol of fml", help)
    if last is not None and last.end_pos == position and token == last:
        if token == "*":
            return Habit(token, "`**` is no operator of fml", "a power is written `a ^ b`")
        if token == "/":
            return Habit(
                token, "`//` is no operator of fml", "`floor(a / b)`; a comment is `# ...`"
            )
    if token == ":" and last == ")":
        return Habit(token, "a body does not begin with `:`", _BODY)
    if token == "{" and last in {"=", "(", ",", "["}:
        return Habit(token, "there are no dictionaries", "bind each value to a name of its own")
    return None


def _is_call(text: str, first: Token) -> bool:
    """`print(...)`, which reads like a call until the statement ends."""
    return first == "print" and text.startswith("(", first.end_pos or 0)
