"""The ways in which a framework's allocator can take memory from the driver: their names, and their processes."""

from __future__ import annotations

from collections.abc import Mapping

from fwmagic import frameworks
from fwmagic.errors import FwMagicError
from fwmagic.frameworks.memory import Policy

ALL = "all"


def every_policy() -> tuple[Policy, ...]:
    """Return the policies of all frameworks that are installed or loaded, importing them."""
    known = {framework.name: framework.memory for framework in (*frameworks.installed(), *frameworks.loaded())}
    return tuple(policy for name in sorted(known) for policy in known[name].policies)


def named_policies(text: str) -> tuple[Policy, ...]:
    """Return the policies that `text` names: `all`, or names such as `jax:platform` with commas between them.

    Raises
    ------
    FwMagicError
        There is no such policy.
    """
    if text.strip() == ALL:
        return every_policy()
    return tuple({name: _named_policy(name) for name in map(str.strip, text.split(","))}.values())


def _named_policy(name: str) -> Policy:
    framework = name.partition(":")[0]
    own = frameworks.get(framework).memory.policies if framework in frameworks.names() else ()
    for policy in own:
        if str(policy) == name:
            return policy
    raise FwMagicError(f"{name!r} is no policy; there are: {', '.join(map(str, every_policy()))}; or {ALL} alone")


def policy_environment(given: Mapping[str, str], policy: Policy | None = None) -> dict[str, str]:
    """Return `given` as the environment of a process that shares the device with others; it is not changed itself.

    The policy takes the place of whatever was chosen for its framework. The others leave room on the device, unless
    the user has chosen how they take memory: arrays of the notebook may make them start there, too.
    """
    found = dict(given)
    for framework in frameworks.loaded():
        own = policy is not None and policy.framework == framework.name
        found = framework.memory.environment(found, policy if own else None)
    return found
