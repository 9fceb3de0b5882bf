import torch

from tests.ideal import IdealDenoiser
from tests.scheduler.paths import path
from tpdm.sampler.noise import initial_noise
from tpdm.trainer.pool import load_pool, make_pool, save_pool, with_targets

CPU = torch.device("cpu")
COND = torch.arange(6)[:, None]


def pool_of(variants):
    denoiser = IdealDenoiser(path("flow"), mean=0.3, std=0.5)
    pool = make_pool(COND, (1, 2, 2), variants, first_seed=100, prompts=list("abcdef"))
    return with_targets(pool, denoiser, 16, batch_size=5, device=CPU, silent=True)


def test_each_noise_has_its_seed_and_the_end_of_its_ode():
    pool = pool_of(variants=2)
    noise = initial_noise(range(100, 112), (1, 2, 2))
    assert torch.equal(pool.noise, noise.unflatten(0, (6, 2)))
    end = IdealDenoiser(path("flow"), mean=0.3, std=0.5).end(noise)
    torch.testing.assert_close(pool.target, end.unflatten(0, (6, 2)), atol=1e-4, rtol=0)


def test_picked_siblings_share_their_condition_and_share_their_noise_where_there_is_one():
    for variants in (1, 4):
        pool = pool_of(variants)
        noise, cond, target, prompts = pool.pick(torch.tensor([5, 2]), samples=4, device=CPU)
        assert "".join(prompts) == "ffffcccc"
        assert cond[:, 0].tolist() == [5, 5, 5, 5, 2, 2, 2, 2]
        for flat, kept in ((noise, pool.noise), (target, pool.target)):
            assert torch.equal(
                flat, torch.cat([kept[5].expand(4, -1, -1, -1), kept[2].expand(4, -1, -1, -1)])
            )
        assert len(noise.unique(dim=0)) == 2 * variants


def test_it_is_found_again(tmp_path):
    assert load_pool(tmp_path / "pool") is None
    save_pool(tmp_path / "pool", pool := pool_of(1))
    found = load_pool(tmp_path / "pool")
    assert found.prompts == pool.prompts
    tensors = ("cond", "noise", "target")
    assert all(torch.equal(getattr(found, name), getattr(pool, name)) for name in tensors)
