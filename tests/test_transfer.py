"""Transfer: folds that everybody shares, features that are never those of others, scores and classifiers."""

import hashlib
import warnings
from contextlib import nullcontext
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score
from sklearn.svm import LinearSVC
from torch.nn import functional as F

from zfnet_lib.architecture import MINI
from zfnet_lib.datasets import open_dataset, pack_in_memory, table
from zfnet_lib.files import ZfnetError
from zfnet_lib.images import resize_short_side
from zfnet_lib.network import ConvNet
from zfnet_lib.paper import trainings, transfer
from zfnet_lib.paper.trainings import Training
from zfnet_lib.paper.transfer import NetworkFeatures, extract, per_class_accuracy, protocol_folds
from zfnet_lib.training import PAPER, TINY

counts = st.lists(st.integers(4, 30), min_size=2, max_size=6)


@given(counts, st.integers(1, 3), st.integers(1, 12), st.integers(0, 5))
def test_no_test_picture_is_ever_trained_on(sizes, most, test, seed):
    labels = np.random.default_rng(seed).permutation(np.repeat(np.arange(len(sizes)), sizes))
    for fold in protocol_folds(SimpleNamespace(labels=labels, classes=sizes), most, test, 3, seed):
        trained = fold.train(most)
        assert not set(trained) & set(fold.test)
        assert np.bincount(labels[trained]).tolist() == [most] * len(sizes)
        assert np.bincount(labels[fold.test]).tolist() == [min(test, size - most) for size in sizes]
        for each in range(1, most):
            assert set(fold.train(each)) < set(trained)


def test_folds_are_the_same_for_everybody():
    labels = np.repeat(np.arange(101), np.arange(40, 141))
    folds = protocol_folds(SimpleNamespace(name="caltech-101", labels=labels, classes=range(101)))
    drawn = b"".join(fold.rows.tobytes() + fold.test.tobytes() for fold in folds)
    assert hashlib.sha256(drawn).hexdigest().startswith("93ffff031a9bee1d")
    assert len({fold.test.tobytes() for fold in folds}) == 5


def test_a_class_with_too_few_pictures_is_named_with_what_the_protocol_does():
    given = SimpleNamespace(labels=np.array([0] * 9 + [1] * 5), classes=("cat", "dog"))
    with pytest.raises(ZfnetError, match=r"^dog has 5 pictures, and 5 for training leave none .* at most 4 a"):
        protocol_folds(given, 5)
    (fold,) = protocol_folds(given, 3, count=1)
    with pytest.raises(ZfnetError, match="these folds hold 1 to 3 training pictures a class; given 4"):
        fold.train(4)
    with pytest.raises(ZfnetError, match="shapes has a split of its own for training"):
        trainings.training_pictures(Training("zfnet", "shapes", TINY, each=5))


def test_a_training_from_scratch_learns_from_a_fold_alone(tmp_path, monkeypatch):
    whole = open_dataset("shapes-transfer", "val")
    monkeypatch.setattr(trainings, "training_data", lambda name, split: whole)
    monkeypatch.setitem(table.DATASETS, "caltech-101", SimpleNamespace(splits=("all",)))
    monkeypatch.setitem(transfer.MOST, whole.name, 30)
    training = Training("zfnet", "caltech-101", replace(TINY, epochs=160), seed=1, each=15)
    assert training.name == "zfnet-epochs-160-caltech-101-15-a-class-tiny-seed1"
    assert training.command.endswith("--recipe tiny --epochs 160 --each 15 --seed 1")
    given, fold = trainings.training_pictures(training), transfer.protocol_folds(whole, count=2)[1]
    assert set(range(len(whole))) - set(given.exclude) == set(fold.train(15))
    assert given.rows.tolist() == fold.test.tolist()
    assert len(trainings.training_pictures(replace(training, seed=20240601)).rows)  # at once: it alone is drawn
    full = Training("zfnet", "caltech-101", replace(PAPER, epochs=160), seed=1, each=15)
    assert full.name == "zfnet-epochs-160-caltech-101-15-a-class-paper-seed1"
    assert [full.recipe.rate_in(epoch, []) for epoch in (93, 94, 134)] == pytest.approx([1e-2, 1e-3, 1e-4])
    most = trainings.training_pictures(replace(training, each=0))
    assert sorted([*most.rows]) == sorted(most.exclude)
    assert len(most.rows) == len(whole) // 10


def test_a_fold_of_several_splits_is_drawn_from_all_of_them(monkeypatch):
    train, val = open_dataset("shapes-transfer", "val", n=60), open_dataset("shapes-transfer", "train", n=32)
    parts = {"train": pack_in_memory(train, 32), "val": val}
    monkeypatch.setattr(trainings, "training_data", lambda name, split: parts[split])
    monkeypatch.setitem(transfer.MOST, "mini-imagenet-novel", 3)
    given = trainings.training_pictures(Training("zfnet", "mini-imagenet-novel", TINY, each=2))
    assert len(given.data) == 92
    assert given.data.labels.tolist() == [*train.labels.tolist(), *val.labels.tolist()]
    kept = sorted(set(range(92)) - set(given.exclude.tolist()))
    assert len(kept) == 2 * len(train.classes)
    assert not set(kept) & set(given.rows.tolist())
    squares = [val[31].squared(40), train[3].squared(32), val[0].squared(40), train[59].squared(32)]
    expected = [resize_short_side(square.picture, 40) for square in squares]
    assert torch.equal(given.data.batch(torch.tensor([91, 3, 60, 59]), 40), torch.stack(expected))


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=40))
def test_accuracy_agrees_with_scikit_learn(pairs):
    labels, predicted = (np.array(values) for values in zip(*pairs, strict=True))
    with warnings.catch_warnings(action="ignore"):  # scikit-learn warns of answers that are no class here
        balanced = balanced_accuracy_score(labels, predicted)
    assert per_class_accuracy(labels, predicted) == pytest.approx(100 * balanced)


def as_the_development_kit(present, scores):
    """Compute VOC's average precision step by step, as VOCap.m and VOCevalcls.m do."""
    kept = [p for _, p in sorted(zip(scores, present, strict=True), reverse=True) if p != 0]
    recall, precision, hits = [0.0], [0.0], 0
    for rank, p in enumerate(kept, 1):
        hits += p == 1
        recall.append(hits / kept.count(1))
        precision.append(hits / rank)
    recall, precision = [*recall, 1.0], [*precision, 0.0]
    for i in range(len(precision) - 2, -1, -1):
        precision[i] = max(precision[i], precision[i + 1])
    return 100 * sum((recall[i] - recall[i - 1]) * precision[i] for i in range(1, len(recall)))


@given(st.lists(st.sampled_from([-1, -1, 0, 1]), min_size=1, max_size=30), st.randoms(use_true_random=False))
def test_average_precision_is_the_development_kits(present, chance):
    scores = chance.sample(range(len(present)), len(present))
    with nullcontext() if 1 in present else pytest.raises(ValueError, match="the class is present"):
        found = transfer.average_precision(np.array(present), np.array(scores, float))
        assert found == pytest.approx(as_the_development_kit(present, scores))


@pytest.fixture
def home(data, monkeypatch):
    monkeypatch.setattr(transfer, "PART", 8)
    monkeypatch.setattr(transfer, "BATCH", 3)
    return data


@pytest.fixture
def pictures():
    return open_dataset("shapes-transfer", "val", n=20)


def whole(features: transfer.LayerFeatures) -> torch.Tensor:
    return torch.cat(list(features.parts()))


def test_features_are_the_rectified_pooled_normalised_outputs(home, pictures):
    net = ConvNet(MINI).eval()
    found = extract(NetworkFeatures("mini", net), pictures)
    assert list(found) == ["conv1", "conv2", "conv3", "conv4", "conv5", "fc6", "fc7"]
    trace = net.trace(net.prepare([pictures[i].picture for i in range(20)]))
    for layer, one in found.items():
        output = trace[layer].output.detach()
        output = F.max_pool2d(output, 3, 2, ceil_mode=True) if layer in ("conv3", "conv4") else output
        expected = F.normalize(output.flatten(1), dim=1)
        matrix = whole(one)
        assert torch.allclose(matrix, expected, atol=2e-3)
        assert torch.allclose(one.kernel(), matrix @ matrix.T, atol=1e-5)


def test_an_interrupted_extraction_continues(home, pictures):
    net, computed = ConvNet(MINI).eval(), []

    class Stopping(NetworkFeatures):
        def __call__(self, given):
            computed.append(len(given))
            if 10 < sum(computed) < 20:
                raise KeyboardInterrupt
            return super().__call__(given)

    extractor = Stopping("mini", net, ["conv2"])
    with pytest.raises(KeyboardInterrupt):
        extract(extractor, pictures)
    assert len(list(home.rglob("*.npy"))) == 1
    computed[:] = [20]
    again = whole(extract(extractor, pictures)["conv2"])
    assert sum(computed) - 20 == 12
    assert torch.equal(again, whole(extract(NetworkFeatures("mini", net, ["conv2"]), pictures)["conv2"]))
    assert not [path for path in home.rglob("*") if path.is_file() and path.suffix not in (".npy", ".sha256")]


def test_features_of_other_weights_are_never_used(home, pictures):
    one, other = (NetworkFeatures("mini", ConvNet(MINI, seed=seed).eval(), ["conv1"]) for seed in (0, 1))
    first, second = (whole(extract(each, pictures)["conv1"]) for each in (one, other))
    assert not torch.allclose(first, second, atol=1e-2)


def test_a_full_disk_is_one_sentence(home, pictures, monkeypatch):
    monkeypatch.setattr("shutil.disk_usage", lambda path: SimpleNamespace(free=10))
    with pytest.raises(ZfnetError, match=r"the next part of conv1's features needs .* has 10.0B free; free space"):
        extract(NetworkFeatures("mini", ConvNet(MINI).eval(), ["conv1"]), pictures)


@pytest.fixture(scope="module")
def clouds():
    """Three classes of 200 features, some noisy, and which pictures are trained on."""
    rng = np.random.default_rng(0)
    labels = np.tile(np.arange(3), 30)
    centres = rng.normal(size=(3, 200))
    x = F.normalize(torch.from_numpy(centres[labels] + 1.5 * rng.normal(size=(90, 200))))
    return x, labels, np.arange(60), np.arange(60, 90)


def test_classifiers_in_coordinates_answer_as_scikit_learns_on_features(clouds):
    x, labels, train, test = clouds
    ours, tested = transfer.coordinates(x @ x.T, train, test)
    assert torch.allclose(tested @ ours.T, (x[test] @ x[train].T).float(), atol=2e-4)
    svm = LinearSVC(dual=True, random_state=0, max_iter=100_000, tol=1e-8).fit(x[train].numpy(), labels[train])
    decided = transfer.fit_svm(ours, labels[train]).decision_function(tested.numpy())
    assert np.allclose(decided, svm.decision_function(x[test].numpy()), atol=0.02)
    decay, n = 1e-2, len(train)
    softmax = LogisticRegression(C=1 / (decay * n), tol=1e-8, max_iter=5000).fit(x[train].numpy(), labels[train])
    targets = F.one_hot(torch.from_numpy(labels[train])).float()
    probability = F.linear(tested, *transfer.fit_softmax(ours, targets, decay)).softmax(1)
    assert np.allclose(probability.numpy(), softmax.predict_proba(x[test].numpy()), atol=2e-3)


def test_a_uniform_target_gives_both_objects_half():
    x = torch.eye(2)
    half, both = (torch.tensor([[share, share, 0.0], [0.0, 0.0, 1.0]]) for share in (0.5, 1.0))
    answers = F.linear(x, *transfer.fit_softmax(x, half, 1e-6)).softmax(1)
    assert torch.allclose(answers[0], half[0], atol=0.02)
    answers = F.linear(x, *transfer.fit_softmax(x, both, 1e-6, several=True)).sigmoid()
    assert torch.allclose(answers[0], both[0], atol=0.02)


def test_the_decay_is_chosen_where_pictures_are_held_out(clouds):
    x, labels, train, _ = clouds
    targets = F.one_hot(torch.from_numpy(labels[train])).float()
    asked = []

    def score(logits, judged):
        asked.append(judged)
        return -abs(len(asked) - 3)

    assert transfer.choose_decay(x[train].float(), targets, score) == 1e-5
    assert all((judged % 5 == 4).all() for judged in asked) and len(asked) == 4


@pytest.mark.parametrize(
    ("scores", "chosen"),
    [((4, 3, 2, 1, 4), 1e-3), ((4, 3, 2, 1, 5, 6, 6), 1e-1), ((1, 2, 3, 4, 4), 1e-6), ((1, 2, 3, 4, 5, 3), 1e-7)],
)
def test_past_an_end_of_the_decays_it_goes_on_while_that_is_better(scores, chosen):
    asked, x = iter(scores), torch.eye(5)
    assert transfer.choose_decay(x, x, lambda logits, judged: next(asked)) == pytest.approx(chosen)
    assert not list(asked)
