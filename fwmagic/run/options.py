"""The options that hold for one section of a run."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Options:
    """The options that hold for one section, or for a %%torch or %%jax cell; `given` are those the user wrote.

    `budget` is wall seconds of all variants together, `margin` a fraction of 1, `items` how many items one call
    handles, `timeout` seconds, `alloc` the policies by name. From `budget` to `baseline`, and from `keep_going` on,
    they are the same for all sections of a cell but for `repeat_effects`.
    """

    name: str
    mode: str = "auto"
    compile_mode: str = "default"
    fullgraph: bool = False
    budget: float = 2.0
    margin: float = 0.01
    device: str | None = None
    inputs: tuple[str, ...] = ()
    items: int | None = None
    baseline: str | None = None
    check: bool = True
    seed: int | None = None
    keep_going: bool = False
    repeat_effects: bool = False
    output: str | None = None
    isolate: bool = False
    threads: int | None = None
    timeout: float | None = None
    alloc: tuple[str, ...] = ()
    memory: bool = True
    memray: bool = False
    flamegraph: str | None = None
    given: frozenset[str] = frozenset()

    @property
    def isolated(self) -> bool:
        """Whether each variant runs in a process of its own."""
        return self.isolate or self.threads is not None or self.timeout is not None or bool(self.alloc)

    def variants(self) -> dict[str, str]:
        """Return the mode of each variant by the variant's name, which is `name:mode` if there are several."""
        if self.mode == "all":
            return {f"{self.name}:{mode}": mode for mode in ("eager", "compiled")}
        return {self.name: self.mode}

    def stated(self) -> dict[str, str]:
        """Return the options that the user wrote, as text by their name."""
        texts = {}
        for name in sorted(self.given):
            value = getattr(self, name)
            flag = f"no-{name}" if name in ("check", "memory") else name.replace("_", "-")
            text = "yes" if isinstance(value, bool) else ",".join(value) if isinstance(value, tuple) else str(value)
            texts[flag] = text
        return texts
