"""Findings about versions, and the rules and thresholds that make them."""
