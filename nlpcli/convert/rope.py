"""Rotary positions in config.json: `rope_parameters`, or `rope_theta` and `rope_scaling` as older folders have them."""

from __future__ import annotations

import math
from typing import Any

from nlpcli.config.rope_settings import RopeScalingConfig
from nlpcli.convert.name_map import Config

_NUMBERS = {  # ours -> theirs, of each method those that it reads
    "linear": {},
    "dynamic": {},
    "llama3": {
        "original_max_length": "original_max_position_embeddings",
        "low_freq_factor": "low_freq_factor",
        "high_freq_factor": "high_freq_factor",
    },
    "yarn": {
        "original_max_length": "original_max_position_embeddings",
        "beta_fast": "beta_fast",
        "beta_slow": "beta_slow",
        "attention_factor": "attention_factor",
        "truncate": "truncate",
    },
}
SETTINGS = ("rope_theta", "rope_share", "rope_scaling")
"""Ours that are read and written here."""


def rope_in(theirs: Config, share: float = 1.0) -> dict[str, Any]:
    """Our settings. share: the part of each head that is turned, where config.json has none.

    Raises: ValueError for anything that is not such a group of settings, and for an unsupported kind of scaling.
    """
    settings = theirs.get("rope_scaling") or theirs.get("rope_parameters") or {}
    if not isinstance(settings, dict) or any(isinstance(value, dict) for value in settings.values()):
        raise ValueError("rope_parameters that are not one group of settings for all layers")
    method = settings.get("rope_type") or settings.get("type") or "default"
    if method != "default" and method not in _NUMBERS:
        raise ValueError(f"rope_type {method!r} (default, {', '.join(_NUMBERS)} are supported)")
    theta = settings.get("rope_theta", theirs.get("rotary_emb_base", theirs.get("rope_theta", 10000.0)))
    part = settings.get("partial_rotary_factor", theirs.get("rotary_pct", share))
    found: dict[str, Any] = {"rope_theta": theta, "rope_share": part}
    if method != "default":
        found["rope_scaling"] = {"method": method, **_numbers_in(method, settings, theirs)}
    return found


def _numbers_in(method: str, settings: Config, theirs: Config) -> dict[str, Any]:
    longest = theirs["max_position_embeddings"]
    given = {ours: settings[name] for ours, name in _NUMBERS[method].items() if settings.get(name) is not None}
    original = given.get("original_max_length", longest)
    if settings.get("factor") is None and method != "yarn":
        raise ValueError(f"rope_type {method!r} without factor")
    given["factor"] = longest / original if settings.get("factor") is None else settings["factor"]
    if original == longest:
        given.pop("original_max_length", None)
    if (
        method == "yarn"
        and settings.get("attention_factor") is None
        and settings.get("mscale")
        and settings.get("mscale_all_dim")
    ):
        above, below = (0.1 * settings[name] * math.log(given["factor"]) + 1 for name in ("mscale", "mscale_all_dim"))
        given["attention_factor"] = above / below
    return given


def rope_out(ours: Config) -> dict[str, Any]:
    """Their settings, in the new form and, for other programs, in the old one."""
    scaling = RopeScalingConfig(**ours["rope_scaling"])
    parameters: dict[str, Any] = {"rope_type": "default"}
    if scaling.method != "none":
        parameters = {"rope_type": scaling.method, "factor": scaling.factor}
        for name, written in _NUMBERS[scaling.method].items():
            value = getattr(scaling, name)
            if name == "original_max_length":
                parameters[written] = value or ours["max_length"]
            elif scaling.method == "llama3" or value != type(scaling).model_fields[name].default:
                parameters[written] = value
    theta = ours["rope_theta"]
    whole = {**parameters, "rope_theta": theta}
    if ours["rope_share"] != 1.0:
        whole["partial_rotary_factor"] = ours["rope_share"]
    return {
        "rope_parameters": whole,
        "rope_theta": theta,
        "rope_scaling": None if scaling.method == "none" else parameters,
    }


def unwritable(ours: Config) -> list[str]:
    """Our settings that they can't express."""
    scaling = ours["rope_scaling"]
    own = scaling["original_max_length"] not in (None, ours["max_length"])
    return ["rope_scaling"] if own and scaling["method"] in ("linear", "dynamic") else []
