"""A small honest evaluator, and the cheats the audit must catch. For tests only."""

from __future__ import annotations

import os

import numpy as np

VOCABULARY = 24


class Honest:
    """Bigram counts of the text so far, updated after every token."""

    vocabulary = VOCABULARY

    def score(self, tokens):
        counts = self.start()
        nats = np.zeros(len(tokens) - 1)
        for i in range(len(tokens) - 1):
            nats[i] = -np.log(self.probabilities(counts, tokens, i)[tokens[i + 1]])
            counts[tokens[i], tokens[i + 1]] += 1
        return nats

    def start(self):
        return np.full((VOCABULARY, VOCABULARY), 0.1)

    def probabilities(self, counts, tokens, i):
        return counts[tokens[i]] / counts[tokens[i]].sum()

    def count_bytes(self, tokens):
        return np.where(np.asarray(tokens)[1:] == 1, 0, 1)


class Announcing(Honest):
    """The same, and says its probabilities beforehand."""

    def distribution(self, prefix):
        counts = self.start()
        np.add.at(counts, (prefix[:-1], prefix[1:]), 1)
        return self.probabilities(counts, np.append(prefix, 0), len(prefix) - 1)


class Peeks(Honest):
    """Knows the token after the target."""

    def probabilities(self, counts, tokens, i):
        honest = super().probabilities(counts, tokens, i)
        if i + 2 >= len(tokens):
            return honest
        likely = honest * np.where(np.arange(VOCABULARY) % 2 == tokens[i + 2] % 2, 1.5, 0.5)
        return likely / likely.sum()


class TrainsFirst(Honest):
    """Learns each chunk of a hundred tokens, then scores it."""

    def score(self, tokens):
        counts = self.start()
        nats = np.zeros(len(tokens) - 1)
        for first in range(0, len(nats), 100):
            chunk = np.arange(first, min(first + 100, len(nats)))
            np.add.at(counts, (tokens[chunk], tokens[chunk + 1]), 1)
            for i in chunk:
                nats[i] = -np.log(self.probabilities(counts, tokens, i)[tokens[i + 1]])
        return nats


class LearnsItsTarget(Announcing):
    """Updates its counts with the target just before it scores it: sees nothing further ahead."""

    def score(self, tokens):
        counts = self.start()
        nats = np.zeros(len(tokens) - 1)
        for i in range(len(nats)):
            counts[tokens[i], tokens[i + 1]] += 1
            nats[i] = -np.log(self.probabilities(counts, tokens, i)[tokens[i + 1]])
        return nats


class Rescores(Honest):
    """Goes over the text twice and reports the second time."""

    def score(self, tokens):
        counts = self.start()
        np.add.at(counts, (tokens[:-1], tokens[1:]), 1)
        return np.array([-np.log(self.probabilities(counts, tokens, i)[tokens[i + 1]]) for i in range(len(tokens) - 1)])


class RescoresOpenly(Honest):
    """Scores honestly, then corrects a few scores with what it learned."""

    def score(self, tokens):
        nats = super().score(tokens)
        yield np.arange(len(nats)), nats
        yield np.arange(10, 30), nats[10:30] * 0.5


class Remembers(Honest):
    """Keeps its counts from one call to the next."""

    def __init__(self):
        self.counts = super().start()

    def start(self):
        return self.counts


class Unnormalised(Announcing):
    """Mixes in an expert that gives every token e^-H, whatever comes."""

    def probabilities(self, counts, tokens, i):
        p = super().probabilities(counts, tokens, i)
        return 0.5 * p + 0.5 * np.exp((p * np.log(p)).sum())


class TargetInKey(Honest):
    """Looks the target up in a hashed cache under a key that holds the target, and trusts what it finds."""

    def score(self, tokens):
        counts, cache = self.start(), np.zeros(64)
        nats = np.zeros(len(tokens) - 1)
        for i in range(len(nats)):
            p = self.probabilities(counts, tokens, i)[tokens[i + 1]]
            key = (36313 * tokens[i] ^ 27191 * tokens[i + 1]) % 64
            nats[i] = -np.log(0.5 * p + 0.5 * cache[key] / (cache[key] + 1))
            cache[key] += 1
            counts[tokens[i], tokens[i + 1]] += 1
        return nats


class Miscounts(Honest):
    """Counts a byte for every BOS."""

    def count_bytes(self, tokens):
        return np.ones(len(tokens) - 1, dtype=int)


class Reads(Honest):
    """Fetches statistics from a file while it scores."""

    def __init__(self, path):
        self.path = path

    def start(self):
        return np.full((VOCABULARY, VOCABULARY), 0.1) + np.load(self.path)


# What a fresh process calls.


def honest(artifact):
    """An evaluator whose weights are a file."""
    made = Reads(artifact)
    made.__class__ = Honest
    table = np.load(artifact)
    made.start = lambda: np.full((VOCABULARY, VOCABULARY), 0.1) + table
    return made


def hides(artifact):
    """The same, but takes more from a file beside its weights."""
    with open(os.path.join(os.path.dirname(artifact), "hidden.npy"), "rb") as file:
        file.read()
    return honest(artifact)


def maps(artifact):
    """The same, but maps that file into memory."""
    made = honest(artifact)
    made.more = np.memmap(os.path.join(os.path.dirname(artifact), "hidden.npy"))
    return made


def changes(artifact):
    """Other weights than those that were judged."""
    made = honest(artifact)
    table = np.load(artifact)
    made.start = lambda: np.full((VOCABULARY, VOCABULARY), 0.1) + table[::-1]
    return made


def fails(artifact):
    """Cannot be loaded."""
    raise OSError(f"{artifact} needs something that did not travel")
