"""Names of other languages and libraries, and how what they stand for is written here."""

from collections.abc import Mapping

_CROSS_ENTROPY = "write `cross_entropy(logits, y)`, which takes logits as they are, without softmax"
_BINARY = "write `binary_cross_entropy(logits, y)`, which takes logits as they are, without sigmoid"
_CONV = "write `conv(channels, size)`: the channels of its input are known"
_DENSE = "write `dense(units)`: the size of its input is known"
_IN_SCOPE = "functions stand in scope by their own names: `exp(x)`, `dense(10)`"
_PIPE = "layers are piped: `x |> dense(64) |> relu |> dense(10)`"
_STANDARDIZE = "write `standardize`"
_TRANSPOSE = "write `transpose(x, [0, 2, 1])`, with the axes in their new order"
_SCHEDULE = "a schedule is a function of the rate: `sgd(0.1 |> cosine(20 epochs))`"

# Elements of tensors, where types stand and where values do.
ELEMENTS: Mapping[str, str] = {
    **dict.fromkeys(("float16", "half"), "write `f16`"),
    "bfloat16": "write `bf16`",
    **dict.fromkeys(("float32", "fp32"), "write `f32`"),
    **dict.fromkeys(("float64", "double"), "write `f64`"),
    **dict.fromkeys(("int", "int32"), "write `i32`"),
    **dict.fromkeys(("int64", "long"), "write `i64`"),
    **dict.fromkeys(("uint8", "byte"), "write `u8`"),
    "boolean": "write `bool`",
}
NAMES: Mapping[str, str] = {
    **ELEMENTS,
    "True": "write `true`",
    "False": "write `false`",
    "None": "leave it out: an argument with a default need not be given",
    **dict.fromkeys(("np", "numpy", "torch", "nn", "F", "tf", "jnp", "jax", "math"), _IN_SCOPE),
    "len": "the size of an axis is the dimension's name in a signature, `f32[N, D]`",
    "range": "`a .. b`, or `iota(n)` as a tensor",
    **dict.fromkeys(("Linear", "linear", "Dense", "fc"), _DENSE),
    **dict.fromkeys(("Conv1d", "Conv2d", "Conv2D", "conv2D"), _CONV),
    **dict.fromkeys(("ConvTranspose2d", "Conv2DTranspose"), "write `conv_transpose(channels, k)`"),
    **dict.fromkeys(("MaxPool2d", "MaxPooling2D", "max_pool2d"), "write `max_pool(size)`"),
    **dict.fromkeys(("AvgPool2d", "AveragePooling2D", "avg_pool2d"), "write `avg_pool(size)`"),
    **dict.fromkeys(
        ("AdaptiveAvgPool2d", "GlobalAveragePooling2D"), "write `global_avg_pool`"
    ),
    **dict.fromkeys(("BatchNorm1d", "BatchNorm2d", "BatchNormalization"), "write `batch_norm()`"),
    **dict.fromkeys(("LayerNorm", "LayerNormalization"), "write `layer_norm()`"),
    **dict.fromkeys(("MultiheadAttention", "MultiHeadAttention"), "write `attention(heads)`"),
    **dict.fromkeys(("Sequential", "ModuleList", "Module"), _PIPE),
    **dict.fromkeys(
        ("CrossEntropyLoss", "NLLLoss", "nll_loss", "softmax_cross_entropy",
         "categorical_crossentropy", "sparse_categorical_crossentropy"), _CROSS_ENTROPY,
    ),
    **dict.fromkeys(
        ("BCELoss", "BCEWithLogitsLoss", "bce", "binary_crossentropy"), _BINARY
    ),
    **dict.fromkeys(("MSELoss", "mse_loss", "mean_squared_error"), "write `mse(a, b)`"),
    **dict.fromkeys(("L1Loss", "l1_loss", "mean_absolute_error"), "write `mae(a, b)`"),
    **dict.fromkeys(("HuberLoss", "SmoothL1Loss", "smooth_l1_loss"), "write `huber(a, b)`"),
    **dict.fromkeys(("KLDivLoss", "kl_div"), "write `kl(p, q)`"),
    **dict.fromkeys(("SGD", "GradientDescent"), "write `sgd(rate)`, or `momentum(rate, 0.9)`"),
    **dict.fromkeys(("StepLR", "MultiStepLR", "ExponentialLR", "CosineAnnealingLR"), _SCHEDULE),
    **dict.fromkeys(("clip_grad_norm_", "clip_grad_norm"), "write `clip_norm(1) |> sgd(rate)`"),
    **dict.fromkeys(("standardise", "StandardScaler", "zscore"), _STANDARDIZE),
    "normalise": "write `normalize(x, mean, std)`, or `standardize` in a field of a data set",
    **dict.fromkeys(("view", "resize"), "write `reshape(x, [N, 28, 28, 1])`"),
    **dict.fromkeys(("permute", "swapaxes", "moveaxis"), _TRANSPOSE),
    **dict.fromkeys(("unsqueeze", "expand_dims"), "write `expand(x, over)`"),
    **dict.fromkeys(("cat", "concatenate"), "write `concat([a, b], over)`"),
    **dict.fromkeys(("matmul", "dot", "mm", "bmm"), "write `a @ b`"),
    **dict.fromkeys(("pow", "power"), "write `a ^ b`"),
    "arange": "write `iota(n)`",
    "clamp": "write `clip(x, low, high)`",
    "astype": "write `cast(x, f32)`",
}  # fmt: skip
