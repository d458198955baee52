"""Class shares the usual way, with TransformerLens and pandas: cache patterns and keys, run again without, group."""

import numpy as np
import pandas as pd
import torch


@torch.no_grad()
def usual_amplification(model, batches):
    """log2 of the attention per class with and without the bias, and mean bias scores, from whole cached runs."""
    frames = []
    for contexts in batches:
        tokens, classes = contexts.tokens, contexts.classes["s"].numpy().ravel()
        wanted = [name for name in model.hook_dict if name.endswith(("hook_pattern", "hook_k"))]
        _, cache = model.run_with_cache(tokens, names_filter=wanted)
        with model.bias(scale=0):
            _, without = model.run_with_cache(tokens, names_filter=wanted)
        bias = model.biases_in_force()[0]
        for layer in range(model.cfg.n_layers):
            name = f"blocks.{layer}.attn."
            received, received_without = (
                c[name + "hook_pattern"].sum(2) for c in (cache, without)
            )  # [batch, head, key]
            scores = torch.einsum("bphd,hd->bhp", cache[name + "hook_k"], bias[layer]) / model.cfg.attn_scale
            for head in range(model.cfg.n_heads):
                columns = [x[:, head].numpy().ravel() for x in (received, received_without, scores)]
                frame = pd.DataFrame(dict(zip(("with", "without", "score"), columns, strict=True)))
                frames.append(frame.assign(layer=layer, head=head, token_class=classes))
    table = (
        pd.concat(frames)
        .groupby(["layer", "head", "token_class"])
        .agg({"with": "sum", "without": "sum", "score": "mean"})
    )
    return table.assign(log2=np.log2(table["with"] / table["without"]))
