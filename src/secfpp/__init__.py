"""Secure federated prompt personalization for CLIP-like vision-language models.

The names below are loaded when they are first used, so that importing the package is instant.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from secfpp.algorithms.base import FederatedAlgorithm, ServerState, methods
    from secfpp.algorithms.class_means import EverybodysClassMeans
    from secfpp.algorithms.class_means_local import ClassMeansLocal
    from secfpp.algorithms.coop_local import CoOpLocal
    from secfpp.algorithms.dp_fpl import DPFPL
    from secfpp.algorithms.fedotp import FedOTP
    from secfpp.algorithms.fedpgp import FedPGP
    from secfpp.algorithms.fedpha import FedPHA
    from secfpp.algorithms.fedprox import FedProx
    from secfpp.algorithms.fedtpg import FedTPG
    from secfpp.algorithms.ifca_prompt import IFCAPrompt
    from secfpp.algorithms.pfedprompt import PFedPrompt
    from secfpp.algorithms.promptfl import PromptFL
    from secfpp.algorithms.promptfolio import PromptFolio
    from secfpp.algorithms.random_prompt import RandomPrompt
    from secfpp.algorithms.secfpp import SecFPP
    from secfpp.algorithms.secfpp_paper import SecFPPPaper
    from secfpp.algorithms.training import ClientContext, LocalTraining
    from secfpp.algorithms.visual import ClassMeans
    from secfpp.algorithms.zero_shot import ZeroShot
    from secfpp.crypto.roster import IdentityKey, Roster
    from secfpp.data.catalog import DatasetSpec, datasets
    from secfpp.data.federated import ClientData, FederatedDataset, Split, hold_out
    from secfpp.data.folders import FolderSettings, load_folder
    from secfpp.data.icons import IconSettings, load_icons
    from secfpp.data.partitions.base import Partition
    from secfpp.data.partitions.by_domain import ByDomain
    from secfpp.data.partitions.dirichlet import Dirichlet
    from secfpp.data.partitions.iid import IID
    from secfpp.data.partitions.pathological import Pathological
    from secfpp.data.partitions.shards import Shards
    from secfpp.data.tables import TableSettings, load_table
    from secfpp.errors import (
        ClientError,
        ConfigError,
        DataError,
        DataWarning,
        DropoutError,
        MemoryWarning,
        MissingExtraError,
        NoiseWarning,
        NotFittedError,
        ProtocolError,
        SecFPPError,
        TamperError,
        WireError,
    )
    from secfpp.experiment.spec.variants import variants
    from secfpp.models.backbone import Backbone, load_backbone
    from secfpp.models.coop_checkpoint import from_coop, to_coop
    from secfpp.models.prompt import SoftPrompt
    from secfpp.models.prompt_file import ClientPrompt, load_prompt
    from secfpp.personalizer import Personalizer
    from secfpp.protocol.cohort import Assignment, Cohort
    from secfpp.protocol.program import Ask, ClientState, Joint, Program, Replies, batched, gather, step
    from secfpp.protocol.transcript import Transcript
    from secfpp.runtime.in_process import InProcessDriver
    from secfpp.runtime.trainer import RoundRecord, RunResult, train
    from secfpp.secure.clustering.clusterer import Clusterer, OneCluster, OracleClusters, RandomClusters
    from secfpp.secure.clustering.plain_agreement import PlainAgreement
    from secfpp.secure.clustering.plain_kmeans import PlainKMeans
    from secfpp.secure.clustering.secure_agreement import SecureAgreement
    from secfpp.secure.clustering.secure_kmeans import SecureKMeans
    from secfpp.secure.means.aggregator import Aggregator
    from secfpp.secure.means.plain_mean import PlainMean
    from secfpp.secure.means.secure_mean import SecureMean
    from secfpp.secure.polls.plain_poll import PlainPoll
    from secfpp.secure.polls.poll import Poll
    from secfpp.secure.polls.secure_poll import SecurePoll
    from secfpp.seeding import Seed, derive

__version__ = "0.1.0"

_HOME = {
    "algorithms.base": "FederatedAlgorithm ServerState methods",
    "algorithms.class_means": "EverybodysClassMeans",
    "algorithms.class_means_local": "ClassMeansLocal",
    "algorithms.coop_local": "CoOpLocal",
    "algorithms.dp_fpl": "DPFPL",
    "algorithms.fedotp": "FedOTP",
    "algorithms.fedpgp": "FedPGP",
    "algorithms.fedpha": "FedPHA",
    "algorithms.fedprox": "FedProx",
    "algorithms.fedtpg": "FedTPG",
    "algorithms.ifca_prompt": "IFCAPrompt",
    "algorithms.pfedprompt": "PFedPrompt",
    "algorithms.promptfl": "PromptFL",
    "algorithms.promptfolio": "PromptFolio",
    "algorithms.random_prompt": "RandomPrompt",
    "algorithms.secfpp": "SecFPP",
    "algorithms.secfpp_paper": "SecFPPPaper",
    "algorithms.training": "ClientContext LocalTraining",
    "algorithms.visual": "ClassMeans",
    "algorithms.zero_shot": "ZeroShot",
    "crypto.roster": "IdentityKey Roster",
    "data.catalog": "DatasetSpec datasets",
    "data.federated": "ClientData FederatedDataset Split hold_out",
    "data.folders": "FolderSettings load_folder",
    "data.icons": "IconSettings load_icons",
    "data.partitions.base": "Partition",
    "data.partitions.by_domain": "ByDomain",
    "data.partitions.dirichlet": "Dirichlet",
    "data.partitions.iid": "IID",
    "data.partitions.pathological": "Pathological",
    "data.partitions.shards": "Shards",
    "data.tables": "TableSettings load_table",
    "errors": "ClientError ConfigError DataError DataWarning DropoutError MemoryWarning MissingExtraError "
    "NoiseWarning NotFittedError ProtocolError SecFPPError TamperError WireError",
    "experiment.spec.variants": "variants",
    "models.backbone": "Backbone load_backbone",
    "models.coop_checkpoint": "from_coop to_coop",
    "models.prompt": "SoftPrompt",
    "models.prompt_file": "ClientPrompt load_prompt",
    "personalizer": "Personalizer",
    "protocol.cohort": "Assignment Cohort",
    "protocol.program": "Ask ClientState Joint Program Replies batched gather step",
    "protocol.transcript": "Transcript",
    "runtime.in_process": "InProcessDriver",
    "runtime.trainer": "RoundRecord RunResult train",
    "secure.clustering.clusterer": "Clusterer OneCluster OracleClusters RandomClusters",
    "secure.clustering.plain_agreement": "PlainAgreement",
    "secure.clustering.plain_kmeans": "PlainKMeans",
    "secure.clustering.secure_agreement": "SecureAgreement",
    "secure.clustering.secure_kmeans": "SecureKMeans",
    "secure.means.aggregator": "Aggregator",
    "secure.means.plain_mean": "PlainMean",
    "secure.means.secure_mean": "SecureMean",
    "secure.polls.plain_poll": "PlainPoll",
    "secure.polls.poll": "Poll",
    "secure.polls.secure_poll": "SecurePoll",
    "seeding": "Seed derive",
}
_MODULE_OF = {name: module for module, names in _HOME.items() for name in names.split()}

__all__ = [
    "DPFPL",
    "IID",
    "Aggregator",
    "Ask",
    "Assignment",
    "Backbone",
    "ByDomain",
    "ClassMeans",
    "ClassMeansLocal",
    "ClientContext",
    "ClientData",
    "ClientError",
    "ClientPrompt",
    "ClientState",
    "Clusterer",
    "CoOpLocal",
    "Cohort",
    "ConfigError",
    "DataError",
    "DataWarning",
    "DatasetSpec",
    "Dirichlet",
    "DropoutError",
    "EverybodysClassMeans",
    "FedOTP",
    "FedPGP",
    "FedPHA",
    "FedProx",
    "FedTPG",
    "FederatedAlgorithm",
    "FederatedDataset",
    "FolderSettings",
    "IFCAPrompt",
    "IconSettings",
    "IdentityKey",
    "InProcessDriver",
    "Joint",
    "LocalTraining",
    "MemoryWarning",
    "MissingExtraError",
    "NoiseWarning",
    "NotFittedError",
    "OneCluster",
    "OracleClusters",
    "PFedPrompt",
    "Partition",
    "Pathological",
    "Personalizer",
    "PlainAgreement",
    "PlainKMeans",
    "PlainMean",
    "PlainPoll",
    "Poll",
    "Program",
    "PromptFL",
    "PromptFolio",
    "ProtocolError",
    "RandomClusters",
    "RandomPrompt",
    "Replies",
    "Roster",
    "RoundRecord",
    "RunResult",
    "SecFPP",
    "SecFPPError",
    "SecFPPPaper",
    "SecureAgreement",
    "SecureKMeans",
    "SecureMean",
    "SecurePoll",
    "Seed",
    "ServerState",
    "Shards",
    "SoftPrompt",
    "Split",
    "TableSettings",
    "TamperError",
    "Transcript",
    "WireError",
    "ZeroShot",
    "__version__",
    "batched",
    "datasets",
    "derive",
    "from_coop",
    "gather",
    "hold_out",
    "load_backbone",
    "load_folder",
    "load_icons",
    "load_prompt",
    "load_table",
    "methods",
    "step",
    "to_coop",
    "train",
    "variants",
]


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULE_OF[name]}"), name)


def __dir__() -> list[str]:
    return __all__
