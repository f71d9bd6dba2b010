"""Lookup of the W&B key, including the secrets of notebooks."""

from __future__ import annotations

import netrc
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Literal
from urllib.parse import urlparse

KEY = "WANDB_API_KEY"
_DEFAULT_URL = "https://api.wandb.ai"

Mode = Literal["online", "offline", "disabled"]


def wandb_environment() -> dict[str, str]:
    """Return what the tracker's process needs besides the driver's environment: a key that only a kernel can read."""
    if os.environ.get(KEY) or _has_netrc(os.environ):
        return {}
    key = _notebook_secret()
    return {} if key is None else {KEY: key}


def wandb_mode(wish: Literal["auto", "online", "offline"], environment: Mapping[str, str]) -> tuple[Mode, str]:
    """How W&B is used, and why if that is not what was asked for.

    Args:
        wish: of the sweep file.
        environment: of the process.
    """
    said = environment.get("WANDB_MODE", "")
    if said == "disabled":
        return "disabled", "WANDB_MODE=disabled"
    if wish == "offline" or said in ("offline", "dryrun"):
        return "offline", ""
    if environment.get(KEY) or _has_netrc(environment):
        return "online", ""
    return "offline", f"no key found in {KEY}, netrc or the notebook's secrets" if wish == "online" else ""


def _has_netrc(environment: Mapping[str, str]) -> bool:
    home = Path(environment.get("HOME") or Path.home())
    paths = [Path(environment["NETRC"])] if environment.get("NETRC") else [home / ".netrc", home / "_netrc"]
    host = urlparse(environment.get("WANDB_BASE_URL") or _DEFAULT_URL).hostname or ""
    for path in paths:
        try:
            if host in netrc.netrc(str(path)).hosts:
                return True
        except (OSError, netrc.NetrcParseError):
            continue
    return False


def _notebook_secret() -> str | None:
    """Return the key in the secrets of Colab or Kaggle; None elsewhere, or where the notebook may not read it."""
    try:
        from google.colab import userdata  # type: ignore[import-untyped,import-not-found,unused-ignore]

        return str(userdata.get(KEY))
    except Exception:  # noqa: BLE001 - not Colab, no such secret, or no access: each has an error of its own
        pass
    try:
        from kaggle_secrets import UserSecretsClient  # type: ignore[import-not-found]

        return str(UserSecretsClient().get_secret(KEY))
    except Exception:  # noqa: BLE001 - not Kaggle, no such secret, or no access
        return None
