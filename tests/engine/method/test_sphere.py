"""The direction is learned by Riemannian gradient steps, and the length stays exactly."""

from __future__ import annotations

import pytest
import torch
from toy import ToyBackend, hidden_set, hidden_word, run, same, toy_config

from ti_engine.method.sphere import SphereAdam, scaled_to, tangent


def rows(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_the_tangent_gradient_is_that_of_the_loss_on_the_sphere():
    """Against central differences of the loss of the scaled vector, which does not depend on the length."""
    point, target = rows(2, 5), rows(2, 5, seed=1)

    def loss(at: torch.Tensor) -> torch.Tensor:
        return (scaled_to(at, 1.0) - target).square().sum()

    point = scaled_to(point, 1.0).requires_grad_(True)
    (point - target).square().sum().backward()
    assert point.grad is not None
    expected = torch.zeros_like(point)
    for index in range(point.numel()):
        step = torch.zeros(point.numel(), dtype=torch.float64)
        step[index] = 1e-6
        step = step.view_as(point)
        expected.view(-1)[index] = (loss(point + step) - loss(point - step)).detach() / 2e-6
    torch.testing.assert_close(tangent(point.grad, point.detach()), expected, atol=1e-8, rtol=1e-6)


def test_an_update_is_adams_with_one_second_moment_for_each_row():
    start, gradients = rows(3, 4), [rows(3, 4, seed=n) for n in range(1, 4)]
    lr, norm, eps, (first, second) = 0.1, 1.7, 1e-8, (0.9, 0.99)
    parameter = start.clone().requires_grad_(True)
    optimizer = SphereAdam([{"params": [parameter], "lr": lr, "norm": norm, "eps": eps}], (first, second))
    for gradient in gradients:
        parameter.grad = gradient.clone()
        optimizer.step()
    for row in range(3):
        at, mean, square = start[row].tolist(), [0.0] * 4, 0.0
        for count, gradient in enumerate(gradients, 1):
            g, length = gradient[row].tolist(), sum(x * x for x in at) ** 0.5
            along = sum(a * b for a, b in zip(g, at, strict=True)) / length**2
            g = [a - along * b for a, b in zip(g, at, strict=True)]
            mean = [first * m + (1 - first) * a for m, a in zip(mean, g, strict=True)]
            square = second * square + (1 - second) * sum(a * a for a in g) / 4
            size = (square / (1 - second**count)) ** 0.5 + eps
            at = [a - lr * m / (1 - first**count) / size for a, m in zip(at, mean, strict=True)]
            length = sum(x * x for x in at) ** 0.5
            at = [norm * a / length for a in at]
        torch.testing.assert_close(parameter.detach()[row], torch.tensor(at, dtype=torch.float64))


def test_a_rotation_of_everything_rotates_the_update():
    """No axis is preferred, as one second moment for each coordinate would."""
    turn, _ = torch.linalg.qr(rows(6, 6, seed=5))
    ends = []
    for rotation in (torch.eye(6, dtype=torch.float64), turn):
        parameter = (rows(2, 6) @ rotation).requires_grad_(True)
        optimizer = SphereAdam([{"params": [parameter], "lr": 0.05, "norm": 1.0, "eps": 1e-12}], (0.9, 0.99))
        for seed in (7, 8, 9):
            parameter.grad = rows(2, 6, seed=seed) @ rotation
            optimizer.step()
        ends.append(parameter.detach() @ rotation.T)
    torch.testing.assert_close(ends[0], ends[1])


def test_a_row_of_zeros_stays_finite():
    assert torch.equal(scaled_to(torch.zeros(1, 3), 2.0), torch.zeros(1, 3))


@pytest.mark.parametrize("num_vectors", [1, 3])
def test_every_state_and_the_result_have_the_length_of_a_word(num_vectors: int):
    backend = ToyBackend(widths={"clip_l": 6, "clip_g": 5})
    record = run(toy_config(norm="vocabulary", steps=20, num_vectors=num_vectors), backend)
    for vectors in [*record.trajectory.values(), record.embedding().vectors]:
        for key, learned in vectors.items():
            norm = torch.tensor(backend.encoders[key].norm)
            torch.testing.assert_close(learned.norm(dim=1), norm.expand(num_vectors), rtol=1e-6, atol=0)


def test_the_direction_of_a_hidden_word_is_found():
    backend = ToyBackend()
    record = run(toy_config(norm="vocabulary", steps=200, learning_rate=0.01), backend, hidden_set)
    hidden, learned = hidden_word(backend)["clip_l"], record.embedding().vectors["clip_l"]
    assert float(torch.nn.functional.cosine_similarity(hidden, learned)) > 0.9


def test_only_trained_encoders_are_held():
    backend = ToyBackend(widths={"clip_l": 6, "clip_g": 5})
    config = toy_config(norm="vocabulary", steps=3, initial_words="red", train_encoders=("clip_l",))
    record = run(config, backend)
    assert torch.equal(record.trajectory[3]["clip_g"], backend.word_vectors("red")["clip_g"])
    assert set(record.norms) == {"clip_l"}


def test_the_same_seed_gives_the_same_bits():
    config = toy_config(norm="vocabulary", steps=20)
    assert same(run(config), run(config))
