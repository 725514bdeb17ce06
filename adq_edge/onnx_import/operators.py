"""Operators by the way in which they keep the images of a batch apart."""

from __future__ import annotations

UNARY = (
    *("Abs", "Acos", "Asin", "Atan", "Cast", "Ceil", "Celu", "Clip", "Cos", "Elu", "Erf", "Exp", "Floor"),
    *("HardSigmoid", "HardSwish", "Identity", "IsInf", "IsNaN", "LeakyRelu", "Log", "Neg", "Not"),
    *("Reciprocal", "Relu", "Round", "Selu", "Sigmoid", "Sign", "Sin", "Softplus", "Softsign", "Sqrt"),
    *("Tan", "Tanh", "ThresholdedRelu"),
)
"""Operators of one input, value by value; Clip has limits too."""
BROADCASTING = (
    *("Add", "And", "Div", "Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual", "Max", "Mean"),
    *("Min", "Mod", "Mul", "Or", "Pow", "PRelu", "Sub", "Sum", "Where", "Xor"),
)
"""Operators of several inputs, which are broadcast to one shape."""
IMAGE_WISE = (
    *("AveragePool", "BatchNormalization", "Conv", "ConvTranspose", "DepthToSpace", "GlobalAveragePool"),
    *("GlobalLpPool", "GlobalMaxPool", "GridSample", "InstanceNormalization", "LpPool", "LRN", "MaxPool"),
    *("SpaceToDepth",),
)
"""Operators that have the images on their first axis."""
REDUCTIONS = (
    *("ArgMax", "ArgMin", "ReduceL1", "ReduceL2", "ReduceLogSum", "ReduceLogSumExp", "ReduceMax"),
    *("ReduceMean", "ReduceMin", "ReduceProd", "ReduceSum", "ReduceSumSquare"),
)
"""Operators that reduce axes."""
SOFTMAX = ("Hardmax", "LogSoftmax", "LpNormalization", "Softmax")
"""Operators that normalize along an axis, by default the last one."""
