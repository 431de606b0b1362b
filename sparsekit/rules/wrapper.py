"""A rule around another rule: it defines what it changes, and everything else is the other one's."""

from typing import Any

from sparsekit.rules.base import Rule
from sparsekit.rules.flops import Pass
from sparsekit.rules.parts import PARTS, members_of

_OPTIONAL = frozenset(name for part in PARTS for name in members_of(part))


class WrappedRule(Rule):
    """A rule that changes some of what another one does. Subclasses have a field `base`, which is the other rule."""

    base: Rule

    @property
    def needs_gradients(self) -> bool:  # type: ignore[override]
        """As the base rule."""
        return self.base.needs_gradients

    def training_flops(self, cost: Pass) -> float:
        return self.base.training_flops(cost)

    def __getattr__(self, name: str) -> Any:
        # Python asks here only for what it does not find, such as optional parts that the wrapper does not define.
        if any(name in vars(cls) for cls in type(self).__mro__):  # it does, but its property has failed
            raise TypeError(
                f"{type(self).__name__}.{name} must give a value, got an AttributeError within it. Look at what it "
                "reads, for example a field base that is missing"
            )
        if name in _OPTIONAL:
            return getattr(self.base, name)
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
