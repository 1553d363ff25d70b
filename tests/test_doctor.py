"""`zfnet doctor`: what it finds, what it misses, and the command that it names."""

from pathlib import Path

from layouts import class_folders, foreign_kernel

from zfnet_lib import MINI, ConvNet, doctor, save_network
from zfnet_lib.datasets import dataset_entry, pack_dataset
from zfnet_lib.files import alone
from zfnet_lib.paper.records import write_lines


def test_packages_that_are_missing_or_old_name_what_installs_them(monkeypatch):
    wanted = ["numpy>=1.26", "torch>=99", "no-such-thing>=1", 'no-such-engine>=9; extra == "cluster"']
    monkeypatch.setattr(doctor, "requires", lambda name: wanted)
    said = dict(doctor.packages())
    assert said["numpy"][0].isdigit() and "needed" not in said["numpy"]
    assert said["torch"].endswith("but >=99 is needed: pip install -e .")
    assert said["no-such-thing"] == "missing: pip install -e ."
    assert said["no-such-engine"] == "missing (optional): pip install -e '.[cluster]'"
    monkeypatch.setattr(doctor, "requires", lambda name: [f"{30 * 'x'}>=1"])
    assert f"  {30 * 'x'} missing: pip install -e ." in doctor.diagnose()

    def missing(name):
        raise doctor.PackageNotFoundError(name)

    monkeypatch.setattr(doctor, "requires", missing)
    assert dict(doctor.packages())["zfnet-lib"].startswith("not installed, only found in ")


def test_programs_and_kernels_are_found_by_any_of_their_names(tmp_path, monkeypatch):
    monkeypatch.setattr(doctor.shutil, "which", {"google-chrome": "/opt/chrome", "make": "/bin/make"}.get)
    monkeypatch.delenv("JUPYTER_PATH", raising=False)
    monkeypatch.setenv("JUPYTER_DATA_DIR", str(tmp_path / "none"))
    said = dict(doctor.programs())
    assert (said["chromium"], said["make"]) == ("/opt/chrome", "/bin/make")
    assert said["npm"] == "missing: pages load MathJax and the widget manager from their public copies"
    assert said["kernel python3"] == "this environment's"
    monkeypatch.setenv("JUPYTER_PATH", foreign_kernel(tmp_path / "jupyter"))
    where = f"/elsewhere/bin/python, as {tmp_path}/jupyter/kernels/python3 says: another environment's"
    assert dict(doctor.programs())["kernel python3"].startswith(where)


def test_the_machine_is_measured_where_the_data_will_lie(data, monkeypatch):
    monkeypatch.setenv("ZFNET_DATA", str(data / "not/there/yet"))
    said = dict(doctor.machine())
    assert int(said["cores"]) >= 1 and float(said["memory"].removesuffix(" GB")) > 0
    assert said["disk for data"].endswith("GB free")


def test_data_sets_are_missing_then_fetched_then_packed(data):
    def said(name):
        return dict(doctor.data_sets())[name]

    assert said("shapes") == "made in code" and said("photos") == "inside scikit-image and scikit-learn"
    assert said("caltech-101") == "missing: zfnet fetch caltech-101"
    assert said("imagenet") == "missing: zfnet fetch imagenet --from ARCHIVE"
    class_folders(data / "caltech-101" / dataset_entry("caltech-101").folder, ["cat", "dog"], 10)
    assert said("caltech-101") == "fetched, not packed: zfnet pack caltech-101"
    pack_dataset("caltech-101", "val", progress=False)
    assert said("caltech-101") == "fetched, packed: val"


def test_weights_are_here_only_when_they_are_whole(data):
    def said():
        return dict(doctor.weights())["alexnet-imagenet"]

    assert said() == "missing: zfnet fetch alexnet-imagenet"
    save_network(ConvNet(MINI), data / "weights/alexnet-imagenet", {})
    assert said() == "here"
    (data / "weights/alexnet-imagenet/weights.safetensors").write_bytes(b"cut")
    assert said() == "missing: zfnet fetch alexnet-imagenet"
    softmax = dict(doctor.weights())["alexnet-caltech-101"]  # which is in every checkout
    assert softmax == "ships, without the convolutions that it stands on: zfnet fetch alexnet-imagenet"


def test_a_damaged_atlas_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr(doctor, "PROJECT", tmp_path)
    assert dict(doctor.atlases()) == {"none": "zfnet atlas NETWORK --pictures DATASET writes one"}
    (tmp_path / "atlas/mine").mkdir(parents=True)
    (tmp_path / "atlas/mine/manifest.json").write_text("{")
    assert "holds no atlas" in dict(doctor.atlases())["mine"]


def test_what_is_damaged_and_what_was_left_is_named(data, results, tmp_path, monkeypatch):
    monkeypatch.setattr(doctor, "PROJECT", tmp_path)
    class_folders(data / "caltech-101" / dataset_entry("caltech-101").folder, ["cat", "dog"], 10)
    pack_dataset("caltech-101", "val", progress=False)
    weights = save_network(ConvNet(MINI), data / "weights/mine", {})
    write_lines(results / "tiny/errors/a.jsonl", ["{}"])
    assert dict(doctor.integrity()) == {"everything stored": "is as it was written"}

    (pixels,) = (data / "packs").glob("*/pictures.bin")
    for path in (weights / "meta.json", results / "tiny/errors/a.jsonl", pixels):
        content = path.read_bytes()
        path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    archive = next(one for one in dataset_entry("caltech-101").archives if one.url)
    download = data / "downloads" / archive.url.rpartition("/")[2]
    download.parent.mkdir()
    download.write_bytes(b"cut")
    left = [".tiny-imagenet.99999999.part", ".caltech-101.lock", "packs/.caltech-101-train-64.part"]
    for name in left:
        (data / name).mkdir()
    with alone(data / "packs"):  # a command that works
        assert not dict(doctor.integrity()).keys() & {".caltech-101-train-64.part", ".packs.lock"}
    said = dict(doctor.integrity())
    assert "the SHA-256 of meta.json differs" in said["mine"]
    assert "the SHA-256 of a.jsonl differs" in said["a.jsonl"]
    assert "the pack of caltech-101 val is damaged" in said[pixels.parent.name]
    assert said[download.name] == f"is not the archive that it should be: rm '{download}'"
    assert all(said[Path(name).name].startswith("left by a killed command: rm -r ") for name in left[:2])
    assert said[Path(left[2]).name].startswith("begun: `zfnet pack NAME` goes on with it; or rm -r ")
    assert len(said) == 7


def test_stored_results_are_counted(results):
    errors = results / "tiny/errors/zfnet-tiny-imagenet-tiny-seed0.jsonl"
    errors.parent.mkdir(parents=True)
    errors.write_text(" " * 250_000)
    said = dict(doctor.stored())
    assert said["tiny/errors"] == "1 files, 0.2 MB"
    ran, _, rest = said["tiny trainings"].partition(" ran; ")
    assert ran.startswith("1 of ") and rest == "the rest: zfnet train --table 2 --data tiny-imagenet --recipe tiny"


def test_profiles_name_what_they_lack(data):
    said, profile = {}, ""
    for name, line in doctor.profiles():
        profile = name or profile
        said.setdefault(profile, []).append(line)
    assert said["smoke"] == ["ready"]
    assert said["tiny"][:2] == ["ready", "to compute anew what is stored (--live), also:"]
    assert {"zfnet fetch tiny-imagenet", "zfnet fetch alexnet-imagenet"} <= set(said["tiny"])
    train = "zfnet train zfnet --data imagenet --recipe paper"
    assert said["paper"][:3] == ["lacks:", "zfnet fetch imagenet --from ARCHIVE", train]
    assert "zfnet fetch caltech-256" in said["paper"]
