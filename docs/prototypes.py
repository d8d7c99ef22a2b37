"""How far Time-LLM-lite's prototypes, mixed from every n-th word, move from those that are mixed from all words.

python docs/prototypes.py [backbone]     (SmolLM2; about a minute)

Both are moved by Adam under the same gradients: drawn at random (alike in all directions, or as the word embeddings
spread), with a lasting half, as of a slope, and a half drawn anew at every step, as of batches.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

import torch
from jaxtyping import Float
from tabulate import tabulate
from torch import Tensor

from models.llm_blocks import word_embeddings
from models.time_llm import Prototypes

COUNT, STEPS, RATE = 64, (1, 10, 60), 1e-3
MOST = (1024, 2048, 4096, 8192, 16384)
Moves = Float[Tensor, "step count d"]


def moves(words: Float[Tensor, "vocabulary d"], most: int, gradients: Sequence[Tensor]) -> Moves:
    """Return how far the prototypes have moved after each number of STEPS."""
    prototypes = Prototypes(words, COUNT, most)
    optimizer = torch.optim.Adam(prototypes.parameters(), lr=RATE)
    start, moved = prototypes().detach(), []
    for step, gradient in enumerate(gradients, 1):
        optimizer.zero_grad()
        prototypes().backward(gradient)
        optimizer.step()
        if step in STEPS:
            moved.append(prototypes().detach() - start)
    return torch.stack(moved)


def main(backbone: str = "smollm2-135m") -> None:
    words = word_embeddings(backbone)
    width, generator = words.shape[1], torch.Generator().manual_seed(0)
    spread, axes = torch.linalg.eigh(words.T @ words / len(words))
    rows = []
    for kind, shape in (("all directions alike", torch.eye(width)), ("as the words spread", axes * spread.sqrt())):
        lasting, *noise = torch.randn(STEPS[-1] + 1, COUNT, width, generator=generator) @ shape.T
        gradients = [RATE * (lasting / 2 + each) for each in noise]
        every = moves(words, len(words), gradients)
        for most in MOST:
            some = moves(words, most, gradients)
            for what, of in (("whole", torch.eye(width)), ("off the main axis", axes[:, :-1])):
                mine, theirs = some @ of, every @ of
                cosine = torch.cosine_similarity(mine, theirs, dim=-1).mean(1)
                length = (mine.norm(dim=-1) / theirs.norm(dim=-1)).mean(1)
                found = [f"{a:.3f} {b:.3f}" for a, b in zip(cosine.tolist(), length.tolist(), strict=True)]
                rows.append([kind, most, what, *found])
    steps = [f"after {step}" for step in STEPS]
    print(tabulate(rows, ["gradients", "words at most", "move", *steps], disable_numparse=True))
    print("\nCosine with the official move, and its length over the official one: means over prototypes.")


if __name__ == "__main__":
    print(__doc__) if "--help" in sys.argv else main(*sys.argv[1:])
