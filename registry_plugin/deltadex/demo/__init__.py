"""A small company of really trained models. Importing this package is cheap; its modules need torch and MLflow."""

import os
from enum import StrEnum

# These are read when torch, huggingface_hub and MLflow are loaded. Threads that spin while they wait make training ten times slower beside a busy stack.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
# Everything is on this machine: nobody needs to ask a hub, or to be told where each run can be seen.
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")


class Size(StrEnum):
    """How large a company."""

    SMALL = "small"
    COMPANY = "company"
    LARGE = "large"
