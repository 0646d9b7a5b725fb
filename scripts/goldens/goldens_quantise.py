"""Quantises to the types that gguf-py can only read (Q4_K, Q5_K, Q6_K, IQ4_NL), in a simple way: llama.cpp searches
for better scales, but a test only needs blocks that use all their fields."""

import gguf
import numpy as np
from gguf import GGMLQuantizationType as Q
from gguf.quants import IQ4_NL


def halves(values):
    """The values [n] in f16 as bytes [n][2], and the same f16 numbers in f32."""
    half = values.astype("<f2")
    return half.view(np.uint8).reshape(-1, 2), half.astype(np.float32)


def pack_nibbles(q):
    """[...][64] -> [...][32]: the first 32 go to the low halves of the bytes."""
    return q[..., :32] | q[..., 32:] << 4


def k_scales(scale, minimum):
    """Packs eight scales and eight minima of 6 bits, [n][8] each, in 12 bytes."""
    out = np.zeros((len(scale), 12), np.uint8)
    out[:, 0:4] = scale[:, :4] | (scale[:, 4:] >> 4) << 6
    out[:, 4:8] = minimum[:, :4] | (minimum[:, 4:] >> 4) << 6
    out[:, 8:12] = (scale[:, 4:] & 15) | (minimum[:, 4:] & 15) << 4
    return out


def quantise_k45(w, bits):
    """Q4_K and Q5_K: 8 groups of 32, each with a scale and a minimum."""
    groups = w.reshape(-1, 8, 32)
    low = np.maximum(0, -groups.min(2))
    step = (groups.max(2) + low) / ((1 << bits) - 1)
    d_bytes, d = halves(step.max(1) / 63)
    m_bytes, m = halves(low.max(1) / 63)
    scale = np.clip(np.rint(step / d[:, None]), 0, 63).astype(np.uint8)
    minimum = np.clip(np.rint(low / m[:, None]), 0, 63).astype(np.uint8)
    worth = np.maximum((d[:, None] * scale)[..., None], 1e-20)
    q = np.rint((groups + (m[:, None] * minimum)[..., None]) / worth)
    q = np.clip(q, 0, (1 << bits) - 1).astype(np.uint8)
    nibbles = pack_nibbles((q & 15).reshape(-1, 4, 64)).reshape(-1, 128)
    fifth = np.bitwise_or.reduce((q >> 4) << np.arange(8, dtype=np.uint8)[:, None], axis=1)
    parts = [d_bytes, m_bytes, k_scales(scale, minimum)] + ([fifth] if bits == 5 else []) + [nibbles]
    return np.concatenate(parts, axis=1)


def quantise_q6_k(w):
    """16 groups of 16, each with a signed scale."""
    groups = w.reshape(-1, 16, 16)
    step = groups[:, :, :1].copy()  # the scale has the sign of the first weight, so that both signs occur
    step = np.where(step < 0, -1, 1) * np.abs(groups).max(2, keepdims=True) / 31
    d_bytes, d = halves(np.abs(step).max((1, 2)) / 127)
    scale = np.clip(np.rint(step[..., 0] / d[:, None]), -128, 127).astype(np.int8)
    worth = d[:, None] * scale
    worth[worth == 0] = 1e-20
    q = (np.clip(np.rint(groups / worth[..., None]), -32, 31) + 32).astype(np.uint8).reshape(-1, 2, 4, 32)
    low = (q[:, :, :2] & 15) | (q[:, :, 2:] & 15) << 4
    high = np.bitwise_or.reduce((q >> 4) << np.array([0, 2, 4, 6], np.uint8)[:, None], axis=2)
    return np.concatenate([low.reshape(-1, 128), high.reshape(-1, 64), scale.view(np.uint8), d_bytes], axis=1)


def quantise_iq4_nl(w):
    groups = w.reshape(-1, 32)
    levels = np.array(IQ4_NL.kvalues, np.float32)
    d_bytes, d = halves(np.abs(groups).max(1) / 127)
    q = np.abs(groups[..., None] - d[:, None, None] * levels).argmin(2).astype(np.uint8)
    return np.concatenate([d_bytes, q[:, :16] | q[:, 16:] << 4], axis=1)


OWN = {
    Q.Q4_K: lambda w: quantise_k45(w, 4),
    Q.Q5_K: lambda w: quantise_k45(w, 5),
    Q.Q6_K: quantise_q6_k,
    Q.IQ4_NL: quantise_iq4_nl,
}


def quantise(data, kind):
    """f32 [rows][columns] -> the bytes of its rows."""
    if kind not in OWN:
        return gguf.quants.quantize(data, kind)
    return OWN[kind](data).reshape(len(data), -1)
