from itertools import product

import numpy as np
import pytest

from qsens.search.knapsack import Items, least_damage, most_saved


def random_items(seed: int, count: int = 9) -> Items:
    random = np.random.default_rng(seed)
    return Items(tuple(random.lognormal(0, 2, count)), tuple(random.integers(1, 1000, count).astype(float)))


def every_choice(items: Items):
    """Damage and savings of each subset, by enumeration."""
    for bits in product((0, 1), repeat=len(items.damages)):
        chosen = [place for place, bit in enumerate(bits) if bit]
        yield items.damage(chosen), sum(items.savings[place] for place in chosen)


def savings_of(items: Items, chosen) -> float:
    return sum(items.savings[place] for place in chosen)


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("share", [0.05, 0.3, 0.8])
def test_most_saved_equals_enumeration(seed, share):
    items = random_items(seed)
    limit = share * sum(items.damages)
    chosen = most_saved(items, limit)
    assert items.damage(chosen) <= limit * (1 + 1e-4)
    assert savings_of(items, chosen) == max(saved for damage, saved in every_choice(items) if damage <= limit)


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_least_damage_equals_enumeration(seed, share):
    items = random_items(seed)
    wanted = share * sum(items.savings)
    chosen = least_damage(items, share)
    assert savings_of(items, chosen) >= wanted
    best = min(damage for damage, saved in every_choice(items) if saved >= wanted)
    assert items.damage(chosen) == pytest.approx(best, abs=2e-6 * sum(items.damages))


def test_harmless_units_are_always_taken():
    items = Items((0.0, 1.0, 0.0, 2.0), (5.0, 10.0, 1.0, 10.0))
    assert least_damage(items, 0.1) == (0, 2)
    assert most_saved(items, 0.0) == (0, 2)


def test_without_any_damage_everything_is_taken():
    items = Items((0.0, 0.0), (1.0, 2.0))
    assert most_saved(items, 0.0) == least_damage(items, 0.5) == (0, 1)


def test_infinite_damage_is_never_taken_and_shares_are_of_the_rest():
    items = Items((np.inf, 1.0, 2.0), (100.0, 5.0, 5.0))
    assert most_saved(items, 1e9) == (1, 2)
    assert least_damage(items, 0.5) == (1,)
    assert least_damage(items, 1.0) == (1, 2)


def test_nothing_can_be_chosen_where_all_are_infinite():
    items = Items((np.inf, np.inf), (1.0, 2.0))
    assert most_saved(items, 10.0) == least_damage(items, 0.7) == ()


def test_an_unlimited_budget_takes_all():
    assert most_saved(Items((3.0, 1.0), (1.0, 1.0)), np.inf) == (0, 1)


def test_the_solver_prints_nothing(capfd):
    """HiGHS prints a line of its own debugging for some of these problems."""
    savings = tuple(1000.0 * place for place in range(1, 52))
    for seed in range(12):
        damages = tuple(np.random.default_rng(seed).lognormal(-3, 1.5, 51))
        for room in (0.6, 0.8, 1.0, 1.25):
            most_saved(Items(damages, savings), room)
    assert capfd.readouterr() == ("", "")
