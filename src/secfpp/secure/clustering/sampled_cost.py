"""What it costs to group many clients by agreement, of whom a sample is searched, from public numbers alone."""

from __future__ import annotations

from dataclasses import dataclass

from secfpp.crypto.channel import OFFER_BYTES
from secfpp.errors import ConfigError, Problem
from secfpp.secure import message_sizes as sizes
from secfpp.secure.circuits.cost import Role
from secfpp.secure.clustering.assigning import batches
from secfpp.secure.clustering.cost import ANNOUNCEMENT, AgreementCost, PlacingCost
from secfpp.secure.clustering.secure_agreement import SecureAgreement


@dataclass(frozen=True)
class AssigningCost(PlacingCost):
    """Costs of one batch; the clients are those who are assigned, and the holders.

    Args:
        sample: how many were searched.
    """

    sample: int = 0

    @property
    def members(self) -> int:
        """See `PlacingCost.members`."""
        return self.sample


@dataclass(frozen=True)
class SampledCost:
    """Bytes of one `SecureAgreement` among many clients.

    Which holders are in the sample, and in which batch others are, is drawn. All are counted as if they came on top,
    which is a few hundred bytes for each batch.

    Args:
        settings: the clusterer.
        clients: N.
        groups: how many are found, K.
        dimensions: numbers in a descriptor.
        seed: the public seed; seed and round make a small difference.
        round_: number of the round.

    Raises:
        ConfigError: all are searched, or fewer than hold shares; or too few clients to hold shares.
    """

    settings: SecureAgreement
    clients: int
    groups: int
    dimensions: int = 576
    seed: int = 0
    round_: int = 0

    def __post_init__(self) -> None:
        searched = self.settings.searched(self.clients)
        if not self.settings.committee <= searched < self.clients:
            allowed = f"from {self.settings.committee}, the holders, to below {self.clients}, all clients"
            raise ConfigError([Problem("clusterer.sample", searched, allowed)])

    @property
    def search(self) -> AgreementCost:
        """Costs of the search, as if nobody held shares who is not in the sample."""
        searched = self.settings.searched(self.clients)
        return AgreementCost(self.settings, searched, self.dimensions, self.seed, self.round_)

    @property
    def batches(self) -> tuple[AssigningCost, ...]:
        """Costs of each batch."""
        searched = self.settings.searched(self.clients)
        rest, holders = self.clients - searched, self.settings.committee
        parts = batches(rest, self.settings.layout({"dimensions": self.dimensions}).width)
        each = [len(range(number, rest, parts)) for number in range(parts)]
        return tuple(
            AssigningCost(self.settings, new + holders, self.groups, new, self.dimensions, searched) for new in each
        )

    @property
    def exchanges(self) -> int:
        """All of them; who holds shares is drawn once, what holders keep takes one, and batches begin in turn."""
        once = 2
        ends = (number + batch.exchanges - once for number, batch in enumerate(self.batches))
        return self.search.exchanges + 1 + max(ends)

    def sent(self, role: Role) -> int:
        """Most bytes that a client sends."""
        once = sizes.greeting(True) + ANNOUNCEMENT
        rest = [batch.sent(role) - once for batch in self.batches]
        if role == "client":
            return once + max(rest)
        search = self.search
        outside = sizes.ELEMENT * (search.verifiers + 1) * search.holders if role != "standby" else 0
        return search.sent(role) + outside + sizes.message() + sum(rest)

    def received(self, name_bytes: int) -> int:
        """Bytes of keys, randomness and names that a client gets who holds no shares; other texts come on top.

        Everybody is named once, the sample again with its groups, and who is in a batch twice more.
        """
        name, batch = name_bytes + len('"", '), self.batches[0]
        listed = self.clients * (sizes.NONCE + name) + batch.sample * (name + len("0, "))
        return self.settings.committee * OFFER_BYTES + sizes.COMMITMENT + listed + (batch.n + batch.newcomers) * name
