"""Metrics of pictures against closed forms and against other libraries."""

from __future__ import annotations

import importlib.util
import logging
import math
import sys

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from model.metrics import networks
from model.metrics.frechet import frechet_distance
from model.metrics.networks import UnavailableError, clip_metric, lpips_metric
from model.metrics.pictures import LARGEST_PSNR_DB, psnr, ssim


def random_pictures(seed: int, size: int = 48, count: int = 3) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(count, 3, size, size, generator=generator)


class TestPsnr:
    def test_a_known_error(self) -> None:
        """An error of 0.1 everywhere is 20 dB, one of 0.01 is 40 dB."""
        black = torch.zeros(2, 3, 8, 8)
        off = torch.stack([torch.full((3, 8, 8), 0.1), torch.full((3, 8, 8), 0.01)])
        torch.testing.assert_close(psnr(off, black), torch.tensor([20.0, 40.0]))

    def test_equal_pictures_have_the_largest(self) -> None:
        assert psnr(random_pictures(0), random_pictures(0)).tolist() == [LARGEST_PSNR_DB] * 3

    def test_as_other_libraries_have_it(self) -> None:
        from skimage.metrics import peak_signal_noise_ratio
        from torchmetrics.functional.image import peak_signal_noise_ratio as torchs

        predicted, target = random_pictures(0), random_pictures(1)
        ours = psnr(predicted, target)
        for index in range(3):
            pair = predicted[index].numpy(), target[index].numpy()
            assert float(ours[index]) == pytest.approx(
                peak_signal_noise_ratio(*pair, data_range=1), rel=1e-5
            )
        one = torchs(predicted[:1], target[:1], data_range=1.0)
        torch.testing.assert_close(ours[0], one)


class TestSsim:
    def test_plain_pictures(self) -> None:
        """Without variance only the means' term is left: (2ab + C) / (a² + b² + C)."""
        a, b, c = 0.3, 0.6, 0.01**2
        pictures = (torch.full((1, 3, 32, 32), level, dtype=torch.float64) for level in (a, b))
        wanted = (2 * a * b + c) / (a * a + b * b + c)
        assert float(ssim(*pictures)) == pytest.approx(wanted, abs=1e-9)

    def test_itself_is_one(self) -> None:
        torch.testing.assert_close(ssim(random_pictures(0), random_pictures(0)), torch.ones(3))

    def test_as_scikit_image_has_it(self) -> None:
        """Which leaves out the margin where its window is cut off."""
        from skimage.metrics import structural_similarity

        predicted = random_pictures(0).double()
        target = (predicted + 0.2 * random_pictures(1)).clamp(0, 1)
        mirrored = (nn.functional.pad(p, (5, 5, 5, 5), mode="reflect") for p in (predicted, target))
        for ours, left, right in zip(ssim(predicted, target), *mirrored, strict=True):
            theirs = structural_similarity(
                left.numpy(),
                right.numpy(),
                channel_axis=0,
                data_range=1,
                gaussian_weights=True,
                sigma=1.5,
                use_sample_covariance=False,
            )
            assert float(ours) == pytest.approx(theirs, abs=1e-9)

    def test_pictures_smaller_than_its_window_are_refused(self) -> None:
        with pytest.raises(ValueError, match="at least 11 pixels"):
            ssim(random_pictures(0, size=8), random_pictures(0, size=8))


class TestLpips:
    def test_as_torchmetrics_has_it_on_the_same_random_backbone(self) -> None:
        import lpips
        from torchmetrics.functional.image.lpips import _LPIPS

        torch.manual_seed(0)
        network = lpips.LPIPS(net="alex", pnet_rand=True, verbose=False).eval()
        other = _LPIPS(net="alex", pretrained=True, pnet_rand=True).eval()
        other.net.load_state_dict(network.net.state_dict())
        predicted, target = random_pictures(0, 64), random_pictures(1, 64)
        with torch.no_grad():
            ours = lpips_metric(network)(predicted, target)
            theirs = other(predicted, target, normalize=True).flatten()
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-6)
        assert ours.std() > 0

    def test_the_same_picture_is_at_no_distance(self) -> None:
        import lpips

        network = lpips.LPIPS(net="alex", pnet_rand=True, verbose=False).eval()
        with torch.no_grad():
            assert (
                lpips_metric(network)(random_pictures(0, 64), random_pictures(0, 64)).max() < 1e-6
            )


@pytest.mark.skipif(importlib.util.find_spec("open_clip") is None, reason="open_clip is optional")
class TestClip:
    def test_as_open_clip_prepares_pictures_itself(self) -> None:
        import open_clip
        from torchvision.transforms.functional import to_pil_image

        torch.manual_seed(0)
        vision = {"image_size": 32, "layers": 2, "width": 32, "head_width": 16, "patch_size": 8}
        text = {"context_length": 8, "vocab_size": 50, "width": 16, "heads": 2, "layers": 1}
        network = open_clip.CLIP(16, vision, text).eval()
        open_clip.model.set_model_preprocess_cfg(
            network, {"size": (32, 32), "mean": (0.48, 0.46, 0.41), "std": (0.27, 0.26, 0.28)}
        )
        prepare = open_clip.image_transform(
            (32, 32), is_train=False, mean=network.visual.image_mean, std=network.visual.image_std
        )
        predicted, target = random_pictures(0, 64), random_pictures(1, 64)
        predicted, target = ((p * 255).round() / 255 for p in (predicted, target))
        with torch.no_grad():
            ours = clip_metric(network)(predicted, target)
            left, right = (
                network.encode_image(torch.stack([prepare(to_pil_image(p)) for p in pictures]))
                for pictures in (predicted, target)
            )
        wanted = (left * right).sum(1) / left.norm(dim=1) / right.norm(dim=1)
        torch.testing.assert_close(ours, wanted, rtol=0, atol=2e-3)  # PIL rounds to 8 bits
        torch.testing.assert_close(clip_metric(network)(target, target), torch.ones(3))


class TestFrechet:
    def test_gaussians_of_one_dimension(self) -> None:
        """(μ - ν)² + (σ - τ)²."""
        left = np.random.default_rng(0).normal(1.0, 2.0, (400_000, 1))
        right = np.random.default_rng(1).normal(4.0, 0.5, (400_000, 1))
        assert frechet_distance(left, right) == pytest.approx(3**2 + 1.5**2, rel=0.01)

    def test_exactly_where_the_moments_are_exact(self) -> None:
        """Four points at ±a, ±b have covariances of 2 a² / 3 and 2 b² / 3."""
        left, right = (
            np.array([[x, 0], [-x, 0], [0, y], [0, -y]]) for x, y in ((1.0, 2.0), (3.0, 0.5))
        )
        unit = math.sqrt(2 / 3)
        wanted = unit**2 * ((3 - 1) ** 2 + (2 - 0.5) ** 2) + 5**2
        assert frechet_distance(left, np.add(right, [3, 4])) == pytest.approx(wanted)

    def test_a_set_and_itself(self) -> None:
        features = np.random.default_rng(0).standard_normal((50, 8))
        assert frechet_distance(features, features) == pytest.approx(0, abs=1e-9)

    @pytest.mark.skipif(
        importlib.util.find_spec("torch_fidelity") is None, reason="torch-fidelity is optional"
    )
    def test_as_torchmetrics_has_it_on_the_same_random_backbone(self) -> None:
        from torchmetrics.image.fid import FrechetInceptionDistance

        torch.manual_seed(0)
        backbone = nn.Sequential(nn.Conv2d(3, 6, 5, stride=3), nn.Tanh(), nn.AdaptiveAvgPool2d(1))
        backbone.append(nn.Flatten())
        fid = FrechetInceptionDistance(
            feature=backbone, normalize=True, input_img_size=(3, 32, 32)
        ).set_dtype(torch.float64)
        backbone.double()
        sets = [random_pictures(seed, 32, 40).double() ** (1 + seed) for seed in (0, 1)]
        with torch.no_grad():
            for pictures, real in zip(sets, (True, False), strict=True):
                fid.update(pictures, real=real)
            features = [backbone(pictures).numpy() for pictures in sets]
        assert frechet_distance(*features) == pytest.approx(float(fid.compute()), rel=1e-6)

    def test_refusals(self) -> None:
        with pytest.raises(ValueError, match="at least two"):
            frechet_distance(np.zeros((1, 3)), np.zeros((5, 3)))
        with pytest.raises(ValueError, match="different networks"):
            frechet_distance(np.zeros((4, 3)), np.zeros((5, 2)))


class TestWithoutNetworks:
    def test_what_cannot_be_downloaded_is_not_available(
        self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        import lpips

        def refuse(*_: object, **__: object) -> None:
            print("Downloading")
            print("Downloading", file=sys.stderr)
            logging.error("no route to host")
            raise OSError("no route to host")

        monkeypatch.setattr(lpips, "LPIPS", refuse)
        with pytest.raises(UnavailableError, match=r"vgg weights, .* \(no route to host\)"):
            networks.load_lpips("vgg", torch.device("cpu"))
        assert capsys.readouterr() == ("", "")  # every worker would say it
        assert logging.root.manager.disable == 0

    def test_a_hub_out_of_reach_is_asked_once(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Its own client would try six times for each file, with waits of up to 8 seconds."""
        hub = pytest.importorskip("huggingface_hub")
        open_clip = pytest.importorskip("open_clip")
        asked = []

        class Session:
            def head(self, url: str, **_: object) -> None:
                asked.append(url)
                raise OSError("no route to host")

        monkeypatch.setattr(hub, "try_to_load_from_cache", lambda *_: None)
        monkeypatch.setattr(hub, "is_offline_mode", lambda: False)
        monkeypatch.setattr(hub, "get_session", Session)
        monkeypatch.setattr(open_clip, "create_model", pytest.fail)
        with pytest.raises(UnavailableError, match=r"ViT-B-32.* \(no route to host\)"):
            networks.load_clip(torch.device("cpu"))
        assert len(asked) == 1

    def test_weights_in_the_hubs_cache_are_taken_without_asking(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        hub = pytest.importorskip("huggingface_hub")
        open_clip = pytest.importorskip("open_clip")
        loaded = []

        def create(name: str, pretrained: str) -> torch.nn.Module:
            loaded.append((name, pretrained))
            return torch.nn.Identity()

        monkeypatch.setattr(
            hub,
            "try_to_load_from_cache",
            lambda repository, name: f"/cache/{name}" if name.endswith(".bin") else None,
        )
        monkeypatch.setattr(hub, "get_session", pytest.fail)
        monkeypatch.setattr(open_clip, "create_model", create)
        networks.load_clip(torch.device("cpu"))
        assert loaded == [("ViT-B-32-quickgelu", "/cache/open_clip_pytorch_model.bin")]

    def test_what_is_not_installed_is_not_available(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "open_clip", None)
        with pytest.raises(UnavailableError, match="open_clip is not installed: pip install"):
            networks.load_clip(torch.device("cpu"))
