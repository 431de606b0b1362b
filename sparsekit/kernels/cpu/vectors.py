"""A vector for Numba is a row of activations held in registers, so kernels read like their mathematics.

Numba alone holds such a row in memory and reaches half the speed. A vector here is one LLVM value of 16 to 128 numbers.
LLVM splits it over as many registers as the processor needs, so the same kernel serves AVX-512, AVX2 and NEON.

`like` is any vector of the desired kind, because kernels are written once and compiled for each kind. With `count` only
the first so many numbers are read, written or summed, and `None` means all of them.
"""

from llvmlite import binding, ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic, models, register_model

_INT32 = ir.IntType(32)
_BOOL = ir.IntType(1)
_LINE = 64  # bytes in a cache line


def _widest() -> int:
    """Return how many float32 numbers fit into half the registers, because the other half holds what they meet."""
    features = binding.get_host_cpu_features()
    return 128 if features.get("avx512f") else 64


WIDEST = _widest()


class Vector(types.Type):
    """This is the type of a vector, by its element type and its number of lanes."""

    def __init__(self, element: types.Float, lanes: int):
        self.element, self.lanes = element, lanes
        super().__init__(name=f"Vector({element}, {lanes})")

    @property
    def llvm(self) -> ir.VectorType:
        """The same type in LLVM."""
        return ir.VectorType(self.number, self.lanes)

    @property
    def number(self) -> ir.Type:
        """The element type in LLVM."""
        return ir.FloatType() if self.element.bitwidth == 32 else ir.DoubleType()

    @property
    def suffix(self) -> str:
        """How LLVM writes the type in the names of its functions."""
        return f"v{self.lanes}f{self.element.bitwidth}"


@register_model(Vector)
class _VectorModel(models.PrimitiveModel):
    def __init__(self, manager, vector: Vector):
        super().__init__(manager, vector, vector.llvm)


@intrinsic(prefer_literal=True)
def zeros(typing, array, lanes):
    """Return `lanes` zeros of an array's element type."""
    vector = Vector(array.dtype, lanes.literal_value)
    return vector(array, lanes), lambda context, builder, signature, args: _zero(vector)


@intrinsic
def zeros_like(typing, like):
    """Return zeros of the same kind."""
    return like(like), lambda context, builder, signature, args: _zero(like)


@intrinsic
def spread(typing, number, like):
    """Return a vector of one number in every lane."""

    def generate(context, builder, signature, args):
        value = context.cast(builder, args[0], signature.args[0], like.element)
        return _spread(builder, value, like)

    return like(number, like), generate


@intrinsic
def load(typing, array, offset, like, count):
    """Return consecutive numbers of an array's memory, from an offset on, with zeros in the lanes past `count`."""

    def generate(context, builder, signature, args):
        pointer = _pointer(context, builder, signature, args, like.llvm)
        if isinstance(count, types.NoneType):
            value = builder.load(pointer)
            value.align = like.element.bitwidth // 8
            return value
        kinds = [pointer.type, _INT32, ir.VectorType(_BOOL, like.lanes), like.llvm]
        name = f"llvm.masked.load.{like.suffix}.p0"
        function = cgutils.get_or_insert_function(builder.module, ir.FunctionType(like.llvm, kinds), name)
        mask = _first(context, builder, signature.args[3], args[3], like)
        return builder.call(function, [pointer, _INT32(like.element.bitwidth // 8), mask, _zero(like)])

    return like(array, offset, like, count), generate


@intrinsic
def store(typing, array, offset, vector, count):
    """Write a vector to an array's memory, from an offset on."""

    def generate(context, builder, signature, args):
        pointer = _pointer(context, builder, signature, args, vector.llvm)
        if isinstance(count, types.NoneType):
            builder.store(args[2], pointer).align = vector.element.bitwidth // 8
            return context.get_dummy_value()
        kinds = [vector.llvm, pointer.type, _INT32, ir.VectorType(_BOOL, vector.lanes)]
        name = f"llvm.masked.store.{vector.suffix}.p0"
        function = cgutils.get_or_insert_function(builder.module, ir.FunctionType(ir.VoidType(), kinds), name)
        mask = _first(context, builder, signature.args[3], args[3], vector)
        builder.call(function, [args[2], pointer, _INT32(vector.element.bitwidth // 8), mask])
        return context.get_dummy_value()

    return types.void(array, offset, vector, count), generate


@intrinsic
def prefetch(typing, array, offset, like):
    """Ask for the memory of a vector that will be read soon."""

    def generate(context, builder, signature, args):
        byte = ir.IntType(8).as_pointer()
        pointer = builder.bitcast(_pointer(context, builder, signature, args, like.llvm), byte)
        kind = ir.FunctionType(ir.VoidType(), [byte, _INT32, _INT32, _INT32])
        function = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")
        for line in range(max(1, like.lanes * like.element.bitwidth // 8 // _LINE)):
            builder.call(function, [builder.gep(pointer, [_INT32(line * _LINE)]), _INT32(0), _INT32(3), _INT32(1)])
        return context.get_dummy_value()

    return types.void(array, offset, like), generate


@intrinsic
def fma(typing, a, b, c):
    """Return `a * b + c`, rounded once."""
    return a(a, b, c), lambda context, builder, signature, args: _fma(builder, a, *args)


@intrinsic(prefer_literal=True)
def dot(typing, a, b, sums):
    """Return the sum of the products of two vectors' numbers, added up in so many sums first (1, 2 or 4).

    One sum waits for itself, while many cost registers and are added up in the end. The loop decides which is fastest.
    """

    def generate(context, builder, signature, args):
        part = Vector(a.element, min(a.lanes, 512 // a.element.bitwidth))
        lefts, rights = (_split(builder, vector, a.lanes, part.lanes) for vector in args[:2])
        parts: list = []
        for number, (left, right) in enumerate(zip(lefts, rights, strict=True)):
            if number < sums.literal_value:
                parts.append(builder.fmul(left, right))
            else:
                index = number % sums.literal_value
                parts[index] = _fma(builder, part, left, right, parts[index])
        while len(parts) > 1:
            parts = [builder.fadd(*pair) for pair in zip(parts[::2], parts[1::2], strict=True)]
        return _reduce(builder, part, parts[0])

    return a.element(a, b, sums), generate


@intrinsic
def total(typing, vector):
    """Return the sum of a vector's numbers."""
    return vector.element(vector), lambda context, builder, signature, args: _reduce(builder, vector, args[0])


@intrinsic
def only_where_positive(typing, vector, guide):
    """Return a vector with zeros in the lanes in which the guide is not positive."""

    def generate(context, builder, signature, args):
        return builder.select(builder.fcmp_ordered(">", args[1], _zero(vector)), args[0], _zero(vector))

    return vector(vector, guide), generate


def _zero(vector: Vector) -> ir.Constant:
    return ir.Constant(vector.llvm, [0.0] * vector.lanes)


def _spread(builder, value, vector: Vector):
    undefined = ir.Constant(ir.VectorType(value.type, vector.lanes), ir.Undefined)
    first = builder.insert_element(undefined, value, _INT32(0))
    everywhere = ir.Constant(ir.VectorType(_INT32, vector.lanes), [0] * vector.lanes)
    return builder.shuffle_vector(first, undefined, everywhere)


def _first(context, builder, kind, count, vector: Vector):
    """Return a mask that is true in the first `count` lanes."""
    limit = _spread(builder, context.cast(builder, count, kind, types.int32), vector)
    numbers = ir.Constant(ir.VectorType(_INT32, vector.lanes), list(range(vector.lanes)))
    return builder.icmp_signed("<", numbers, limit)


def _pointer(context, builder, signature, args, kind):
    array = context.make_array(signature.args[0])(context, builder, args[0])
    offset = context.cast(builder, args[1], signature.args[1], types.intp)
    return builder.bitcast(builder.gep(array.data, [offset]), kind.as_pointer())


def _fma(builder, vector: Vector, a, b, c):
    kind = ir.FunctionType(vector.llvm, [vector.llvm] * 3)
    return builder.call(cgutils.get_or_insert_function(builder.module, kind, f"llvm.fma.{vector.suffix}"), [a, b, c])


def _reduce(builder, vector: Vector, value):
    kind = ir.FunctionType(vector.number, [vector.number, vector.llvm])
    name = f"llvm.vector.reduce.fadd.{vector.suffix}"
    function = cgutils.get_or_insert_function(builder.module, kind, name)
    return builder.call(function, [ir.Constant(vector.number, 0.0), value], fastmath=["fast"])


def _split(builder, value, lanes: int, size: int) -> list:
    """Cut a vector into parts of the size of one register."""
    groups = (list(range(first, first + size)) for first in range(0, lanes, size))
    return [builder.shuffle_vector(value, value, ir.Constant(ir.VectorType(_INT32, size), group)) for group in groups]


@intrinsic(prefer_literal=True)
def transpose_tile(typing, source, source_at, source_step, target, target_at, target_step, streams):
    """Transpose a square of numbers, one register wide, whose rows start every so many numbers.

    In each round rows that differ in one bit of their number swap the halves in which the same bit of the lane
    differs. After all bits, lanes have become rows. What streams is written past the caches, to whole cache lines.
    """
    vector = Vector(source.dtype, 512 // source.dtype.bitwidth)

    def row(context, builder, signature, args, first, number):
        step = builder.mul(args[first + 2], ir.Constant(args[first + 2].type, number))
        array = context.make_array(signature.args[first])(context, builder, args[first])
        pointer = builder.gep(array.data, [builder.add(args[first + 1], step)])
        return builder.bitcast(pointer, vector.llvm.as_pointer())

    def generate(context, builder, signature, args):
        align = vector.element.bitwidth // 8
        rows = []
        for number in range(vector.lanes):
            rows.append(builder.load(row(context, builder, signature, args, 0, number)))
            rows[-1].align = align
        for number, value in enumerate(_swapped(builder, rows, vector.lanes)):
            stored = builder.store(value, row(context, builder, signature, args, 3, number))
            stored.align = _LINE if streams.literal_value else align
            if streams.literal_value:
                stored.set_metadata("nontemporal", builder.module.add_metadata([_INT32(1)]))
        return context.get_dummy_value()

    steps = types.int64
    return types.void(source, steps, steps, target, steps, steps, streams), generate


def _swapped(builder, rows: list, lanes: int) -> list:
    bit = 1
    while bit < lanes:
        low = [lane ^ bit | lanes if lane & bit else lane for lane in range(lanes)]
        high = [lane | lanes if lane & bit else lane | bit for lane in range(lanes)]
        new = list(rows)
        for number in (number for number in range(lanes) if not number & bit):
            pair = rows[number], rows[number | bit]
            new[number] = builder.shuffle_vector(*pair, ir.Constant(ir.VectorType(_INT32, lanes), low))
            new[number | bit] = builder.shuffle_vector(*pair, ir.Constant(ir.VectorType(_INT32, lanes), high))
        rows, bit = new, 2 * bit
    return rows
