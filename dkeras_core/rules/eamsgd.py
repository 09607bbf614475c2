"""EAMSGD: elastic averaging with local Nesterov momentum (Zhang, Choromanska, LeCun, arXiv 1412.6651)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from dkeras_core.errors import ConfigError
from dkeras_core.rules.easgd import AsynchronousEASGD

ANY_OPTIMIZER = frozenset(
    {"learning_rate", "weight_decay", "clipnorm", "clipvalue", "global_clipnorm", "use_ema", "ema_momentum"}
    | {"ema_overwrite_frequency", "loss_scale_factor", "gradient_accumulation_steps"}
)
"""Arguments that every Keras optimizer takes, and that mean the same for SGD."""


@dataclass(frozen=True, kw_only=True)
class EAMSGD(AsynchronousEASGD):
    """EAMSGD, equation (7) and Algorithm 2 of arXiv 1412.6651.

    The elastic step is that of asynchronous EASGD; the local steps are those of Nesterov's method, with v the
    worker's own velocity, which no exchange changes::

        v <- delta v - eta g(x + delta v)
        x <- x + v

    The local optimizer is therefore always Keras' SGD with nesterov=True, which keeps y = x + delta v; workers
    exchange the paper's x. The user's learning rate is kept, whatever optimizer it was meant for: with momentum delta
    it acts like eta / (1 - delta) without.

    Parameters
    ----------
    momentum : float in (0, 0.999]
        delta; without momentum this is asynchronous_easgd. The paper's 0.99 wants a learning rate ten times smaller
        than the default 0.9, and runs of many hundred local steps, since it averages over a hundred.
    moving_rate : float in (0, 1], "by_workers" or "paper"
        alpha; "by_workers" is 0.5 up to 16 workers and 0.7 above, "paper" 0.9 / p.
    communication_period : int, "by_workers", "auto", "epoch" or "fit"
        tau, local steps between exchanges; the paper's 10.
    """

    name: ClassVar[str] = "eamsgd"
    lookahead: ClassVar[bool] = True

    momentum: float = 0.9

    def validate(self) -> None:
        super().validate()
        self._real("momentum", above=0, at_most=0.999, or_else=" (asynchronous_easgd is without)")

    def optimizer(self, setting: dict[str, Any]) -> dict[str, Any]:
        """Keras' SGD with this rule's momentum and the arguments of ``setting`` that every optimizer has.

        Raises ConfigError for an argument that SGD would not know, or that this rule sets itself.
        """
        arguments = {key: value for key, value in setting.items() if key != "name"}
        ours = {"momentum": self.momentum, "nesterov": True}
        strange = [key for key, value in arguments.items() if key not in ANY_OPTIMIZER and ours.get(key) != value]
        if strange:
            raise ConfigError(
                f"algorithm eamsgd trains with Nesterov SGD of its own momentum, so {strange[0]!r} of optimizer "
                f"{setting.get('name')!r} cannot be kept",
                "set algorithm.momentum" if strange[0] == "momentum" else f"leave {strange[0]} out of the optimizer",
            )
        return {"name": "sgd", **arguments, **ours}
