"""FLARE components with stand-ins for what they start; needs FLARE."""

from __future__ import annotations

from secfpp.deploy.flare.server import Server
from secfpp.deploy.flare.site import Relay


class EchoRelay(Relay):
    opener = "support.flare_parts:open_echo"


class AskingServer(Server):
    program = "support.flare_parts:ask_as_told"


class ToyRelay(Relay):
    opener = "support.toy_sites:open_site"


class BridgedServer(Server):
    program = "support.bridge:bridge"
