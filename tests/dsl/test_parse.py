"""Text -> syntax tree: what binds tighter, what every form means, where everything stands."""

import pytest

from fml.dsl import ast
from fml.engine.ir.diagnostics import FmlError
from tests.dsl.texts import codes, expression, file

from .shown import shown


@pytest.mark.parametrize(
    ("text", "tree"),
    [
        ("a + b * c", "(+ a (* b c))"),
        ("a - b - c", "(- (- a b) c)"),
        ("a / b * c @ d", "(@ (* (/ a b) c) d)"),
        ("a ^ b ^ c", "(^ a (^ b c))"),
        ("-a ^ b", "(- (^ a b))"),
        ("a ^ -b ^ c", "(^ a (- (^ b c)))"),
        ("2 ^ --a", "(^ 2 (- (- a)))"),
        ("-a * b", "(* (- a) b)"),
        ("a * -b", "(* a (- b))"),
        ("a .. b + 1", "(.. a (+ b 1))"),
        ("a .. b == c", "(== (.. a b) c)"),
        ("not a == b", "(not (== a b))"),
        ("not not a", "(not (not a))"),
        ("not a and b", "(and (not a) b)"),
        ("a or b and c", "(or a (and b c))"),
        ("a and b and c", "(and (and a b) c)"),
        ("a or b |> f", "(|> (or a b) f)"),
        ("a |> f |> g(b)", "(|> (|> a f) (Call g [b]))"),
        ("a + b |> f", "(|> (+ a b) f)"),
        ("(a |> f) + b", "(+ (|> a f) b)"),
        ("if a then b else c |> f", "(If a b (|> c f))"),
        ("if a then if b then c else d else e", "(If a (If b c d) e)"),
        ("f(x)(y).z[i]", "(Index (Attribute (Call (Call f [x]) [y]) 'z') [i])"),
        ("-f(x) ^ y.z", "(- (^ (Call f [x]) (Attribute y 'z')))"),
        ("2 * tau steps", "(* 2 (Quantity tau 'steps'))"),
        ("2 ^ 3 epochs", "(^ 2 (Quantity 3 'epochs'))"),
        ("f(x) samples", "(Quantity (Call f [x]) 'samples')"),
        ("1 step", "(Quantity 1 'steps')"),
        ("a<-b", None),
        ("a < -b", "(< a (- b))"),
        ("0 ..63", "(.. 0 63)"),
        ("0..63", "(.. 0 63)"),
    ],
)
def test_what_binds_tighter(text: str, tree: str | None) -> None:
    if tree is None:
        with pytest.raises(FmlError):
            expression(text)
    else:
        assert shown(expression(text)) == tree


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1", 1), ("1_000", 1000), ("0.1", 0.1), (".5", 0.5), ("1e-4", 1e-4), ("2E3", 2000.0),
        ("1_0.2_5", 10.25), ("10%", 0.1), ("92%", 0.92), ("0.5%", 0.005), ("0", 0), ("007", 7),
        (f"1{'0' * 299}", 10**299),
    ],
)  # fmt: skip
def test_numbers(text: str, value: float) -> None:
    number = expression(text)
    assert isinstance(number, ast.Number)
    assert number.value == value
    assert type(number.value) is type(value)
    assert number.text == text


@pytest.mark.parametrize(
    "unit", ["step", "epoch", "sample", "second", "minute", "hour"],
)  # fmt: skip
def test_units_in_singular_and_plural(unit: str) -> None:
    assert shown(expression(f"2 {unit}")) == shown(expression(f"2 {unit}s"))
    assert shown(expression(f"2 {unit}s")) == f"(Quantity 2 '{unit}s')"


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ('""', ""),
        ('"a b"', "a b"),
        (r'"a \"b\" \\ \n \t \r"', 'a "b" \\ \n \t \r'),
        (r'"C:\data"', r"C:\data"),
        ('"# no comment; |>"', "# no comment; |>"),
        ('"η 日本"', "η 日本"),
    ],
)
def test_strings(text: str, value: str) -> None:
    assert expression(text) == ast.String(value, span=expression(text).span)


@pytest.mark.parametrize(
    ("text", "tree"),
    [
        ("x[i, 1:3, :, a:, :b]",
         "(Index x [i (Slice 1 3) (Slice None None) (Slice a None) (Slice None b)])"),
        ("gpu[*]", "(Index gpu [(All)])"),
        ("x[..., 0]", "(Index x [(Dots) 0])"),
        ("net.**.W", "(Attribute (Attribute net '**') 'W')"),
        ("net.*", "(Attribute net '*')"),
        ("[a, b,]", "(ListOf [a b])"),
        ("[]", "(ListOf [])"),
        ("f(a, b = c, if = d)", None),
        ("f(a, b = c)", "(Call f [a b=c])"),
        ("f()", "(Call f [])"),
        ("learners.w", "(Attribute learners 'w')"),
        ("true", "(Boolean True)"),
        ("columns[0 .. 3]", "(Index columns [(.. 0 3)])"),
    ],
)  # fmt: skip
def test_other_expressions(text: str, tree: str | None) -> None:
    if tree is None:
        with pytest.raises(FmlError):
            expression(text)
    else:
        assert shown(expression(text)) == tree


WORDS = (
    "option", "import", "from", "as", "in", "data", "split", "by", "fn", "layer", "model",
    "optimizer", "strategy", "train", "param", "state", "where", "feed", "minimize", "over",
    "using", "descend", "along", "measure", "on", "every", "at", "end", "stop", "after", "when",
    "stops", "for", "keep", "log", "seed", "precision", "each", "use", "learners", "per",
    "device", "falling", "rising", "lowest", "highest", "steps", "epoch",
)  # fmt: skip


@pytest.mark.parametrize("word", WORDS)
def test_words_are_names_where_no_statement_begins(word: str) -> None:
    text = f"x = {word} + f({word}({word}), {word} = {word}.{word})"
    name = word
    tree = f"(+ {name} (Call f [(Call {name} [{name}]) {name}=(Attribute {name} '{name}')]))"
    assert shown(file(text)) == f"(File [(Constant 'x' {tree})])"


@pytest.mark.parametrize("word", ["data", "layer", "train", "param", "split", "option", "fn"])
def test_words_of_other_places_are_bound_in_plans(word: str) -> None:
    for text in (f"train {{ {word} = 1 }}", f"train {{\n  a = 1\n  {word} = 1\n}}"):
        (train,) = file(text).declarations
        assert isinstance(train, ast.Train)
        bound = train.body[-1]
        assert isinstance(bound, ast.Bind)
        assert bound.name == word


@pytest.mark.parametrize(
    "word", ["if", "then", "else", "and", "or", "not", "true", "false"],
)  # fmt: skip
def test_words_of_expressions_are_no_names(word: str) -> None:
    assert codes(f"{word} = 1") == ["E0102"]
    assert codes(f"x = y.{word}") == ["E0102"]


@pytest.mark.parametrize(
    ("written", "name"),
    [
        ("η", "η"), ("y\u0302", "ŷ"), ("ŷ", "ŷ"), ("ﬁt", "fit"), ("w_1", "w_1"), ("日本", "日本"),
        ("_", "_"), ("Å", "Å"),
    ],
)  # fmt: skip
def test_names_are_nfkc(written: str, name: str) -> None:
    assert shown(expression(written)) == name


@pytest.mark.parametrize(
    ("text", "tree"),
    [
        ("x: f32", "(Type 'f32' None None)"),
        ("x: f32[]", "(Type 'f32' None [])"),
        ("x: f32[N, H/2, ...]", "(Type 'f32' None [N (/ H 2) (Dots)])"),
        ("x: label[K]", "(Type 'label' K None)"),
        ("x: label[K][N]", "(Type 'label' K [N])"),
        ("x: dim", "(Type 'dim' None None)"),
    ],
)
def test_types(text: str, tree: str) -> None:
    (function,) = file(f"fn f({text}) = x").declarations
    assert isinstance(function, ast.Function)
    assert shown(function.parameters[0].type) == tree


@pytest.mark.parametrize(
    ("text", "tree"),
    [
        ("option a = 1 in [1, 2]", "(Option 'a' 1 (ListOf [1 2]))"),
        ("option a = 1 in 0 ..", "(Option 'a' 1 (Interval 0 '..' None))"),
        ("option a = 1 in 0 ..; b = 1", "(Option 'a' 1 (Interval 0 '..' None)) (Constant 'b' 1)"),
        ("option a = 1 in b - 1 <.. 2", "(Option 'a' 1 (Interval (- b 1) '<..' 2))"),
        ("option a = 1 in 0 .. 2", "(Option 'a' 1 (.. 0 2))"),
        ("fn f(x in 0 .., y = 1 in 0 ..< 1, z in 0 <..) = x",
         "(Function 'f' [(Parameter 'x' None None (Interval 0 '..' None)) "
         "(Parameter 'y' None 1 (Interval 0 '..<' 1)) "
         "(Parameter 'z' None None (Interval 0 '<..' None))] None x)"),
        ("a = 1", "(Constant 'a' 1)"),
        ('import "b.fml" as b', "(Import (String 'b.fml') 'b')"),
        ('from "b.fml" import c, d', "(ImportFrom (String 'b.fml') [c d])"),
        ("data d = given { x: f32; y: f32 = z }",
         "(Data 'd' given [(DataField 'x' (Type 'f32' None None) None) "
         "(DataField 'y' (Type 'f32' None None) z)] [])"),
        ('data d = csv("d") { split a 70%, b 2 from c by f(1) }',
         "(Data 'd' (Call csv [(String 'd')]) [] "
         "[(SplitBy [(SplitPart 'a' 0.7) (SplitPart 'b' 2)] 'c' (Call f [1]))])"),
        ("fn f(x, d = 1) -> f32 = x",
         "(Function 'f' [(Parameter 'x' None None None) (Parameter 'd' None 1 None)] "
         "(Type 'f32' None None) x)"),
        ("fn f(x) { y = x; y }",
         "(Function 'f' [(Parameter 'x' None None None)] None (Block [(Bind 'y' x)] y))"),
        ("layer f(x) = x", "(Layer 'layer' 'f' [] [(Parameter 'x' None None None)] None x)"),
        ("model f(n: dim)(x) = x",
         "(Layer 'model' 'f' [(Parameter 'n' (Type 'dim' None None) None None)] "
         "[(Parameter 'x' None None None)] None x)"),
        ("model f()(x) = x", "(Layer 'model' 'f' [] [(Parameter 'x' None None None)] None x)"),
        ("model f() = x", "(Layer 'model' 'f' [] [] None x)"),
        ("optimizer o(r) { each w, g at w + 1 { w <- g } }",
         "(Optimizer 'o' [(Parameter 'r' None None None)] [(Each w g (+ w 1) [(Assign w g)])])"),
        ("strategy s { every t { w <- z } }", "(Strategy 's' [] [(Every t [(Assign w z)])])"),
        ("train { }", "(Train '' [])"),
        ("train a { seed 1 }", "(Train 'a' [(Seed 1)])"),
    ],
)  # fmt: skip
def test_declarations(text: str, tree: str) -> None:
    assert shown(file(text)) == f"(File [{tree}])"


@pytest.mark.parametrize(
    ("text", "tree"),
    [
        ("a = 1", "(Bind 'a' 1)"),
        ("a.b <- 1", "(Assign (Attribute a 'b') 1)"),
        ("learners.w <- 1", "(Assign (Attribute learners 'w') 1)"),
        ("state m ~ zeros", "(State 'm' None zeros)"),
        ("state m: f32[D] ~ zeros", "(State 'm' (Type 'f32' None [D]) zeros)"),
        ("state m: z.head ~ zeros", "(State 'm' (Attribute z 'head') zeros)"),
        ("feed x, y from d.train |> shuffle",
         "(FeedFrom [x y] (|> (Attribute d 'train') shuffle))"),
        ("minimize a", "(Minimize None a None)"),
        ("minimize a == b over c", "(Minimize None (== a b) c)"),
        ("minimize J = a over c", "(Minimize 'J' a c)"),
        ("using adam(r)", "(Using (Call adam [r]))"),
        ("descend z along w - z using sgd(1)", "(Descend z (- w z) (Call sgd [1]))"),
        ('measure a, b as "c" on d.e', "(Measure [(Measured a None) (Measured b 'c')] "
         "(Attribute d 'e') None)"),
        ("measure a on d every 2 epochs", "(Measure [(Measured a None)] d (Quantity 2 'epochs'))"),
        ("measure a on d at end", "(Measure [(Measured a None)] d 'end')"),
        ("stop after n epochs", "(StopAfter (Quantity n 'epochs'))"),
        ("stop when a >= 99%", "(StopWhen (>= a 0.99))"),
        ("stop when a.b stops falling for 8 epochs",
         "(StopStalled (Attribute a 'b') 'falling' (Quantity 8 'epochs'))"),
        ("keep highest a", "(Keep 'highest' a)"),
        ('log a as "b" every 1 step', "(Log a 'b' (Quantity 1 'steps'))"),
        ("log log(a)", "(Log (Call log [a]) None None)"),
        ("every tau steps { a <- 1 }", "(Every (Quantity tau 'steps') [(Assign a 1)])"),
        ("when a < b { }", "(When (< a b) [])"),
        ("precision bf16", "(Precision bf16)"),
        ("use sma(learners.w, z)", "(Use (Call sma [(Attribute learners 'w') z]))"),
        ("learners 4 per device { }", "(Learners 4 None [] None [])"),
        ("learners auto per device on gpu[*], staleness = 2 { }",
         "(Learners auto (Index gpu [(All)]) [staleness=2] None [])"),
        ("learners 2 per device by sma()", "(Learners 2 None [] (Call sma []) None)"),
    ],
)  # fmt: skip
def test_statements(text: str, tree: str) -> None:
    assert shown(file(f"train {{ {text} }}")) == f"(File [(Train '' [{tree}])])"


def test_layer_bodies() -> None:
    text = "layer f(x) { param W: f32[D] ~ ones where max_norm(3); state s: f32 ~ zeros; W }"
    assert shown(file(text)) == (
        "(File [(Layer 'layer' 'f' [] [(Parameter 'x' None None None)] None (Block "
        "[(Param 'W' (Type 'f32' None [D]) ones (Call max_norm [3])) "
        "(State 's' (Type 'f32' None None) zeros)] W))])"
    )


def test_places_are_exact() -> None:
    text = '# η\nfn f(x) = (x + 10%)[1:2] |> g(y = "日本")\n'
    (function,) = file(text).declarations
    assert isinstance(function, ast.Function)
    pipe = function.body
    assert isinstance(pipe, ast.Pipe)
    assert isinstance(pipe.value, ast.Index)
    assert isinstance(pipe.into, ast.Call)
    places = [function, function.parameters[0], pipe, pipe.value, pipe.value.value, pipe.into,
              pipe.into.arguments[0]]  # fmt: skip
    assert [p.span.text for p in places] == [
        '''fn f(x) = (x + 10%)[1:2] |> g(y = "日本")''', "x",
        '''(x + 10%)[1:2] |> g(y = "日本")''', "(x + 10%)[1:2]", "x + 10%", 'g(y = "日本")',
        'y = "日本"',
    ]  # fmt: skip


def test_places_across_lines() -> None:
    (train,) = file("\ufefftrain a {\r\n  x =\r\n    1\r\n}\r\n").declarations
    assert (train.span.line, train.span.column, train.span.end_line) == (1, 2, 4)
    assert isinstance(train, ast.Train)
    (bind,) = train.body
    assert isinstance(bind, ast.Bind)
    assert (bind.span.line, bind.span.column) == (2, 3)
    assert bind.name_span.text == "x"
    assert (bind.value.span.line, bind.value.span.column) == (3, 5)


@pytest.mark.parametrize(
    ("text", "doc"),
    [
        ("## above\noption a = 1", "above"),
        ("## two\n##   lines\noption a = 1 ## not this", "two\nlines"),
        ("option a = 1   ##  behind ", "behind"),
        ("option a = [1,\n 2] ## at its end", "at its end"),
        ("# plain\noption a = 1 # plain", ""),
        ("## apart\n\noption a = 1", ""),
        ('option a = "## text"', ""),
        ("fn a() = 1 ## behind", "behind"),
        ("## above\n  train { }", "above"),
        ("train { ## behind\n}", "behind"),
        ("## above\r\noption a = 1\r\n", "above"),
    ],
)
def test_doc_comments_stand_before_or_behind(text: str, doc: str) -> None:
    (declaration,) = file(text).declarations
    assert not isinstance(declaration, ast.Import | ast.ImportFrom)
    assert declaration.doc == doc


def test_trees_are_equal_wherever_they_stand() -> None:
    assert file("a = f(1_000)") == file("\n\na   =   f( 1000 )  ## one thousand")
    assert file("a = 1") != file("a = 1.0 + 0")
