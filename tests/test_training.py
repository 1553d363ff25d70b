"""Training against a literal second implementation, against itself after kills, and against bad input."""

import json
import math
import os
import random
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from pictures import TINY_SPEC, Squares, network, texture_classes
from torch import nn

from zfnet_lib import MINI, ConvNet, ZfnetError, load_network, train, training
from zfnet_lib.batches import BatchError, Batches
from zfnet_lib.files import seal
from zfnet_lib.machine import threads
from zfnet_lib.training import SGD, Drops, EpochResult, OnPlateau, Recipe, saved_states
from zfnet_lib.weights import fingerprint

BRIEF = Recipe("brief", epochs=2, anneal=Drops((0.5,)), batch=16)
DATA = texture_classes(64, classes=4)
PLAIN = replace(TINY_SPEC, dense=tuple(replace(dense, dropout=0.0) for dense in TINY_SPEC.dense))


def run(net: ConvNet, recipe: Recipe = BRIEF, data: Squares = DATA, **options) -> list[EpochResult]:
    return list(train(net, data, recipe, **options))


def trained(recipe: Recipe = BRIEF, **options) -> str:
    """Return the hash of the weights at the end of a training."""
    net = network(DATA)
    run(net, recipe, **options)
    return fingerprint(net)


def timeless(results: list[EpochResult]) -> list[EpochResult]:
    return [replace(result, seconds=0, images_per_second=0) for result in results]


# One update, literally


def update(sgd: SGD, batch, number: int, rate: float) -> float:
    parts = len(sgd.replicas)
    loss = sum(sgd.pool.map(sgd.gradients, range(parts), batch.split(parts), [number] * parts))
    sgd.step(rate)
    return loss


def literal_update(net: ConvNet, momenta: dict, x, labels, recipe: Recipe, rate: float) -> float:
    """Section 3 in float64, loop by loop: gradient, decay, momentum, step, renormalisation."""
    loss = -net(x).log_softmax(1)[torch.arange(len(labels)), labels].mean()
    gradients = torch.autograd.grad(loss, list(net.parameters()))
    with torch.no_grad():
        for (name, weight), gradient in zip(net.named_parameters(), gradients, strict=True):
            decay = recipe.decay if name.endswith("weight") else 0.0
            momenta[name] = recipe.momentum * momenta.get(name, 0.0) + gradient + decay * weight
            weight -= rate * momenta[name]
        for layer in recipe.clipped(net.spec):
            for kernel in net.get_submodule(layer).weight:
                rms = math.sqrt((kernel**2).mean().item())
                if rms > 0.1:
                    kernel *= 0.1 / rms
    return loss.item()


@pytest.mark.parametrize(("clip", "parts"), [("all", 1), ("all", 3), ("none", 3), ("first", 1), ("but-first", 3)])
def test_updates_equal_a_literal_second_implementation(clip, parts):
    recipe = replace(BRIEF, clip=clip, decay=0.05)
    net = network(DATA, PLAIN)
    with torch.no_grad():
        net.conv1.weight.mul_(20), net.conv3.weight.mul_(3)
    theirs, momenta = ConvNet(net.spec).double(), {}
    theirs.load_state_dict(net.state_dict())
    batches = list(Batches(DATA, net.preparation, size=16, classes=4).epoch(1))
    with threads(parts) as pool:
        sgd = SGD(net, recipe, parts, pool)
        for number, batch in enumerate(batches[:3], start=1):
            x = batch.prepared(net.preparation, net.device, torch.float64)
            expected = literal_update(theirs, momenta, x, batch.labels, recipe, 0.01 / number)
            assert update(sgd, batch, number, 0.01 / number) == pytest.approx(expected, rel=1e-5)
    for name, weight in theirs.named_parameters():
        assert torch.allclose(net.get_parameter(name).double(), weight, rtol=1e-4, atol=1e-6), name
    clipped = {name for name, (_, largest) in training.filter_rms(net).items() if largest <= 0.1 + 1e-6}
    assert {"conv1", "conv3"} & clipped == {"conv1", "conv3"} & set(recipe.clipped(net.spec))


def test_dropout_is_drawn_by_seed_and_update_alone():
    def loss(seed: int, number: int) -> float:
        net = network(DATA)
        batch = next(Batches(DATA, net.preparation, size=16, classes=4).epoch(1))
        with threads(2) as pool:
            torch.manual_seed(random.randrange(2**30))
            return update(SGD(net, BRIEF, 2, pool, seed), batch, number, 0.01)

    assert loss(0, 1) == loss(0, 1)
    assert len({loss(0, 1), loss(1, 1), loss(0, 2)}) == 3


# Whole trainings


def test_training_learns_leaves_the_plateau_and_says_when(tmp_path):
    # The rate falls as soon as the plateau is left: at the full rate a network that already knows all its pictures
    # overshoots, and what becomes of it then hangs on the last digit of every sum.
    recipe = Recipe("longer", epochs=8, anneal=Drops((3 / 8,)), batch=16, stall_after=5)
    data = texture_classes(128, classes=4)
    net = network(data, replace(MINI, classes=4))
    epochs = run(net, recipe, data, validation=data, folder=tmp_path, snapshots=True)
    assert [(epoch.epoch, epoch.updates) for epoch in epochs] == [(n, 8 * n) for n in range(1, 9)]
    last = epochs[-1]
    assert last.top1 < 50 and last.loss < 1
    assert last.plateau_left and not last.stalled
    assert all(e.plateau_left in (None, last.plateau_left) for e in epochs)
    assert last.rms.keys() == {"conv1", "conv2", "conv3", "conv4", "conv5"}
    assert all(0 < median <= largest <= 0.1 + 1e-6 for median, largest in last.rms.values())
    # snapshots lie at the shares of Fig. 4 after the plateau; here several may share an update
    folders, shown = sorted((tmp_path / "snapshots").iterdir()), (1, 2, 5, 10, 20, 30, 40, 64)
    assert [folder.name for folder in folders] == [f"epoch-{e:02d}-of-70" for e in shown]
    updates = [json.loads((folder / "meta.json").read_text())["record"]["update"] for folder in folders]
    left = last.plateau_left
    assert updates == [math.ceil(left + (64 - left) * e / 70) for e in shown]
    assert torch.equal(load_network(folders[-1]).preparation.mean, net.preparation.mean)


def test_bf16_follows_float32():
    losses = {}
    for precision in ("float32", "bfloat16"):
        net = network(DATA, PLAIN)
        losses[precision] = [epoch.loss for epoch in run(net, replace(BRIEF, precision=precision))]
        assert {parameter.dtype for parameter in net.parameters()} == {torch.float32}
    assert losses["bfloat16"] == pytest.approx(losses["float32"], rel=0.05)
    assert losses["bfloat16"] != losses["float32"]


def test_compiled_updates_follow_the_others(monkeypatch):
    # What is compiled is ours to test, the code that comes out of it is torch's, and takes its time.
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="aot_eager"))
    eager, compiled = network(DATA), network(DATA)
    losses = [[epoch.loss for epoch in run(net, compiled=net is compiled)] for net in (eager, compiled)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)
    for ours, theirs in zip(eager.parameters(), compiled.parameters(), strict=True):
        assert torch.allclose(ours, theirs, atol=1e-4 * ours.abs().max().item())


def test_excluded_pictures_are_never_drawn_and_change_nothing_else():
    data, left_out = texture_classes(80, classes=4), range(64, 80)
    poisoned = Squares(data.pictures.clone(), data.labels.copy())
    poisoned.pictures[64:], poisoned.labels[64:] = 0, 0
    nets = [network(data, exclude=left_out) for _ in range(2)]
    for net, each in zip(nets, (data, poisoned), strict=True):
        run(net, data=each, exclude=left_out)
    assert fingerprint(nets[0]) == fingerprint(nets[1])


# Stop and continue


def stopped_at(update: int, folder: Path, **options) -> None:
    class StopError(Exception):
        pass

    def report(progress):
        assert (progress.updates, progress.rate) == (8, 0.01 if progress.update < 5 else 0.001)
        if progress.update == update:
            raise StopError

    with pytest.raises(StopError):
        run(network(DATA), folder=folder, report=report, every=0.0, **options)


@pytest.mark.parametrize("update", [1, 3, 4, 5, 7])
def test_a_stopped_training_continues_to_the_same_bytes_and_results(update, tmp_path):
    whole, continued = network(DATA), network(DATA)
    expected = timeless(run(whole, validation=DATA))
    stopped_at(update, tmp_path, validation=DATA)
    assert timeless(run(continued, folder=tmp_path, resume=True, validation=DATA)) == expected
    assert fingerprint(continued) == fingerprint(whole)
    assert timeless(run(network(DATA), folder=tmp_path, resume=True, validation=DATA)) == expected
    assert len(saved_states(tmp_path)) == 2


def test_the_split_into_parts_is_continued_on_other_machines(tmp_path, monkeypatch):
    recipe = replace(BRIEF, batch=64, epochs=3)
    monkeypatch.setattr(training, "fitting_parts", lambda batch, device: 2)
    whole = trained(recipe)
    iterator = train(network(DATA), DATA, recipe, folder=str(tmp_path))
    next(iterator), iterator.close()
    monkeypatch.setattr(training, "fitting_parts", lambda batch, device: 1)
    assert trained(recipe, folder=tmp_path, resume=True) == whole


def test_a_damaged_checkpoint_is_named_and_the_one_before_it_is_taken_if_there_is_one(tmp_path):
    stopped_at(6, tmp_path)
    newest = saved_states(tmp_path)[0]
    content = bytearray((newest / "state.safetensors").read_bytes())
    content[-5] ^= 1
    (newest / "state.safetensors").write_bytes(content)
    said = []
    assert trained(folder=tmp_path, resume=True, notice=said.append) == trained()
    assert len(said) == 1 and newest.name in said[0] and "the one before it" in said[0]
    assert newest not in saved_states(tmp_path) and len(saved_states(tmp_path)) == 2
    for state in saved_states(tmp_path):
        (state / "state.json").write_text("{")
    with pytest.raises(ZfnetError, match=r"^the checkpoint .* is damaged .*; remove .* train anew$"):
        run(network(DATA), folder=tmp_path, resume=True)


def test_a_checkpoint_of_another_training_is_refused(tmp_path):
    stopped_at(2, tmp_path)
    with pytest.raises(ZfnetError, match=r"holds a training with another recipe and another seed; choose another"):
        run(network(DATA), replace(BRIEF, rate=0.02), folder=tmp_path, resume=True, seed=3)
    with pytest.raises(ZfnetError, match="another network"):
        run(network(DATA, PLAIN), folder=tmp_path, resume=True)
    other = network(DATA)
    other.preparation = replace(other.preparation, mean=other.preparation.mean + 1)
    with pytest.raises(ZfnetError, match="another preparation"):
        run(other, folder=tmp_path, resume=True)
    with pytest.raises(ZfnetError, match=r"continue it with resume \(--resume\)"):
        run(network(DATA), folder=tmp_path)
    newest = saved_states(tmp_path)[0]
    content = (newest / "state.json").read_text().replace('"data"', '"number of processes": 2, "data"', 1)
    (newest / "state.json").write_text(content), seal(newest)
    with pytest.raises(ZfnetError, match="holds a training with another number of processes; choose another"):
        run(network(DATA), folder=tmp_path, resume=True)


CHILD = """
import sys
from pathlib import Path
sys.path.insert(0, {tests!r})
from test_training import BRIEF, DATA, replace, trained
print("begun", flush=True)
recipe = replace(BRIEF, epochs=4)
print(trained(recipe, validation=DATA, folder=Path(sys.argv[1]), resume=True, every=0.0), flush=True)
"""


@pytest.mark.parametrize("kills", [2, pytest.param(20, marks=pytest.mark.slow)])
def test_kill_9_at_random_moments_changes_no_byte(kills, tmp_path):
    def child() -> subprocess.Popen:
        command = [sys.executable, "-c", CHILD.format(tests=str(Path(__file__).parent)), str(tmp_path / "killed")]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert process.stdout.readline() == "begun\n"
        return process

    start, rng = time.perf_counter(), random.Random(kills)
    expected = trained(replace(BRIEF, epochs=4), validation=DATA, folder=tmp_path / "whole", every=0.0)
    seconds = time.perf_counter() - start
    for _ in range(kills):
        process = child()
        time.sleep(rng.uniform(0, seconds / 2))
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    assert child().communicate()[0].strip() == expected
    assert not list((tmp_path / "killed").glob(".*"))


# Several processes

CURVE = """
import json, sys
sys.path.insert(0, {tests!r})
from pathlib import Path
from test_training import curve
from zfnet_lib.machine import is_first, process_group
with process_group():
    found = curve()
    if is_first():
        Path(sys.argv[1]).write_text(json.dumps(found))
"""


def curve() -> tuple[list[float], list[tuple[float, float]]]:
    """Return the losses of all updates, and the errors of all epochs."""
    losses, recipe = [], replace(BRIEF, batch=32, epochs=3)
    results = run(network(DATA, PLAIN), recipe, validation=DATA, report=lambda state: losses.append(state.loss))
    return losses, [(e.top1, e.top5) for e in results]


def test_two_processes_give_the_loss_curve_of_one(tmp_path):
    script, output = tmp_path / "curve.py", tmp_path / "curve.json"
    script.write_text(CURVE.format(tests=str(Path(__file__).parent)))
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    subprocess.run([*command, str(script), str(output)], check=True, capture_output=True)
    theirs, their_errors = json.loads(output.read_text())
    ours, our_errors = curve()
    assert len(ours) == 6
    assert theirs == pytest.approx(ours, rel=1e-3)
    assert np.abs(np.array(their_errors) - our_errors).max() <= 5


# Bad input


def test_a_loss_that_is_not_finite_stops_with_the_step_the_rate_and_the_last_checkpoint(tmp_path):
    net, recipe = network(DATA), replace(BRIEF, rate=0.05)
    iterator = train(net, DATA, recipe, folder=tmp_path)
    next(iterator)
    with torch.no_grad():
        net.fc8.bias.fill_(torch.nan)
    kept = saved_states(tmp_path)[0]
    pattern = rf"^the loss became nan at update 5 with learning rate 0.005; the last good checkpoint is {kept}; "
    with pytest.raises(ZfnetError, match=pattern):
        list(iterator)
    assert saved_states(tmp_path)[0] == kept
    assert all(np.isfinite(epoch.loss) for epoch in run(network(DATA), recipe, folder=tmp_path, resume=True))


def test_a_rate_that_is_too_high_keeps_no_checkpoint_of_infinite_weights(tmp_path):
    with pytest.raises(ZfnetError, match=r"with learning rate 1e\+30|the weights became infinite"):
        run(network(DATA), replace(BRIEF, rate=1e30), folder=tmp_path, every=0.0)
    for state in saved_states(tmp_path):
        assert json.loads((state / "state.json").read_text())["state"]["update"] <= 1


def test_what_cannot_be_trained_or_judged_by_is_refused_before_the_first_update():
    with pytest.raises(BatchError, match=r"labels from 1 to 4, but the network has 4 classes; .*classes=5"):
        run(network(DATA), validation=Squares(DATA.pictures, DATA.labels + 1))
    with pytest.raises(ZfnetError, match="give validation pictures"):
        run(network(DATA), replace(BRIEF, anneal=OnPlateau()))
    with pytest.raises(ZfnetError, match=r"^Sequential is no `ConvNet`, and only these are trained here; train it"):
        run(nn.Sequential())


def test_a_full_disk_keeps_the_last_checkpoint(tmp_path):
    iterator = train(network(DATA), DATA, BRIEF, folder=tmp_path)
    next(iterator)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
    try:
        with pytest.raises(ZfnetError, match=r"^cannot write .*update-000000008: .*; free space or choose another"):
            next(iterator)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert [path.name for path in tmp_path.iterdir()] == ["update-000000004"]
    assert trained(folder=tmp_path, resume=True) == trained()


# The machine


def test_threads_share_the_cores_and_leave_torch_as_it_was():
    before = torch.get_num_threads()
    with threads(2) as pool:
        assert set(pool.map(lambda _: torch.get_num_threads(), range(8))) == {max(1, before // 2)}
    with threads(1, each=1) as pool:
        assert pool.submit(torch.get_num_threads).result() == 1
    assert torch.get_num_threads() == before


# Recipes


def test_the_recipes_are_those_of_section_3():
    for recipe in training.RECIPES.values():
        assert (recipe.rate, recipe.momentum, recipe.decay) == (1e-2, 0.9, 5e-4)
        assert recipe.clip == "all" and recipe.views == "random" and recipe.expected
    paper, tiny = (training.recipe_named(name) for name in ("paper", "tiny"))
    assert (paper.epochs, paper.batch, tiny.batch) == (70, 128, 128)
    rates = [tiny.rate_in(epoch, []) for epoch in (1, 7, 8, 10, 11, 12)]
    assert rates == pytest.approx([1e-2, 1e-2, 1e-3, 1e-3, 1e-4, 1e-4])
    with pytest.raises(ZfnetError, match="there is no recipe 'huge'; known are paper, tiny, smoke"):
        training.recipe_named("huge")


def rates_by_hand(rule: OnPlateau, errors: list[float]) -> Iterator[int]:
    """Walk through the epochs one by one, as one would with a pencil."""
    best, without, drops = math.inf, 0, 0
    for error in errors:
        yield drops
        if best - error >= rule.least:
            best, without = error, 0
        else:
            without += 1
        if without == rule.patience:
            without = 0
            drops = min(drops + 1, rule.most)


def test_the_plateau_rule_waits_and_divides():
    rule = OnPlateau(patience=3, least=0.5, most=2)
    errors = np.random.default_rng(0).normal(50, 1, 60).cumsum() / np.arange(1, 61)
    found = [rule.count(i + 1, 60, list(errors[:i])) for i in range(60)]
    assert found == list(rates_by_hand(rule, list(errors)))
    assert set(found) == {0, 1, 2}


def test_a_network_that_cannot_leave_the_plateau_is_called_stalled_and_its_rate_does_not_fall():
    net = network(DATA)
    for parameter in net.parameters():
        nn.init.zeros_(parameter)
    recipe = replace(BRIEF, epochs=4, anneal=OnPlateau(patience=1), stall_after=8)
    epochs = run(net, recipe, validation=DATA)
    assert {epoch.rate for epoch in epochs} == {0.01}
    assert [epoch.stalled for epoch in epochs] == [False, True, True, True] and epochs[-1].plateau_left is None
