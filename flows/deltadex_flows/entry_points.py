"""Entry points of Deltadex's flows, which the scheduler deploys and the worker runs, and the type of that worker."""

from __future__ import annotations

import pkgutil
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from prefect import Flow

EMBED_VERSION, EMBED_SHARD = "embed-model-version", "embed-shard"
ANALYSE_REGISTRY, FIND_MODELS, REPLAY_VERSIONS = "analyse-registry", "find-models", "replay-versions"
ADVISE_TASK, MEASURE_SAFETY, FIND_TAUGHT = "advise-task", "measure-safety", "find-taught-strings"
WRITE_EVIDENCE = "write-evidence-packs"
#: What a worker may run: name of the flow → entry point in the installed package.
ENTRY_POINTS = {
    EMBED_VERSION: "deltadex_flows.embed.embed_model_version",
    EMBED_SHARD: "deltadex_flows.shard.embed_shard",
    ANALYSE_REGISTRY: "deltadex_flows.analyse.analyse_registry",
    FIND_MODELS: "deltadex_flows.find.find_models",
    REPLAY_VERSIONS: "deltadex_flows.replay.replay_versions",
    ADVISE_TASK: "deltadex_flows.advise.advise_task",
    MEASURE_SAFETY: "deltadex_flows.safety.measure_safety",
    FIND_TAUGHT: "deltadex_flows.taught.find_taught_strings",
    WRITE_EVIDENCE: "deltadex_flows.evidence.write_evidence_packs",
}
#: `prefect worker start --type …`; `pyproject.toml` registers the class.
WORKER_TYPE = "deltadex"
#: Template of the work pool. Deltadex's worker ignores it; the server refuses runs with job variables by it, and a
#: worker of Prefect's own kind that polls the pool by mistake has no pull steps to run.
POOL_TEMPLATE = {
    "job_configuration": {"command": "python -m prefect.engine"},
    "variables": {"type": "object", "properties": {}, "additionalProperties": False},
}


def flow_of(name: str) -> Flow[Any, Any]:
    """Import and return a flow: whoever only starts runs of it, such as the watcher, saves its libraries."""
    flow: Flow[Any, Any] = pkgutil.resolve_name(ENTRY_POINTS[name])
    return flow
