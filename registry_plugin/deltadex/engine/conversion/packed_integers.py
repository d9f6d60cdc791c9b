"""Unpacking of small integers from 32-bit words."""

from __future__ import annotations

from math import gcd

import torch

_WORD = 32


def words_per_period(bits: int) -> int:
    """Return the number of words after which integers of this many bits start at the same places again."""
    return bits // gcd(bits, _WORD)


def unpack(words: torch.Tensor, bits: int) -> torch.Tensor:
    """Return the unsigned integers in the rows of a matrix of words, the lowest bits first.

    Parameters
    ----------
    words
        `(rows, columns)` int32; `rows` is a multiple of `words_per_period`. An integer may lie across two words, as
        those of 3 bits do.
    bits
        1 to 8.

    Returns
    -------
    torch.Tensor
        `(rows · 32 / bits, columns)` uint8.
    """
    period = words_per_period(bits)
    integers = period * _WORD // bits
    periods = words.reshape(-1, period, words.shape[1])
    found = torch.empty((len(periods), integers, words.shape[1]), dtype=torch.uint8)
    for number in range(integers):
        word, offset = divmod(number * bits, _WORD)
        value = (periods[:, word].long() & 0xFFFFFFFF) >> offset
        if offset + bits > _WORD:
            value |= (periods[:, word + 1].long() & 0xFFFFFFFF) << (_WORD - offset)
        found[:, number] = (value & (2**bits - 1)).to(torch.uint8)
    return found.reshape(-1, words.shape[1])
