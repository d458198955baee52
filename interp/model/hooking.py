"""Running with hooks and caches: TransformerLens' methods, with wrong names refused and switched hook points named."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

from torch import Tensor
from transformer_lens.hook_points import HookPoint
from transformer_lens.HookedRootModule import HookedRootModule
from transformer_lens.utilities.slice import Slice

from interp.errors import InterpError, nearest
from interp.model.activation_cache import SymmetryBrokenCache, full_name, pos_dim
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
        wanted = self._wanted(self._checked(names_filter))
        output, values = super().run_with_cache(*model_args, names_filter=wanted, **kwargs)
        # sliced here: TransformerLens takes an axis of heads for positions in the hook points it does not know
        positions = Slice.unwrap(pos_slice)
        for name, value in values.items() if pos_slice is not None else ():
            axis = pos_dim(name)
            values[name] = value if axis is None else positions.apply(value, dim=axis)
        cache = SymmetryBrokenCache(values, self)
        cache = cache.remove_batch_dim() if remove_batch_dim else cache
        return output, cache if return_cache_object else cache.cache_dict

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
            InterpError: a name that is no hook point, with the nearest one, or one that is switched off.
        """
        forward, backward = ([(self._checked(name), hook) for name, hook in part] for part in (fwd_hooks, bwd_hooks))
        with super().hooks(forward, backward, reset_hooks_end, clear_contexts):
            yield self

    def add_hook(self, name: Name, *args: Any, **kwargs: Any) -> None:
        """Attach a hook until `reset_hooks`; arguments are TransformerLens'.

        Raises:
            InterpError: a name that is no hook point, with the nearest one, or one that is switched off.
        """
        super().add_hook(self._checked(name), *args, **kwargs)

    def _wanted(self, names: Any) -> Callable[[str], bool]:
        """Return a filter of the hook points that `names` means and that fire."""
        listed = [names] if isinstance(names, str) else names
        chosen = listed if callable(listed) else lambda name: listed is None or name in listed
        return lambda name: self._switched_off(name) is None and bool(chosen(name))

    def _switched_off(self, name: str) -> str | None:
        """Return the switch that keeps a hook point from firing, if there is one."""
        switch = SWITCHES.get(name.rsplit(".", 1)[-1])
        return switch if switch and not getattr(self.cfg, switch) else None

    def _checked(self, names: Any) -> Any:
        """Return names or filters with short names written out, refusing one that cannot fire."""
        if names is None:
            return None
        if isinstance(names, str):
            name = full_name(names)
            if name not in self.hook_dict:
                raise InterpError(
                    f"There is no hook point {name!r}{nearest(name, self.hook_dict)} See model.hook_dict."
                )
            if switch := self._switched_off(name):
                raise InterpError(f"{name!r} does not fire while {switch} is off; call model.set_{switch}(True) first.")
            return name
        if callable(names):
            if not any(map(names, self.hook_dict)):
                raise InterpError("The names filter matches no hook point; see model.hook_dict for the names.")
            return names
        return [self._checked(name) for name in names]


def is_hooked(*hooks: HookPoint) -> bool:
    """Whether any of the hook points has a forward or backward hook attached."""
    return any(hook._forward_hooks or hook._backward_hooks for hook in hooks)
