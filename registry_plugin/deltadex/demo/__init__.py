"""A small company of really trained models. Importing this package is cheap; its modules need torch and MLflow."""

import os
from enum import StrEnum

# These are read when torch, huggingface_hub and MLflow are loaded. Threads that spin while they wait made training ten
# times slower beside the busy stack; and for models of this machine nobody needs to ask a hub, or hear of every run.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")


class Size(StrEnum):
    """How large a company."""

    SMALL = "small"
    COMPANY = "company"
    LARGE = "large"
