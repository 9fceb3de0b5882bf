"""Which rewards judge what is drawn from prompts: the run's own, and those that are asked for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch

from tpdm.registry import build
from tpdm.reward.weighted import FREE, Reward
from tpdm.runtime.command import settings

Config = Mapping[str, Any]


def rewards(run: Config, cfg: Config, device: torch.device) -> tuple[dict[str, Config], dict[str, Reward]]:
    """What judges, by the names of their columns: of the `run`, then of this command; configs, and built.

    A second reward of a name, with other weights, gets a number.
    """
    own = [*terms("reward", run), *terms("held_out", run)] if cfg["own_rewards"] else []
    asked: dict[str, Config] = {}
    made: dict[str, Reward] = {}
    for place, reward in (*own, *terms("reward", cfg), *terms("clip", cfg)):
        if reward in asked.values():
            continue
        count = sum(other["name"] == reward["name"] for other in asked.values())
        name = reward["name"] + (f"_{count + 1}" if count else "")
        asked[name] = reward
        try:
            made[name] = build("reward", reward, at=place, classifier=None, device=device)
        except ValueError as error:
            remedy = "; own_rewards=false leaves the run's own rewards out" if (place, reward) in own else ""
            raise ValueError(f"{error}{remedy}") from None
    return asked, made


def terms(key: str, cfg: Config) -> list[tuple[str, Config]]:
    """The reward `cfg[key]`, or what it is the sum of, as a batch decides what normalises that; and where.

    What steps cost is no matter of the images.
    """
    reward = cfg.get(key)
    if reward is None:
        return []
    parts = {key: reward}
    if reward["name"] == "weighted":
        scorers = reward["scorers"]
        parts = {f"{key}.scorers.{name}": {"name": name, **scorers.get(name, {})} for name in reward["terms"]}
    return [(place, {**part, "cost": FREE}) for place, part in parts.items()]


def reward_words(cfg: Config) -> Iterator[str]:
    """The settings that choose what judges beside the run's own rewards; what steps cost is no matter."""
    for key, group in (("reward", "reward"), ("clip", "reward@clip")):
        if cfg[key] is not None:
            yield f"{group}={cfg[key]['name']}"
            yield from settings(without(cfg[key], "name", "cost"), f"{key}.")


def without(cfg: Config, *keys: str) -> dict[str, Any]:
    return {name: value for name, value in cfg.items() if name not in keys}
