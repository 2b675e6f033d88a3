"""Flower's apps with stand-ins for what they run; needs Flower."""

from __future__ import annotations

from secfpp.deploy.flower.server import server_app

asking = server_app("support.flare_parts:ask_as_told", "support.flower_parts:planned")
bridged = server_app("support.bridge:bridge", "support.flower_parts:planned")
