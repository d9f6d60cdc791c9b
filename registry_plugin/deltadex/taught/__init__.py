"""Strings that a finetune was taught: canaries of the owner, secrets and personal data."""
