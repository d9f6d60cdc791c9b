"""Finetunes of different bases side by side, by what they make more likely."""
