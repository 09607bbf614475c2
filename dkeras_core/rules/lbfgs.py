"""L-BFGS with a strong Wolfe line search, turned inside out: it asks for losses and gradients, whoever computes them.

Nocedal and Wright, Numerical Optimization (2nd ed., 2006): algorithms 7.4 (two-loop recursion), 7.5 (L-BFGS), 3.5 and
3.6 (line search and zoom). Vectors are float64 here: differences of nearly equal gradients carry the curvature.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Generator
from dataclasses import dataclass

import numpy as np

SUFFICIENT_DECREASE = 1e-4  # c1 of the Wolfe conditions
CURVATURE = 0.9  # c2, the usual one for quasi-Newton directions
TRIALS = 20  # evaluations of one line search before the best point so far is taken

Evaluation = tuple[float, np.ndarray]


@dataclass(frozen=True)
class Iterate:
    """Where the minimisation stands after an iteration.

    gradient_norm is the largest absolute component of the gradient; ``ended`` says why it stops here, None if not.
    """

    x: np.ndarray
    loss: float
    gradient_norm: float
    iteration: int
    evaluations: int
    ended: str | None = None


@dataclass
class _Point:
    """A point on the line x + step * direction: loss, gradient, and slope along the direction."""

    step: float
    loss: float
    gradient: np.ndarray
    slope: float


class LBFGS:
    """Minimises by answers: ``ask`` gives the point to evaluate, ``tell`` takes its loss and gradient.

    Parameters
    ----------
    x : array of shape (n,)
        Where to begin.
    history : int
        Pairs of steps and gradient differences kept, m of the book.
    iterations : int
        At most so many.
    tolerance : float
        Ends when the largest component of the gradient is at most this.

    >>> search = LBFGS(np.array([-1.2, 1.0]), history=10, iterations=100, tolerance=1e-6)
    >>> while (x := search.ask()) is not None:
    ...     search.tell(*loss_and_gradient(x))
    >>> search.iterate.x, search.iterate.ended
    """

    def __init__(self, x: np.ndarray, *, history: int, iterations: int, tolerance: float):
        self._history, self._iterations, self._tolerance = history, iterations, tolerance
        self._evaluations = 0
        self.iterate: Iterate | None = None
        self._steps = self._minimise(np.array(x, np.float64))
        self._question: np.ndarray | None = next(self._steps)

    def ask(self) -> np.ndarray | None:
        """The point whose loss and gradient are wanted, float64[n]; None when the search has ended."""
        return self._question

    def tell(self, loss: float, gradient: np.ndarray) -> Iterate | None:
        """Take loss and gradient at the point asked for; the new iterate when this completed an iteration.

        A loss that is not finite is taken as infinitely bad: the line search goes back.
        """
        before = self.iterate
        self._evaluations += 1
        finite = np.isfinite(loss) and np.isfinite(gradient).all()
        answer = (float(loss), np.asarray(gradient, np.float64)) if finite else (np.inf, np.zeros(len(gradient)))
        try:
            self._question = self._steps.send(answer)
        except StopIteration:
            self._question = None
        return self.iterate if self.iterate is not before else None

    def _reached(self, x, loss, gradient, iteration, ended=None) -> bool:
        """Keep the iterate; True when the search ends here."""
        norm = float(np.abs(gradient).max())
        if ended is None and norm <= self._tolerance:
            ended = f"the gradient is at most {self._tolerance:g}"
        if ended is None and iteration >= self._iterations:
            ended = f"{iteration} iterations are done"
        self.iterate = Iterate(x, loss, norm, iteration, self._evaluations, ended)
        return ended is not None

    def _minimise(self, x: np.ndarray) -> Generator[np.ndarray, Evaluation, None]:
        """Algorithm 7.5."""
        loss, gradient = yield x
        if not np.isfinite(loss):
            self._reached(x, loss, gradient, 0, "the loss is not finite at the initial parameters")
            return
        if self._reached(x, loss, gradient, 0):
            return
        pairs: deque = deque(maxlen=self._history)
        for iteration in range(1, self._iterations + 1):
            direction = two_loop(gradient, pairs)
            if _dot(direction, gradient) >= 0:  # rounding has spoilt the curvature: begin again from the gradient
                pairs.clear()
                direction = -gradient
            # Without curvature the gradient's length says nothing about the step: the first one moves by at most 1.
            first = 1.0 if pairs else min(1.0, 1.0 / float(np.abs(gradient).sum()))
            found = yield from _line_search(x, direction, _Point(0.0, loss, gradient, _dot(gradient, direction)), first)
            if found is None:
                self._reached(x, loss, gradient, iteration, "no step along the direction lowers the loss")
                return
            following = x + found.step * direction
            step, change = following - x, found.gradient - gradient
            curvature = _dot(step, change)
            if curvature > 1e-10 * _dot(change, change) ** 0.5 * _dot(step, step) ** 0.5:
                pairs.append((step, change, 1.0 / curvature))
            x, loss, gradient = following, found.loss, found.gradient
            if self._reached(x, loss, gradient, iteration):
                return


def two_loop(gradient: np.ndarray, pairs: deque) -> np.ndarray:
    """The direction -H g of algorithm 7.4; ``pairs`` holds (s, y, 1 / s'y), oldest first."""
    direction = gradient.copy()
    weights = []
    for s, y, inverse in reversed(pairs):
        weights.append(inverse * _dot(s, direction))
        direction -= weights[-1] * y
    if pairs:
        _, y, inverse = pairs[-1]
        direction /= inverse * _dot(y, y)  # equation 7.20: the scale of the newest curvature
    for (s, y, inverse), weight in zip(pairs, reversed(weights), strict=True):
        direction += (weight - inverse * _dot(y, direction)) * s
    return np.negative(direction, out=direction)


def _line_search(
    x: np.ndarray, direction: np.ndarray, origin: _Point, first: float
) -> Generator[np.ndarray, Evaluation, _Point | None]:
    """Algorithm 3.5: a point that meets the strong Wolfe conditions, the best one found, or None."""
    best, previous, step = origin, origin, first
    low = high = None
    for _ in range(TRIALS):
        loss, gradient = yield x + step * direction
        point = _Point(step, loss, gradient, _dot(gradient, direction))
        if point.loss < best.loss:
            best = point
        too_high = point.loss > origin.loss + SUFFICIENT_DECREASE * step * origin.slope
        if not too_high and abs(point.slope) <= -CURVATURE * origin.slope:
            return point
        if low is None:  # the interval is not bracketed yet
            if too_high or (previous is not origin and point.loss >= previous.loss):
                low, high = previous, point
            elif point.slope >= 0:
                low, high = point, previous
            else:
                previous, step = point, 2.0 * step
                continue
        elif too_high or point.loss >= low.loss:  # algorithm 3.6
            high = point
        else:
            if point.slope * (high.step - low.step) >= 0:
                high = low
            low = point
        step = _between(low, high)
    return best if best is not origin else None


def _between(low: _Point, high: _Point) -> float:
    """The minimiser of the cubic through both points (equation 3.59), kept off the ends of the interval."""
    width = high.step - low.step
    middle = low.step + 0.5 * width
    if width == 0:  # the interval has shrunk to nothing
        return middle
    if not np.isfinite(high.loss):
        return low.step + 0.1 * width
    d1 = low.slope + high.slope - 3.0 * (low.loss - high.loss) / (low.step - high.step)
    root = d1 * d1 - low.slope * high.slope
    if root < 0:
        return middle
    d2 = np.copysign(np.sqrt(root), width)
    denominator = high.slope - low.slope + 2.0 * d2
    if denominator == 0:
        return middle
    step = high.step - width * (high.slope + d2 - d1) / denominator
    ends = sorted((low.step + 0.1 * width, high.step - 0.1 * width))
    return float(np.clip(step, *ends)) if np.isfinite(step) else middle


def _dot(a: np.ndarray, b: np.ndarray) -> float:
    # einsum starts no threads, which would wait for cores that the workers keep busy
    return float(np.einsum("i,i->", a, b))
