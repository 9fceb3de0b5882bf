"""The published sampler's loop written out: Euler's steps to modes, one by one, their last noise left in."""

import torch
from diffusers import StableDiffusion3Pipeline

from tests.predictor.test_official import direct
from tpdm.types import Features

SHOWN = ("pos_embed", "norm_out", "time_text_embed")


@torch.no_grad()
def reference_draws(folder, state, prompt, noise, max_steps=28, guidance_scale=7.0):
    """(where each noise ends, its calls), by the pipeline in `folder` and a predictor's published tensors."""
    pipe = StableDiffusion3Pipeline.from_pretrained(folder)
    tokens, null, pooled, null_pooled = pipe.encode_prompt(prompt, None, None, max_sequence_length=16)
    network, shown = pipe.transformer, {}
    for name in SHOWN:
        keep = lambda module, args, out, name=name: shown.__setitem__(name, out)  # noqa: E731
        network.get_submodule(name).register_forward_hook(keep)

    def guided(both):
        return both[:1] + guidance_scale * (both[1:] - both[:1])

    walks = []
    for x in noise.split(1):
        sigma, count = torch.ones(1), 0
        while count < max_steps and sigma >= 0.01:
            both = torch.cat([x, x]), torch.cat([null, tokens]), torch.cat([null_pooled, pooled])
            raw = network(*both, 1000 * sigma.repeat(2)).sample
            features = Features(*(guided(shown[name]) for name in SHOWN), None, (4, 4))
            alpha, beta = direct(state, features).unbind(1)
            ratio = torch.sigmoid((alpha - 1).log() - (beta - 1).log()).clamp(1e-3, 0.999)
            x, sigma, count = x + (sigma * ratio - sigma) * guided(raw), sigma * ratio, count + 1
        walks.append((x, count))
    return torch.cat([x for x, _ in walks]), [count for _, count in walks]
