"""The training of the shipped model: its mathematics against plain formulas, its feeding, its resuming."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

REASON = "the optional dependency group `training` is not installed"
torch = pytest.importorskip("torch", reason=REASON)
pytest.importorskip("onnx", reason=REASON)

from bench.training import __main__ as pipeline  # noqa: E402
from bench.training import augment, cutouts, losses, muon  # noqa: E402
from bench.training.data import Pictures, Targets, fit_projection, load_targets, unit, views_cached  # noqa: E402
from bench.training.export import write  # noqa: E402
from bench.training.features import SIDE, VIEWS, draw_boxes, look, save  # noqa: E402
from bench.training.feed import Feed  # noqa: E402
from bench.training.graph import student_graph  # noqa: E402
from bench.training.packs import PACKS, SPLITS, read_pack  # noqa: E402
from bench.training.projection import softened  # noqa: E402
from bench.training.quantize import last_map, refit, traced  # noqa: E402
from bench.training.recipe import Recipe  # noqa: E402
from bench.training.run import Run, load_run, normalized, save_run  # noqa: E402
from bench.training.warm import read_kernels, warm  # noqa: E402

SMALL = Recipe(batch=4, queue=8, dimension=8, sizes=((32, 0.5), (48, 1.0)), warm_up=2, jpeg=0.5, cut_out=1.0)


def pictures_and_targets(count: int = 24, views: int = 3) -> tuple[Pictures, Targets]:
    rng = np.random.default_rng(5)
    pack = np.repeat(PACKS, count // len(PACKS))
    masks = np.zeros((count, SIDE, SIDE), np.uint8)
    masks[:, 40:120, 30:130] = 1
    pictures = Pictures(
        pack=pack,
        category=np.char.add(pack, "/x"),
        label=np.arange(count) % 5,
        split=np.where(np.arange(count) % 6 == 5, "val", "train"),
        has_mask=np.arange(count) % 2 == 0,
        masks=np.packbits(masks.reshape(count, -1), axis=1),
        pixels=tuple(rng.integers(0, 256, (count // 4, SIDE, SIDE, 3)).astype(np.uint8) for _ in PACKS),
        first=tuple(range(0, count, count // 4)),
    )
    boxes = np.stack([np.resize(draw_boxes(v, "clothing", count), (count, 4)) for v in range(views)], 1)
    return pictures, Targets(boxes, rng.standard_normal((count, views, 8)).astype(np.float32), 1.0)


def trained(run: Run, steps: int) -> Run:
    pictures, targets = pictures_and_targets()
    feed = Feed(pictures, targets, run.recipe, run.rng)
    for _ in range(steps):
        share = run.steps / 6
        run.step(feed.batch(run.recipe.size_at(share)), targets.scale, share)
    return run


@pytest.mark.parametrize("shape", [(5, 5), (8, 72), (96, 24), (1, 7)])
def test_muon_keeps_singular_vectors_and_brings_singular_values_near_one(shape: tuple[int, int]) -> None:
    """A matrix's singular vectors stay; each singular value goes through five steps of the scalar polynomial."""
    x = torch.randn(*shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)

    u, s, v = torch.linalg.svd(x, full_matrices=False)
    s = s / x.norm()
    for _ in range(muon.STEPS):
        s = muon.A * s + muon.B * s**3 + muon.C * s**5

    torch.testing.assert_close(muon.orthogonal(x), u @ torch.diag(s) @ v, rtol=1e-5, atol=1e-5)
    assert ((s > 0.4) & (s < 1.3)).all()


@pytest.mark.parametrize("rank", [1, 5, 60])
def test_muon_in_bfloat16_stays_bounded_for_gradients_of_low_rank(rank: int) -> None:
    """The leading singular values are those of float32 within .02, and rounding makes no other larger than a step's."""
    rng = torch.Generator().manual_seed(rank)
    for rows, columns in ((256, 2304), (768, 256), (64, 27)):
        x = torch.randn(rows, rank, generator=rng) @ torch.randn(rank, columns, generator=rng)

        exact, rounded = (torch.linalg.svdvals(muon.orthogonal(x, bfloat16)) for bfloat16 in (False, True))

        there = min(rank, rows, columns)
        torch.testing.assert_close(rounded[:there], exact[:there], rtol=0, atol=0.02)
        assert rounded.max() < 1.3


def test_a_muon_step_is_as_long_as_the_rate_says() -> None:
    """The root mean square of a step is a fifth of the rate, whatever the gradient's size and the kernel's shape."""
    for scale in (1e-4, 1e3):
        p = torch.nn.Parameter(torch.zeros(16, 8, 3, 3))
        p.grad = scale * torch.randn(p.shape, generator=torch.Generator().manual_seed(2))
        muon.Muon([p], lr=0.5).step()

        assert float(p.detach().pow(2).mean().sqrt()) == pytest.approx(0.1, rel=0.2)


def test_losses_equal_their_formulas() -> None:
    """Each loss equals the plain sum over rows that its docstring names."""
    rng = np.random.default_rng(3)
    raw, t = rng.standard_normal((2, 6, 8))
    e, u, others = (unit(rng.standard_normal((6, 8))).astype(np.float64) for _ in range(3))
    queue = unit(rng.standard_normal((10, 8))).astype(np.float64)
    same = rng.random((6, 16)) < 0.2
    same[np.arange(6), np.arange(6)] = False

    def softmax(x: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.exp(x) / np.exp(x).sum()

    kl = contrast = 0.0
    for i in range(6):
        p, q = softmax(queue @ u[i] / 0.1), softmax(queue @ e[i] / 0.1)
        kl += (p * np.log(p / q)).sum() / 6
        candidates = np.concatenate([others, queue])
        scores = np.exp(candidates @ e[i] / 0.1)
        contrast -= np.log(scores[i] / scores[~same[i]].sum()) / 6
    tensors = [torch.from_numpy(x) for x in (raw, t, e, u, others, queue, same)]
    raw_, t_, e_, u_, others_, queue_, same_ = tensors

    assert float(losses.squared_error(raw_, t_, 2.0)) == pytest.approx(((raw - t / 2) ** 2).mean())
    assert float(losses.neighbourhood(e_, u_, queue_, 0.1)) == pytest.approx(kl)
    assert float(losses.target_contrast(e_, others_, queue_, same_, 0.1)) == pytest.approx(contrast)


def test_a_resumed_run_ends_with_the_same_weights(tmp_path: Path) -> None:
    """Three steps, a checkpoint, a new process's worth of forgetting and three more equal six steps, bit for bit."""
    whole = trained(Run(SMALL, 5), 6)

    save_run(trained(Run(SMALL, 5), 3), tmp_path / "checkpoint.pt")
    resumed = trained(load_run(tmp_path), 3)

    assert (resumed.steps, resumed.samples, resumed.smoothed) == (6, 24, whole.smoothed)
    for network in ("student", "averaged"):
        expected, found = (getattr(run, network).state_dict() for run in (whole, resumed))
        assert all(torch.equal(expected[name], found[name]) for name in expected)
    assert resumed.rng.bit_generator.state == whole.rng.bit_generator.state


def test_a_checkpoint_is_replaced_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that dies while it writes leaves the checkpoint of before."""
    save_run(trained(Run(SMALL, 5), 1), tmp_path / "checkpoint.pt")

    def die(_: object, out: object) -> None:
        out.write(b"half")  # type: ignore[attr-defined]
        raise KeyboardInterrupt

    monkeypatch.setattr(torch, "save", die)
    with pytest.raises(KeyboardInterrupt):
        save_run(trained(Run(SMALL, 5), 2), tmp_path / "checkpoint.pt")

    assert load_run(tmp_path).steps == 1


def test_batches_show_training_pictures_only_and_mark_the_same_picture() -> None:
    """Labels and targets are of the picture shown; equal pictures in the queue are marked, the own answer is not."""
    pictures, targets = pictures_and_targets()
    batch = Feed(pictures, targets, SMALL, np.random.default_rng(0)).batch(32)
    rows = targets.values.reshape(-1, 8)
    places = [int(np.flatnonzero((rows == t).all(1))[0]) // 3 for t in batch.target]
    queued = [int(np.argmax((unit(rows) * q).sum(1))) // 3 for q in batch.queue]

    assert all(pictures.split[k] != "val" for k in (*places, *queued))
    assert batch.label.tolist() == pictures.label[places].tolist()
    expected = np.array(places)[:, None] == np.array([*places, *queued])
    np.fill_diagonal(expected, False)
    assert (batch.same == expected).all()
    assert batch.pixels.shape == (4, 32, 32, 3)
    assert 0 <= batch.pixels.min() <= batch.pixels.max() <= 255


def test_no_test_split_can_be_read(tmp_path: Path) -> None:
    """Neither by default nor by name."""
    assert all("test" not in splits for splits in SPLITS.values())
    for pack in PACKS:
        with pytest.raises(ValueError, match="training may read"):
            read_pack(tmp_path, pack, ("train", "test"))


def test_targets_are_half_whitened_principal_axes() -> None:
    """Each target axis has the square root of its principal variance, and axes do not correlate."""
    rng = np.random.default_rng(4)
    views = [
        {name: (rng.standard_normal((400, d)) * np.linspace(3, 0.2, d) + 5) for name, d in (("v2", 12), ("edge", 9))}
        for _ in range(2)
    ]
    recipe = Recipe(v2=1.0, edge=0.5, colour=0.0, dimension=6)

    project = fit_projection(views, recipe)
    y = np.concatenate([project(view) for view in views]).astype(np.float64)

    parts = []
    for name, weight in (("v2", 1.0), ("edge", 0.5)):
        x = unit(np.concatenate([view[name] for view in views]))
        parts.append(weight * unit(x - x.mean(0)))
    variances = np.linalg.svd(np.concatenate(parts, 1) - np.concatenate(parts, 1).mean(0), compute_uv=False) ** 2 / 799
    np.testing.assert_allclose(np.cov(y.T), np.diag(np.sqrt(variances[:6])), atol=2e-4)


def test_views_are_the_same_whenever_they_are_drawn() -> None:
    """A view's boxes depend on its number and pack alone; crops lie inside, wide views around the picture."""
    for view, kind in enumerate(VIEWS):
        boxes = draw_boxes(view, "broad", 50)

        np.testing.assert_array_equal(boxes, draw_boxes(view, "broad", 50))
        inside = (boxes >= 0).all() and (boxes <= 1).all()
        assert inside == (kind != "wide")
        assert (boxes[:, 2:] - boxes[:, :2] >= 0.44).all()


def test_beyond_the_edges_everything_is_white() -> None:
    """A wide view has the picture whole on a white ground, for the teachers as for the student."""
    from PIL import Image

    dark = np.zeros((100, 100, 3), np.uint8)
    box = np.array([-0.5, -0.5, 1.5, 1.5], np.float32)

    for seen in (np.asarray(look(Image.fromarray(dark), box).resize((200, 200))), augment.resized(dark, box, 200)):
        assert (seen[:48] == 255).all()
        assert (seen[:, 152:] == 255).all()
        assert (seen[54:146, 54:146] == 0).all()


def test_a_thing_on_a_plain_ground_is_cut_out() -> None:
    """The mask is the thing with its holes; a busy ground gives none; another ground leaves the thing as it was."""
    y, x = np.mgrid[:SIDE, :SIDE]
    disc = (y - 80) ** 2 + (x - 80) ** 2 < 50**2
    picture = np.full((SIDE, SIDE, 3), 250, np.uint8)
    picture[disc] = (20, 90, 160)
    picture[75:85, 75:85] = 250

    mask = cutouts.foreground(picture)

    assert mask is not None
    assert (mask == disc).all()
    assert (cutouts.unpack_mask(cutouts.pack_mask(mask, SIDE), SIDE) == mask).all()
    noise = np.random.default_rng(1).integers(0, 256, picture.shape).astype(np.uint8)
    assert cutouts.foreground(noise) is None
    assert cutouts.foreground(np.full_like(picture, 250)) is None
    pasted = augment.other_ground(picture, mask, noise)
    core, far = (y - 80) ** 2 + (x - 80) ** 2 < 45**2, (y - 80) ** 2 + (x - 80) ** 2 > 55**2
    assert (pasted[core] == picture[core]).all()
    assert (pasted[far] == noise[far]).all()


def test_the_rate_rises_stays_and_falls() -> None:
    """It does not depend on the number of samples until the fall begins, and ends at a hundredth."""
    recipe = Recipe()

    assert recipe.rate_at(0, 0.0) == pytest.approx(recipe.rate / recipe.warm_up)
    assert recipe.rate_at(500, 0.1) == recipe.rate_at(90_000, 0.69) == recipe.rate
    assert recipe.rate_at(90_000, 1.0) == pytest.approx(recipe.rate / 100)
    assert [recipe.size_at(share) for share in (0.0, 0.34, 0.35, 0.84, 0.85, 1.0)] == [64, 64, 96, 96, 128, 128]


def test_settings_change_the_recipe_or_say_what_was_expected() -> None:
    """Values keep their field's type; an unknown name is an error that shows what came."""
    changed = Recipe().changed(["kl=0", "sizes=64:0.5,96:1", "held_out=1", "depths=1,2,3,2"])

    assert changed == dataclasses.replace(
        Recipe(), kl=0.0, sizes=((64, 0.5), (96, 1.0)), held_out=True, depths=(1, 2, 3, 2)
    )
    for wrong in ("kl", "colr=1"):
        with pytest.raises(ValueError, match=f"expected NAME=VALUE.*{wrong}"):
            Recipe().changed([wrong])


def test_the_written_graph_computes_what_the_network_computes() -> None:
    """Pixels in 0..255 give the network's embedding at unit length, batch norms folded, at odd sides of a stage too."""
    import onnxruntime

    student = trained(Run(SMALL, 5), 3).averaged.eval()
    rng = np.random.default_rng(6)
    matrix, bias = rng.standard_normal((768, 8)), rng.standard_normal(8)
    for side in (64, 72):
        pixels = rng.integers(0, 256, (3, side, side, 3)).astype(np.uint8)
        session = onnxruntime.InferenceSession(student_graph(student, matrix, bias, side).SerializeToString())

        found = session.run(None, {"image": pixels.astype(np.float32).transpose(0, 3, 1, 2)})[0]

        with torch.no_grad():
            expected = unit(student.features(normalized(pixels)).numpy() @ matrix + bias)
        np.testing.assert_allclose(found, expected, atol=1e-5)


def test_the_last_map_is_fitted_to_what_int8_leaves_of_the_features(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pictures that it was not fitted on come nearer to the float file, and a map that is wrong is put right."""
    import onnx

    student = trained(Run(SMALL, 5), 3).averaged.eval()
    rng = np.random.default_rng(11)
    plain = student_graph(student, rng.standard_normal((768, 8)), rng.standard_normal(8), 64)
    pixels = np.concatenate([Feed(*pictures_and_targets(), SMALL, rng).batch(64).pixels for _ in range(30)])
    pixels = pixels.astype(np.uint8)
    fitted, others = pixels[:-80], pixels[-80:]
    _, quantized = write(plain, fitted, tmp_path, 64)
    model = onnx.load(str(quantized))
    with monkeypatch.context() as patch:
        patch.setattr("bench.training.quantize.refit", lambda *_: None)
        left_alone = onnx.load(str(write(plain, fitted, tmp_path, 64)[1]))
    _, expected = traced(plain, others)

    def error(model: onnx.ModelProto) -> float:
        return float(np.square(traced(model, others)[1] - expected).mean() / expected.var())

    right = error(model)
    assert right < error(left_alone)
    last_map(model).bias.CopyFrom(onnx.numpy_helper.from_array(np.zeros(8, np.float32), last_map(model).bias.name))
    assert error(model) > 2 * right
    refit(model, plain, fitted)
    assert error(model) == pytest.approx(right, rel=0.1)


def test_a_run_that_begins_with_a_written_model_computes_what_the_model_does(tmp_path: Path) -> None:
    """Also while it trains, by batch statistics; from int8 within its steps; its embedding is fitted to the targets."""
    import onnx

    old = trained(Run(SMALL, 5), 4).student.eval()
    pictures, targets = pictures_and_targets()
    feed = Feed(pictures, targets, dataclasses.replace(SMALL, batch=24), np.random.default_rng(8))
    batches = [feed.batch(64) for _ in range(4)]
    graph = student_graph(old, np.eye(768, 8), np.zeros(8), 64)
    files = write(graph, batches[0].pixels.astype(np.uint8), tmp_path, 64)

    exact, rounded = (read_kernels(onnx.load(str(path))) for path in files)
    for (kernel, bias), (near_kernel, near_bias) in zip(exact, rounded, strict=True):
        step = np.abs(kernel).reshape(len(kernel), -1).max(1) / 63
        assert (np.abs(kernel - near_kernel).reshape(len(kernel), -1).max(1) <= step).all()
        np.testing.assert_allclose(near_bias, bias, atol=1e-3)

    run = Run(dataclasses.replace(SMALL, seed=1), 5)
    warm(run, onnx.load(str(files[0])), batches, targets.scale)
    x = torch.cat([normalized(batch.pixels) for batch in batches])
    with torch.no_grad():
        expected = old.features(x)
        torch.testing.assert_close(run.averaged.eval().features(x), expected, rtol=1e-3, atol=1e-4)
        torch.testing.assert_close(run.student.train().features(x), expected, rtol=1e-2, atol=1e-3)
        said, wanted = run.averaged(x)[0], torch.from_numpy(np.concatenate([batch.target for batch in batches]))
        assert (said - wanted).pow(2).mean() < 0.95 * wanted.var()

    deeper = Run(dataclasses.replace(SMALL, seed=1, depths=(1, 2, 4, 2)), 5)
    warm(deeper, onnx.load(str(files[0])), batches, targets.scale)
    with torch.no_grad():
        torch.testing.assert_close(deeper.student.train().features(x), expected, rtol=1e-2, atol=1e-3)
    assert not torch.allclose(trained(deeper, 2).student.body[-2].second[1].weight, torch.zeros(256))

    with pytest.raises(ValueError, match="expected a file with kernels .*, got"):
        warm(Run(dataclasses.replace(SMALL, depths=(1, 1, 1, 1)), 5), onnx.load(str(files[0])), batches, targets.scale)


def test_softening_goes_from_the_own_embedding_to_the_labels() -> None:
    """Strength 0 leaves every vector as it is; more strength brings pictures of one category nearer, against others."""
    rng = np.random.default_rng(7)
    label = np.repeat(np.arange(6), 40)
    # What tells the categories apart is small beside what does not.
    features = rng.standard_normal((240, 20)) * np.linspace(4, 0.3, 20)
    features[:, 12:18] += np.eye(6)[label]
    own = (rng.standard_normal((20, 8)), rng.standard_normal(8))

    def margin(strength: float) -> float:
        matrix, bias = softened(features, label, own, strength, shrinkage=0.1)
        y = unit(features @ matrix + bias)
        same = label[:, None] == label
        return float((y @ y.T)[same].mean() - (y @ y.T)[~same].mean())

    np.testing.assert_array_equal(softened(features, label, own, 0.0, 0.1)[0], own[0])
    margins = [margin(strength) for strength in (0.0, 0.3, 0.6, 1.0)]
    assert margins == sorted(margins)
    assert margins[-1] > 2 * margins[0]
    matrix, bias = softened(features, label, own, 1e-9, 0.1)
    nearly = features @ matrix + bias
    gram = unit(features @ own[0] + own[1])
    np.testing.assert_allclose(unit(nearly) @ unit(nearly).T, gram @ gram.T, atol=1e-3)


def test_light_is_brightness_then_contrast_then_saturation() -> None:
    """One pass equals the three changes one after the other, each around its own middle."""
    pixels = np.random.default_rng(8).integers(60, 160, (5, 16, 16, 3)).astype(np.uint8)

    found = augment.relight(pixels, 0.2, np.random.default_rng(9))

    rng = np.random.default_rng(9)
    spread = np.where(rng.random(5) < augment.BRIGHTER_SHARE, 0.32, 0.2)[:, None]
    factors = 1 + rng.uniform(-1, 1, (5, 3)) * spread
    for row, picture, (bright, contrast, saturation) in zip(found, pixels.astype(float), factors, strict=True):
        x = picture * bright
        x = (x - x.mean()) * contrast + x.mean()
        grey = x.mean(2, keepdims=True)
        np.testing.assert_allclose(row, np.clip((x - grey) * saturation + grey, 0, 255), atol=1e-3)


def test_views_cached_later_leave_the_targets_of_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The axes are fitted once and kept, so that a run goes on towards the same targets with more views."""
    pictures, _ = pictures_and_targets()
    rng = np.random.default_rng(10)
    for view in range(3):
        for pack in PACKS:
            arrays = {name: rng.random((6, 12)).astype(np.float16) for name in ("v2", "edge", "colour")}
            save(tmp_path / pack / f"view-{view}" / "000.npz", boxes=draw_boxes(view, pack, 6), **arrays)
    before = load_targets(tmp_path, pictures, SMALL, views=2)

    monkeypatch.setattr("bench.training.data.fit_projection", None)
    after = load_targets(tmp_path, pictures, SMALL, views=3)

    assert views_cached(tmp_path, dict.fromkeys(PACKS, 6), block=6) == 3
    assert after.scale == before.scale
    np.testing.assert_array_equal(after.values[:, :2], before.values)
    assert after.values.shape == (24, 3, 8)


def test_one_command_runs_every_step_from_the_packs_to_the_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Teachers beside each other; each run but the first begins with the file of the one before; what is done stays."""
    runs = (pipeline.Step("first", 1_000, 0.5), pipeline.Step("second", 3_000, 0.7, "kl=0 mse=2"))
    monkeypatch.setattr(pipeline, "RUNS", runs)
    (tmp_path / "first").mkdir()
    (tmp_path / "first" / "final.pt").touch()

    features, *rest = pipeline.steps(tmp_path / "shared", tmp_path, cores=2, share=0.01)

    assert [command[command.index("--part") + 1] for command in features] == ["0/2", "1/2"]
    assert [command[2].rpartition(".")[2] for (command,) in rest] == ["export", "train", "export"]
    (first,), (second,), (last,) = rest
    assert str(tmp_path / "first" / "model" / "kindred.onnx") == second[second.index("--start") + 1]
    assert first[first.index("--out") + 1] == str(tmp_path / "first" / "model")
    assert last[last.index("--out") + 1] == str(tmp_path / "model")
    assert second[second.index("--samples") + 1] == "30"
    assert second[-4:] == ["--set", "kl=0", "--set", "mse=2"]


def test_a_step_that_fails_ends_the_command_with_its_status() -> None:
    """Of steps that run beside each other, too."""
    with pytest.raises(SystemExit) as ended:
        pipeline.run_beside([[sys.executable, "-c", "pass"], [sys.executable, "-c", "raise SystemExit(7)"]])
    assert ended.value.code == 7
