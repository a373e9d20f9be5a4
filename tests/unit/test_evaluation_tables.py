"""Statistics, tables, limits and comparisons of evaluations."""

from __future__ import annotations

import csv
import io

import numpy as np
import pytest

from train.evaluation.comparison import compare, comparison_rows
from train.evaluation.scores import Scores, csv_table, limits_missed, markdown, summary_table
from train.evaluation.statistics import (
    RESAMPLES,
    is_lower_better,
    paired_difference,
    summarize_scores,
)


def scores_of(method: str, psnr: dict[str, float], **others: object) -> Scores:
    objects = {
        name: {"scores": {"psnr": value, "chamfer": 1 / value}, "unavailable": {}, "files": []}
        for name, value in psnr.items()
    }
    protocol = {"name": "test", "source": "nowhere", "seed": 0, "choices": []}
    return Scores(method, protocol, {}, objects, **others)  # type: ignore[arg-type]


class TestStatistics:
    def test_the_interval_is_that_of_the_mean(self) -> None:
        """Of a normal distribution: ± 1.96 σ / √n."""
        values = np.random.default_rng(0).normal(20, 3, 400)
        summary = summarize_scores(values.tolist())
        assert summary.mean == pytest.approx(values.mean())
        assert summary.deviation == pytest.approx(values.std(ddof=1))
        half = 1.96 * values.std(ddof=1) / 20
        assert summary.high - summary.mean == pytest.approx(half, rel=0.05)
        assert summary.mean - summary.low == pytest.approx(half, rel=0.05)

    def test_the_interval_is_that_of_resamplings_drawn_at_once(self) -> None:
        values = np.random.default_rng(0).normal(20, 3, 37)
        draws = np.random.default_rng(5).multinomial(37, np.full(37, 1 / 37), RESAMPLES)
        low, high = np.quantile(draws @ values / 37, (0.025, 0.975))
        summary = summarize_scores(values.tolist(), 5)
        assert (summary.low, summary.high) == (low, high)

    def test_objects_are_resampled_once_for_all_metrics_and_tables(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        scores = scores_of("mine", {f"{i}": i + 1.0 for i in range(23)})
        draw, drawn = np.random.default_rng, []
        monkeypatch.setattr(np.random, "default_rng", lambda s: drawn.append(s) or draw(s))
        assert scores.to_json()["summary"] == {m: vars(s) for m, s in scores.summaries.items()}
        markdown(scores)
        limits_missed(scores, {"psnr": 1.0}, {})
        assert drawn == [0]

    def test_one_object_has_no_deviation(self) -> None:
        assert vars(summarize_scores([3.0])) == {
            **dict.fromkeys(("mean", "low", "high"), 3.0),
            "objects": 1,
            "deviation": 0.0,
        }

    def test_pairs_see_what_means_do_not(self) -> None:
        rng = np.random.default_rng(0)
        base = dict(enumerate(rng.normal(20, 5, 50)))
        better = {f"{k}": v + 0.3 + rng.normal(0, 0.2) for k, v in base.items()}
        gap = paired_difference(better, {f"{k}": v for k, v in base.items()}, "psnr")
        assert gap.low < 0.3 < gap.high
        assert gap.high - gap.low < 0.2  # the objects' own ± 5 is gone
        assert gap.p_value < 0.001
        assert gap.better > 0.8

    def test_no_difference_is_none(self) -> None:
        same = {"a": 1.0, "b": 2.0}
        gap = paired_difference(same, same, "psnr")
        assert (gap.mean, gap.p_value, gap.better) == (0.0, 1.0, 0.5)

    def test_less_of_a_distance_is_better(self) -> None:
        gap = paired_difference({"a": 1.0, "b": 1.0}, {"a": 2.0, "b": 3.0}, "chamfer_unaligned")
        assert (gap.mean, gap.better) == (-1.5, 1.0)
        assert [is_lower_better(m) for m in ("lpips", "fid", "psnr", "f_score@0.1", "clip")] == [
            *(True, True),
            *(False, False, False),
        ]

    def test_only_shared_objects_count(self) -> None:
        gap = paired_difference({"a": 1.0, "b": 5.0}, {"a": 0.0, "c": 9.0}, "psnr")
        assert (gap.objects, gap.mean) == (1, 1.0)
        with pytest.raises(ValueError, match="no object"):
            paired_difference({"a": 1.0}, {"b": 1.0}, "psnr")


class TestTables:
    scores = scores_of(
        "mine",
        {"a|b": 20.0, "c": 25.0},
        excluded={"d": "it is empty"},
        unavailable={"lpips": "no weights"},
        of_the_set={"fid": 31.44},
    )

    def test_missing_metrics_have_no_number(self) -> None:
        columns, lines = summary_table(self.scores)
        assert "unaligned" not in columns  # nothing was aligned
        rows = {name: numbers for name, *numbers in lines}
        assert rows["psnr ↑"][0] == "22.50"
        assert rows["fid ↓"][0] == "31.44"
        assert rows["lpips ↓"] == ["not available", "", "", "0"]

    def test_markdown_names_what_is_excluded(self) -> None:
        text = markdown(self.scores)
        assert "`d`: it is empty" in text
        assert "- lpips is not available: no weights\n" in text

    def test_what_some_objects_lack_is_told_with_their_names(self) -> None:
        scores = scores_of("mine", {"a": 20.0, "b": 25.0, "c": 30.0})
        for metric in ("ssim", "clip"):
            scores.objects["b"]["unavailable"][metric] = "it has no surface"
        wanted = "ssim, clip: not available of 1 of 3 objects (b), since it has no surface"
        assert scores.notes() == [wanted]

    def test_one_object_has_neither_deviation_nor_interval(self) -> None:
        _, (row, _) = summary_table(scores_of("mine", {"a": 20.0}))
        assert row == ["psnr ↑", "20.00", "", "", "1"]

    def test_csv_has_a_line_for_each(self) -> None:
        rows = list(csv.DictReader(io.StringIO(csv_table(self.scores))))
        assert [row["object"] for row in rows] == ["a|b", "c", "d"]
        assert rows[1]["psnr"] == "25.0"
        assert rows[2] == {"object": "d", "psnr": "", "chamfer": "", "excluded": "it is empty"}

    def test_limits(self) -> None:
        assert limits_missed(self.scores, {"psnr": 22}, {"chamfer": 0.1, "fid": 40}) == []
        assert limits_missed(self.scores, {"psnr": 23}, {"fid": 30}) == [
            "psnr is 22.50, below 23",
            "fid is 31.44, above 30",
        ]

    def test_what_has_no_number_keeps_no_limit(self) -> None:
        """A build must not pass because a download failed."""
        (sentence,) = limits_missed(self.scores, {"lpips": 0.1}, {})
        assert sentence == "lpips has no value to hold against 0.1: no weights"

    def test_comparison(self) -> None:
        other = scores_of("other", {"a|b": 21.0, "c": 26.0, "e": 1.0})
        gaps = compare([self.scores, other])["psnr"]
        assert gaps[0] is None
        assert gaps[1] is not None
        assert (gaps[1].mean, gaps[1].objects) == (1.0, 2)
        rows = comparison_rows([self.scores, other])
        assert rows[1][1:4] == ("other", "23.50", "+1.000")

    def test_different_protocols_are_not_compared(self) -> None:
        other = scores_of("other", {"c": 1.0})
        other.protocol["seed"] = 1
        with pytest.raises(ValueError, match=r"different protocols .* differ in seed"):
            compare([self.scores, other])
        with pytest.raises(ValueError, match=r"two scores\.json or more"):
            compare([self.scores])
