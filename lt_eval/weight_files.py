"""The published weight files that lt-eval can use: where they lie, their checksums, sizes and licences."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class WeightFile:
    """One published file.

    Attributes:
        name: what `lt-eval weights fetch NAME` takes. Files of one network are called `folder/file`, and `folder` takes
            them all.
        file: its file name, kept as published, in its folder where it has one.
        urls: where it lies; the first is its publisher's, the others are mirrors.
        sha256: 64 hexadecimal digits as stated in public, or None where no source states them.
        size: bytes, rounded where the source rounds, or None where none states them.
        licence: of the weights.
        used_by: the metric that needs it, and for what.
    """

    name: str
    file: str
    urls: tuple[str, ...]
    sha256: str | None
    size: int | None
    licence: str
    used_by: str


_ONE_ALIGN_REVISION = "dcc603b95aa0ebd82afa696d4a1e20d11fc80ddb"


def _one_align(file: str, size: int | None = None, sha256: str | None = None) -> WeightFile:
    """Return the line of one file of q-future/one-align, at the revision that pyiqa and others load."""
    return WeightFile(
        name=f"one-align/{file}",
        file=f"one-align/{file}",
        urls=(f"https://huggingface.co/q-future/one-align/resolve/{_ONE_ALIGN_REVISION}/{file}",),
        sha256=sha256,
        size=size,
        licence="MIT by its model card; Q-Align's repository: S-Lab License 1.0, non-commercial; on LLaMA 2",
        used_by="qalign",
    )


TABLE: tuple[WeightFile, ...] = (
    WeightFile(
        name="inception",
        file="pt_inception-2015-12-05-6726825d.pth",
        urls=(
            "https://github.com/mseitzer/pytorch-fid/releases/download/fid_weights/pt_inception-2015-12-05-6726825d.pth",
            "https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/weights-inception-2015-12-05-6726825d.pth",
        ),
        sha256="6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2",
        size=95_628_359,
        licence="Apache-2.0",
        used_by="fid (preprocess pytorch-fid)",
    ),
    WeightFile(
        name="inception-torchscript",
        file="inception-2015-12-05.pt",
        urls=("https://nvlabs-fi-cdn.nvidia.com/stylegan2-ada-pytorch/pretrained/metrics/inception-2015-12-05.pt",),
        sha256="f58cb9b6ec323ed63459aa4fb441fe750cfe39fafad6da5cb504a16f19e958f4",
        size=95_607_719,
        licence="Apache-2.0 (network of TensorFlow), packaged by NVIDIA",
        used_by="fid (preprocess clean)",
    ),
    WeightFile(
        name="i3d",
        file="i3d_torchscript.pt",
        urls=(
            "https://www.dropbox.com/s/ge9e5ujwgetktms/i3d_torchscript.pt?dl=1",
            "https://huggingface.co/flateon/FVD-I3D-torchscript/resolve/main/i3d_torchscript.pt",
        ),
        sha256="bec6519f66ea534e953026b4ae2c65553c17bf105611c746d904657e5860a5e2",
        size=51_235_320,
        licence="Apache-2.0 (network of DeepMind), packaged by StyleGAN-V",
        used_by="fvd",
    ),
    WeightFile(
        name="i3d-state-dict",
        file="i3d_pretrained_400.pt",
        urls=("https://github.com/npurson/fid-metrics/releases/download/v1.0/i3d_pretrained_400.pt",),
        sha256=None,
        size=None,
        licence="Apache-2.0 (network of DeepMind), converted by VideoGPT (MIT)",
        used_by="fvd, where i3d is absent",
    ),
    WeightFile(
        name="syncnet",
        file="syncnet_v2.model",
        urls=("https://www.robots.ox.ac.uk/~vgg/software/lipsync/data/syncnet_v2.model",),
        sha256="961e8696f888fce4f3f3a6c3d5b3267cf5b343100b238e79b2659bff2c605442",
        size=54_573_114,
        licence="research use, Creative Commons Attribution (VGG, Oxford)",
        used_by="sync",
    ),
    WeightFile(
        name="s3fd",
        file="sfd_face.pth",
        urls=("https://www.robots.ox.ac.uk/~vgg/software/lipsync/data/sfd_face.pth",),
        sha256="d54a87c2b7543b64729c9a25eafd188da15fd3f6e02f0ecec76ae1b30d86c491",
        size=89_844_381,
        licence="research use, Creative Commons Attribution (VGG, Oxford)",
        used_by="sync, face boxes",
    ),
    WeightFile(
        name="arcface",
        file="ms1mv3_arcface_r50_fp16/backbone.pth",
        # a shared folder that a browser opens; no address of the file itself is published
        urls=("https://1drv.ms/u/s!AswpsDO2toNKq0lWY69vN58GR6mw?e=p9Ov5d",),
        sha256=None,
        size=None,
        licence="non-commercial research only (InsightFace model zoo, trained on MS1MV3)",
        used_by="identity",
    ),
    _one_align("config.json", 5_601),
    _one_align("preprocessor_config.json", 317),
    _one_align("tokenizer_config.json"),
    _one_align("tokenizer.model"),
    _one_align("pytorch_model.bin.index.json"),
    _one_align(
        "pytorch_model-00001-of-00002.bin",
        9_990_000_000,
        "ca4cdc96237832a9eb3486274de0b10fa7235d5007ee6cff49320c7250970fe3",
    ),
    _one_align(
        "pytorch_model-00002-of-00002.bin",
        6_420_000_000,
        "d445a50608f025a39ac75c6da13cb9d12a4cc923f6e1b9abc4b767408eac0729",
    ),
    WeightFile(
        name="wan-vae",
        file="Wan2.1_VAE.pth",
        urls=("https://huggingface.co/Wan-AI/Wan2.1-T2V-1.3B/resolve/main/Wan2.1_VAE.pth",),
        sha256="38071ab59bd94681c686fa51d75a1968f64e470262043be31f7a094e442fd981",
        size=507_609_880,
        licence="Apache-2.0",
        used_by="generator reference, codec wan",
    ),
    WeightFile(
        name="taew2_1",
        file="taew2_1.pth",
        urls=("https://github.com/madebyollin/taehv/raw/093b918971d59001a0bad6dfd6e0409b5e1752cf/taew2_1.pth",),
        sha256="d26151e76cdc2c9424bef988de874b33d9a53f30ef3060cd556c429c469c797e",
        size=22_678_901,
        licence="MIT",
        used_by="generator reference, codec tiny",
    ),
)
