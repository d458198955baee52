"""Running with hooks and caches: TransformerLens' methods, with wrong names refused and switched hook points named."""

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

from jaxtyping import Shaped
from torch import Tensor
from transformer_lens import hook_points
from transformer_lens.HookedRootModule import HookedRootModule
from transformer_lens.utilities.slice import Slice

from interp.errors import InterpError, nearest
from interp.model.activation_cache import SymmetryBrokenCache, aliases, pos_dim
from interp.model.config import ModelConfig

SWITCHES = {
    "hook_result": "use_attn_result",
    "hook_attn_in": "use_attn_in",
    "hook_q_input": "use_split_qkv_input",
    "hook_k_input": "use_split_qkv_input",
    "hook_v_input": "use_split_qkv_input",
    "hook_mlp_in": "use_hook_mlp_in",
}
Name = str | Callable[[str], bool]
Names = Name | Iterable[Name] | None
Self = TypeVar("Self", bound="HookMethods")


class HookPoint(hook_points.HookPoint):
    """TransformerLens' HookPoint, whose hooks see a value with memory of its own, so that they may edit it in place.

    Else an edit would raise where autograd needs the value (a pattern) or where it is one of several views (queries, keys
    and values come out of one matrix product), and reach what shares its memory: weights, or what another hook point showed.
    """

    def forward(self, x: Shaped[Tensor, "*any"]) -> Shaped[Tensor, "*any"]:
        """Return the value, a copy of it if there is a hook."""
        return x.clone() if self._forward_hooks or self._backward_hooks else x


class HookMethods(HookedRootModule):
    """`run_with_cache`, `hooks`, `add_hook` and the `set_use_*` switches of a model with `cfg`."""

    cfg: ModelConfig

    @contextmanager
    def evaluating(self) -> Iterator[None]:
        """Run in evaluation mode inside a with block; the former mode comes back at its end."""
        was_training = self.training
        self.eval()
        try:
            yield
        finally:
            self.train(was_training)

    def set_use_attn_result(self, use_attn_result: bool) -> None:
        """Let `attn.hook_result` fire: what each head writes, [batch, pos, head_index, d_model]. It costs memory."""
        self.cfg.use_attn_result = use_attn_result

    def set_use_split_qkv_input(self, use_split_qkv_input: bool) -> None:
        """Let `attn.hook_q_input`, `hook_k_input`, `hook_v_input` fire: each head reads copies of its own.

        Raises:
            InterpError: `use_attn_in` is on, which says that the three are one.
        """
        self._check_one_of(use_split_qkv_input, "use_split_qkv_input", "use_attn_in")
        self.cfg.use_split_qkv_input = use_split_qkv_input

    def set_use_attn_in(self, use_attn_in: bool) -> None:
        """Let `attn.hook_attn_in` fire: one copy of the residual stream for each head.

        Raises:
            InterpError: `use_split_qkv_input` is on.
        """
        self._check_one_of(use_attn_in, "use_attn_in", "use_split_qkv_input")
        self.cfg.use_attn_in = use_attn_in

    def set_use_hook_mlp_in(self, use_hook_mlp_in: bool) -> None:
        """Let `hook_mlp_in` fire: the residual stream as the MLP's branch reads it."""
        self.cfg.use_hook_mlp_in = use_hook_mlp_in

    def _check_one_of(self, value: bool, wanted: str, other: str) -> None:
        if value and getattr(self.cfg, other):
            raise InterpError(f"{wanted} and {other} exclude each other; call model.set_{other}(False) first.")

    def run_with_cache(  # type: ignore[override]
        self,
        *model_args: Any,
        return_cache_object: bool = True,
        remove_batch_dim: bool = False,
        names_filter: Names = None,
        pos_slice: Any = None,
        **kwargs: Any,
    ) -> tuple[Any, SymmetryBrokenCache | dict[str, Tensor]]:
        """Run and return (output, ActivationCache); arguments are TransformerLens'.

        Raises:
            InterpError: `names_filter` names a hook point that does not exist or is switched off.
        """
        wanted: Any = names_filter  # more than TransformerLens takes: `get_caching_hooks` reads it
        output, values = super().run_with_cache(*model_args, names_filter=wanted, **kwargs)
        # sliced here: TransformerLens takes an axis of heads for positions in the hook points it does not know
        positions = Slice.unwrap(pos_slice)
        for name, value in values.items() if pos_slice is not None else ():
            axis = pos_dim(name)
            values[name] = value if axis is None else positions.apply(value, dim=axis)
        cache = SymmetryBrokenCache(values, self)
        cache = cache.remove_batch_dim() if remove_batch_dim else cache
        return output, cache if return_cache_object else cache.cache_dict

    def get_caching_hooks(self, names_filter: Names = None, *args: Any, **kwargs: Any) -> tuple[dict, list, list]:
        """Return a cache and the hooks that fill it; arguments are TransformerLens'.

        Raises:
            InterpError: `names_filter` names a hook point that does not exist or is switched off.
        """
        return super().get_caching_hooks(self._wanted(names_filter), *args, **kwargs)

    def add_caching_hooks(self, names_filter: Names = None, *args: Any, **kwargs: Any) -> dict[str, Tensor]:
        """Attach hooks that fill a cache, and return it; arguments are TransformerLens'.

        Raises:
            InterpError: `names_filter` names a hook point that does not exist or is switched off.
        """
        return super().add_caching_hooks(self._wanted(names_filter), *args, **kwargs)

    @contextmanager
    def hooks(  # type: ignore[override]
        self: Self,
        fwd_hooks: Sequence[tuple[Name, Callable]] = (),
        bwd_hooks: Sequence[tuple[Name, Callable]] = (),
        reset_hooks_end: bool = True,
        clear_contexts: bool = False,
    ) -> Iterator[Self]:
        """Attach hooks inside a with block; arguments are TransformerLens'.

        Raises:
            InterpError: a name that is no hook point, with the nearest one, or one that is switched off; what is no pair
                of a name and a function.
        """
        with super().hooks(self._pairs(fwd_hooks), self._pairs(bwd_hooks), reset_hooks_end, clear_contexts):
            yield self

    def add_hook(self, name: Name, *args: Any, **kwargs: Any) -> None:
        """Attach a hook until `reset_hooks`; arguments are TransformerLens'.

        Raises:
            InterpError: a name that is no hook point, with the nearest one, or one that is switched off.
        """
        super().add_hook(self._checked(name), *args, **kwargs)

    def _wanted(self, names: Names) -> Callable[[str], bool]:
        """Return a filter of the hook points that `names` means and that fire."""
        if names is None:
            chosen: Collection[str] = self.hook_dict
        elif isinstance(names, str) or callable(names):
            chosen = set(self._named(names))
        elif isinstance(names, Iterable):
            chosen = {point for name in names for point in self._named(name)}
        else:
            raise InterpError(f"names_filter is {names!r}; a name, several, or a function of a name is expected.")
        return lambda name: name in chosen and self._switched_off(name) is None

    def _switched_off(self, name: str) -> str | None:
        """Return the switch that keeps a hook point from firing, if there is one."""
        switch = SWITCHES.get(name.rsplit(".", 1)[-1])
        return switch if switch and not getattr(self.cfg, switch) else None

    def _checked(self, name: Name) -> Name:
        """Return a name as it is called here, or a filter of such names, refusing one that cannot fire."""
        points = self._named(name)
        return points[0] if isinstance(name, str) else set(points).__contains__

    def _pairs(self, hooks: Sequence[tuple[Name, Callable]]) -> list[tuple[Name, Callable]]:
        for pair in hooks:
            if not (isinstance(pair, tuple | list) and len(pair) == 2 and callable(pair[1])):
                raise InterpError(f"A hook is {pair!r}; a pair, the name of a hook point and a function, is expected.")
        return [(self._checked(name), hook) for name, hook in hooks]

    def _named(self, name: Name) -> list[str]:
        """Return the hook points that a name or a filter means, by TransformerLens' other names too.

        A filter is asked about the other names only if it takes none of ours: else one that leaves out "hook_q" would
        take it as "q.hook_out".
        """
        other = aliases(self.cfg)
        if isinstance(name, str):
            points = [name if name in self.hook_dict else other.get(name, name)]
            if points[0] not in self.hook_dict:
                known = [*self.hook_dict, *(alias for alias, point in other.items() if point in self.hook_dict)]
                raise InterpError(f"There is no hook point {name!r}{nearest(name, known)} See model.hook_dict.")
        elif callable(name):
            points = [point for point in self.hook_dict if name(point)]
            if not points:
                meant = {point for alias, point in other.items() if name(alias)}
                points = [point for point in self.hook_dict if point in meant]
            if not points:
                raise InterpError("The names filter matches no hook point; see model.hook_dict for the names.")
        else:
            raise InterpError(f"The name of a hook point is {name!r}; a string, or a function of one, is expected.")
        switches = [self._switched_off(point) for point in points]
        if all(switches):
            raise InterpError(
                f"{points[0]!r} does not fire while {switches[0]} is off; call model.set_{switches[0]}(True) first."
            )
        return points


def is_hooked(*hooks: hook_points.HookPoint) -> bool:
    """Whether any of the hook points has a forward or backward hook attached."""
    return any(hook._forward_hooks or hook._backward_hooks for hook in hooks)
