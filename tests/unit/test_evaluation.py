"""Protocols, shapes and pairing of evaluations."""

from __future__ import annotations

import errno
import os
from pathlib import Path, PurePosixPath

import numpy as np
import pytest
import torch
import trimesh

from model.formats.meshes import MESH_SUFFIXES, MeshPart, TexturedMesh, read_mesh
from train.evaluation.cases import protocol_cameras
from train.evaluation.geometry import score_geometry
from train.evaluation.pairing import draw, find_references, match, object_name
from train.evaluation.protocol import Geometry, Protocol, Views, load_protocol, protocol_names
from train.evaluation.scoring import ObjectScorer
from train.evaluation.shapes import SHAPE_SUFFIXES, Shape, read_shape


class TestProtocols:
    def test_those_that_ship(self) -> None:
        assert protocol_names() == ["instantmesh", "lrm", "lrm-gso", "sf3d"]

    def test_as_their_papers_have_them(self) -> None:
        lrm, gso = load_protocol("lrm"), load_protocol("lrm-gso")
        assert (lrm.objects, lrm.views.count, lrm.inputs.count) == (50, 15, 5)
        assert set(lrm.views.metrics) == {"psnr", "clip", "ssim", "lpips"}
        assert (gso.objects, gso.views.count, gso.geometry.points > 0) == (100, 20, True)
        sf3d, instantmesh = load_protocol("sf3d"), load_protocol("instantmesh")
        assert (sf3d.views.count, sf3d.inputs.kind) == (16, "frontal")
        assert sf3d.geometry.thresholds == (0.1, 0.2, 0.5)
        assert sf3d.geometry.alignment == "search"
        assert instantmesh.views.elevations == (30.0, 0.0, -30.0)
        assert (instantmesh.geometry.points, instantmesh.geometry.thresholds) == (16000, (0.2,))

    @pytest.mark.parametrize("name", protocol_names())
    def test_each_names_its_source_and_its_choices(self, name: str) -> None:
        protocol = load_protocol(name)
        assert protocol.name == name
        assert "arXiv" in protocol.source
        assert protocol.choices

    def test_a_file_of_ones_own(self, tmp_path: Path) -> None:
        path = tmp_path / "mine.yaml"
        path.write_text("name: mine\nsource: me\nviews: {count: 3, metrics: [psnr]}\n")
        assert load_protocol(str(path)).views.count == 3

    @pytest.mark.parametrize(
        ("text", "words"),
        [
            ("name: a\nsource: b\nvjews: {}", "has no vjews"),
            ("name: a\nsource: b\nviews: {metrics: [mse]}", "one of psnr, ssim"),
            ("name: a\nsource: b\nviews: {metrics: []}", "measures nothing"),
            ("name: a\nsource: b\nviews: {count: 20, elevations: [1, 2, 3]}", "multiple"),
            ("name: a\nsource: b\ninputs: {count: 20}", "larger than views.count"),
            ("name: a\nsource: b\nviews: {fov_degrees: 0}", "is 0; .* between 0 and 180"),
            ("name: a\nsource: b\nviews: {fov_degrees: 200}", "is 200; .* between 0 and 180"),
            ("name: a\nsource: b\nviews: {fov_degrees: .nan}", "is nan; .* between 0 and 180"),
            ("name: a\nsource: b\ngeometry: {resolution: 1}", "is 1; it must be at least 2"),
            ("name: a\nsource: b\nseed: -1", "seed is -1; it must not be negative"),
            ("name: a", r"bad\.yaml lacks source$"),
            ("name: [", r"cannot be read \(.*\)$"),
        ],
    )
    def test_files_that_are_none(self, tmp_path: Path, text: str, words: str) -> None:
        path = tmp_path / "bad.yaml"
        path.write_text(text)
        with pytest.raises(ValueError, match=words):
            load_protocol(str(path))

    def test_unknown_names_are_told_what_there_is(self) -> None:
        with pytest.raises(ValueError, match="instantmesh, lrm, lrm-gso, sf3d"):
            load_protocol("gso")

    def test_an_orbit_sees_the_object_from_all_its_elevations(self) -> None:
        cameras = protocol_cameras(load_protocol("instantmesh").views, 0, "any")
        positions = cameras.positions_world
        assert cameras.intrinsics.shape == (21, 4)
        heights = positions[:, 2] / positions.norm(dim=1)
        degrees = torch.rad2deg(torch.arcsin(heights)).round().tolist()
        assert degrees == [30.0] * 7 + [0.0] * 7 + [-30.0] * 7
        # The first of each is in front, on the -y axis.
        torch.testing.assert_close(positions[::7, 0], torch.zeros(3), atol=1e-5, rtol=0)
        assert (positions[::7, 1] < 0).all()

    def test_random_cameras_are_an_objects_own(self) -> None:
        views = load_protocol("lrm-gso").views
        first, again, other, reseeded = (
            protocol_cameras(views, seed, name).positions_world
            for seed, name in ((0, "a"), (0, "a"), (0, "b"), (1, "a"))
        )
        torch.testing.assert_close(first, again, atol=0, rtol=0)
        assert not torch.equal(first, other)
        assert not torch.equal(first, reseeded)


def box(size: tuple[float, float, float] = (1.0, 2.0, 3.0)) -> trimesh.Trimesh:
    mesh = trimesh.creation.box(size)
    mesh.visual.vertex_colors = [200, 60, 60, 255]
    return mesh


def shape_of(mesh: trimesh.Trimesh, folder: Path) -> Shape:
    mesh.export(folder / "shape.ply")
    return read_shape(folder / "shape.ply")


class TestShapes:
    def test_every_kind_of_mesh_is_a_shape(self) -> None:
        assert set(MESH_SUFFIXES) < set(SHAPE_SUFFIXES)

    points = np.random.default_rng(0).random((50, 3))

    def test_point_clouds_of_all_kinds(self, tmp_path: Path) -> None:
        np.savez(tmp_path / "point-e.npz", coords=self.points, R=np.ones(50))
        np.save(tmp_path / "colored.npy", np.hstack([self.points, np.ones((50, 3))]))
        np.savetxt(tmp_path / "plain.xyz", self.points)
        trimesh.PointCloud(self.points).export(tmp_path / "cloud.ply")
        for path in tmp_path.iterdir():
            shape = read_shape(path)
            assert shape.mesh is None
            np.testing.assert_allclose(shape.content, self.points, atol=1e-6)

    def test_a_comment_about_faces_makes_no_mesh_of_a_cloud(self, tmp_path: Path) -> None:
        path = tmp_path / "cloud.ply"
        trimesh.PointCloud(self.points).export(path)
        header, end, points = path.read_bytes().partition(b"element")
        path.write_bytes(
            header + b"comment scanned face up\ncomment element face 9\n" + end + points
        )
        assert read_shape(path).mesh is None

    def test_a_ply_of_no_faces_is_a_cloud(self, tmp_path: Path) -> None:
        xyz = "".join(f"property float {axis}\n" for axis in "xyz")
        (tmp_path / "cloud.ply").write_text(
            f"ply\nformat ascii 1.0\nelement vertex 2\n{xyz}element face  0\n"
            "property list uchar int vertex_indices\nend_header\n0 0 0\n1 2 3\n"
        )
        assert read_shape(tmp_path / "cloud.ply").mesh is None

    def test_a_ply_with_faces_is_a_mesh(self, tmp_path: Path) -> None:
        assert shape_of(box(), tmp_path).mesh is not None

    def test_y_up_clouds_are_turned_as_meshes_are(self, tmp_path: Path) -> None:
        mesh = box()
        mesh.export(tmp_path / "mesh.ply")
        np.save(tmp_path / "cloud.npy", mesh.vertices)
        turned = read_mesh(tmp_path / "mesh.ply", "y").parts[0].vertices_world
        cloud = read_shape(tmp_path / "cloud.npy", "y").content
        assert isinstance(cloud, np.ndarray)
        np.testing.assert_allclose(np.sort(cloud, 0), np.sort(turned, 0), atol=1e-6)

    @pytest.mark.parametrize(
        ("name", "content", "words"),
        [
            ("a.npy", np.zeros((0, 3)), "holds no points"),
            ("a.npy", np.full((5, 3), np.nan), "not finite"),
            ("a.npy", np.zeros((5, 2)), "holds no points"),
            ("a.xyz", "1 2 three", "cannot be read as a point cloud"),
            ("a.npz", "no archive", "cannot be read as a point cloud"),
            ("a.ply", "no ply", "cannot be read as a mesh"),
            ("a.glb", "", "is empty"),
        ],
    )
    def test_damaged_files(
        self, tmp_path: Path, name: str, content: np.ndarray | str, words: str
    ) -> None:
        path = tmp_path / name
        if isinstance(content, str):
            path.write_text(content)
        else:
            np.save(path, content)
        with pytest.raises(ValueError, match=words):
            read_shape(path)

    def test_a_cloud_gives_points_in_random_order(self) -> None:
        line = np.linspace(0, 1, 1000)[:, None] * [1, 1, 1]
        points = Shape(line).points(1000, seed=0)
        assert abs(np.corrcoef(np.arange(1000), points[:, 0])[0, 1]) < 0.1


class TestGeometry:
    config = Geometry(points=4000, thresholds=(0.1, 0.5), alignment="scale")

    def test_the_unit_is_half_the_references_longest_side(self, tmp_path: Path) -> None:
        reference = shape_of(box((1, 2, 4)), tmp_path)
        moved = reference.moved(np.diag([1.0, 1, 1, 1]) + np.eye(4, k=3) * 3)  # 3 along x
        score = score_geometry(moved, reference, self.config, seed=0)
        # 3 of units of which 2 are one: every point is 1.5 or less off; nearest faces 1 apart.
        assert 1.0 < score.values["chamfer_unaligned"] < 1.6
        assert score.values["chamfer"] < 0.05
        assert score.values["f_score@0.1"] > 0.99
        assert score.values["f_score@0.5_unaligned"] == 0

    def test_the_transform_leads_from_the_predictions_file_to_the_references(
        self, tmp_path: Path
    ) -> None:
        reference = shape_of(box(), tmp_path)
        change = np.diag([3.0, 3, 3, 1])
        change[:3, 3] = 5, -6, 7
        score = score_geometry(reference.moved(change), reference, self.config, seed=0)
        np.testing.assert_allclose(score.transform @ change, np.eye(4), atol=1e-9)

    def test_boxes_are_those_of_the_surface_whatever_its_samples_reach(self) -> None:
        """They seldom come near a corner. A vertex without a face is no part of it."""
        vertices = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 9], [0, 0, 99]], float)
        part = MeshPart(vertices, np.array([[0, 1, 2], [0, 1, 3]]), (1.0, 1.0, 1.0, 1.0))
        wedge = Shape(TexturedMesh((part,)))
        np.testing.assert_array_equal(wedge.bounds(), [[0, 0, 0], [1, 1, 9]])
        score = score_geometry(wedge, wedge, Geometry(points=50, alignment="scale"), seed=0)
        np.testing.assert_allclose(score.transform, np.eye(4), atol=1e-9)
        assert score.reference[:, 2].min() >= -1
        assert score.reference[:, 0].max() <= 1 / 9

    def test_without_alignment_both_are_the_same(self, tmp_path: Path) -> None:
        config = Geometry(points=500, alignment="none")
        shape = shape_of(box(), tmp_path)
        values = score_geometry(shape, shape, config, seed=0).values
        assert values["chamfer"] == values["chamfer_unaligned"] > 0
        assert values["chamfer"] == (values["accuracy"] + values["completeness"]) / 2


class TestScoringShapes:
    protocol = Protocol(
        "test",
        "nowhere",
        views=Views(2, "orbit", size=32, metrics=("psnr", "ssim")),
        geometry=Geometry(points=2000, thresholds=(0.1,), alignment="scale"),
    )

    def scorer(self, lit: bool = True) -> ObjectScorer:
        return ObjectScorer(self.protocol, torch.device("cpu"), lit)

    def test_a_mesh_against_itself_looks_the_same(self, tmp_path: Path) -> None:
        shape = shape_of(box(), tmp_path)
        values = self.scorer().score_shapes(shape, shape, "a").values
        assert values["psnr"] > 30
        assert values["f_score@0.1"] > 0.99

    def test_a_larger_copy_is_aligned_before_it_is_drawn(self, tmp_path: Path) -> None:
        shape = shape_of(box(), tmp_path)
        larger = shape.moved(np.diag([4.0, 4, 4, 1]))
        assert self.scorer().score_shapes(larger, shape, "a").values["psnr"] > 30

    def test_predictions_are_unlit_unless_they_are_to_be(self, tmp_path: Path) -> None:
        shape = shape_of(box(), tmp_path)
        assert self.scorer(lit=False).score_shapes(shape, shape, "a").values["psnr"] < 30

    def test_clouds_have_no_pictures(self, tmp_path: Path) -> None:
        shape = shape_of(box(), tmp_path)
        score = self.scorer().score_shapes(Shape(shape.points(3000, 5)), shape, "a")
        assert "psnr" not in score.values
        assert score.unavailable["psnr"] == "a point cloud has no surface to render"
        assert score.values["f_score@0.1"] > 0.99
        assert score.surfaces[0]["input"] == 0

    def test_pictures_of_different_sizes_are_refused(self) -> None:
        with pytest.raises(ValueError, match="has 32×32 pixels, its reference 16×16"):
            self.scorer().score_pictures(torch.zeros(1, 3, 32, 32), torch.zeros(1, 3, 16, 16))


class TestPairing:
    @pytest.mark.parametrize(
        ("place", "name"),
        [
            ("3D_Dollhouse_Sink/meshes/model.obj", "3D_Dollhouse_Sink"),  # GSO
            ("anise/anise_001/Scan/Scan.obj", "anise/anise_001"),  # OmniObject3D
            ("3dmodels/original/0/B07B4DBBT0.glb", "3dmodels/original/0/B07B4DBBT0"),  # ABO
            ("kitchen/cup.glb", "kitchen/cup"),  # ours
            ("cup/cup.obj", "cup"),
            ("model.obj", "model"),
        ],
    )
    def test_names_in_known_layouts(self, place: str, name: str) -> None:
        assert object_name(PurePosixPath(place)) == name

    def test_references_of_a_folder(self, tmp_path: Path) -> None:
        for place in ("b/meshes/model.obj", "b/meshes/model.glb", "a.ply", ".x/c.obj", "a.png"):
            (tmp_path / place).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / place).touch()
        found = find_references(tmp_path, (".glb", ".obj", ".ply"))
        assert found == {"a": tmp_path / "a.ply", "b": tmp_path / "b/meshes/model.glb"}
        with pytest.raises(ValueError, match=r"no object \(stl\)"):
            find_references(tmp_path, (".stl",))

    def test_references_lie_behind_links_too(self, tmp_path: Path) -> None:
        for place in ("store/cup", "truth"):
            (tmp_path / place).mkdir(parents=True)
        (tmp_path / "store/cup/model.obj").touch()
        (tmp_path / "truth/mug").symlink_to(tmp_path / "store/cup")
        (tmp_path / "truth/again").symlink_to(tmp_path / "truth")
        found = find_references(tmp_path / "truth", (".obj",))
        assert found == {"mug": tmp_path / "truth/mug/model.obj"}
        (tmp_path / "store/latest").symlink_to(tmp_path / "store/cup")
        (tmp_path / "store/cab").symlink_to(tmp_path / "store/cup")  # before it by the alphabet
        found = find_references(tmp_path / "store", (".obj",))
        assert found == {"cup": tmp_path / "store/cup/model.obj"}

    def test_a_folder_of_references_that_cannot_be_read_is_told(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "a.obj").touch()
        (tmp_path / "locked").mkdir()
        listed = os.scandir

        def locked(folder: str) -> object:
            if Path(folder).name == "locked":
                raise PermissionError(errno.EACCES, "Permission denied", folder)
            return listed(folder)

        monkeypatch.setattr(os, "scandir", locked)
        with pytest.raises(ValueError, match=r"folder .*locked cannot be read \(Permission"):
            find_references(tmp_path, (".obj",))

    def test_references_of_a_list(self, tmp_path: Path) -> None:
        path = tmp_path / "list.tsv"
        path.write_text("sofa/sofa\tmeshes/1.obj\n\nwedge.v2\t/else/2.obj\n")
        assert find_references(path, ()) == {
            "sofa": tmp_path / "meshes/1.obj",
            "wedge.v2": Path("/else/2.obj"),
        }
        path.write_text("sofa meshes/1.obj\n")
        with pytest.raises(ValueError, match=r"line 1 of .* a tab"):
            find_references(path, ())

    def test_the_same_name_or_a_unique_last_part(self) -> None:
        references = dict.fromkeys(["x/cup", "y/cup", "y/pot"])
        assert match(["x/cup", "pot", "cup", "pan"], references) == {
            "x/cup": "x/cup",
            "pot": "y/pot",
        }

    def test_a_draw_depends_on_names_and_seed_alone(self) -> None:
        names = [f"object {number}" for number in range(20)]
        drawn = draw(names, 5, seed=0)
        assert drawn == draw(reversed(names), 5, seed=0) == sorted(drawn)
        assert len(set(drawn)) == 5
        assert drawn != draw(names, 5, seed=1)
        assert draw(names, None, seed=0) == draw(names, 99, seed=0) == sorted(names)
