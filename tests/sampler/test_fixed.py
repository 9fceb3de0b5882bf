from itertools import pairwise

import pytest
import torch
from diffusers import (
    DDIMScheduler,
    DDPMScheduler,
    DPMSolverMultistepScheduler,
    EulerDiscreteScheduler,
    FlowMatchEulerDiscreteScheduler,
    FlowMatchHeunDiscreteScheduler,
    HeunDiscreteScheduler,
    UniPCMultistepScheduler,
)

from tests.ideal import IdealDenoiser
from tests.scheduler.paths import NAMES, path
from tpdm.registry import build
from tpdm.sampler import grid
from tpdm.sampler.fixed import DDIM, DDPM, DEIS, DPMPP_2M, EULER, HEUN, UNIPC, FixedSampler
from tpdm.sampler.noise import initial_noise, step_generators
from tpdm.scheduler.path import by_noise_level, expand, retimed

SEEDS = range(16)
NOISE = initial_noise(SEEDS, (1, 2, 2))
COND = torch.zeros(16, 1, dtype=torch.long)
SOLVERS = [DDIM, DDPM, EULER, HEUN, DPMPP_2M, UNIPC, DEIS]
PAIRS = [(solver, name) for solver in SOLVERS for name in NAMES if solver.flow or name != "flow"]


def label(value):
    return getattr(value, "name", value)


def rounding(solver, name):
    """float32; a state of x / alpha starts at 157 on the ddpm path and at 20,000 on the cosine one."""
    exploding = {"flow": 1e-5, "ddpm": 1e-4, "ddpm_cosine": 5e-3}
    return exploding[name] if solver in (EULER, HEUN) else 1e-5


def gaussian(name):
    mean, std = torch.tensor([[[0.3, -0.5], [0.1, 0.9]]]), torch.tensor([[[0.5, 0.8], [0.6, 1.2]]])
    return IdealDenoiser(path(name), mean, std)


def run(solver, denoiser, num_steps, make=grid.uniform, noise=NOISE, seeds=SEEDS):
    return FixedSampler(num_steps, make, solver)(denoiser, noise, torch.zeros(len(noise), 1), seeds)


@pytest.mark.parametrize(("solver", "name"), PAIRS, ids=label)
@pytest.mark.parametrize("num_steps", [1, 2, 5])
def test_any_solver_lands_on_the_point_of_a_point_mass(solver, name, num_steps):
    """The ideal denoiser of one point always sees it, so the last step goes there from wherever it stands."""
    target = torch.tensor([[[0.7, -0.2], [0.0, 1.0]]])
    trajectory = run(solver, IdealDenoiser(path(name), mean=target), num_steps)
    expected = target.expand(16, 1, 2, 2)
    torch.testing.assert_close(trajectory.x0, expected, atol=rounding(solver, name), rtol=0)


@pytest.mark.parametrize(("solver", "name"), PAIRS, ids=label)
def test_a_trajectory_records_its_levels_and_the_calls_really_made(solver, name):
    denoiser = gaussian(name)
    trajectory = run(solver, denoiser, 5, grid.cosine)
    t_max = by_noise_level(path(name)).t_max
    torch.testing.assert_close(trajectory.t, (t_max * grid.cosine(5)).expand(16, 6))
    assert trajectory.alive.shape == (16, 5)
    assert trajectory.alive.all()
    assert (trajectory.nfe == len(denoiser.calls)).all()
    assert len(denoiser.calls) == (9 if solver is HEUN else 5)
    assert solver.steps(len(denoiser.calls)) == 5
    asked = path(name).noise_level(torch.stack(denoiser.calls)[:, 0])
    visited = trajectory.t[0, [0, 1, 1, 2, 2, 3, 3, 4, 4]] if solver is HEUN else trajectory.t[0, :-1]
    torch.testing.assert_close(asked, visited, atol=1e-6, rtol=1e-6)


ORDERS = [
    *((solver, name, 1) for solver in (DDIM, EULER) for name in NAMES),
    *((HEUN, name, 2) for name in ("flow", "ddpm")),
    *((solver, name, 2) for solver in (DPMPP_2M, UNIPC, DEIS) for name in NAMES),
]


@pytest.mark.parametrize(("solver", "name", "order"), ORDERS, ids=label)
def test_a_solver_has_its_order(solver, name, order):
    """The slope of its error against the end of a Gaussian's ODE, over two doublings.

    Multistep in log-SNR pays a logarithm on an even grid, whose first and last steps are long in log-SNR
    however many there are. Heun is left out on the cosine path, which starts at sigma / alpha = 20,000.
    """
    denoiser = gaussian(name)
    end = denoiser.end(NOISE)
    errors = [(run(solver, denoiser, n).x0 - end).square().mean().sqrt().log2() for n in (64, 256)]
    assert (errors[0] - errors[1]) / 2 > 0.85 * order
    assert errors[1] < (-7 if order == 1 else -13)


@pytest.mark.parametrize("make", [grid.uniform, grid.cosine])
@pytest.mark.parametrize("name", NAMES)
def test_ddim_is_its_formula_and_euler_is_ddim(name, make):
    """alpha(s) x0 + sigma(s) eps: Euler's method on the flow path, and in sigma / alpha elsewhere."""
    denoiser = retimed(gaussian(name))
    x = NOISE
    for level, level_next in pairwise(by_noise_level(path(name)).t_max * make(6)):
        p, c = denoiser(x, level.expand(16), COND), denoiser.scheduler(level_next[None])
        x = expand(c.alpha, x) * p.x0 + expand(c.sigma, x) * p.eps
    for solver in (DDIM, EULER):
        got = run(solver, gaussian(name), 6, make).x0
        torch.testing.assert_close(got, x, atol=rounding(solver, name), rtol=0)


@pytest.mark.parametrize(
    ("solver", "theirs", "options"),
    [
        (DDIM, DDIMScheduler(clip_sample=False), {}),
        (DDPM, DDPMScheduler(clip_sample=False), {"generator": step_generators(SEEDS)}),
        (EULER, EulerDiscreteScheduler(beta_start=1e-4, beta_end=0.02, timestep_spacing="leading"), {}),
        (HEUN, HeunDiscreteScheduler(beta_start=1e-4, beta_end=0.02, timestep_spacing="leading"), {}),
        (DPMPP_2M, DPMSolverMultistepScheduler(), {}),
        (UNIPC, UniPCMultistepScheduler(), {}),
    ],
    ids=label,
)
def test_a_plain_loop_of_diffusers_ends_where_we_do(solver, theirs, options):
    """Their own grids on the ddpm path; table entry n is our t = (n + 1) / 1000."""
    denoiser, levels = gaussian("ddpm"), [torch.zeros(1)]
    theirs.set_timesteps(10)
    x = NOISE * theirs.init_noise_sigma
    for key in theirs.timesteps:
        t = ((key + 1) / 1000).expand(16)
        levels.append(path("ddpm").noise_level(t[:1]))
        p = denoiser(theirs.scale_model_input(x, key), t, COND)
        x = theirs.step(p.eps, key, x, **options).prev_sample
    levels = torch.cat(levels).unique().flip(0)
    ours = FixedSampler(10, grid.uniform, solver).along(levels, denoiser, NOISE, COND, SEEDS)
    torch.testing.assert_close(ours.x0, x, atol=1e-5 if solver in (DDIM, DDPM) else 1e-4, rtol=0)


FLOW = {"use_flow_sigmas": True, "prediction_type": "flow_prediction", "flow_shift": 3.0}


@pytest.mark.parametrize(
    ("solver", "theirs"),
    [
        (DDIM, FlowMatchEulerDiscreteScheduler(shift=3.0)),
        (EULER, FlowMatchEulerDiscreteScheduler(shift=3.0)),
        (HEUN, FlowMatchHeunDiscreteScheduler(shift=3.0)),
        (DPMPP_2M, DPMSolverMultistepScheduler(**FLOW)),
        (UNIPC, UniPCMultistepScheduler(**FLOW)),
    ],
    ids=label,
)
def test_a_plain_loop_of_diffusers_ends_where_we_do_on_the_flow_path(solver, theirs):
    """Their own grids; the network is told sigma, since their multistep solvers truncate timesteps."""
    denoiser = gaussian("flow")
    theirs.set_timesteps(10)
    x = NOISE
    for key, sigma in zip(theirs.timesteps, theirs.sigmas, strict=False):
        p = denoiser(x, sigma.expand(16), COND)
        x = theirs.step(p.eps - p.x0, key, x).prev_sample
    levels = theirs.sigmas.unique().flip(0)
    ours = FixedSampler(10, grid.uniform, solver).along(levels, denoiser, NOISE, COND, SEEDS)
    torch.testing.assert_close(ours.x0, x, atol=1e-5, rtol=0)


class Varying(IdealDenoiser):
    """The same with a learned variance, and what it was told as a timestep."""

    def __call__(self, x, t, cond):
        return super().__call__(x, t, cond)._replace(variance=torch.sin(3 * x + t[:, None, None, None]))


def test_a_learned_variance_is_that_of_diffusers_on_the_respaced_chain():
    """Their scheduler on the same entries of the table, told eps and variance."""
    mean, std = torch.tensor([[[0.3, -0.5], [0.1, 0.9]]]), torch.tensor([[[0.5, 0.8], [0.6, 1.2]]])
    denoiser, num_steps = Varying(path("ddpm", "eps_and_variance"), mean, std), 12
    theirs = DDPMScheduler(clip_sample=False, variance_type="learned_range", timestep_spacing="linspace")
    theirs.set_timesteps(num_steps)
    x, sources = NOISE, step_generators(SEEDS)
    for key in theirs.timesteps:
        p = denoiser(x, ((key + 1) / 1000).expand(16), COND)
        both = torch.cat([p.eps, p.variance], dim=1)
        theirs.previous_timestep = lambda t: before(theirs.timesteps, t)
        x = theirs.step(both, key, x, generator=sources).prev_sample
    cfg = {"name": "ddpm", "num_steps": num_steps, "grid": {"name": "respaced", "spacing": "even"}}
    ours = build("sampler", cfg, scheduler=denoiser.scheduler)(denoiser, NOISE, COND, SEEDS).x0
    torch.testing.assert_close(ours, x, atol=1e-4, rtol=1e-4)
    fixed = build("sampler", cfg, scheduler=denoiser.scheduler)(gaussian("ddpm"), NOISE, COND, SEEDS).x0
    assert not torch.allclose(ours, fixed, atol=0.1)


def before(timesteps, t):
    """diffusers steps back by an even stride, whatever its timesteps; the chain is that of the timesteps."""
    later = timesteps.tolist().index(int(t)) + 1
    return timesteps[later] if later < len(timesteps) else torch.tensor(-1)


def test_a_network_is_told_the_entries_themselves():
    """Also where the table is so steep that a level in float32 would be a part of an entry away."""
    for name in ("ddpm", "ddpm_cosine"):
        denoiser = gaussian(name)
        cfg = {"name": "ddim", "num_steps": 10, "grid": {"name": "respaced", "spacing": "even"}}
        build("sampler", cfg, scheduler=path(name))(denoiser, NOISE, COND, SEEDS)
        told = path(name).timestep(torch.stack(denoiser.calls)[:, 0])
        torch.testing.assert_close(told, torch.arange(999.0, -1, -111), atol=1e-4, rtol=0)


def test_ancestral_sampling_has_the_moments_of_its_chain():
    """On a Gaussian every step is linear: mean and variance follow DDPM, eq. 6 and 7, without sampling."""
    mean, std, num_steps, seeds = 0.4, 0.3, 8, range(2000)
    denoiser, by_level = IdealDenoiser(path("ddpm"), mean, std), by_noise_level(path("ddpm"))
    a = by_level(by_level.t_max * grid.uniform(num_steps).double()).alpha ** 2
    moment, variance = torch.zeros(()), torch.ones(())
    for a_t, a_s in pairwise(a):
        gain = a_t.sqrt() * std**2 / (a_t * std**2 + 1 - a_t)  # x0 = mean + gain (x - alpha mean)
        beta = 1 - a_t / a_s
        of_x0, of_x = a_s.sqrt() * beta / (1 - a_t), (a_t / a_s).sqrt() * (1 - a_s) / (1 - a_t)
        moment = of_x0 * (mean + gain * (moment - a_t.sqrt() * mean)) + of_x * moment
        variance = (of_x0 * gain + of_x) ** 2 * variance + beta * (1 - a_s) / (1 - a_t)
    x0 = run(DDPM, denoiser, num_steps, noise=initial_noise(seeds, (1, 4, 4)), seeds=seeds).x0
    assert x0.mean().item() == pytest.approx(moment.item(), abs=0.005)
    assert x0.var().item() == pytest.approx(variance.item(), rel=0.03)


@pytest.mark.parametrize("solver", SOLVERS, ids=label)
def test_a_sample_does_not_know_its_batch(solver):
    denoiser = gaussian("ddpm")
    order = torch.randperm(16, generator=torch.Generator().manual_seed(0))
    together = run(solver, denoiser, 4).x0
    shuffled = run(solver, denoiser, 4, noise=NOISE[order], seeds=order.tolist()).x0
    alone = run(solver, denoiser, 4, noise=NOISE[3:4], seeds=[3]).x0
    torch.testing.assert_close(shuffled, together[order], atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(alone, together[3:4], atol=1e-6, rtol=1e-5)


def test_seeds_decide_the_noise_of_ancestral_steps():
    first, again = (run(DDPM, gaussian("ddpm"), 4).x0 for _ in range(2))
    assert torch.equal(first, again)
    assert not torch.allclose(first, run(DDPM, gaussian("ddpm"), 4, seeds=range(16, 32)).x0, atol=0.1)


def test_ancestral_sampling_of_a_flow_is_refused():
    with pytest.raises(ValueError, match=r"sampler=ddpm .* scheduler=flow"):
        run(DDPM, gaussian("flow"), 4)


@pytest.mark.parametrize("levels", [[1.0], [1.0, 0.5], [1.0, 0.2, 0.3, 0.0]])
def test_levels_that_do_not_fall_to_zero_are_refused(levels):
    sampler = FixedSampler(2, grid.uniform, EULER)
    with pytest.raises(ValueError, match="must fall to 0"):
        sampler.along(torch.tensor(levels), gaussian("flow"), NOISE, COND, SEEDS)


@pytest.mark.parametrize("solver", SOLVERS, ids=label)
def test_every_sampler_is_built_by_name(solver):
    cfg = {"name": solver.name, "num_steps": 3, "grid": {"name": "shifted", "shift": 3.0}}
    sampler = build("sampler", cfg)
    trajectory = sampler(gaussian("ddpm"), NOISE, COND, SEEDS)
    assert sampler.solver is solver
    torch.testing.assert_close(
        trajectory.t[0], by_noise_level(path("ddpm")).t_max * grid.shifted(3, shift=3.0)
    )
