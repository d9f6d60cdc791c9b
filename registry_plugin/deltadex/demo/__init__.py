"""A small company of really trained models. Importing this package is cheap; its modules need torch and MLflow."""

from enum import StrEnum


class Size(StrEnum):
    """How large a company."""

    SMALL = "small"
    COMPANY = "company"
    LARGE = "large"
