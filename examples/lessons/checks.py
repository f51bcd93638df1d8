"""The checkers of the lessons: each says in one sentence whether an answer is right, and if not, what to look at."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

RIGHT = "Right."

# What is right of each lesson's puzzle, and what to look at where something else was predicted.
_PUZZLES: Mapping[int, Mapping[str, tuple[Any, str]]] = {
    1: {
        "without a trace": (3, "without a trace Python runs the function in each call. How many calls are there?"),
        "while tracing": (
            1,
            "look at `while tracing` in the line of `print`. Did the second call have to be traced again?",
        ),
    },
    2: {
        "without a trace": (3, "without a trace each call appends. How many calls are there?"),
        "compiled by JAX": (1, "`append` is Python, and no part of the program. How often does Python run the body?"),
        "compiled by torch": (3, "look at what the torch cell returns: Dynamo does after each call what Python did."),
    },
    3: {
        "the line that cannot be traced": (
            8,
            "a loop over `range(4)` and a question about a shape need no number of `x`. Which line asks for one?",
        ),
        "multiplications until there": (
            4,
            "look at `while tracing` in the line of the multiplication: each time is one that the trace has noted.",
        ),
    },
    4: {
        "equal numbers of torch": (0, "torch's generator moves on with each draw."),
        "equal numbers of JAX": (3, "a key does not move on. What does the same key draw twice?"),
    },
    5: {
        "arrays of one shape": (1, "the second call has arrays of the same shape and dtype: is there anything new?"),
        "arrays that grow": (5, "a program is made for one shape. How many shapes are there?"),
    },
    6: {
        "the value": (0.0, "look at the value: `where` takes 0 where `x` is not above 0."),
        "the gradient is a number": (
            False,
            "going backward, `where` multiplies the way that was not taken by 0. What is 0 times infinity?",
        ),
    },
    7: {
        "torch": (4_000_000, "`first` is a view: it keeps all the memory that it looks into. Of how many bytes?"),
        "jax": (40, "JAX has no views: `first` is an array of its own. Ten numbers of four bytes are …?"),
    },
    8: {
        "faster would be right": (
            False,
            "both sections are the same text. A verdict of faster would be wrong, and the interval is there to keep it "
            "from being said.",
        ),
        "its interval should contain 1": (True, "the ratio of two times that are the same is 1."),
    },
}


def predicted(lesson: int, prediction: Mapping[str, Any]) -> str:
    """Check what was predicted for a lesson's puzzle."""
    puzzle = _PUZZLES[lesson]
    if any(prediction.get(key, ...) is ... for key in puzzle):
        return "Not yet: write an answer in place of each `...`."
    for key, (right, hint) in puzzle.items():
        if prediction[key] != right:
            return f"Not yet, {key}: {hint}"
    return RIGHT


def _jitted(function: Callable[..., Any], cases: Iterable[tuple[tuple[Any, ...], Any]]) -> str:
    """Check that a function can be jitted, and gives what it should for each tuple of arguments."""
    import jax
    import numpy as np

    compiled = jax.jit(function)
    for given, expected in cases:
        told = ", ".join(str(np.asarray(one).tolist()) for one in given)
        try:
            found = compiled(*given)
        except (jax.errors.JAXTypeError, IndexError) as error:
            return f"Not yet: it cannot be traced ({type(error).__name__}). Which of its lines asks for a value?"
        except Exception as error:  # it is the learner's, and may raise anything
            return f"Not yet: of {told} it raises {type(error).__name__}: {error}"
        if found is None or np.shape(found) != np.shape(expected):
            made = "None" if found is None else f"shape {np.shape(found)}"
            return f"Not yet: of {told} it should make shape {np.shape(expected)}, and it makes {made}."
        if not np.allclose(found, expected):
            made = np.asarray(found).tolist()
            return f"Not yet: of {told} it should make {np.asarray(expected).tolist()}, and it makes {made}."
    return RIGHT


def halved(function: Callable[[Any], Any]) -> str:
    """Check lesson 1's exercise: a function that halves an array whose sum is above 2."""
    import jax.numpy as jnp
    import numpy as np

    lists = ([1.0, 2.0, 3.0], [0.5, 0.25, 0.0], [3.0, -4.0, 0.5])
    return _jitted(function, [((jnp.array(one),), np.array(one) / (2 if sum(one) > 2 else 1)) for one in lists])


def summed(function: Callable[[Any, Any], Any]) -> str:
    """Check lesson 2's exercise: a function of the total so far and a value, which returns the new total."""
    import jax
    import jax.numpy as jnp

    names = getattr(function, "__globals__", {})
    before = dict(names)
    cases = [((jnp.float32(a), jnp.float32(b)), a + b) for a, b in ((0, 1), (1, 2), (3, 4), (7, -7))]
    said = _jitted(function, cases)
    tracers = [name for name in names if isinstance(names[name], jax.core.Tracer)]
    left = [name for name in tracers if names[name] is not before.get(name)]
    names.update({name: before[name] for name in left if name in before})
    if said == RIGHT and left:
        return f"Not yet: jitted, it leaves a tracer in `{left[0]}`. It needs no global at all."
    return said


def halvings(function: Callable[[Any], Any]) -> str:
    """Check lesson 3's exercise: how often a number has to be halved until it is at most 1."""
    import jax.numpy as jnp

    numbers = {1.0: 0, 8.0: 3, 9.0: 4, 0.25: 0, 100.0: 7}
    return _jitted(function, [((jnp.float32(number),), count) for number, count in numbers.items()])


def noisy(function: Callable[[Any, Any], Any]) -> str:
    """Check lesson 4's exercise: a function of a key and an array, which returns a new key and the array with noise."""
    import jax
    import jax.numpy as jnp
    import numpy as np

    key, x = jax.random.key(0), jnp.arange(4.0)
    compiled = jax.jit(function)
    try:
        new, first = compiled(key, x)
        _, again = compiled(key, x)
        _, second = compiled(new, x)
        _, moved = compiled(key, x + 1)
        _, elsewhere = compiled(jax.random.key(1), x)
    except Exception as error:  # it is the learner's, and may raise anything
        return f"Not yet: it raises {type(error).__name__}: {str(error).partition(chr(10))[0]}"
    if np.shape(first) != (4,) or np.allclose(first, x) or not np.allclose(moved, first + 1, atol=1e-5):
        return "Not yet: the second value that it returns should be `x` with noise added."
    if not np.allclose(first, again):
        return "Not yet: from one key it should always draw the same."
    if np.allclose(first, elsewhere):
        return "Not yet: from another key it draws the same. Where do its numbers come from?"
    if (jax.random.key_data(new) == jax.random.key_data(key)).all() or np.allclose(first, second):
        return "Not yet: called with the key that it returned, it draws the same numbers again."
    if np.allclose(first - x, jax.random.normal(key, (4,)), atol=1e-5):
        return "Not yet: it draws with the key that it was given. Split that key, and draw with a new one."
    if np.allclose(first - x, jax.random.normal(new, (4,)), atol=1e-5):
        return "Not yet: it returns the key that it has drawn with. Return the other one."
    return RIGHT


def mean_of(function: Callable[[Any, Any], Any]) -> str:
    """Check lesson 5's exercise: the mean of the first `count` numbers of an array, in one program for all counts."""
    import jax.numpy as jnp
    import numpy as np

    traces = []

    def counted(values: Any, count: Any) -> Any:
        traces.append(1)
        return function(values, count)

    values = np.array([1.0, 2.0, 6.0, 9.0, 9.0], np.float32)
    # What lies behind the count is rubbish.
    padded = {n: np.where(np.arange(5) < n, values, np.nan).astype(np.float32) for n in (1, 2, 3, 5)}
    cases = [((jnp.asarray(one), jnp.int32(n)), values[:n].mean()) for n, one in padded.items()]
    said = _jitted(counted, cases)
    return said if said != RIGHT or len(traces) == 1 else f"Not yet: it was traced {len(traces)} times."


def length(function: Callable[[Any], Any]) -> str:
    """Check lesson 6's exercise: the length of a vector, whose gradient is a number also where the vector is 0."""
    import jax
    import jax.numpy as jnp
    import numpy as np

    said = _jitted(function, [((jnp.array([3.0, 4.0]),), 5.0), ((jnp.zeros(2),), 0.0)])
    if said != RIGHT:
        return said
    for given, expected in (([3.0, 4.0], [0.6, 0.8]), ([0.0, 0.0], [0.0, 0.0])):
        found = np.asarray(jax.grad(function)(jnp.array(given)))
        if not np.allclose(found, expected, atol=1e-6):
            return f"Not yet: its gradient at {given} should be {expected}, and it is {found.tolist()}."
    return RIGHT


def first_ten(function: Callable[[Any], Any]) -> str:
    """Check lesson 7's exercise: the first ten numbers of a tensor, without the memory of all the others."""
    import torch

    x = torch.arange(1000.0)
    found = function(x)
    if not isinstance(found, torch.Tensor) or found.tolist() != x[:10].tolist():
        return "Not yet: it should return a tensor of the first ten numbers."
    held = found.untyped_storage().nbytes()
    return RIGHT if held == 40 else f"Not yet: what it returns keeps {held:,} bytes alive, and ten numbers take 40."


def verdict(function: Callable[[float, float, float], Any]) -> str:
    """Check lesson 8's exercise: what an interval of the ratio new / old says, given a margin."""
    cases = {
        (0.50, 0.60, 0.01): "faster",
        (1.20, 1.90, 0.01): "slower",
        (0.997, 1.004, 0.01): "same",
        (0.90, 1.05, 0.01): "undecided",
        (0.96, 0.98, 0.05): "same",
        (0.93, 0.98, 0.05): "undecided",
    }
    for (low, high, margin), expected in cases.items():
        said = function(low, high, margin)
        if said != expected:
            return (
                f"Not yet: of the interval from {low} to {high} with a margin of {margin} it says {said!r}. "
                f"Is every ratio in it below {1 - margin:g}, above {1 + margin:g}, or between the two?"
            )
    return RIGHT
