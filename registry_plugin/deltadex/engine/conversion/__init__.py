"""Conversion of quantized and pickled checkpoints to plain safetensors, in a process of its own.

A method is a row in `methods.py` and a module of its name with one function, `plain_tensors`.
"""
