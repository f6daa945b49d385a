"""A Paraformer and a voice activity detector, tiny, seeded, in the folder layout of FunASR's own models.

What the Paraformer hears is nonsense, different for different sounds. The detector's weights are set by hand: it
compares the mean log energy of the mel bands with a threshold, so it does split at pauses.
"""

from __future__ import annotations

import json
import string
from pathlib import Path
from typing import Any

import torch

WORDS = "now and then a small model hears words that nobody said but says them all the same"
TOKENS = [
    "<blank>",
    "<s>",
    "</s>",
    *(f"{letter}@@" for letter in string.ascii_lowercase),
    *dict.fromkeys(WORDS.split()),
    "<unk>",
]

WIDTH, BANDS, STACKED = 24, 80, 7

SHAPE = {
    "attention_heads": 2,
    "linear_units": 2 * WIDTH,
    "num_blocks": 1,
    "dropout_rate": 0.0,
    "positional_dropout_rate": 0.0,
    "self_attention_dropout_rate": 0.0,
}

ASR: dict[str, Any] = {
    "model": "Paraformer",
    "model_conf": {"ctc_weight": 0.0, "predictor_weight": 1.0, "predictor_bias": 1, "sampling_ratio": 0.75},
    "encoder": "SANMEncoder",
    "encoder_conf": {
        "output_size": WIDTH,
        "attention_heads": 2,
        "linear_units": 2 * WIDTH,
        "num_blocks": 2,
        "dropout_rate": 0.0,
        "input_layer": "pe",
        "pos_enc_class": "SinusoidalPositionEncoder",
        "normalize_before": True,
        "kernel_size": 11,
        "sanm_shfit": 0,
        "selfattention_layer_type": "sanm",
    },
    "decoder": "ParaformerSANMDecoder",
    "decoder_conf": {
        **SHAPE,
        "src_attention_dropout_rate": 0.0,
        "att_layer_num": 1,
        "kernel_size": 11,
        "sanm_shfit": 0,
    },
    "predictor": "CifPredictorV2",
    "predictor_conf": {"idim": WIDTH, "threshold": 1.0, "l_order": 1, "r_order": 1, "tail_threshold": 0.45},
    "frontend": "WavFrontend",
    # no dither: the folder keeps FunASR's default, which is noise
    "frontend_conf": {"fs": 16_000, "window": "hamming", "n_mels": BANDS, "lfr_m": STACKED, "lfr_n": 6},
    "tokenizer": "CharTokenizer",
    "tokenizer_conf": {"unk_symbol": "<unk>", "split_with_space": True},
}

VAD: dict[str, Any] = {
    "model": "FsmnVADStreaming",
    "model_conf": {
        "sample_rate": 16_000,
        "detect_mode": 1,
        "snr_mode": 0,
        "max_end_silence_time": 800,
        "max_start_silence_time": 3000,
        "do_start_point_detection": True,
        "do_end_point_detection": True,
        "window_size_ms": 200,
        "sil_to_speech_time_thres": 150,
        "speech_to_sil_time_thres": 150,
        "speech_2_noise_ratio": 1.0,
        "do_extend": 1,
        "lookback_time_start_point": 200,
        "lookahead_time_end_point": 100,
        "max_single_segment_time": 60_000,
        "snr_thres": -100.0,
        "noise_frame_num_used_for_snr": 100,
        "decibel_thres": -100.0,
        "speech_noise_thres": 0.6,
        "fe_prior_thres": 0.0001,
        "silence_pdf_num": 1,
        "sil_pdf_ids": [0],
        "output_frame_probs": False,
        "frame_in_ms": 10,
        "frame_length_ms": 25,
    },
    "encoder": "FSMN",
    "encoder_conf": {
        "input_dim": 5 * BANDS,
        "input_affine_dim": 2,
        "fsmn_layers": 1,
        "linear_dim": 2,
        "proj_dim": 2,
        "lorder": 20,
        "rorder": 0,
        "lstride": 1,
        "rstride": 0,
        "output_affine_dim": 2,
        "output_dim": 2,
    },
    "frontend": "WavFrontendOnline",
    "frontend_conf": {"fs": 16_000, "window": "hamming", "n_mels": BANDS, "lfr_m": 5, "lfr_n": 1},
}

LOUD = 10.0
"""Mean log energy above which the detector hears speech."""

SURE = 0.55
"""Slope of its answer: FunASR takes log(1 - p), so p must not round to 1 even for digital silence."""


def write_paraformer(folder: Path, seed: int = 0) -> Path:
    """Write the recogniser and return its folder."""
    folder.mkdir(parents=True)
    torch.manual_seed(seed)
    model = _build(ASR, input_size=BANDS * STACKED, vocab_size=len(TOKENS)).eval()
    with torch.no_grad():
        model.predictor.cif_output.weight.mul_(2.0)
        model.predictor.cif_output.bias.fill_(-1.2)  # about four tokens a second
        model.decoder.output_layer.weight.mul_(4.0)
        model.decoder.output_layer.bias[[0, 1, 2, -1]] = -1e3  # no special token
    _write(folder, ASR, model)
    (folder / "tokens.json").write_text(json.dumps(TOKENS))
    words = [f"{token} {token}" for token in TOKENS[3:-1]]
    (folder / "seg_dict").write_text("\n".join(words) + "\n")
    _write_normalisation(folder / "am.mvn", BANDS * STACKED, -12.0, 0.25)
    _write_layout(folder, {"token_list": "tokens.json", "seg_dict_file": "seg_dict"})
    return folder


def write_detector(folder: Path) -> Path:
    """Write the voice activity detector and return its folder."""
    folder.mkdir(parents=True)
    model = _build(VAD)
    one = torch.eye(2)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
        encoder = model.encoder
        mean = torch.full((5 * BANDS,), 1 / (5 * BANDS))
        encoder.in_linear1.linear.weight.copy_(torch.stack([mean, -mean]))  # relu keeps one of the two
        encoder.in_linear2.linear.weight.copy_(one)
        for block in encoder.fsmn:
            block.linear.linear.weight.copy_(one)
            block.affine.linear.weight.copy_(one)
        encoder.out_linear1.linear.weight.copy_(one)
        encoder.out_linear2.linear.weight.copy_(SURE * one.flip(0))  # output 0 is silence
    _write(folder, VAD, model)
    _write_normalisation(folder / "am.mvn", 5 * BANDS, -LOUD, 1.0)
    _write_layout(folder, None)
    return folder


def _build(config: dict[str, Any], **sizes: int) -> Any:
    import funasr  # noqa: F401  registers the classes
    from funasr.register import tables

    rest = {key: value for key, value in config.items() if key != "model_conf"}
    return tables.model_classes[config["model"]](**config["model_conf"], **rest, **sizes)


def _write(folder: Path, config: dict[str, Any], model: Any) -> None:
    torch.save({name: value.clone() for name, value in model.state_dict().items()}, folder / "model.pt")
    (folder / "config.yaml").write_text(json.dumps(config))  # JSON is YAML


def _write_normalisation(path: Path, size: int, shift: float, scale: float) -> None:
    """Write Kaldi's text form, of which FunASR reads the numbers between the brackets."""

    def row(value: float) -> str:
        return " ".join([str(value)] * size)

    path.write_text(
        f"<Nnet>\n<Splice> {size} {size}\n[ 0 ]\n<AddShift> {size} {size}\n<LearnRateCoef> 0 [ {row(shift)} ]\n"
        f"<Rescale> {size} {size}\n<LearnRateCoef> 0 [ {row(scale)} ]\n</Nnet>\n"
    )


def _write_layout(folder: Path, tokenizer: dict[str, str] | None) -> None:
    files: dict[str, Any] = {
        "init_param": "model.pt",
        "config": "config.yaml",
        "frontend_conf": {"cmvn_file": "am.mvn"},
    }
    if tokenizer:
        files["tokenizer_conf"] = tokenizer
    layout = {
        "framework": "pytorch",
        "task": "auto-speech-recognition",
        "model": {"type": "funasr"},
        "pipeline": {"type": "funasr-pipeline"},
        "file_path_metas": files,
    }
    (folder / "configuration.json").write_text(json.dumps(layout))
